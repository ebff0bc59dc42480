package judge

import (
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"banset/policy"
)

// TestLadderModel compares random offences and pardons with a plain map, and what is told of them with what a store
// would then hold.
func TestLadderModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	policies := []*policy.Policy{
		{Name: "a", BanTime: []time.Duration{time.Minute, time.Hour, policy.Forever}},
		{Name: "b", BanTime: []time.Duration{10 * time.Second, time.Minute}},
	}
	l := newLadder(0)
	model, stored := map[rungKey]rung{}, map[string]string{}
	at := int64(1000)
	for range 20_000 {
		p := policies[rng.IntN(2)]
		k := rungKey{p.Name, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(rng.IntN(64))}), 31+rng.IntN(2))}
		switch rng.IntN(10) {
		case 0:
			l.drop(k)
			delete(model, k)
		case 1:
			l.tell(func(key, value []byte) {
				if stored[string(key)] = string(value); value == nil {
					delete(stored, string(key))
				}
			})
			if len(stored) != len(model) || l.rungs.Len() != len(model) {
				t.Fatalf("%d are stored and %d kept, want %d", len(stored), l.rungs.Len(), len(model))
			}
			for k, want := range model {
				_, got, err := decodeRung(k.encode(), []byte(stored[string(k.encode())]))
				if err != nil || got != want {
					t.Fatalf("%v is stored as %+v, want %+v: %v", k, got, want, err)
				}
			}
		default:
			at += int64(rng.IntN(30))
			want := model[k]
			if want.offences == 0 || at >= want.end {
				want.offences++
			}
			length := p.BanTime[min(int(want.offences), len(p.BanTime))-1]
			want.end = max(want.end, endOf(at, length))
			model[k] = want
			if d, n := l.step(p, k.host, at); d != length || n != int(want.offences) {
				t.Fatalf("%v at %d: offence %d, %s; want %d, %s", k, at, n, d, want.offences, length)
			}
		}
		if l.n != len(model) {
			t.Fatalf("%d rungs, want %d", l.n, len(model))
		}
	}
}

func TestLadderEvictsWhoWasFreeFirst(t *testing.T) {
	p := &policy.Policy{Name: "a", BanTime: []time.Duration{time.Minute, time.Hour}}
	l := newLadder(20)
	host := func(i int) netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 32) }
	for i := range 21 {
		l.step(p, host(i), int64(1000+i))
	}
	for i := range 21 {
		if _, ok := l.get(rungKey{"a", host(i)}); ok != (i > 1) {
			t.Errorf("host %d of 21 is remembered: %v", i, ok)
		}
	}
}

// BenchmarkLadderMemory: go test -run '^$' -bench LadderMemory ./policy/judge
func BenchmarkLadderMemory(b *testing.B) {
	const n = 1_000_000
	p := &policy.Policy{Name: "a", BanTime: []time.Duration{time.Minute, time.Hour}}
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for b.Loop() {
		before := heap()
		l := newLadder(0)
		for i := range n {
			l.step(p, netip.PrefixFrom(netip.AddrFrom4([4]byte{198, byte(i >> 16), byte(i >> 8), byte(i)}), 32), 1000)
		}
		l.tell(func(key, value []byte) {})
		b.ReportMetric(float64(heap()-before)/n, "B/host")
		runtime.KeepAlive(l)
	}
}
