package nft

import (
	"bytes"
	"cmp"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"banset/nft/nfttest"

	"golang.org/x/sys/unix"
)

func sortedLines(all []string) []string {
	slices.Sort(all)
	return all
}

func TestGet(t *testing.T) {
	k := ready(t, func(c *Config) { c.Counters = true })
	apply(t, k, add("198.51.100.7", time.Hour, "host"), add("2001:db8:7::", time.Hour), add("203.0.113.0/24", time.Hour, "net"),
		add("240.0.0.0/4", 0), add("2001:db8:8::/48", time.Hour), add("10.0.0.0-10.0.0.9", 0), add("10.0.0.10-10.0.0.19", 0))
	for _, test := range []struct {
		set        Set
		addr, want string
	}{
		{Ban4, "198.51.100.7", "ban4 198.51.100.7"},
		{Ban4, "198.51.100.8", ""},
		{Ban4, "255.255.255.255", ""},
		{Ban6, "2001:db8:7::", "ban6 2001:db8:7::"},
		{Ban6, "2001:db8:7::25", "ban6 2001:db8:7::"},
		{Ban6, "2001:db8:7:1::", ""},
		{Net4, "203.0.113.0", "net4 203.0.113.0-203.0.113.255"},
		{Net4, "203.0.113.255", "net4 203.0.113.0-203.0.113.255"},
		{Net4, "203.0.112.255", ""},
		{Net4, "203.0.114.0", ""},
		{Net4, "240.0.0.0", "net4 240.0.0.0-255.255.255.255"},
		{Net4, "255.255.255.255", "net4 240.0.0.0-255.255.255.255"},
		{Net4, "10.0.0.8", "net4 10.0.0.0-10.0.0.9"},
		{Net4, "10.0.0.0", "net4 10.0.0.0-10.0.0.9"},
		{Net4, "10.0.0.9", "net4 10.0.0.0-10.0.0.9"},
		{Net4, "10.0.0.10", "net4 10.0.0.10-10.0.0.19"},
		{Net4, "10.0.0.20", ""},
		{Net4, "0.0.0.0", ""},
		{Net6, "2001:db8:8:ffff::", "net6 2001:db8:8::-2001:db8:8:ffff:ffff:ffff:ffff:ffff"},
		{Net6, "2001:db8:9::", ""},
		{Net6, "::", ""},
		{Net6, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""},
	} {
		e, found := get(t, k, test.set, test.addr)
		if found != (test.want != "") || found && e.String() != test.want {
			t.Errorf("%v in %v: %v %v, want %s", test.addr, test.set, found, e, test.want)
		}
	}
	if e, _ := get(t, k, Ban4, "198.51.100.7"); e.Comment != "host" || e.Timeout != time.Hour || e.Expires <= 0 || e.Expires > time.Hour {
		t.Errorf("%+v", e)
	}
	if e, _ := get(t, k, Net4, "203.0.113.7"); e.Comment != "net" || e.Timeout != time.Hour || e.Expires <= 0 || e.Expires > time.Hour {
		t.Errorf("%+v", e)
	}
	for _, bad := range []struct {
		set Set
		a   netip.Addr
	}{{Ban4, netip.Addr{}}, {Ban4, netip.IPv6Loopback()}, {Net6, netip.AddrFrom4([4]byte{})}, {7, netip.Addr{}}} {
		if _, _, err := k.Get(ctx, bad.set, bad.a); err == nil {
			t.Errorf("Get %v %v: no error", bad.set, bad.a)
		}
	}
}

