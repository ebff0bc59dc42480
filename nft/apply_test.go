package nft

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"banset/nft/nfttest"

	"github.com/google/nftables"
)

func TestApply(t *testing.T) {
	k := ready(t)
	long := strings.Repeat("x", 200)
	apply(t, k,
		add("198.51.100.7", time.Hour, "exim2-repeater: 10 failures"),
		add("198.51.100.8", 0),
		add("2001:db8:7::", 365*24*time.Hour, "by hand: \"\x1b[31mé"),
		add("203.0.113.0/24", time.Hour, long),
		add("192.0.2.7-192.0.2.9", 0, "three"),
		add("192.0.2.10-192.0.2.10", 0, "one"),
		add("2001:db8:8::/128", time.Minute),
	)
	for set, want := range map[Set]string{
		Ban4: `198.51.100.7 "exim2-repeater: 10 failures", 198.51.100.8`,
		Ban6: `2001:db8:7:: "by hand: ??[31m??"`,
		Net4: `192.0.2.7-192.0.2.9 "three", 192.0.2.10-192.0.2.10 "one", 203.0.113.0-203.0.113.255 "` + long[:MaxComment] + `"`,
		Net6: `2001:db8:8::-2001:db8:8::`,
	} {
		if got := texts(t, k, set); got != want {
			t.Errorf("%v: %s\nwant %s", set, got, want)
		}
	}
	// nft reads the same.
	list := nfttest.Run(t, "nft", "list", "ruleset")
	// It may be quick enough for no millisecond to have passed.
	for _, want := range []string{
		`elements = \{ 198\.51\.100\.7 timeout 1h expires (1h|59m59s\w*) comment "exim2-repeater: 10 failures", 198\.51\.100\.8 \}`,
		`2001:db8:7:: timeout 365d expires (365d|364d23h59m59s)`, `203\.0\.113\.0/24 timeout 1h expires (1h|59m59s)`,
		`192\.0\.2\.7-192\.0\.2\.9 comment "three"`, `192\.0\.2\.10 comment "one"`,
	} {
		if !regexp.MustCompile(want).MatchString(strings.Join(strings.Fields(list), " ")) {
			t.Errorf("nft does not list %s:\n%s", want, list)
		}
	}
	nfttest.Nft(t, "flush ruleset\n"+list)
	if e, _ := get(t, k, Net4, "203.0.113.77"); e.Comment != long[:MaxComment] {
		t.Errorf("after nft -f: %v %q", e, e.Comment)
	}
}

// Adding what is there changes nothing in the kernel, or some of it, or makes it permanent, depending on its version.
func TestApplyReplaces(t *testing.T) {
	k := ready(t)
	for _, host := range []string{"198.51.100.7", "2001:db8:7::", "203.0.113.0/24", "2001:db8:8::/48", "240.0.0.0/4"} {
		for _, step := range []struct {
			timeout, expires, least, most time.Duration
		}{
			{time.Hour, 0, 59 * time.Minute, time.Hour},
			{2 * time.Hour, 0, 119 * time.Minute, 2 * time.Hour}, // longer
			{time.Minute, 0, 50 * time.Second, time.Minute},      // shorter
			{time.Minute, time.Second / 2, 1, time.Second},       // same length, less left
			{time.Minute, 0, 50 * time.Second, time.Minute},      // begun anew
			{0, 0, 0, 0}, // permanent
			{24 * time.Hour, time.Hour, 59 * time.Minute, time.Hour},             // not any more
			{time.Hour, 2 * time.Hour, 59 * time.Minute, time.Hour},              // more left than there was
			{math.MaxInt64, 0, math.MaxInt64 - time.Hour, math.MaxInt64},         // as long as can be said
			{time.Hour + 1, time.Hour, 59 * time.Minute, time.Hour},              // a nanosecond
			{math.MaxInt64, time.Hour, 59 * time.Minute, time.Hour},              // both
			{1500 * time.Microsecond, time.Microsecond, 0, 8 * time.Millisecond}, // over at once
		} {
			c := add(host, step.timeout, fmt.Sprint(step.timeout, step.expires))
			c.Expires = step.expires
			apply(t, k, c)
			e, found, err := k.Get(ctx, c.Set, c.First)
			if err != nil {
				t.Fatal(err)
			}
			if step.timeout < time.Second && step.timeout > 0 {
				gone(t, k, c.Set, c.First.String())
				continue
			}
			if !found || e.First != c.First || e.Last != c.Last {
				t.Fatalf("%v: found %v %v", c.Element, e, found)
			}
			if e.Comment != c.Comment {
				t.Errorf("%v: comment %q, want %q", e, e.Comment, c.Comment)
			}
			if d := e.Timeout - step.timeout; step.timeout < math.MaxInt64 && d.Abs() > 8*time.Millisecond {
				t.Errorf("%v: timeout %v, want %v", e, e.Timeout, step.timeout)
			}
			if e.Expires < step.least || e.Expires > step.most+8*time.Millisecond && step.most < math.MaxInt64 {
				t.Errorf("%v: expires %v, want %v to %v", e, e.Expires, step.least, step.most)
			}
		}
	}
}

