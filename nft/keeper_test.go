package nft

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"banset/nft/nfttest"
)

func TestMain(m *testing.M) { nfttest.Main(m) }

var ctx = context.Background()

// standard is the configuration that banset has by default.
var standard = Config{
	Table: "banset", Hook: "prerouting", Priority: -190, Direction: "original", Verdict: "drop",
	IPv6Prefix: 64, Size: 65536,
}

// open opens a Keeper on an empty ruleset.
func open(t testing.TB, change ...func(*Config)) *Keeper {
	t.Helper()
	nfttest.Clean(t)
	return another(t, change...)
}

// another opens a Keeper on the ruleset as it is.
func another(t testing.TB, change ...func(*Config)) *Keeper {
	t.Helper()
	c := standard
	for _, f := range change {
		f(&c)
	}
	k, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// ready opens a Keeper with its table made.
func ready(t testing.TB, change ...func(*Config)) *Keeper {
	t.Helper()
	k := open(t, change...)
	ensure(t, k)
	return k
}

func ensure(t testing.TB, k *Keeper) Report {
	t.Helper()
	r, err := k.Ensure(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func apply(t testing.TB, k *Keeper, changes ...Change) {
	t.Helper()
	if err := k.Apply(ctx, changes); err != nil {
		t.Fatal(err)
	}
}

// elem makes an element of "192.0.2.1", "2001:db8::", "10.0.0.0/8" or "10.0.0.1-10.0.0.9"; the set is Ban for a single
// address, Net otherwise.
func elem(s string, timeout time.Duration) Element {
	e := Element{Timeout: timeout}
	first, last, isRange := strings.Cut(s, "-")
	switch {
	case isRange:
		e.First, e.Last = netip.MustParseAddr(first), netip.MustParseAddr(last)
	case strings.Contains(s, "/"):
		p := netip.MustParsePrefix(s)
		e.First, e.Last, isRange = p.Addr(), lastOf(p), true
	default:
		e.First = netip.MustParseAddr(s)
		e.Last = e.First
	}
	switch {
	case isRange && e.First.Is4():
		e.Set = Net4
	case isRange:
		e.Set = Net6
	case e.First.Is6():
		e.Set = Ban6
	}
	return e
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func add(s string, timeout time.Duration, comment ...string) Change {
	c := Change{Element: elem(s, timeout)}
	c.Comment = strings.Join(comment, " ")
	return c
}

func del(s string) Change { return Change{Element: elem(s, 0), Delete: true} }

// host4 is the nth of many IPv4 hosts, host6 of IPv6 ones.
func host4(n int) Element {
	a := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	return Element{Set: Ban4, First: a, Last: a, Timeout: time.Hour}
}

func host6(n int) Element {
	a := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, byte(n >> 16), byte(n >> 8), byte(n)})
	return Element{Set: Ban6, First: a, Last: a, Timeout: time.Hour}
}

func many(n int, f func(int) Element) []Change {
	all := make([]Change, n)
	for i := range all {
		all[i].Element = f(i)
	}
	return all
}

// dump is the set's elements, sorted.
func dump(t testing.TB, k *Keeper, s Set) []Element {
	t.Helper()
	var all []Element
	if err := k.Dump(ctx, s, func(e Element) error { all = append(all, e); return nil }); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(all, func(x, y Element) int { return x.First.Compare(y.First) })
	return all
}

// texts is what the set holds: ranges as addresses, and comments.
func texts(t testing.TB, k *Keeper, s Set) string {
	t.Helper()
	var all []string
	for _, e := range dump(t, k, s) {
		text := e.First.String()
		if s.Ranges() {
			text += "-" + e.Last.String()
		}
		if e.Comment != "" {
			text += fmt.Sprintf(" %q", e.Comment)
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

func get(t testing.TB, k *Keeper, s Set, a string) (Element, bool) {
	t.Helper()
	e, found, err := k.Get(ctx, s, netip.MustParseAddr(a))
	if err != nil {
		t.Fatal(err)
	}
	return e, found
}

// gone waits until the kernel no longer finds a: until its time is over.
func gone(t testing.TB, k *Keeper, s Set, a string) {
	t.Helper()
	for {
		if _, found := get(t, k, s, a); !found {
			return
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, test := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Table = "" }, `nft: table name ""`},
		{func(c *Config) { c.Table = "a b" }, `nft: table name "a b"`},
		{func(c *Config) { c.Table = "1a" }, `nft: table name "1a"`},
		{func(c *Config) { c.Table = strings.Repeat("a", 65) }, `nft: table name "aaaa`},
		{func(c *Config) { c.Hook = "output" }, `nft: hook "output": prerouting or input`},
		{func(c *Config) { c.Priority = 1 << 40 }, `nft: priority 1099511627776`},
		{func(c *Config) { c.Priority = -200 }, `nft: priority -200 with direction original: must be above -200`},
		{func(c *Config) { c.Direction = "reply" }, `nft: direction "reply": original or any`},
		{func(c *Config) { c.Verdict = "accept" }, `nft: verdict "accept": drop or reject`},
		{func(c *Config) { c.IPv6Prefix = 0 }, `nft: IPv6 prefix 0`},
		{func(c *Config) { c.IPv6Prefix = 129 }, `nft: IPv6 prefix 129`},
		{func(c *Config) { c.Size = 0 }, `nft: size 0`},
	} {
		c := standard
		test.change(&c)
		k, err := Open(c)
		if err == nil {
			k.Close()
			t.Errorf("%+v: opened, want %s", c, test.want)
		} else if !strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %q, want %s", c, err, test.want)
		}
	}
}

func TestOpenTellsAllProblems(t *testing.T) {
	_, err := Open(Config{})
	if n := strings.Count(fmt.Sprint(err), "\n"); n != 5 {
		t.Errorf("%d lines after the first one, want 5:\n%v", n, err)
	}
}

func TestNames(t *testing.T) {
	for _, s := range Sets {
		if got, ok := setNamed(append([]byte(s.String()), 0)); !ok || got != s {
			t.Errorf("setNamed(%v) = %v, %v", s, got, ok)
		}
	}
	for _, bad := range []string{"", "ban4", "ban5\x00", "ban44\x00"} {
		if s, ok := setNamed([]byte(bad)); ok {
			t.Errorf("setNamed(%q) = %v", bad, s)
		}
	}
	if got := Set(9).String(); got != "Set(9)" {
		t.Error(got)
	}
	if got := Kind(0).String() + " " + Kind(99).String() + " " + RuleDeleted.String(); got != "Kind(0) Kind(99) rule deleted" {
		t.Error(got)
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"":                    "",
		"exim2: 10 failures":  "exim2: 10 failures",
		"a\"b\x00c\nd\x1b[1m": "a?b?c?d?[1m",
		"é":                   "??",
		"\u202e\x7f\xff":      "?????",
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}
