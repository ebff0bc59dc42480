package ledger

import (
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"

	"banset/policy"
)

func isHost(p netip.Prefix) bool { return p.IsSingleIP() }

func TestLaterEndWins(t *testing.T) {
	l := New(0, isHost)
	b := policy.Ban{Host: netip.MustParsePrefix("192.0.2.1/32"), At: 100, Until: 200, Policy: "a", Failures: 5}
	if _, got := l.Enter(b); got != Added {
		t.Fatalf("first ban: %v, want Added", got)
	}
	earlier := b
	earlier.Until, earlier.Policy = 150, "b"
	if stands, got := l.Enter(earlier); got != Unchanged || stands != b {
		t.Errorf("earlier end: %v %+v, want the first ban to stand", got, stands)
	}
	otherwise := b
	otherwise.At, otherwise.Failures = b.At-1, b.Failures+1
	if stands, _ := l.Enter(otherwise); stands != b {
		t.Errorf("another ban with the same end: %+v, want the first ban to stand", stands)
	}
	same := b
	same.At--
	if stands, got := l.Enter(same); got != Unchanged || stands != same {
		t.Errorf("the same ban, begun earlier: %v %+v, want its beginning", got, stands)
	}
	same.At++
	if stands, got := l.Enter(same); got != Unchanged || stands != same {
		t.Errorf("the same ban, begun later: %v %+v, want its beginning", got, stands)
	}
	forever := policy.Ban{Host: netip.MustParsePrefix("192.0.2.99/32"), At: 100, Until: policy.Never, Policy: "a"}
	l.Take(forever)
	again := forever
	again.At++
	if stands, _ := l.Enter(again); stands != forever {
		t.Errorf("forever, earned again: %+v, want the first to stand", stands)
	}
	l.Remove(forever.Host)
	later := b
	later.Until, later.Policy = 300, "b"
	if stands, got := l.Enter(later); got != Moved || stands != later {
		t.Errorf("later end: %v %+v, want it to win", got, stands)
	}
	if l.Of("a") != 0 || l.Of("b") != 1 {
		t.Errorf("bans by policy: a %d, b %d, want 0 and 1", l.Of("a"), l.Of("b"))
	}
	if got := l.Take(b); got != Moved {
		t.Errorf("a person shortens: %v, want Moved", got)
	}
	if next, ok := l.NextEnd(); !ok || next != 200 {
		t.Errorf("next end %d %v, want 200", next, ok)
	}
	if over := l.EndOver(time.Unix(199, 0)); len(over) != 0 {
		t.Errorf("ended early: %v", over)
	}
	if over := l.EndOver(time.Unix(200, 0)); len(over) != 1 || over[0] != b {
		t.Errorf("ended: %v, want %v", over, b)
	}
	if over := l.EndOver(time.Unix(1000, 0)); len(over) != 0 {
		t.Errorf("the end that was moved away came: %v", over)
	}
}

func TestWorkIsCoalesced(t *testing.T) {
	l := New(0, isHost)
	host := netip.MustParsePrefix("192.0.2.1/32")
	l.Take(policy.Ban{Host: host, Until: 200})
	l.Remove(host)
	l.Take(policy.Ban{Host: host, Until: 300})
	bans, gone := l.Work(Kernel, 0)
	if len(bans) != 1 || bans[0].Until != 300 || len(gone) != 0 {
		t.Fatalf("kernel work %v %v, want the last ban alone", bans, gone)
	}
	if l.Holds(Kernel, host) {
		t.Error("the kernel holds it before the mirror is done")
	}
	l.Remove(host) // while the mirror is busy
	l.Done(Kernel, true)
	if l.Holds(Kernel, host) {
		t.Error("the kernel holds it, but it was removed while the mirror was busy")
	}
	if bans, gone := l.Work(Kernel, 0); len(bans) != 0 || len(gone) != 1 {
		t.Errorf("kernel work %v %v, want the removal", bans, gone)
	}
	l.Done(Kernel, false)
	if l.Waiting(Kernel) != 1 {
		t.Error("failed work does not wait again")
	}
}