func TestApplyDeletes(t *testing.T) {
	k := ready(t)
	hosts := []string{"198.51.100.7", "2001:db8:7::", "203.0.113.0/24", "2001:db8:8::/48", "240.0.0.0/4"}
	for _, host := range hosts {
		apply(t, k, del(host), del(host)) // was never there
		apply(t, k, add(host, time.Hour))
		apply(t, k, del(host))
		if e, found := get(t, k, elem(host, 0).Set, elem(host, 0).First.String()); found {
			t.Errorf("%v is still there", e)
		}
		// Its time is over, but the kernel has not freed it yet.
		apply(t, k, add(host, time.Millisecond))
		gone(t, k, elem(host, 0).Set, elem(host, 0).First.String())
		apply(t, k, del(host))
		apply(t, k, add(host, time.Millisecond))
		gone(t, k, elem(host, 0).Set, elem(host, 0).First.String())
		apply(t, k, add(host, time.Hour))
		if _, found := get(t, k, elem(host, 0).Set, elem(host, 0).First.String()); !found {
			t.Errorf("%v is not there", host)
		}
		// An element that is over is not put in.
		c := add(host, time.Hour)
		c.Expires = -1
		apply(t, k, c)
		if _, found := get(t, k, c.Set, c.First.String()); found {
			t.Errorf("%v is there", host)
		}
	}
}

// An element may end at any moment of a transaction that replaces or deletes it.
func TestApplyRacesWithTime(t *testing.T) {
	k := ready(t)
	for _, host := range []string{"198.51.100.7", "203.0.113.0/24"} {
		for i := range 400 {
			apply(t, k, add(host, time.Millisecond))
			for range 40 * (i % 2) {
				apply(t, k, del("198.51.100.99"))
			}
			apply(t, k, add(host, time.Millisecond, "again"))
			apply(t, k, add(host, time.Hour), add("198.51.100.8", time.Hour))
			if _, found := get(t, k, elem(host, 0).Set, elem(host, 0).First.String()); !found {
				t.Fatalf("%s is not there", host)
			}
			apply(t, k, add(host, time.Millisecond))
			apply(t, k, del(host))
		}
	}
}

func TestApplyLastChangeCounts(t *testing.T) {
	k := ready(t)
	for _, host := range []string{"198.51.100.7", "2001:db8:7::", "203.0.113.0/24"} {
		set := elem(host, 0).Set
		apply(t, k, add(host, time.Hour, "1"), add(host, time.Minute, "2"), add("192.0.2.9", 0), add(host, time.Hour, "3"))
		if e, _ := get(t, k, set, elem(host, 0).First.String()); e.Comment != "3" {
			t.Errorf("%s: %q", host, e.Comment)
		}
		apply(t, k, add(host, time.Hour), del(host))
		if e, found := get(t, k, set, elem(host, 0).First.String()); found {
			t.Errorf("%v is there", e)
		}
		apply(t, k, del(host), add(host, time.Hour), del(host), add(host, 0, "4"))
		if e, _ := get(t, k, set, elem(host, 0).First.String()); e.Comment != "4" {
			t.Errorf("%s: %q", host, e.Comment)
		}
	}
}