// The kernel's dump tells of some elements twice and misses others while its hash table grows.
func TestDumpAfterALoad(t *testing.T) {
	for _, n := range []int{2000, 7000, 20_000, 60_000} {
		k := ready(t)
		apply(t, k, many(n, host4)...)
		seen := make(map[netip.Addr]bool)
		if err := k.Dump(ctx, Ban4, func(e Element) error {
			if seen[e.First] {
				t.Errorf("%v twice", e)
			}
			seen[e.First] = true
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if len(seen) != n {
			t.Errorf("%d of %d elements", len(seen), n)
		}
		if c, err := k.Count(ctx, Ban4); err != nil || c != n {
			t.Errorf("counted %d of %d, %v", c, n, err)
		}
	}
}

// While somebody adds and deletes, nothing is told twice, and ranges are never put together of halves.
func TestDumpWhileOthersChange(t *testing.T) {
	k := ready(t)
	apply(t, k, many(3000, host4)...)
	var fixed []Change
	for i := range 300 {
		a := netip.AddrFrom4([4]byte{20, byte(i), 0, 0})
		fixed = append(fixed, Change{Element: Element{Set: Net4, First: a, Last: lastOf(netip.PrefixFrom(a, 16))}})
	}
	apply(t, k, fixed[:256]...)
	other := another(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			host, net := add("198.51.100.7", 0), add("10.0.0.0/8", 0)
			host.Delete, net.Delete = i%2 == 1, i%2 == 1
			if err := other.Apply(ctx, []Change{host, net}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 20 {
		seen := make(map[netip.Addr]bool)
		if err := k.Dump(ctx, Ban4, func(e Element) error {
			if seen[e.First] {
				t.Errorf("%v twice", e)
			}
			seen[e.First] = true
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for _, e := range dump(t, k, Net4) {
			if e.Last != lastOf(netip.PrefixFrom(e.First, 16)) && e.Last != lastOf(netip.PrefixFrom(e.First, 8)) {
				t.Errorf("%v", e)
			}
		}
	}
	close(stop)
	wg.Wait()
}

func TestDumpStops(t *testing.T) {
	k := ready(t)
	apply(t, k, many(3000, host4)...)
	apply(t, k, add("10.0.0.0/8", 0), add("11.0.0.0/8", 0))
	stop := errors.New("stop")
	for _, s := range []Set{Ban4, Net4} {
		calls := 0
		if err := k.Dump(ctx, s, func(Element) error { calls++; return stop }); err != stop || calls != 1 {
			t.Errorf("%v: %d calls, %v", s, calls, err)
		}
	}
	if err := k.Dump(ctx, 4, nil); err == nil {
		t.Error("dumped set 4")
	}
	if _, err := k.Count(ctx, 4); err == nil {
		t.Error("counted set 4")
	}
	// Other methods may be called meanwhile.
	if err := k.Dump(ctx, Ban4, func(e Element) error {
		return k.Apply(ctx, []Change{{Element: e, Delete: true}})
	}); err != nil {
		t.Error(err)
	}
}

// Anybody may write user data, and google/nftables v0.3.0 panics at a length beyond its end.
func TestForeignUserdata(t *testing.T) {
	k := ready(t)
	b := &k.batch
	b.begin()
	for i, udata := range [][]byte{{0}, {0, 200, 'x'}, {0, 0}, {0, 1, 0}, {0, 3, 'a', '\n', 0}, {1, 0, 0, 2, 'b', 0}, {9, 9, 9}, bytes.Repeat([]byte{1, 1}, 128)} {
		e := host4(i)
		l := b.list("banset", Ban4, unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE)
		l.room()
		n := b.nest(unix.NFTA_LIST_ELEM)
		b.key(Ban4, e.First)
		b.bytes(unix.NFTA_SET_ELEM_USERDATA, udata)
		b.endNest(n)
		l.close()
	}
	b.finish()
	if err := k.command.transact(b); err != nil {
		t.Fatal(err)
	}
	want := `10.0.0.0, 10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4 "a?", 10.0.0.5 "b", 10.0.0.6, 10.0.0.7`
	if got := texts(t, k, Ban4); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// TestCounted: where the kernel counts, its figure is what a dump has.
func TestCounted(t *testing.T) {
	k := ready(t)
	steps := [][]Change{
		{add("192.0.2.1", 0), add("192.0.2.2", time.Hour), add("2001:db8::", 0)},
		{add("10.0.0.0/8", 0), add("11.0.0.0/8", time.Hour), add("12.0.0.7-12.0.0.9", 0), add("2001:db8::/32", 0)},
		{add("240.0.0.0/4", 0), add("ff00::/8", 0)}, // up to the top: without an end
		{del("11.0.0.0/8"), del("192.0.2.1")},
	}
	for i, changes := range steps {
		apply(t, k, changes...)
		for _, s := range Sets {
			n, known, err := k.Counted(ctx, s)
			want := len(dump(t, k, s))
			if err != nil || known && n != want {
				t.Errorf("step %d: %v has %d elements, %v; the dump has %d", i, s, n, err, want)
			}
			if n, err := k.Count(ctx, s); n != want || err != nil {
				t.Errorf("step %d: %v counts as %d, %v; the dump has %d", i, s, n, err, want)
			}
		}
	}
}

func TestCountersOfElements(t *testing.T) {
	k := ready(t, func(c *Config) { c.Counters, c.Hook, c.Direction = true, "input", "any" })
	apply(t, k, add("127.0.0.1", 0), add("::", 0), add("127.0.0.2/32", 0))
	send(t, "127.0.0.1", 3)
	send(t, "127.0.0.2", 2)
	if e, _ := get(t, k, Ban4, "127.0.0.1"); e.Packets != 3 || e.Bytes != 3*(20+8+1) {
		t.Errorf("%+v", e)
	}
	if e, _ := get(t, k, Net4, "127.0.0.2"); e.Packets != 2 {
		t.Errorf("%+v", e)
	}
	for _, e := range dump(t, k, Ban4) {
		if e.Packets != 3 {
			t.Errorf("dumped %+v", e)
		}
	}
	if packets, bytes, err := k.Dropped(ctx); packets != 5 || bytes != 5*29 || err != nil {
		t.Errorf("dropped %d packets, %d bytes, %v", packets, bytes, err)
	}
	// A range's end has none, and nft reads them.
	nfttest.Nft(t, "flush ruleset\n"+nfttest.Run(t, "nft", "list", "ruleset"))
	if r, err := k.Check(ctx); err != nil || len(r.Changes) > 0 {
		t.Errorf("after nft -f: %v, %v", r, err)
	}
}

// ranges is the oracle for join: what addresses the pieces cover when each piece switches at its address.
func FuzzJoin(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3}, uint64(1))
	f.Add([]byte{1, 1, 1, 255, 254, 0, 0, 7}, uint64(2))
	f.Fuzz(func(t *testing.T, ends []byte, seed uint64) {
		// Disjoint ranges of 10.0.0.x, some of them touching, and one perhaps open.
		var want []Element
		var pieces []piece
		at := 0
		for i := 0; i+1 < len(ends); i += 2 {
			first := at + int(ends[i]%8)
			last := first + int(ends[i+1]%8)
			if last > 250 {
				break
			}
			at = last + 1
			e := elem("10.0.0.0/8", 0)
			e.First, e.Last = netip.AddrFrom4([4]byte{10, 0, 0, byte(first)}), netip.AddrFrom4([4]byte{10, 0, 0, byte(last)})
			want = append(want, e)
			pieces = append(pieces, piece{addr: e.First}, piece{addr: e.Last.Next(), end: true})
			if ends[i]&0x40 != 0 {
				pieces = append(pieces, piece{addr: e.First}) // told twice
			}
		}
		if len(ends)%2 == 1 {
			a := netip.AddrFrom4([4]byte{10, 0, 1, 0})
			want = append(want, Element{Set: Net4, First: a, Last: Net4.top()})
			pieces = append(pieces, piece{addr: a})
		}
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
		got, open := join(Net4, pieces)
		if !slices.Equal(got, want) || len(open) != len(ends)%2 {
			t.Errorf("%v, open %v\nwant %v", got, open, want)
		}
	})
}

// FuzzElement writes elements and reads them back.
func FuzzElement(f *testing.F) {
	f.Add(uint8(0), []byte{198, 51, 100, 7}, int64(time.Hour), int64(time.Minute), "exim2-repeater: 10 failures")
	f.Add(uint8(3), []byte{0x20, 1, 0xd, 0xb8, 15: 0}, int64(0), int64(0), "\"")
	f.Fuzz(func(t *testing.T, set uint8, addr []byte, timeout, expires int64, comment string) {
		s := Set(set % sets)
		addr = append(addr, make([]byte, 16)...)[:s.keyLen()]
		a, _ := netip.AddrFromSlice(addr)
		e := Element{Set: s, First: a, Last: a, Timeout: time.Duration(max(0, timeout)), Expires: time.Duration(expires), Comment: comment}
		var b batch
		l := b.list("banset", s, unix.NFT_MSG_NEWSETELEM, 0)
		l.room()
		b.element(&e)
		l.close()
		var got []piece
		for h, p := range messages(b.b) {
			if h.Type != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWSETELEM {
				t.Fatalf("type %#x", h.Type)
			}
			readPieces(s, body(p), func(p *piece) { got = append(got, *p) })
		}
		want := 1
		if s.Ranges() && a != s.top() {
			want = 2
		}
		if len(got) != want || got[0].addr != a || got[0].end {
			t.Fatalf("%v: %v", e, got)
		}
		if want == 2 && (got[1].addr != a.Next() || !got[1].end) {
			t.Fatalf("%v ends at %v", e, got[1])
		}
		c := string(got[0].comment)
		if c != clean(c) || len(c) > MaxComment || len(c) != min(len(comment), MaxComment) {
			t.Errorf("comment %q of %q", c, comment)
		}
		if d := got[0].timeout - e.Timeout; e.Timeout < 1<<62 && (d < 0 || d >= time.Millisecond) {
			t.Errorf("timeout %v of %v", got[0].timeout, e.Timeout)
		}
		if got[0].expires > got[0].timeout {
			t.Errorf("expires %v after %v", got[0].expires, got[0].timeout)
		}
	})
}

// FuzzReaders: whatever comes, the readers neither panic nor read beyond it.
func FuzzReaders(f *testing.F) {
	k := &Keeper{config: standard}
	var b batch
	b.begin()
	b.addAll(&standard, []rule{{exprs: []byte{8, 0, 1, 0, 1, 2, 3, 4}}}, 0)
	l := b.list("banset", Net4, unix.NFT_MSG_NEWSETELEM, 0)
	l.room()
	e := elem("10.0.0.0/8", time.Hour)
	b.element(&e)
	l.close()
	b.finish()
	f.Add(b.b)
	f.Fuzz(func(t *testing.T, p []byte) {
		p = slices.Clip(p)
		w := watcher{k: k, f: func(Transaction) error { return nil }}
		for h, p := range messages(p) {
			w.add(h, kinds[byte(h.Type)], body(p))
			_ = ackError(h, p, 0)
			_ = generation(p)
		}
		for _, s := range Sets {
			var pieces []piece
			readPieces(s, p, func(p *piece) { pieces = append(pieces, *p) })
			ranges, _ := join(s, pieces)
			if !slices.IsSortedFunc(ranges, func(x, y Element) int { return cmp.Or(x.First.Compare(y.First), 1) }) {
				t.Errorf("%v", ranges)
			}
			for i, e := range ranges {
				if e.Last.Less(e.First) || i > 0 && !ranges[i-1].Last.Less(e.First) {
					t.Errorf("%v", ranges)
				}
			}
		}
		if canonical(p, p) != canonical(slices.Clone(p), slices.Clone(p)) {
			t.Error("canonical differs from itself")
		}
		if c, ok := userdata(p, 0); ok && len(c) > len(p) {
			t.Error("user data beyond its end")
		}
		if strings.ContainsFunc(clean(string(p)), unfit) {
			t.Error("not clean")
		}
	})
}
