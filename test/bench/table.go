package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
)

// A row is one line of the table: a promise, and whether it is kept.
type row struct {
	section string
	claim   string
	ours    string
	theirs  string // empty: nobody to compare with
	value   float64
	shown   string // the value that the target speaks of, as people read it
	target  target // the zero target: none, the value is for information
}

// A target is what a value must be at least, or at most.
type target struct {
	limit float64
	most  bool
	text  string
}

// atLeast is a target for a ratio.
func atLeast(limit float64) target { return target{limit: limit, text: "≥ " + ratio(limit)} }

// atMost is a target for a ratio.
func atMost(limit float64) target {
	return target{limit: limit, most: true, text: "≤ " + ratio(limit)}
}

// within is a target for a value with a unit, which text shows.
func within(limit float64, text string) target {
	return target{limit: limit, most: true, text: "≤ " + text}
}

// verdict says whether value is what the target wants.
func (t target) verdict(value float64) string {
	switch {
	case t.text == "":
		return ""
	case t.most && value <= t.limit, !t.most && value >= t.limit:
		return "met"
	}
	return "not met"
}

// add puts a row into the table and shows it at once.
func (b *bench) add(r row) {
	b.rows = append(b.rows, r)
	b.say("%s | %s | %s | %s | %s | %s", r.claim, r.ours, r.theirs, r.shown, r.target.text, r.target.verdict(r.value))
}

var columns = []string{"measured", "banset", "beside it", "ratio", "target", ""}

func (r row) cells() []string {
	return []string{r.claim, r.ours, r.theirs, r.shown, r.target.text, r.target.verdict(r.value)}
}

// writeText prints the table for a terminal.
func writeText(w io.Writer, rows []row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	section := ""
	for _, r := range rows {
		if r.section != section {
			section = r.section
			fmt.Fprintf(t, "%s\n", strings.ToUpper(section))
			fmt.Fprintln(t, "  "+strings.Join(columns, "\t"))
		}
		fmt.Fprintln(t, "  "+strings.Join(r.cells(), "\t"))
	}
	return t.Flush()
}

// markdown is the table for the README.
func markdown(rows []row) string {
	var s strings.Builder
	line := func(cells []string) { fmt.Fprintf(&s, "| %s |\n", strings.Join(cells, " | ")) }
	line(columns)
	line([]string{"---", "---:", "---:", "---:", "---:", "---"})
	for _, r := range rows {
		cells := r.cells()
		for i, c := range cells {
			cells[i] = strings.ReplaceAll(c, "|", `\|`)
		}
		if cells[5] == "not met" {
			cells[5] = "**not met**"
		}
		line(cells)
	}
	return s.String()
}

// The README has the table between these.
const markBegin, markEnd = "<!-- figures: written by go run ./test/bench -o test/bench -readme README.md -->\n", "<!-- end of figures -->\n"

// between puts text between the two marks.
func between(whole, text string) (string, error) {
	head, rest, ok := strings.Cut(whole, markBegin)
	_, tail, ok2 := strings.Cut(rest, markEnd)
	if !ok || !ok2 {
		return "", fmt.Errorf("there is no %q … %q", strings.TrimSpace(markBegin), strings.TrimSpace(markEnd))
	}
	return head + markBegin + text + markEnd + tail, nil
}

// report prints the table, and writes what else was asked for.
func (b *bench) report(w io.Writer, readme string) error {
	if len(b.rows) == 0 {
		return nil
	}
	where := machine()
	if err := writeText(w, b.rows); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%s\n", where)
	text := "\n" + markdown(b.rows) + "\n" + where + "\n\n"
	if err := b.writeChart("chart.svg", ratioChart(b.rows)); err != nil {
		return err
	}
	if readme == "" {
		return nil
	}
	whole, err := os.ReadFile(readme)
	if err != nil {
		return err
	}
	changed, err := between(string(whole), text)
	if err != nil {
		return fmt.Errorf("%s: %w", readme, err)
	}
	return os.WriteFile(readme, []byte(changed), 0o644)
}

// writeChart writes a chart beside the table.
func (b *bench) writeChart(name, svg string) error {
	if b.out == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(b.out, name), []byte(svg), 0o644)
}

// Figures as people read them: three digits, and a unit.

func ratio(v float64) string { return digits(v) + "x" }

func digits(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func speed(lines int, d time.Duration) string {
	v := float64(lines) / d.Seconds()
	if v >= 1e6 {
		return digits(v/1e6) + " M lines/s"
	}
	return digits(v/1e3) + " k lines/s"
}

func span(d time.Duration) string {
	switch {
	case d >= time.Second:
		return digits(d.Seconds()) + " s"
	case d >= time.Millisecond:
		return digits(float64(d)/1e6) + " ms"
	case d >= time.Microsecond:
		return digits(float64(d)/1e3) + " µs"
	}
	return fmt.Sprintf("%d ns", d.Nanoseconds())
}

func megabytes(n float64) string { return digits(n/1e6) + " MB" }

func count(n int) string {
	switch {
	case n >= 1_000_000 && n%100_000 == 0:
		return fmt.Sprintf("%g M", float64(n)/1e6)
	case n >= 1000 && n%1000 == 0:
		return fmt.Sprintf("%d,000", n/1000)
	}
	return fmt.Sprint(n)
}