func TestApplyRanges(t *testing.T) {
	k := ready(t)
	const inner = "10.1.0.0/16"
	around := []string{"10.0.0.0-10.0.255.255", inner, "10.2.0.0-10.255.255.255"}
	for _, step := range []struct {
		what    string
		changes []Change
		want    string
	}{
		{"one", []Change{add("10.0.0.0/8", time.Hour, "all")}, `10.0.0.0-10.255.255.255 "all"`},
		{"by three", []Change{add(around[0], 0), add(around[1], 0, "in"), add(around[2], 0), del("10.0.0.0/8")},
			`10.0.0.0-10.0.255.255, 10.1.0.0-10.1.255.255 "in", 10.2.0.0-10.255.255.255`},
		{"without one", []Change{del(inner)}, `10.0.0.0-10.0.255.255, 10.2.0.0-10.255.255.255`},
		{"back to one", []Change{add("10.0.0.0/8", time.Hour), del(around[0]), del(around[1]), del(around[2])},
			`10.0.0.0-10.255.255.255`},
		{"same start, shorter", []Change{del("10.0.0.0/8"), add(around[0], 0)}, `10.0.0.0-10.0.255.255`},
		{"same start, longer", []Change{del(around[0]), add("10.0.0.0/7", 0)}, `10.0.0.0-11.255.255.255`},
		{"delete another at its start", []Change{del(around[0])}, `10.0.0.0-11.255.255.255`},
		{"delete another inside", []Change{del(inner)}, `10.0.0.0-11.255.255.255`},
		{"everything", []Change{del("10.0.0.0/7"), add("0.0.0.0/0", 0)}, `0.0.0.0-255.255.255.255`},
		{"everything again", []Change{add("0.0.0.0/0", time.Hour, "x")}, `0.0.0.0-255.255.255.255 "x"`},
		{"halves", []Change{del("0.0.0.0/0"), add("0.0.0.0/1", 0), add("128.0.0.0/1", 0)},
			`0.0.0.0-127.255.255.255, 128.0.0.0-255.255.255.255`},
		{"without the upper", []Change{del("128.0.0.0/1")}, `0.0.0.0-127.255.255.255`},
		{"the last address", []Change{add("255.255.255.255/32", 0)}, `0.0.0.0-127.255.255.255, 255.255.255.255-255.255.255.255`},
		{"the one before", []Change{add("255.255.255.254/32", 0)},
			`0.0.0.0-127.255.255.255, 255.255.255.254-255.255.255.254, 255.255.255.255-255.255.255.255`},
		{"both in one", []Change{del("255.255.255.254/32"), del("255.255.255.255/32"), add("255.255.255.254/31", 0)},
			`0.0.0.0-127.255.255.255, 255.255.255.254-255.255.255.255`},
		{"nothing", []Change{del("255.255.255.254/31"), del("0.0.0.0/1")}, ``},
	} {
		if err := k.Apply(ctx, step.changes); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		if got := texts(t, k, Net4); got != step.want {
			t.Fatalf("%s: %s\nwant %s", step.what, got, step.want)
		}
	}
	apply(t, k, add("ff00::/8", 0, "top"), add("fe80::/10", 0), add("::/128", 0))
	want := `::-::, fe80::-febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff, ff00::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "top"`
	if got := texts(t, k, Net6); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestApplyRangesThatEnded(t *testing.T) {
	k := ready(t)
	for _, next := range []string{"10.0.0.0/8", "10.0.0.0/7", "10.0.0.0/9", "10.64.0.0/10", "8.0.0.0/5", "10.64.0.0-10.255.255.255", "10.255.255.255-11.0.0.7"} {
		apply(t, k, add("10.0.0.0/8", time.Millisecond))
		gone(t, k, Net4, "10.0.0.0")
		apply(t, k, add(next, time.Hour))
		e := elem(next, 0)
		if got, want := texts(t, k, Net4), e.First.String()+"-"+e.Last.String(); got != want {
			t.Errorf("%s after 10.0.0.0/8: %s, want %s", next, got, want)
		}
		apply(t, k, del(next))
	}
}

func TestApplyOverlap(t *testing.T) {
	k := ready(t)
	nfttest.Nft(t, "add element inet banset net4 { 10.1.0.0/16 }")
	for _, r := range []string{"10.0.0.0/8", "10.1.0.0/24", "10.1.0.0-10.2.0.0", "10.1.255.255/32", "0.0.0.0/0"} {
		err := k.Apply(ctx, []Change{add("198.51.100.7", 0), add(r, 0), add("192.0.2.0/24", 0)})
		if !errors.Is(err, ErrOverlap) {
			t.Errorf("%s over 10.1.0.0/16: %v", r, err)
		}
		if got := texts(t, k, Net4) + ";" + texts(t, k, Ban4); got != "10.1.0.0-10.1.255.255;" {
			t.Errorf("%s: the transaction failed, but now there is %s", r, got)
		}
	}
	// Nor does anything overlap within one call.
	for _, both := range [][2]string{{"192.0.2.0/24", "192.0.2.0/25"}, {"250.0.0.0/8", "240.0.0.0/4"}, {"255.255.255.255/32", "255.255.255.254/31"}} {
		for range 2 {
			if err := k.Apply(ctx, []Change{add(both[0], 0), add(both[1], 0)}); !errors.Is(err, ErrOverlap) {
				t.Errorf("%v: %v", both, err)
			}
			both[0], both[1] = both[1], both[0]
		}
	}
	apply(t, k, add("10.1.0.0/16", time.Hour, "adopted"))
	if got := texts(t, k, Net4); got != `10.1.0.0-10.1.255.255 "adopted"` {
		t.Error(got)
	}
}

func TestApplyRefuses(t *testing.T) {
	k := ready(t)
	zone := add("fe80::", 0)
	zone.First = zone.First.WithZone("eth0")
	zone.Last = zone.First
	mapped := add("198.51.100.7", 0)
	mapped.First = netip.MustParseAddr("::ffff:198.51.100.7")
	mapped.Last = mapped.First
	family := add("2001:db8::", 0)
	family.Set = Ban4
	wide := add("198.51.100.7", 0)
	wide.Last = wide.Last.Next()
	gap := add("10.0.0.0/8", 0)
	gap.First, gap.Last = gap.Last, gap.First
	none, set, mixed := add("198.51.100.7", 0), add("198.51.100.7", 0), add("10.0.0.0/8", 0)
	none.First, set.Set, mixed.Last = netip.Addr{}, 4, netip.MustParseAddr("2001:db8::")
	for want, c := range map[string]Change{
		"no address":                  none,
		"no such set":                 set,
		"an address of the other":     family,
		"zone":                        zone,
		"a range in a set of hosts":   wide,
		"ends before it begins":       gap,
		"not the network address":     add("2001:db8::1", 0),
		"a timeout below 0":           add("198.51.100.7", -1),
		"other family":                mapped,
		"an address of the other fam": mixed,
	} {
		err := k.Apply(ctx, []Change{add("198.51.100.8", 0), c})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", c, err, want)
		}
		if err := k.Replace(ctx, slices.Values([]Element{c.Element})); err == nil {
			t.Errorf("%v: Replace did not refuse it", c)
		}
	}
	if got := texts(t, k, Ban4); got != "" {
		t.Errorf("refused, but %s is there", got)
	}
	// A person's whole address in ban6 matches nothing, but can be taken out.
	nfttest.Nft(t, "add element inet banset ban6 { 2001:db8::1 }")
	apply(t, k, del("2001:db8::1"))
	if got := texts(t, k, Ban6); got != "" {
		t.Errorf("%s is still there", got)
	}
}