func TestFreshIsWhatTheFileNeverHeld(t *testing.T) {
	l := New(0, isHost)
	host := netip.MustParsePrefix("192.0.2.1/32")
	l.Take(policy.Ban{Host: host, Until: 200})
	if fresh := l.Fresh(); len(fresh) != 1 {
		t.Fatalf("fresh: %v, want the new ban", fresh)
	}
	l.Done(File, true)
	l.Take(policy.Ban{Host: host, Until: 100})
	if fresh := l.Fresh(); len(fresh) != 0 {
		t.Errorf("fresh: %v; the file has a line for it that must be rewritten", fresh)
	}
	l.Work(File, 0)
	l.Done(File, true)
	l.Remove(host)
	l.Take(policy.Ban{Host: host, Until: 50})
	if fresh := l.Fresh(); len(fresh) != 0 {
		t.Errorf("fresh: %v; the file was never told of the removal", fresh)
	}
}

func TestOldestLeavesFullBook(t *testing.T) {
	l := New(3, isHost)
	host := func(i int) netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 32) }
	for i := range 3 {
		l.Take(policy.Ban{Host: host(i), Until: policy.Never})
	}
	l.Remove(host(0))
	l.Take(policy.Ban{Host: host(0), Until: policy.Never}) // the youngest now
	l.Take(policy.Ban{Host: host(9), Until: policy.Never})
	if _, ok := l.Get(host(1)); ok || l.Len() != 3 || l.Evicted() != 1 {
		t.Errorf("oldest still there: %v; %d bans, %d evicted", ok, l.Len(), l.Evicted())
	}
	if _, ok := l.Get(host(0)); !ok {
		t.Error("the one that was entered anew had to leave")
	}
}

// TestModel compares random work with a plain map, and the copies that a mirror would keep.
func TestModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		l := New(0, isHost)
		book := map[netip.Prefix]policy.Ban{}
		kernel := map[netip.Prefix]policy.Ban{}
		now := int64(1000)
		for range 300 {
			p, _ := netip.AddrFrom4([4]byte{192, 0, 2, byte(rng.IntN(16))}).Prefix(30 + rng.IntN(3))
			switch rng.IntN(6) {
			case 0, 1:
				b := policy.Ban{Host: p, At: now, Until: now + int64(rng.IntN(50)), Policy: "p"}
				if old, ok := book[p]; !ok || b.Until > old.Until || b.Until == old.Until && b.Policy == old.Policy {
					book[p] = b
				}
				l.Enter(b)
			case 2:
				b := policy.Ban{Host: p, At: now, Until: now + int64(rng.IntN(50))}
				book[p] = b
				l.Take(b)
			case 3:
				delete(book, p)
				l.Remove(p)
			case 4:
				now += int64(rng.IntN(20))
				for h, b := range book {
					if b.Until <= now {
						delete(book, h)
					}
				}
				l.EndOver(time.Unix(now, 0))
			case 5:
				bans, gone := l.Work(Kernel, rng.IntN(4))
				ok := rng.IntN(3) > 0
				if ok {
					for _, b := range bans {
						kernel[b.Host] = b
					}
					for _, h := range gone {
						delete(kernel, h)
					}
				}
				l.Done(Kernel, ok)
			}
			if l.Len() != len(book) {
				t.Fatalf("%d bans, want %d", l.Len(), len(book))
			}
			for h, want := range book {
				if got, _ := l.Get(h); got != want {
					t.Fatalf("%s: %+v, want %+v", h, got, want)
				}
				if l.Holds(Kernel, h) && kernel[h] != want {
					t.Fatalf("%s: the kernel is said to hold it, and has %+v, want %+v", h, kernel[h], want)
				}
			}
			for h := range kernel {
				if _, ok := book[h]; !ok && l.Holds(Kernel, h) {
					t.Fatalf("%s: the kernel has it, and nothing waits to take it out", h)
				}
			}
		}
	}
}

