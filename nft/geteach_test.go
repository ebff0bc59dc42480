package nft

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestGetEach: many are looked up as each of them is by Get, in order, whatever is missing among them.
func TestGetEach(t *testing.T) {
	k := ready(t)
	var wanted []Element
	var there []Change
	rng := rand.New(rand.NewPCG(7, 7))
	for i := range 6000 {
		e := host4(i)
		switch {
		case i%7 == 3:
			e = host6(i)
		case i == 77:
			e = elem("20.0.0.0/8", time.Hour)
		case i == 78:
			e = elem("21.0.0.7-21.0.0.9", time.Hour)
		case i == 79: // a host inside a range is not a range
			wanted = append(wanted, Element{Set: Net4, First: elem("20.0.0.1", 0).First})
			continue
		}
		e.Timeout += time.Duration(i) * time.Minute
		e.Comment = "sshd: 5 failures"
		wanted = append(wanted, e)
		// All of the first half, few of the second.
		if i < 3000 || rng.IntN(10) == 0 {
			there = append(there, Change{Element: e})
		}
	}
	apply(t, k, there...)
	wanted = append(wanted, wanted[0], wanted[len(wanted)-1], wanted[0])
	n, found := 0, 0
	err := k.GetEach(ctx, slices.Values(wanted), func(want, is Element, ok bool) error {
		if want != wanted[n] {
			t.Fatalf("%d: told of %v, want %v", n, want, wanted[n])
		}
		n++
		single, has, err := k.Get(ctx, want.Set, want.First)
		has = has && single.First == want.First
		if err != nil || ok != has {
			t.Fatalf("%v: found %v, want %v %v", want, ok, has, err)
		}
		if ok {
			found++
			single.Expires, is.Expires = single.Expires.Round(time.Minute), is.Expires.Round(time.Minute)
			if is != single || is.Timeout != want.Timeout || is.Comment == "" {
				t.Fatalf("%+v, want %+v", is, single)
			}
		}
		return nil
	})
	if err != nil || n != len(wanted) || found < len(there) {
		t.Errorf("%d of %d looked up, %d of %d found, %v", n, len(wanted), found, len(there), err)
	}

	stop := errors.New("enough")
	n = 0
	err = k.GetEach(ctx, slices.Values(wanted), func(_, _ Element, _ bool) error { n++; return stop })
	if err != stop || n != 1 {
		t.Errorf("%v after %d, want %v after 1", err, n, stop)
	}
	if err := k.GetEach(ctx, slices.Values([]Element{{Set: Ban4, First: wanted[3].First}}), nil); err == nil {
		t.Error("an IPv6 host was looked up among IPv4 ones")
	}
	if err := k.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	err = k.GetEach(ctx, slices.Values(wanted), func(_, _ Element, _ bool) error { return nil })
	if !errors.Is(err, ErrMissing) {
		t.Errorf("without the table: %v", err)
	}
}

// BenchmarkGetEach looks up 100,000 hosts, all there and none of them.
func BenchmarkGetEach(b *testing.B) {
	const n = 100_000
	k := ready(b, func(c *Config) { c.Size = n })
	if err := k.Replace(ctx, func(yield func(Element) bool) {
		for i := range n {
			if !yield(ban4(i)) {
				return
			}
		}
	}); err != nil {
		b.Fatal(err)
	}
	for name, from := range map[string]int{"there": 0, "none": n} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := k.GetEach(ctx, func(yield func(Element) bool) {
					for i := range n {
						if !yield(host4(from + i)) {
							return
						}
					}
				}, func(_, _ Element, found bool) error {
					if found != (from == 0) {
						b.Fatal(found)
					}
					return nil
				}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/host")
		})
	}
}