func TestApplyWithoutTable(t *testing.T) {
	k := open(t)
	for _, c := range []Change{add("198.51.100.7", 0), del("198.51.100.7"), add("10.0.0.0/8", 0)} {
		if err := k.Apply(ctx, []Change{c}); !errors.Is(err, ErrMissing) {
			t.Errorf("%v: %v", c, err)
		}
	}
	if _, _, err := k.Get(ctx, Ban4, netip.MustParseAddr("198.51.100.7")); !errors.Is(err, ErrMissing) {
		t.Errorf("Get: %v", err)
	}
	for _, s := range Sets {
		if err := k.Dump(ctx, s, nil); !errors.Is(err, ErrMissing) {
			t.Errorf("Dump: %v", err)
		}
		if _, err := k.Count(ctx, s); !errors.Is(err, ErrMissing) {
			t.Errorf("Count: %v", err)
		}
	}
	apply(t, k) // nothing to do
}

// netlink's attributes wrap at 65,535 bytes without an error: 2341 IPv4 hosts with a timeout in one message were none.
func TestApplyTruncatesNothing(t *testing.T) {
	k := ready(t)
	for _, n := range []int{1, 1639, 2341, 5000} {
		for name, host := range map[string]func(int) Element{
			"4": host4,
			"6": host6,
			"4 permanent": func(i int) Element {
				e := host4(i)
				e.Timeout = 0
				return e
			},
			"6 with comment": func(i int) Element {
				e := host6(i)
				e.Expires, e.Comment = time.Minute, strings.Repeat("y", MaxComment)
				return e
			},
		} {
			changes := many(n, host)
			apply(t, k, changes...)
			got := dump(t, k, changes[0].Set)
			if len(got) != n {
				t.Errorf("%d hosts of %s: %d are there", n, name, len(got))
			}
			for i := range changes {
				changes[i].Delete = true
			}
			apply(t, k, changes...)
			if left := dump(t, k, changes[0].Set); len(left) != 0 {
				t.Errorf("%d hosts of %s deleted: %d are there", n, name, len(left))
			}
		}
	}
}

