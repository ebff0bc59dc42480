package window

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"banset/policy"
)

var testHost = netip.MustParsePrefix("192.0.2.1/32")

func host4(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}), 32)
}

// Each row adds failures of one host; the counts say what each add returned, negative: earned.
func TestAdd(t *testing.T) {
	for _, tt := range []struct {
		name     string
		maxretry int
		findtime time.Duration
		at       []int64
		want     []int
	}{
		{"the first earns", 1, time.Minute, []int64{100, 100}, []int{-1, -1}},
		{"maxretry below one", -5, time.Minute, []int64{100}, []int{-1}},
		{"maxretry earns and a new count begins", 3, time.Minute, []int64{100, 100, 100, 100}, []int{1, 2, -3, 1}},
		{"exactly findtime apart counts", 2, 10 * time.Second, []int64{100, 110}, []int{1, -2}},
		{"a second more does not", 2, 10 * time.Second, []int64{100, 111, 121}, []int{1, 1, -2}},
		{"the window slides", 3, 10 * time.Second, []int64{100, 108, 111, 118}, []int{1, 2, 2, -3}},
		{"a late one is put in order", 3, 10 * time.Second, []int64{110, 101, 100}, []int{1, 2, -3}},
		{"a late one before the window is nothing", 2, 10 * time.Second, []int64{111, 100, 101}, []int{1, 1, -2}},
		{"late ones slide out first", 4, 10 * time.Second, []int64{110, 100, 105, 111, 115}, []int{1, 2, 3, 3, -4}},
		{"a part of a second is no time", 2, 10*time.Second + 999*time.Millisecond, []int64{100, 111}, []int{1, 1}},
		{"no findtime: the same second", 2, 0, []int64{100, 101, 101}, []int{1, 1, -2}},
		{"negative findtime", 2, -time.Hour, []int64{100, 101, 101}, []int{1, 1, -2}},
		{"forever", 3, policy.Forever, []int64{0, math.MaxUint32, 5}, []int{1, 2, -3}},
		{"before 1970", 2, policy.Forever, []int64{-1, 5, math.MinInt64}, []int{0, 1, 0}},
		{"after 2105", 2, policy.Forever, []int64{math.MaxUint32 + 1, 5, math.MaxInt64}, []int{0, 1, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := New(10)
			id := b.Policy("sshd")
			var got []int
			for _, at := range tt.at {
				n, earned := b.Add(id, testHost, at, tt.maxretry, tt.findtime)
				if earned {
					n = -n
				}
				got = append(got, n)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestReload(t *testing.T) {
	b := New(10)
	id := b.Policy("sshd")
	for at := range int64(8) {
		b.Add(id, testHost, 100+at, 10, time.Hour)
	}
	// The threshold falls below what is kept: the next failure earns the ban, one before the window does not.
	if n, earned := b.Add(id, testHost, 1, 3, 50*time.Second); n != 8 || earned {
		t.Errorf("a failure before the window: %d, %v", n, earned)
	}
	if n, earned := b.Add(id, testHost, 108, 3, time.Hour); n != 9 || !earned {
		t.Errorf("after maxretry fell to 3: %d, %v; want 9, true", n, earned)
	}
	// A shorter findtime drops what it does not cover, also when it comes with a failure that does not count.
	for at := range int64(8) {
		b.Add(id, testHost, 100+at, 10, time.Hour)
	}
	if n, _ := b.Add(id, testHost, 1, 10, 3*time.Second); n != 4 {
		t.Errorf("after findtime fell to 3s: %d, want 4", n)
	}
	if n, _ := b.Count(id, testHost, 107, time.Hour); n != 4 {
		t.Errorf("Count = %d, want 4", n)
	}
}

func TestHostsAreTheirMaskedPrefix(t *testing.T) {
	b := New(10)
	id := b.Policy("p")
	same := [][2]string{
		{"192.0.2.77/24", "192.0.2.0/24"},
		{"::ffff:192.0.2.1/128", "192.0.2.1/32"},
		{"2001:db8::1/64", "2001:db8::/64"},
		{"2001:db8::1/56", "2001:db8::/56"},
		{"0.0.0.0/0", "192.0.2.1/0"},
		{"::/0", "2001:db8::/0"},
	}
	for _, s := range same {
		if n, _ := b.Add(id, netip.MustParsePrefix(s[0]), 100, 10, time.Hour); n != 1 {
			t.Errorf("%s counts with another host", s[0])
		}
		if n, _ := b.Add(id, netip.MustParsePrefix(s[1]), 100, 10, time.Hour); n != 2 {
			t.Errorf("%s does not count as %s", s[1], s[0])
		}
	}
	if n, earned := b.Add(id, netip.Prefix{}, 100, 1, time.Hour); n != 0 || earned {
		t.Errorf("an invalid host: %d, %v", n, earned)
	}
	if b.Len() != len(same) {
		t.Errorf("Len = %d, want %d", b.Len(), len(same))
	}
}

func TestPolicies(t *testing.T) {
	b := New(10)
	a, c := b.Policy("a"), b.Policy("c")
	if a == 0 || c == 0 || a == c || b.Policy("a") != a || b.Policy("") != 0 {
		t.Fatalf("IDs %d, %d", a, c)
	}
	b.Add(a, testHost, 100, 3, time.Hour)
	if n, _ := b.Add(c, testHost, 100, 3, time.Hour); n != 1 {
		t.Error("two policies count together")
	}
	b.Drop("a")
	if n, _ := b.Add(a, testHost, 100, 3, time.Hour); n != 0 || b.Len() != 1 {
		t.Errorf("a dropped policy counts: %d, Len %d", n, b.Len())
	}
	if n, _ := b.Add(0, testHost, 100, 1, time.Hour); n != 0 {
		t.Error("no policy counts")
	}
	if got := b.Policies(); !slices.Equal(got, []string{"c"}) {
		t.Errorf("Policies = %v", got)
	}
	// IDs come back: as many reloads as one likes.
	for i := range 100_000 {
		name := fmt.Sprint("p", i)
		id := b.Policy(name)
		if id == 0 {
			t.Fatalf("no ID for policy %d", i)
		}
		b.Add(id, testHost, 100, 3, time.Hour)
		if i%10 == 0 {
			b.Changed(func(_, _ []byte) {})
		}
		b.Drop(name)
	}
}

// A policy that goes and comes again between two calls of Changed is told of as gone first.
func TestDropAndReturn(t *testing.T) {
	b := New(10)
	store := map[string][]byte{}
	b.Add(b.Policy("a"), testHost, 100, 3, time.Hour)
	syncStore(t, b, store)
	b.Drop("a")
	b.Add(b.Policy("other"), testHost, 100, 3, time.Hour)
	b.Add(b.Policy("a"), testHost, 200, 3, time.Hour)
	syncStore(t, b, store)
	b2 := restart(t, store, 10)
	if n, last := b2.Count(b2.Policy("a"), testHost, 200, time.Hour); n != 1 || last != 200 {
		t.Errorf("Count = %d, %d; want 1, 200", n, last)
	}
}

func TestCap(t *testing.T) {
	b := New(100)
	id := b.Policy("p")
	for i := range 100 {
		b.Add(id, host4(i), int64(i), 10, policy.Forever)
	}
	b.Add(id, host4(0), 0, 10, policy.Forever) // the first is now the last
	for i := range 50 {
		b.Add(id, host4(1000+i), 5, 10, policy.Forever)
	}
	if b.Len() != 100 || b.Evicted() != 50 {
		t.Fatalf("Len, Evicted = %d, %d; want 100, 50", b.Len(), b.Evicted())
	}
	if n, _ := b.Count(id, host4(0), 0, policy.Forever); n != 2 {
		t.Errorf("the host that failed again is gone")
	}
	for i := 1; i <= 50; i++ {
		if n, _ := b.Count(id, host4(i), 0, policy.Forever); n != 0 {
			t.Errorf("host %d is still there", i)
		}
	}
}

// The store may hold more than the cap now allows: the newest stay.
func TestCapAfterLoad(t *testing.T) {
	b := New(100)
	store := map[string][]byte{}
	for i := range 100 {
		b.Add(b.Policy("p"), host4(i), int64(1000+i), 10, policy.Forever)
	}
	syncStore(t, b, store)
	b = restart(t, store, 10)
	b.Add(b.Policy("p"), host4(99), 2000, 10, policy.Forever)
	if b.Len() != 10 || b.Evicted() != 90 {
		t.Fatalf("Len, Evicted = %d, %d; want 10, 90", b.Len(), b.Evicted())
	}
	for i := 90; i < 100; i++ {
		if n, _ := b.Count(b.Policy("p"), host4(i), 2000, policy.Forever); n == 0 {
			t.Errorf("host %d is gone", i)
		}
	}
	syncStore(t, b, store)
}

func TestExpireIsBounded(t *testing.T) {
	b := New(1000)
	find := func(name string) time.Duration {
		return map[string]time.Duration{"a": time.Minute, "b": policy.Forever, "c": time.Minute}[name]
	}
	for _, name := range []string{"a", "b", "c"} {
		for i := range 100 {
			b.Add(b.Policy(name), host4(i), int64(100+i), 10, find(name))
		}
	}
	if n := b.Expire(160, 1000, find); n != 0 {
		t.Errorf("at findtime: %d hosts forgotten", n)
	}
	if n := b.Expire(161, 1000, find); n != 2 {
		t.Errorf("a second later: %d hosts forgotten, want 2", n)
	}
	for want := 198; want > 0; {
		n := b.Expire(1000, 7, find)
		if n != min(want, 7) {
			t.Fatalf("Expire forgot %d, want %d", n, min(want, 7))
		}
		want -= n
	}
	if n := b.Expire(math.MaxInt64/2, 1000, find); n != 0 || b.Len() != 100 {
		t.Errorf("forever ended: %d, Len %d", n, b.Len())
	}
}

func TestLargeMaxretry(t *testing.T) {
	const maxretry = 10_000
	b := New(10)
	m := newModel(10)
	id := b.Policy("p")
	for i := range 3*maxretry + 5 {
		at := int64(100_000 + i - i%7*3)
		gotN, gotE := b.Add(id, testHost, at, maxretry, policy.Forever)
		want := i%maxretry + 1
		if gotN != want || gotE != (want == maxretry) {
			t.Fatalf("failure %d: %d, %v", i, gotN, gotE)
		}
	}
	check(t, b, &model{hosts: contents(t, b), evicted: m.evicted})
	// A window shorter than that: the block shrinks again.
	for i := range int64(100) {
		b.Add(id, testHost, 1_000_000+100*i, maxretry, 300*time.Second)
	}
	if n, _ := b.Count(id, testHost, 0, 300*time.Second); n != 4 {
		t.Errorf("Count = %d, want 4", n)
	}
	if b.stamps.words > smallBlock {
		t.Errorf("four stamps take %d words", b.stamps.words)
	}
}

// Few hosts with very many failures are bounded too.
func TestStampsAreBounded(t *testing.T) {
	b := New(1000)
	b.maxWords = 4096
	id := b.Policy("p")
	for i := range 100 {
		for range 200 {
			b.Add(id, host4(i), 100, MaxFailures, policy.Forever)
		}
		if b.stamps.words > b.maxWords {
			t.Fatalf("%d words are in use", b.stamps.words)
		}
		if n, _ := b.Count(id, host4(i), 100, policy.Forever); n != 200 {
			t.Fatalf("the host that fails now has %d of 200 failures", n)
		}
	}
	if b.Evicted() == 0 || b.Len()+int(b.Evicted()) != 100 {
		t.Errorf("Len, Evicted = %d, %d", b.Len(), b.Evicted())
	}
}

// A Book whose store is never written must not remember all it ever forgot.
func TestChangesAreBounded(t *testing.T) {
	b := New(100)
	id := b.Policy("p")
	for i := range 100 {
		b.Add(id, host4(i), 100, 10, time.Hour)
	}
	b.Changed(func(_, _ []byte) {})
	for i := range 10_000 {
		b.Add(id, host4(1000+i), 100, 10, time.Hour)
	}
	if len(b.gone) != 100 {
		t.Errorf("%d hosts are remembered as gone, want 100", len(b.gone))
	}
}

// bytesPerHost fills a Book with n hosts of k failures each and returns it with the memory that stays.
func bytesPerHost(n, k int) (*Book, float64) {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	b := New(n)
	id := b.Policy("exim2-repeater")
	for at := range k {
		for i := range n {
			b.Add(id, host4(i), int64(1_800_000_000+at), k+1, 365*24*time.Hour)
		}
	}
	return b, float64(heap()-before) / float64(n)
}

func TestMemory(t *testing.T) {
	for _, n := range []int{70_000, 100_000, 150_000} {
		b, per := bytesPerHost(n, 9)
		if b.Len() != n {
			t.Fatalf("Len = %d", b.Len())
		}
		if per > 120 {
			t.Errorf("%d hosts with nine failures take %.1f bytes each, want at most 120", n, per)
		}
	}
}

func TestAddDoesNotAllocate(t *testing.T) {
	b, _ := bytesPerHost(1000, 9)
	id := b.Policy("exim2-repeater")
	at := int64(1_800_000_010)
	if n := testing.AllocsPerRun(1000, func() { b.Add(id, host4(5), at, 10, time.Second); at++ }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestExpectChangesNothing tells a large Book of hosts that it has, had and never had.
func TestExpectChangesNothing(t *testing.T) {
	b, _ := bytesPerHost(expectFrom+1000, 3)
	id := b.Policy("exim2-repeater")
	for i := range 500 {
		b.Forget(id, host4(i*7))
	}
	other := b.Policy("other")
	before := contents(t, b)
	failure := func(i int) (PolicyID, netip.Prefix) {
		switch i % 4 {
		case 0:
			return PolicyID(99), netip.Prefix{}
		case 1:
			return other, host4(i)
		case 2:
			return id, netip.MustParsePrefix("2001:db8::/64")
		}
		return id, host4(i)
	}
	if n := testing.AllocsPerRun(1, func() { b.Expect(expectFrom+2000, failure) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if after := contents(t, b); !maps.EqualFunc(after, before, slices.Equal) {
		t.Errorf("%d hosts before, other %d after", len(before), len(after))
	}
	if b.fetched == 0 {
		t.Error("nothing was looked at")
	}
}

func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		book, per := bytesPerHost(1_000_000, 9)
		b.ReportMetric(per, "bytes/host")
		runtime.KeepAlive(book)
	}
}

func BenchmarkAddHit(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprint("hosts=", n), func(b *testing.B) {
			book, _ := bytesPerHost(n, 9)
			id := book.Policy("exim2-repeater")
			b.ReportAllocs()
			x, at := uint32(1), int64(1_800_000_100)
			for b.Loop() {
				x = x*1664525 + 1013904223
				at++
				book.Add(id, host4(int(uint64(x)*uint64(n)>>32)), at/1000, 10, time.Second)
			}
		})
	}
}

// BenchmarkExpect is the failures of a block of a log, of hosts at random, told of before they are counted and not.
func BenchmarkExpect(b *testing.B) {
	for _, n := range []int{1000, 100_000, 1_000_000} {
		for _, told := range []bool{false, true} {
			b.Run(fmt.Sprintf("hosts=%d/told=%v", n, told), func(b *testing.B) {
				book, _ := bytesPerHost(n, 9)
				id := book.Policy("exim2-repeater")
				x, at := uint32(1), int64(1_800_000_100)
				block := make([]netip.Prefix, 1000)
				for b.Loop() {
					for i := range block {
						x = x*1664525 + 1013904223
						block[i] = host4(int(uint64(x) * uint64(n) >> 32))
					}
					for group := range slices.Chunk(block, expectAtOnce) {
						if told {
							book.Expect(len(group), func(i int) (PolicyID, netip.Prefix) { return id, group[i] })
						}
						for _, h := range group {
							book.Add(id, h, at/1000, 10, time.Second)
						}
					}
					at++
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/failure")
			})
		}
	}
}

func BenchmarkAddNew(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprint("cap=", n), func(b *testing.B) {
			book := New(n)
			id := book.Policy("p")
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				book.Add(id, host4(i), 1_800_000_000, 10, time.Hour)
			}
		})
	}
}

func BenchmarkChanged(b *testing.B) {
	book, _ := bytesPerHost(100_000, 9)
	b.ReportAllocs()
	for b.Loop() {
		book.MarkAll()
		book.Changed(func(_, _ []byte) {})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100_000, "ns/host")
}

func BenchmarkLoad(b *testing.B) {
	book, _ := bytesPerHost(100_000, 9)
	var keys, values [][]byte
	book.MarkAll()
	book.Changed(func(k, v []byte) { keys, values = append(keys, slices.Clone(k)), append(values, slices.Clone(v)) })
	for b.Loop() {
		book := New(100_000)
		for i := range keys {
			if err := book.Load(keys[i], values[i]); err != nil {
				b.Fatal(err)
			}
		}
		book.settle()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100_000, "ns/host")
}
