package nft

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// 10,000 hosts are one transaction, with the longest comments too.
func TestApplyIsOneTransaction(t *testing.T) {
	k := ready(t)
	if k.command.limit < maxTransaction {
		t.Skip("the kernel caps this user's socket buffers (net.core.wmem_max); TestApplyInSmallBuffers covers that")
	}
	changes := many(10_000, func(i int) Element {
		e := host6(i)
		e.Expires, e.Comment = time.Minute, strings.Repeat("y", MaxComment)
		return e
	})
	for range 2 {
		before := genID(t, k)
		apply(t, k, changes...)
		if n := genID(t, k) - before; n != 1 {
			t.Errorf("%d transactions", n)
		}
	}
}

// More are several, or the kernel's events take all its memory.
func TestApplyLimitsItsTransactions(t *testing.T) {
	k := ready(t)
	watched := watch(t, another(t))
	apply(t, k, many(25_000, host4)...)
	for left := 25_000; left > 0; {
		n := len((<-watched).Events)
		if n == 0 || n > maxElements {
			t.Fatalf("a transaction of %d events", n)
		}
		left -= n
	}
	before := genID(t, k)
	if err := k.Replace(ctx, func(yield func(Element) bool) {
		for i := range 25_000 {
			if !yield(host4(i)) {
				return
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	if n := genID(t, k) - before; n < 3 {
		t.Errorf("%d transactions", n)
	}
}

// Where the kernel caps the socket's buffer, transactions are cut to it.
func TestApplyInSmallBuffers(t *testing.T) {
	for _, limit := range []int{4800, 20_000, 425_984 - 32} {
		k := ready(t)
		k.command.limit = limit
		if err := k.command.conn.SetWriteBuffer(limit / 2); err != nil {
			t.Fatal(err)
		}
		n := limit / 20
		changes := many(n, func(i int) Element {
			switch i % 3 {
			case 0:
				return host4(i)
			case 1:
				return host6(i)
			}
			a := netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})
			return Element{Set: Net4, First: a, Last: a, Comment: "range"}
		})
		before := genID(t, k)
		apply(t, k, changes...)
		if n := genID(t, k) - before; n < 2 {
			t.Errorf("limit %d: %d transactions", limit, n)
		}
		if got := len(dump(t, k, Ban4)) + len(dump(t, k, Ban6)) + len(dump(t, k, Net4)); got != n {
			t.Errorf("limit %d: %d elements, want %d", limit, got, n)
		}
		if err := k.Replace(ctx, func(yield func(Element) bool) {
			for _, c := range changes {
				if !yield(c.Element) {
					return
				}
			}
		}); err != nil {
			t.Errorf("limit %d: Replace: %v", limit, err)
		}
		if got := len(dump(t, k, Ban4)) + len(dump(t, k, Ban6)) + len(dump(t, k, Net4)); got != n {
			t.Errorf("limit %d: Replace: %d elements, want %d", limit, got, n)
		}
	}
}

// The buffer may be smaller than what it was when we asked: then the kernel says EMSGSIZE, and nothing is sent.
func TestApplySplitsWhatIsTooBig(t *testing.T) {
	k := ready(t)
	if err := k.command.conn.SetWriteBuffer(20_000); err != nil {
		t.Fatal(err)
	}
	apply(t, k, many(5000, host4)...)
	if n := len(dump(t, k, Ban4)); n != 5000 {
		t.Errorf("%d elements", n)
	}
}

// What replaces each other stays in one transaction when there is too much for one.
func TestClusters(t *testing.T) {
	var changes []Change
	for i := range 20 {
		r := fmt.Sprintf("10.%d.0.0", i)
		changes = append(changes, del(r+"/16"), add(r+"/17", 0), add(fmt.Sprintf("10.%d.128.0/17", i), 0))
	}
	order := make([]int, len(changes))
	for i := range order {
		order[i] = i
	}
	for _, room := range []int{0, 1, 100, 1000, 2000, 1 << 20} {
		total := 0
		for rest := order; len(rest) > 0; {
			n := clusters(changes, rest, room)
			if n == 0 || n%3 != 0 {
				t.Fatalf("room %d: cut after %d", room, total+n)
			}
			size := 0
			for _, i := range rest[:n] {
				size += changes[i].cost()
			}
			if size > room && n > 3 {
				t.Errorf("room %d: %d bytes in one", room, size)
			}
			total += n
			rest = rest[n:]
		}
		if total != len(order) {
			t.Errorf("room %d: %d of %d", room, total, len(order))
		}
	}
}

func TestElementSizes(t *testing.T) {
	for _, text := range []string{"198.51.100.7", "2001:db8::", "10.0.0.0/8", "2001:db8::/32"} {
		for _, comment := range []string{"", "a", "ab", "abc", "abcd", "abcde", strings.Repeat("x", MaxComment+9)} {
			e := elem(text, time.Hour)
			e.Expires, e.Comment = time.Minute, comment
			var w wire
			w.element(&e)
			if got, most := len(w.b), e.size(); got > most || got < most-8 {
				t.Errorf("%v with a comment of %d bytes: %d bytes, size says %d", e, len(comment), got, most)
			}
			c := Change{Element: e}
			w.bare(&e)
			if got, most := len(w.b), c.cost(); got > most || got < most-8 {
				t.Errorf("%v: %d bytes, cost says %d", e, got, most)
			}
		}
	}
}

// A transaction with more errors than the socket's queue holds loses its answer. The socket must not then take old
// answers for new ones.
func TestLostAnswers(t *testing.T) {
	k := ready(t)
	old := k.command.conn.PID()
	if err := k.command.conn.SetReadBuffer(1); err != nil { // the kernel makes it its minimum
		t.Fatal(err)
	}
	b := &k.batch
	b.begin()
	gone := elem("192.0.2.99", 0)
	for range 1000 {
		l := b.list("banset", Ban4, unix.NFT_MSG_DELSETELEM, 0)
		l.room()
		b.bare(&gone)
		l.close()
	}
	b.finish()
	if err := k.command.transact(b); !errors.Is(err, errLost) || !errors.Is(err, unix.ENOBUFS) {
		t.Fatalf("error %v, want lost and ENOBUFS", err)
	}
	if id := k.command.conn.PID(); !k.ports.has(id) || !k.ports.has(old) {
		t.Errorf("port %d after %d: not known as ours", id, old)
	}
	missing := another(t, func(c *Config) { c.Table = "missing" })
	missing.command, k.command = k.command, missing.command
	if err := missing.Apply(ctx, []Change{add("198.51.100.7", 0)}); !errors.Is(err, ErrMissing) {
		t.Errorf("a table that is not there took an element: %v", err)
	}
	missing.command, k.command = k.command, missing.command
	apply(t, k, many(1000, host4)...)
}

func TestClosedSocketIsOpenedAgain(t *testing.T) {
	k := ready(t)
	k.command.close()
	k.query.close()
	apply(t, k, add("198.51.100.7", 0))
	if _, found := get(t, k, Ban4, "198.51.100.7"); !found {
		t.Error("not there")
	}
}

// A million elements are streamed: neither Apply nor Replace keeps them.
func TestMemoryIsFlat(t *testing.T) {
	const n = 150_000
	k := open(t, func(c *Config) { c.Size = n })
	seq := func(from, to int) func(func(Element) bool) {
		return func(yield func(Element) bool) {
			for i := from; i < to; i++ {
				if !yield(host4(i)) {
					return
				}
			}
		}
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	if err := k.Replace(ctx, seq(0, n/3)); err != nil {
		t.Fatal(err)
	}
	third := heap()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := k.Replace(ctx, seq(0, n)); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if all := heap(); all > third+(8<<20) {
		t.Errorf("%d bytes kept after a third, %d after all", third, all)
	}
	if made := after.TotalAlloc - before.TotalAlloc; made > 16<<20 {
		t.Errorf("%d bytes allocated for %d elements", made, n)
	}
	changes := many(n, host4)
	apply(t, k, changes[:n/3]...)
	third = heap()
	runtime.ReadMemStats(&before)
	apply(t, k, changes...)
	runtime.ReadMemStats(&after)
	if made := after.TotalAlloc - before.TotalAlloc; made > 16<<20 {
		t.Errorf("%d bytes allocated for %d changes", made, n)
	}
	if all := heap(); all > third+(8<<20) {
		t.Errorf("%d bytes kept after a third, %d after all", third, all)
	}
	runtime.KeepAlive(changes)
	if n2, err := k.Count(ctx, Ban4); err != nil || n2 != n {
		t.Errorf("%d elements, %v", n2, err)
	}
}