// TestApplyIsReadByTheLibrary has somebody else count.
func TestApplyIsReadByTheLibrary(t *testing.T) {
	k := ready(t)
	changes := many(5000, func(i int) Element {
		e := host4(i)
		e.Comment = fmt.Sprint("host ", i)
		return e
	})
	apply(t, k, changes...)
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	set, err := c.GetSetByName(&nftables.Table{Family: nftables.TableFamilyINet, Name: "banset"}, "ban4")
	if err != nil {
		t.Fatal(err)
	}
	elements, err := c.GetSetElements(set)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]string)
	for _, e := range elements {
		if e.Timeout != time.Hour || e.Expires <= 0 || e.Expires > time.Hour {
			t.Fatalf("%v: timeout %v, expires %v", e.Key, e.Timeout, e.Expires)
		}
		a, _ := netip.AddrFromSlice(e.Key)
		seen[a.String()] = e.Comment
	}
	for _, c := range changes {
		if seen[c.First.String()] != c.Comment {
			t.Fatalf("%v: comment %q, want %q", c.First, seen[c.First.String()], c.Comment)
		}
	}
}

func TestApplyFull(t *testing.T) {
	const size = 100
	for _, test := range []struct {
		what    string
		change  []Change
		want    int // elements then
		refused string
	}{
		{"delete", []Change{del("10.0.0.0")}, 99, ""},
		{"delete what is not there", []Change{del("192.0.2.1")}, 100, ""},
		{"delete what is and what is not there", []Change{del("192.0.2.1"), del("10.0.0.7"), del("192.0.2.2"), del("10.0.0.8")}, 98, ""},
		{"replace", many(100, host4), 100, ""},
		{"add", []Change{add("192.0.2.1", 0)}, 100, "1 elements found no room"},
		{"add two", []Change{add("192.0.2.1", 0), add("192.0.2.2", 0)}, 100, "2 elements found no room"},
		{"swap", []Change{add("192.0.2.1", 0), del("10.0.0.0")}, 100, ""},
		{"swap many", append(many(50, func(i int) Element { return host4(1000 + i) }), dels(50)...), 100, ""},
		{"swap for more", append(many(60, func(i int) Element { return host4(1000 + i) }), dels(50)...), 100, "10 elements found no room"},
		{"many more", many(5000, host4), 100, "4900 elements found no room"},
		{"delete, replace and add", append(many(103, host4), del("192.0.2.1"), add("2001:db8::", 0), add("10.0.0.0/8", 0)), 100,
			"3 elements found no room"},
	} {
		k := ready(t, func(c *Config) { c.Size = size })
		apply(t, k, many(size, host4)...)
		err := k.Apply(ctx, test.change)
		if test.refused == "" && err != nil || test.refused != "" && (!errors.Is(err, ErrFull) || !strings.Contains(err.Error(), test.refused)) {
			t.Errorf("%s: %v", test.what, err)
		}
		if n := len(dump(t, k, Ban4)); n != test.want {
			t.Errorf("%s: %d elements, want %d", test.what, n, test.want)
		}
		for _, c := range test.change {
			_, found := get(t, k, c.Set, c.First.String())
			if c.Delete && found {
				t.Errorf("%s: %v was not deleted", test.what, c)
			}
			if !c.Delete && !found && test.refused == "" {
				t.Errorf("%s: %v was not added", test.what, c)
			}
		}
	}
}

func dels(n int) []Change {
	all := many(n, host4)
	for i := range all {
		all[i].Delete = true
	}
	return all
}

func TestApplyRangesFull(t *testing.T) {
	k := ready(t, func(c *Config) { c.Size = 10 })
	var err error
	n := 0
	for ; err == nil; n++ {
		err = k.Apply(ctx, []Change{add(fmt.Sprintf("10.%d.0.0/16", 2*n), 0)})
	}
	if !errors.Is(err, ErrFull) || n <= 10 {
		t.Errorf("range %d: %v", n, err)
	}
	if got := len(dump(t, k, Net4)); got != n-1 {
		t.Errorf("%d ranges, want %d", got, n-1)
	}
	apply(t, k, del("10.0.0.0/16"), add("192.0.2.0/24", 0))
	apply(t, k, add("192.0.2.0/24", time.Hour))
}