// Latest begins with the hosts that failed last, banned or not, and survives a ban that is moved to an earlier failure.
func TestLatest(t *testing.T) {
	l := New(0, func(netip.Prefix) bool { return true })
	host := func(i int) netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 32) }
	for i := range 10 {
		l.Take(policy.Ban{Host: host(i), At: int64(100 + i), Until: policy.Never})
	}
	l.Touch(host(3), 500)
	l.Touch(host(4), 7) // a line of a backlog
	l.Touch(host(77), 900)
	l.Take(policy.Ban{Host: host(3), At: 50, Until: 60})
	var got []int
	places := l.Latest()
	l.Remove(host(5))
	for _, at := range places {
		if b, ok := l.Told(Kernel, at); ok {
			got = append(got, int(b.Host.Addr().As4()[3]))
		}
	}
	if want := []int{3, 9, 8, 7, 6, 4, 2, 1, 0}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
	// All were told, but for the one that left.
	if bans, gone := l.Work(Kernel, 0); len(bans) != 0 || !slices.Equal(gone, []netip.Prefix{host(5)}) {
		t.Errorf("still to be told: %v, gone %v", bans, gone)
	}
	l.Done(Kernel, true)
	l.Settle(File, host(5))
	l.Work(State, 0)
	l.Done(State, true)
	if _, ok := l.Told(Kernel, places[5]); ok {
		t.Error("nobody stands at a place that became free")
	}
}

// TestCopies compares random work of all copies with plain maps: what each is told, in the end, is the book.
func TestCopies(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 100 {
		l := New(0, isHost)
		book := map[netip.Prefix]policy.Ban{}
		var held [copies]map[netip.Prefix]policy.Ban
		for c := range held {
			held[c] = map[netip.Prefix]policy.Ban{}
		}
		tell := func(c Copy, bans []policy.Ban, gone []netip.Prefix, ok bool) {
			for _, b := range bans {
				if ok {
					held[c][b.Host] = b
				}
			}
			for _, host := range gone {
				if ok {
					delete(held[c], host)
				}
			}
			l.Done(c, ok)
		}
		now := int64(1000)
		step := func(limit int) {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(rng.IntN(40))}), 32)
			c := Copy(rng.IntN(int(copies)))
			switch rng.IntN(8) {
			case 0, 1, 2:
				b := policy.Ban{Host: p, At: now, Until: now + int64(rng.IntN(100)), Policy: "p", Failures: rng.IntN(3)}
				if rng.IntN(3) == 0 {
					b.Policy, b.Failures, b.Note, b.Until = "", 0, "note", policy.Never
				}
				book[p] = b
				l.Take(b)
			case 3:
				l.Remove(p)
				delete(book, p)
			case 4:
				now += int64(rng.IntN(10))
				for _, b := range l.EndOver(time.Unix(now, 0)) {
					if book[b.Host] != b || b.Until > now {
						t.Fatalf("ended at %d: %+v, the book has %+v", now, b, book[b.Host])
					}
					delete(book, b.Host)
				}
			case 5:
				l.Mark(c, p)
			case 6:
				// A look at the copy that found it right.
				b, ok := book[p]
				if got, has := held[c][p]; has == ok && got == b {
					l.Settle(c, p)
				}
			case 7:
				ok := rng.IntN(4) > 0
				if c == File && rng.IntN(2) == 0 {
					fresh := l.Fresh()
					for _, b := range fresh {
						if _, has := held[File][b.Host]; has {
							t.Fatalf("%v is fresh, but the file has a line of it", b.Host)
						}
					}
					tell(File, fresh, nil, ok)
					return
				}
				bans, gone := l.Work(c, limit)
				tell(c, bans, gone, ok)
			}
		}
		check := func() {
			waiting, soonest := [copies]int{}, policy.Never
			for h, b := range book {
				if got, ok := l.Get(h); !ok || got != b {
					t.Fatalf("%v: %+v, want %+v", h, got, b)
				}
				soonest = min(soonest, b.Until)
			}
			for i := range 256 {
				h := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 32)
				b, ok := book[h]
				for c := range copies {
					got, has := held[c][h]
					if l.Holds(c, h) {
						if has != ok || got != b {
							t.Fatalf("copy %d is said to hold %v and has %+v, %v; want %+v, %v", c, h, got, has, b, ok)
						}
					} else {
						waiting[c]++
					}
				}
			}
			for c := range copies {
				if l.Waiting(c) != waiting[c] || l.Pending(c) != waiting[c] {
					t.Fatalf("copy %d: %d wait, %d are pending, want %d", c, l.Waiting(c), l.Pending(c), waiting[c])
				}
			}
			if next, ok := l.NextEnd(); ok != (soonest != policy.Never) || ok && next != soonest {
				t.Fatalf("next end %d, %v; want %d", next, ok, soonest)
			}
			if l.Len() != len(book) || l.Of("p")+l.Of("") != len(book) {
				t.Fatalf("%d bans, %d of p and %d by hand; want %d", l.Len(), l.Of("p"), l.Of(""), len(book))
			}
		}
		for range 600 {
			if step(rng.IntN(5)); rng.IntN(10) == 0 {
				check()
			}
		}
		for c := range copies {
			// The state last: the file's work makes some for it.
			bans, gone := l.Work(c, 0)
			tell(c, bans, gone, true)
		}
		check()
		if l.records.Len() != len(book) {
			t.Errorf("%d records are left of %d bans", l.records.Len(), len(book))
		}
		for b := range l.All() {
			l.Remove(b.Host)
		}
		for c := range copies {
			bans, gone := l.Work(c, 0)
			tell(c, bans, gone, true)
		}
		if l.records.Len() != 0 || len(l.reasons.ids) != 0 || len(l.ends) != 0 {
			t.Errorf("an empty book has %d records, %d reasons, %d ends", l.records.Len(), len(l.reasons.ids), len(l.ends))
		}
	}
}

