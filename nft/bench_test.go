package nft

import (
	"context"
	"fmt"
	"testing"
	"time"
)

func BenchmarkApplyOne(b *testing.B) {
	k := ready(b)
	change := []Change{add("198.51.100.7", time.Hour, "exim2-repeater: 10 failures")}
	b.ReportAllocs()
	for b.Loop() {
		change[0].Timeout ^= 1 << 30
		if err := k.Apply(ctx, change); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApplyOneRange(b *testing.B) {
	k := ready(b)
	change := []Change{add("10.0.0.0/8", time.Hour, "by hand")}
	b.ReportAllocs()
	for b.Loop() {
		if err := k.Apply(ctx, change); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApply100k(b *testing.B) {
	k := ready(b, func(c *Config) { c.Size = 200_000 })
	changes := many(100_000, host4)
	b.ReportAllocs()
	for b.Loop() {
		if err := k.Apply(ctx, changes); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReplace(b *testing.B) {
	for _, n := range []int{0, 1000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			k := open(b, func(c *Config) { c.Size = uint32(max(n, 65536)) })
			b.ReportAllocs()
			for b.Loop() {
				if err := k.Replace(ctx, func(yield func(Element) bool) {
					for i := range n {
						if !yield(host4(i)) {
							return
						}
					}
				}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEnsureNothing(b *testing.B) {
	k := ready(b)
	for b.Loop() {
		if _, err := k.Ensure(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	k := ready(b)
	apply(b, k, many(50_000, host4)...)
	apply(b, k, add("20.0.0.0/8", 0))
	for name, e := range map[string]Element{"host": host4(77), "none": elem("192.0.2.1", 0), "range": elem("20.0.0.0/8", 0)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := k.Get(ctx, e.Set, e.First); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDump(b *testing.B) {
	for _, n := range []int{1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			k := ready(b, func(c *Config) { c.Size = uint32(2 * n) })
			apply(b, k, many(n, host4)...)
			b.ReportAllocs()
			for b.Loop() {
				if err := k.Dump(ctx, Ban4, func(Element) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkWatch(b *testing.B) {
	k := ready(b)
	other := another(b)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ready, seen, done := make(chan struct{}), make(chan int), make(chan error)
	go func() {
		done <- k.Watch(ctx, func() { close(ready) }, func(x Transaction) error { seen <- len(x.Events); return nil })
	}()
	<-ready
	change := []Change{add("198.51.100.7", time.Hour)}
	for b.Loop() {
		if err := other.Apply(ctx, change); err != nil {
			b.Fatal(err)
		}
		<-seen
	}
	cancel()
	<-done
}
