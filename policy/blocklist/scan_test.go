package blocklist

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// A Scanner that gets a text in pieces sees what Parse sees: of the lines of one host, the one with the latest end.
func TestScan(t *testing.T) {
	opts := Options{Location: berlin, LegacyBan: time.Hour}
	for cut := range 60 {
		s := NewScanner(opts)
		var got []Entry
		at := make(map[netip.Prefix]int)
		for rest := []byte(corpus); len(rest) > 0; {
			end := len(rest)
			if i := bytes.IndexByte(rest[min(cut, len(rest)):], '\n'); i >= 0 && cut > 0 {
				end = cut + i + 1
			}
			s.Scan(rest[:end], func(e *Entry) {
				i, twice := at[e.Ban.Host]
				switch {
				case !twice:
					at[e.Ban.Host] = len(got)
					got = append(got, *e)
				case got[i].Ban.Until < e.Ban.Until:
					got[i] = *e
				}
			})
			rest = rest[end:]
		}
		byLine := func(a, b Entry) int { return a.Line - b.Line }
		slices.SortFunc(got, byLine)
		f := Parse([]byte(corpus), opts)
		want := slices.Collect(f.Entries())
		slices.SortFunc(want, byLine)
		if !slices.Equal(got, want) {
			t.Fatalf("pieces of %d bytes: %v\nwant %v", cut, got, want)
		}
		problems, total := s.Problems()
		wantProblems, wantTotal := f.Problems()
		if !slices.Equal(problems, wantProblems) || total != wantTotal || total == 0 {
			t.Fatalf("pieces of %d bytes: %d problems %v\nwant %d %v", cut, total, problems, wantTotal, wantProblems)
		}
	}
}

func TestScanAllocatesNothing(t *testing.T) {
	text := million(100, oursLine)
	s := NewScanner(Options{})
	n := 0
	scan := func() { s.Scan(text, func(*Entry) { n++ }) }
	scan()
	if allocs := testing.AllocsPerRun(10, scan); allocs > 2 || n == 0 {
		t.Errorf("%v allocations for %d lines", allocs, strings.Count(string(text), "\n"))
	}
}

func BenchmarkScan(b *testing.B) {
	const n = 1_000_000
	for _, k := range kinds {
		b.Run(k.name, func(b *testing.B) {
			text := million(n, k.line)
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				hosts := 0
				NewScanner(Options{Location: berlin, LegacyBan: time.Hour}).Scan(text, func(*Entry) { hosts++ })
				if hosts != n {
					b.Fatal("hosts are missing")
				}
			}
			b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}
