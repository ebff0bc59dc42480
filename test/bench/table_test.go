package main

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	for _, c := range []struct {
		values []int
		share  float64
		want   int
	}{
		{[]int{7}, 0.5, 7},
		{[]int{3, 1, 2}, 0.5, 2},
		{[]int{4, 3, 2, 1}, 0.5, 2},
		{[]int{4, 3, 2, 1}, 0.99, 4},
		{[]int{4, 3, 2, 1}, 1, 4},
		{[]int{4, 3, 2, 1}, 0, 1},
	} {
		if got := quantile(c.values, c.share); got != c.want {
			t.Errorf("quantile(%v, %v) = %d, want %d", c.values, c.share, got, c.want)
		}
	}
	many := make([]int, 100)
	for i := range many {
		many[i] = 100 - i
	}
	if got := quantile(many, 0.99); got != 99 {
		t.Errorf("99 %% of 1 to 100 do not exceed %d", got)
	}
}

func TestSlope(t *testing.T) {
	x := []float64{1, 10, 100, 1000}
	for _, power := range []float64{0, 0.5, 1, 2} {
		var y []float64
		for _, v := range x {
			y = append(y, 3*math.Pow(v, power))
		}
		if got := slope(x, y); math.Abs(got-power) > 1e-9 {
			t.Errorf("of x^%v: %v", power, got)
		}
	}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		target target
		value  float64
		want   string
		better bool // than the target
	}{
		{target{}, 5, "", false},
		{atLeast(3), 3, "met", true},
		{atLeast(3), 2.99, "not met", false},
		{atMost(1.2), 1.2, "met", true},
		{atMost(1.2), 1.21, "not met", false},
		{within(0, "0"), 0, "met", true},
		{within(0, "0"), 0.1, "not met", false},
	} {
		if got := c.target.verdict(c.value); got != c.want {
			t.Errorf("%v for %s: %q, want %q", c.value, c.target.text, got, c.want)
		}
		if c.want != "" && (c.target.margin(c.value) >= 1) != c.better {
			t.Errorf("%v for %s: margin %v", c.value, c.target.text, c.target.margin(c.value))
		}
	}
}

func TestShown(t *testing.T) {
	for got, want := range map[string]string{
		span(1234 * time.Millisecond):              "1.23 s",
		span(12345 * time.Microsecond):             "12.3 ms",
		span(400 * time.Microsecond):               "400 µs",
		span(90):                                   "90 ns",
		speed(1_000_000, 50*time.Millisecond):      "20.0 M lines/s",
		speed(1000, 20*time.Millisecond):           "50.0 k lines/s",
		ratio(0.5):                                 "0.50x",
		ratio(312.4):                               "312x",
		megabytes(37.4e6):                          "37.4 MB",
		count(1_000_000):                           "1 M",
		count(10_000):                              "10,000",
		count(12):                                  "12",
		plain(100_000):                             "100,000",
		plain(0.001):                               "0.001",
		kernelNumber("6.1.0-28-amd64\n"):           "6.1.0",
		lastLine("a\n3 bans compared: the same\n"): "3 bans compared: the same",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestBetween(t *testing.T) {
	got, err := between("head\n"+markBegin+"old\n"+markEnd+"tail\n", "new\n")
	if want := "head\n" + markBegin + "new\n" + markEnd + "tail\n"; err != nil || got != want {
		t.Errorf("%v: %q, want %q", err, got, want)
	}
	for _, text := range []string{"", markBegin, markEnd + markBegin} {
		if got, err := between(text, "new"); err == nil {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// The table's cells can't break out of it, and what was missed is said as loudly as what was kept.
func TestTables(t *testing.T) {
	rows := []row{
		{section: "scan", claim: "a | b", ours: "1", value: 1, shown: "1.00x", target: atLeast(2)},
		{section: "kernel", claim: "c", ours: "2", value: 1, target: within(2, "2 s")},
	}
	want := "| measured | banset | beside it | ratio | target |  |\n| --- | ---: | ---: | ---: | ---: | --- |\n" +
		"| a \\| b | 1 |  | 1.00x | ≥ 2.00x | **not met** |\n| c | 2 |  |  | ≤ 2 s | met |\n"
	if got := markdown(rows); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	var s strings.Builder
	if err := writeText(&s, rows); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"SCAN\n", "KERNEL\n", "not met"} {
		if !strings.Contains(s.String(), text) {
			t.Errorf("no %q in\n%s", text, &s)
		}
	}
}

func TestCharts(t *testing.T) {
	for name, svg := range map[string]string{
		"no rows": ratioChart(nil),
		"rows": ratioChart([]row{
			{section: "scan", claim: "<a> & b", ours: "1", theirs: "grep -c 2", value: 100, shown: "100x", target: atLeast(1)},
			{section: "memory", claim: "none", ours: "0", target: within(0, "0")},
			{section: "memory", claim: "some", ours: "1", value: 1, target: within(0, "0")},
			{section: "memory", claim: "no target", ours: "1"},
		}),
		"no lines": (&lineChart{title: "t"}).svg(),
		"lines": (&lineChart{title: "a < b", series: []series{
			{name: "one point", points: []point{{1, 1}}},
			{name: "beside it", points: []point{{1, 1}, {1000, 1}}},
			{name: "far", points: []point{{1, 1e-5}, {1000, 1e6}}, dashed: true},
		}}).svg(),
	} {
		t.Run(name, func(t *testing.T) { wellFormed(t, svg) })
	}
}
