package main

import (
	"fmt"
	"strconv"
	"strings"
)

// growth measures how cost grows with each kind of load, from 1 to 1000 times as much, in one chart: nothing may grow
// faster than its load.
func growth(b *bench) error {
	times := []int{1, 10, 100, 1000}
	if b.quick {
		times = []int{1, 10}
	}
	c := lineChart{title: "How cost grows: CPU seconds for 1 to 1000 times as much", x: "times as much", y: "s"}
	for _, g := range growths {
		s := series{name: g.name}
		var contestants []contestant
		for _, n := range times {
			m, err := g.make(b, n)
			if err != nil {
				return fmt.Errorf("%s, %dx: %w", g.name, n, err)
			}
			contestants = append(contestants, m)
		}
		costs, err := b.race(min(b.rounds, 3), contestants...)
		if err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
		var text []string
		for i, n := range times {
			s.points = append(s.points, point{float64(n), costs[i].cpu.Seconds()})
			text = append(text, span(costs[i].cpu))
		}
		c.series = append(c.series, s)
		// The last ten times: before it the start of the program is most of the cost.
		last := s.points[len(s.points)-2:]
		v := slope([]float64{last[0].x, last[1].x}, []float64{last[0].y, last[1].y})
		b.add(row{section: "growth", claim: fmt.Sprintf("%s: 1x, 10x, 100x, 1000x", g.name), ours: strings.Join(text, ", "),
			value: v, shown: "slope " + digits(v), target: target{limit: 1.1, most: true, text: "≤ 1.1 (linear is 1)"}})
	}
	most := float64(times[len(times)-1])
	c.series = append(c.series, series{name: "linear, to compare with", dashed: true, points: []point{{1, 0.005}, {most, 0.005 * most}}})
	return b.writeChart("growth.svg", c.svg())
}

// growths are the kinds of load. Each makes what is measured for n times the smallest load, of which a thousand times
// is about as much as a large host has.
var growths = []struct {
	name string
	make func(b *bench, n int) (contestant, error)
}{
	{"lines of a log, from 3,000", func(b *bench, n int) (contestant, error) {
		conf, err := b.policies("seed.yaml", "exim2")
		if err != nil {
			return contestant{}, err
		}
		log, err := b.log(fmt.Sprintf("growth%d.log", n), b.of(3000)*n, eximForm)
		return b.summary(conf, log), err
	}},
	{"policies on one log of 100,000 lines", func(b *bench, n int) (contestant, error) {
		var s strings.Builder
		for i := range n {
			fmt.Fprintf(&s, "  p%d: {failregex: ['^ \\S+ service%d\\[\\d+\\]: refused <HOST>$'], logpath: [/nowhere]}\n", i, i)
		}
		return b.services(fmt.Sprintf("policies%d.yaml", n), "policies:\n"+s.String())
	}},
	{"patterns of one policy, on the same", func(b *bench, n int) (contestant, error) {
		var s strings.Builder
		for i := range n {
			fmt.Fprintf(&s, "      - '^ \\S+ service%d\\[\\d+\\]: refused <HOST>$'\n", i)
		}
		return b.services(fmt.Sprintf("patterns%d.yaml", n), "policies:\n  p:\n    logpath: [/nowhere]\n    failregex:\n"+s.String())
	}},
	{"tracked hosts, 9 failures each, from 1,000", func(b *bench, n int) (contestant, error) {
		return b.helper("hosts", strconv.Itoa(b.of(1000)*n), "9"), nil
	}},
	{"bans restored, from 1,000", func(b *bench, n int) (contestant, error) {
		bans := b.of(1000) * n
		return contestant{args: []string{b.banset, "restore", "--config", b.path(fmt.Sprintf("boot%d/banset.yaml", bans))},
			before: func() error { return b.rebooted(bans) }}, nil
	}},
	{"files of 1,000 lines", func(b *bench, n int) (contestant, error) {
		conf, err := b.policies("seed.yaml", "exim2")
		if err != nil {
			return contestant{}, err
		}
		var files []string
		for i := range n {
			log, err := b.log(fmt.Sprintf("file%d.log", i), b.of(1000), eximForm)
			if err != nil {
				return contestant{}, err
			}
			files = append(files, log)
		}
		return b.summary(conf, files...), nil
	}},
}

// services reads a log in which a service that the first pattern names refuses somebody now and then, and the others
// never appear.
func (b *bench) services(config, text string) (contestant, error) {
	conf, err := b.writeFile(config, text)
	if err != nil {
		return contestant{}, err
	}
	log, err := b.log("services.log", b.of(100_000), func(g *writer) string {
		if g.failure() {
			return g.syslog("service0", "refused "+g.attacker().String())
		}
		return mixedForm(g)
	})
	return b.summary(conf, log), err
}

// rebooted makes the state of a host before `banset restore`: a blocklist of n bans, and nothing in the kernel.
func (b *bench) rebooted(n int) error {
	if err := b.flushRules(); err != nil {
		return err
	}
	_, err := b.bootDir(n)
	return err
}
