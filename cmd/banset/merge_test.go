package main

import (
	"context"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
)

func hitsOf(m *merge) (all []summaryHit) {
	for h, ok := m.next(); ok; h, ok = m.next() {
		all = append(all, h)
	}
	return all
}

// Logs in order of time, whose times overlap or not, merge into one in order of time, and none of a log's own order is
// lost.
func TestMerge(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 100 {
		logs := make(map[string][]summaryHit)
		var names []string
		total := 0
		for i := range r.IntN(6) {
			name := string(rune('a' + i))
			names = append(names, name)
			at, n := int64(r.IntN(5000)), r.IntN(3*mergeBatch)
			total += n
			for range n {
				at += int64(r.IntN(3))
				logs[name] = append(logs[name], summaryHit{at: at, job: uint16(i)})
			}
		}
		m := newMerge(names, func(f *mergeFile) {
			for _, h := range logs[f.tally.Name] {
				f.add(t.Context(), h)
			}
			f.flush(t.Context())
		})
		for _, f := range m.waiting {
			f.last = math.MinInt64
			if hits := logs[f.tally.Name]; len(hits) > 0 && r.IntN(3) > 0 {
				f.last = hits[0].at - int64(r.IntN(3))
			}
		}
		got := hitsOf(m)
		var want []summaryHit
		for _, name := range names {
			want = append(want, logs[name]...)
		}
		slices.SortStableFunc(want, func(a, b summaryHit) int { return int(a.at - b.at) })
		if !slices.Equal(got, want) {
			t.Fatalf("%d hits, want %d of %d logs", len(got), len(want), len(names))
		}
		if len(got) != total {
			t.Fatalf("%d hits of %d", len(got), total)
		}
	}
}

// A log that is ahead of the others waits, so that hits are never kept without a limit; and a cancelled reading ends.
func TestMergeWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		sent := 0
		early := make(chan struct{})
		m := newMerge([]string{"late", "early"}, func(f *mergeFile) {
			if f.tally.Name == "early" {
				<-early
				return
			}
			for range 1000 * mergeBatch {
				if ctx.Err() != nil {
					return
				}
				sent++
				f.add(ctx, summaryHit{at: 100})
			}
		})
		m.begin(0)
		m.begin(0)
		synctest.Wait()
		if most := (mergeAhead + 1) * mergeBatch; sent > most {
			t.Errorf("%d hits are kept, more than %d", sent, most)
		}
		cancel()
		close(early)
		hitsOf(m)
	})
}

func TestHostSet(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	h, want := newHostSet(), make(map[netip.Prefix]bool)
	for range 5000 {
		a4 := netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(256))})
		a16 := [16]byte{0x20, 0x01, 0x0d, 0xb8, 7: byte(r.IntN(4)), 15: byte(r.IntN(4))}
		for _, p := range []netip.Prefix{
			netip.PrefixFrom(a4, 32), netip.PrefixFrom(a4, 24).Masked(), netip.PrefixFrom(netip.AddrFrom16(a16), 64).Masked(),
			netip.PrefixFrom(netip.AddrFrom16(a16), 128), netip.PrefixFrom(netip.AddrFrom16(a16), 48).Masked(),
		} {
			h.add(p)
			want[p] = true
		}
	}
	if h.len() != len(want) {
		t.Errorf("got %d hosts, want %d", h.len(), len(want))
	}
}
