package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// Charts are SVG with a ground of their own, so that they can be read on a light page and on a dark one.
const (
	chartWidth = 820
	chartStyle = `<style>
  .ground { fill: #ffffff; stroke: #d0d7de; } .text { fill: #24292f; font: 13px sans-serif; } .small { fill: #57606a; font: 11px sans-serif; }
  .grid { stroke: #d8dee4; } .mark { stroke: #cf222e; stroke-width: 2; } .met { fill: #2da44e; } .missed { fill: #bf8700; }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; stroke: #30363d; } .text { fill: #e6edf3; } .small { fill: #9198a1; } .grid { stroke: #262c36; }
  }
</style>
`
)

// colours of lines, told apart on both grounds and by those who see no red and green.
var colours = []string{"#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"}

// A drawing is an SVG picture that is being made.
type drawing struct{ strings.Builder }

func newDrawing(height int, title string) *drawing {
	var d drawing
	d.add(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" role="img">`+"\n", chartWidth, height)
	d.add("<title>%s</title>\n%s", html.EscapeString(title), chartStyle)
	d.add(`<rect class="ground" x="0.5" y="0.5" width="%d" height="%d" rx="6"/>`+"\n", chartWidth-1, height-1)
	d.text("text", 16, 26, "start", title)
	return &d
}

func (d *drawing) add(format string, a ...any) { fmt.Fprintf(d, format, a...) }

func (d *drawing) text(class string, x, y float64, anchor, s string) {
	d.add(`<text class="%s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", class, x, y, anchor, html.EscapeString(s))
}

func (d *drawing) line(class string, x1, y1, x2, y2 float64) {
	d.add(`<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n", class, x1, y1, x2, y2)
}

func (d *drawing) end() string { return d.String() + "</svg>\n" }

// A scale maps values to places, in powers of ten.
type scale struct{ low, high, from, to float64 }

func (s scale) at(v float64) float64 {
	return s.from + (math.Log10(v)-math.Log10(s.low))/(math.Log10(s.high)-math.Log10(s.low))*(s.to-s.from)
}

// decades are the powers of ten from low to high.
func (s scale) decades() (all []float64) {
	for e := math.Round(math.Log10(s.low)); e <= math.Log10(s.high)+1e-9; e++ {
		all = append(all, math.Pow(10, e))
	}
	return all
}

// around is the smallest scale of whole powers of ten that holds all values, which are above zero.
func around(values []float64, from, to float64) scale {
	low, high := math.Floor(math.Log10(slices.Min(values))), math.Ceil(math.Log10(slices.Max(values)))
	if low == high {
		high++
	}
	return scale{math.Pow(10, low), math.Pow(10, high), from, to}
}

// plain is a power of ten as people write it.
func plain(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%g M", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%g,000", v/1e3)
	}
	return fmt.Sprintf("%g", v)
}

// ratioChart shows every row that has a target as a bar: how many times better than its target banset is, or worse.
func ratioChart(rows []row) string {
	rows = slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return r.target.text == "" || r.section == "growth" })
	margins := make([]float64, len(rows))
	for i, r := range rows {
		margins[i] = min(max(r.target.margin(r.value), 0.01), 100)
	}
	const top, step, left, right = 58, 22, 400, 100
	height := top + step*len(rows) + 34
	d := newDrawing(height, "What was promised, and what is: times better than the target")
	if len(rows) == 0 {
		return d.end()
	}
	x := around(append(slices.Clone(margins), 0.5, 2), left, chartWidth-right)
	bottom := float64(top + step*len(rows))
	for _, v := range x.decades() {
		d.line("grid", x.at(v), top-6, x.at(v), bottom)
		d.text("small", x.at(v), bottom+16, "middle", plain(v)+"x")
	}
	one := x.at(1)
	for i, r := range rows {
		y := float64(top + step*i)
		claim := r.claim
		if name, _, ok := strings.Cut(r.theirs, " "); ok && r.section == "scan" && r.shown != "" {
			claim += ": " + strings.TrimSuffix(name, ",")
		}
		d.text("small", left-8, y+12, "end", claim)
		class := "met"
		if r.target.verdict(r.value) != "met" {
			class = "missed"
		}
		at := x.at(margins[i])
		d.add(`<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="14"/>`+"\n", class, min(one, at), y+2, max(math.Abs(at-one), 1))
		shown := r.ours
		if strings.HasSuffix(r.target.text, "x") { // the target speaks of the ratio
			shown = r.shown
		}
		d.text("small", max(one, at)+5, y+13, "start", shown)
	}
	d.line("mark", one, top-6, one, bottom)
	d.text("small", one, top-11, "middle", "target")
	return d.end()
}

