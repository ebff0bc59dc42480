package nft

import (
	"iter"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banset/nft/nfttest"
)

// BenchmarkLoad compares Replace of a million bans with the kernel's own time for the same messages, by turns and each
// time into a fresh table:
//
//	go test -run '^$' -bench Load -benchtime 5x ./nft
//
// kernel is prebuilt bytes, one write(2) a transaction. The ratios are medians of pairs: of the time that passed, and
// of user and system time together.
func BenchmarkLoad(b *testing.B) {
	const n = 1_000_000
	for name, f := range map[string]func(int) Element{"timeout": host4, "ban": ban4, "ban6": ban6} {
		b.Run(name, func(b *testing.B) {
			k := open(b, func(c *Config) { c.Size = n })
			elements := func(yield func(Element) bool) {
				for i := range n {
					if !yield(f(i)) {
						return
					}
				}
			}
			batches := prebuilt(k, elements)
			var walls, cpus, floors, loads []float64
			for b.Loop() {
				b.StopTimer()
				floor, floorCPU := timed(b, k, func() error {
					for i := range batches {
						if err := k.command.transact(&batches[i]); err != nil {
							return err
						}
					}
					return nil
				})
				b.StartTimer()
				load, loadCPU := timed(b, k, func() error { return k.Replace(ctx, elements) })
				walls, cpus = append(walls, load/floor), append(cpus, loadCPU/floorCPU)
				floors, loads = append(floors, floor), append(loads, load)
			}
			for unit, all := range map[string][]float64{"ratio": walls, "cpu-ratio": cpus, "kernel-s": floors, "load-s": loads} {
				slices.Sort(all)
				b.ReportMetric(all[len(all)/2], unit)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// ban4 is a host as a restore puts it back, ban6 the same of IPv6.
func ban4(n int) Element { return ban(host4(n)) }
func ban6(n int) Element { return ban(host6(n)) }

func ban(e Element) Element {
	e.Timeout, e.Expires, e.Comment = 365*24*time.Hour, 300*24*time.Hour, "exim2-repeater: 10 failures"
	return e
}

// prebuilt is all transactions of a Replace of hosts of one set.
func prebuilt(k *Keeper, elements iter.Seq[Element]) (all []batch) {
	var b batch
	var l list
	count := 0
	next := func() {
		if count > 0 {
			l.close()
			b.finish()
			all = append(all, b)
		}
		b, count = batch{}, 0
		b.begin()
		if len(all) == 0 {
			b.addAll(&k.config, k.rules, 0)
		}
	}
	next()
	for e := range elements {
		if count == 0 {
			l = b.list(k.config.Table, e.Set, unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE)
		}
		l.room()
		b.element(&e)
		if count++; count == maxElements {
			next()
		}
	}
	next()
	return all
}

// timed runs f without a table, once the kernel has freed the last one, and returns the seconds and the processor's
// seconds.
func timed(b *testing.B, k *Keeper, f func() error) (wall, cpu float64) {
	b.Helper()
	if err := k.Remove(ctx); err != nil {
		b.Fatal(err)
	}
	settle(b)
	before, began := processor(b), time.Now()
	if err := f(); err != nil {
		b.Fatal(err)
	}
	return time.Since(began).Seconds(), processor(b) - before
}

// settle waits until the kernel has freed what was deleted: the end of a netlink socket does.
func settle(b *testing.B) {
	b.Helper()
	nfttest.Run(b, "nft", "list", "tables")
}

// processor is the user and system time of this process so far, in seconds.
func processor(b *testing.B) float64 {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
