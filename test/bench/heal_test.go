package main

import (
	"io"
	"strconv"
	"testing"
	"time"
)

// BenchmarkHeal measures what `nft flush ruleset` costs while banned hosts flood this one:
//
//	go test -run '^$' -bench Heal ./test/bench         # -benchtime 50x: more rounds than ten
//
// gap-ms is the time from the flush to the last element, packets how many of the attackers' datagrams reached a socket
// meanwhile, of how many sent at which rate.
func BenchmarkHeal(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			h, err := newBench(b, io.Discard).heal(n, max(b.N, 10))
			if err != nil {
				b.Fatal(err)
			}
			ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(len(h.gaps)), "rounds")
			b.ReportMetric(ms(quantile(h.gaps, 0.5)), "gap-ms-median")
			b.ReportMetric(ms(quantile(h.gaps, 1)), "gap-ms-max")
			b.ReportMetric(float64(quantile(h.through, 0.5)), "packets-median")
			b.ReportMetric(float64(quantile(h.through, 1)), "packets-max")
			b.ReportMetric(h.rate, "packets/s")
		})
	}
}