// TestEarliest: the order of a file that is written anew.
func TestEarliest(t *testing.T) {
	l := New(0, isHost)
	for i, at := range []int64{30, 10, 20, 10} {
		l.Take(policy.Ban{Host: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(9 - i)}), 32), At: at, Until: policy.Never})
	}
	var got []byte
	for b := range l.Earliest() {
		got = append(got, b.Host.Addr().As4()[3])
	}
	if want := []byte{6, 8, 7, 9}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
}

// TestNoAllocations: a ban of a host that had one before needs no memory but for the lists of pending work.
func TestNoAllocations(t *testing.T) {
	l := New(0, isHost)
	b := policy.Ban{Host: netip.MustParsePrefix("192.0.2.1/32"), Until: 1000, Policy: "p", Failures: 5}
	l.Take(b)
	if n := testing.AllocsPerRun(1000, func() {
		b.Until++
		l.Enter(b)
		l.Touch(b.Host, b.Until)
		l.Get(b.Host)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestWorkInPieces takes what waits for a copy piece by piece, which must not copy what is left each time.
func TestWorkInPieces(t *testing.T) {
	const n, piece = 100_000, 500
	l := New(0, isHost)
	for i := range n {
		l.Take(policy.Ban{Host: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, byte(i >> 16), byte(i >> 8), byte(i)}), 32), At: 1, Until: 1 << 40})
	}
	seen := make(map[netip.Prefix]bool, n)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for len(seen) < n {
		bans, _ := l.Work(State, piece)
		if len(bans) == 0 {
			t.Fatalf("%d of %d were taken", len(seen), n)
		}
		for _, b := range bans {
			seen[b.Host] = true
		}
		l.Done(State, true)
	}
	runtime.ReadMemStats(&after)
	if per := (after.TotalAlloc - before.TotalAlloc) / n; per > 3*uint64(unsafe.Sizeof(policy.Ban{})) {
		t.Errorf("%d bytes are allocated for each ban", per)
	}
}

// BenchmarkMemory measures a book whose copies hold it all, and one that nobody has been told of yet:
//
//	go test -run '^$' -bench Memory ./policy/ledger
func BenchmarkMemory(b *testing.B) {
	const n = 1_000_000
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for b.Loop() {
		before := heap()
		l := New(0, isHost)
		for i := range n {
			l.Take(policy.Ban{Host: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, byte(i >> 16), byte(i >> 8), byte(i)}), 32),
				At: int64(i), Until: int64(i * 7919 % n), Policy: "exim2-repeater", Failures: 10})
		}
		b.ReportMetric(float64(heap()-before)/n, "B/pending")
		for c := range copies {
			l.Work(c, 0)
			l.Done(c, true)
		}
		b.ReportMetric(float64(heap()-before)/n, "B/ban")
		runtime.KeepAlive(l)
	}
}