// margin is how many times better than the target a value is.
func (t target) margin(value float64) float64 {
	if t.most {
		if value <= 0 && t.limit >= 0 {
			return math.Inf(1)
		}
		if t.limit == 0 {
			return 0
		}
		return t.limit / value
	}
	return value / t.limit
}

// A lineChart shows how one thing grows with another, both in powers of ten.
type lineChart struct {
	title, x, y string
	series      []series
}

type series struct {
	name   string
	points []point
	dashed bool
}

type point struct{ x, y float64 }

// span is the smallest and the largest x.
func (c *lineChart) span() (low, high float64) {
	var all []float64
	for _, s := range c.series {
		for _, p := range s.points {
			all = append(all, p.x)
		}
	}
	if len(all) == 0 {
		return 1, 10
	}
	return slices.Min(all), slices.Max(all)
}

// colour of series i: what is only there to compare with is grey.
func (c *lineChart) colour(i int) string {
	if c.series[i].dashed {
		return "#8c959f"
	}
	return colours[i%len(colours)]
}

func (c *lineChart) svg() string {
	const top, left, right, plot = 50, 70, 290, 330
	d := newDrawing(top+plot+54, c.title)
	var xs, ys []float64
	for _, s := range c.series {
		for _, p := range s.points {
			xs, ys = append(xs, p.x), append(ys, p.y)
		}
	}
	if len(xs) == 0 {
		return d.end()
	}
	x, y := around(xs, left, chartWidth-right), around(ys, top+plot, top)
	for _, v := range x.decades() {
		d.line("grid", x.at(v), top, x.at(v), top+plot)
		d.text("small", x.at(v), top+plot+17, "middle", plain(v))
	}
	for _, v := range y.decades() {
		d.line("grid", left, y.at(v), chartWidth-right, y.at(v))
		d.text("small", left-8, y.at(v)+4, "end", plain(v))
	}
	d.text("small", (left+chartWidth-right)/2, top+plot+38, "middle", c.x)
	d.text("small", left-8, top-10, "end", c.y)
	// Names stand behind the lines' ends, as near as their neighbours let them.
	type name struct {
		y float64
		i int
	}
	var names []name
	for i, s := range c.series {
		var path []string
		for _, p := range s.points {
			path = append(path, fmt.Sprintf("%.1f,%.1f", x.at(p.x), y.at(p.y)))
			if !s.dashed {
				d.add(`<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", x.at(p.x), y.at(p.y), c.colour(i))
			}
		}
		dash := ""
		if s.dashed {
			dash = ` stroke-dasharray="5 4"`
		}
		d.add(`<polyline points="%s" fill="none" stroke="%s" stroke-width="2"%s/>`+"\n", strings.Join(path, " "), c.colour(i), dash)
		names = append(names, name{y.at(s.points[len(s.points)-1].y), i})
	}
	slices.SortFunc(names, func(a, b name) int { return int(math.Copysign(1, a.y-b.y)) })
	for i := range names {
		if i > 0 {
			names[i].y = max(names[i].y, names[i-1].y+15)
		}
	}
	for i := len(names) - 1; i >= 0; i-- { // and none below the plot
		limit := float64(top + plot + 4)
		if i < len(names)-1 {
			limit = names[i+1].y - 15
		}
		names[i].y = min(names[i].y, limit)
	}
	for _, n := range names {
		s := c.series[n.i]
		last := s.points[len(s.points)-1]
		d.add(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x.at(last.x)+4, y.at(last.y), float64(chartWidth-right+14), n.y,
			c.colour(n.i))
		d.text("small", chartWidth-right+18, n.y+4, "start", s.name)
	}
	return d.end()
}
