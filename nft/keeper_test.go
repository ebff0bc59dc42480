package nft

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"banset/nft/nfttest"
)

func TestMain(m *testing.M) { nfttest.Main(m) }

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

func ensure(t testing.TB, k *Keeper) Report {
	t.Helper()
	r, err := k.Ensure(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestX(t *testing.T) {
	k := open(t, func(c *Config) { c.Counters = true })
	t.Log(ensure(t, k))
	t.Log(ensure(t, k))
	now := time.Now()
	ctx := context.Background()
	a := netip.MustParseAddr("192.0.2.7")
	err := k.Apply(ctx, []Change{
		{Element: Element{Set: Ban4, First: a, Last: a, Timeout: time.Hour, Expires: time.Minute, Comment: "x: 3 \"failures"}},
		{Element: Element{Set: Net4, First: netip.MustParseAddr("10.0.0.0"), Last: netip.MustParseAddr("10.255.255.255"), Timeout: time.Hour, Comment: "net"}},
		{Element: Element{Set: Net4, First: netip.MustParseAddr("255.0.0.0"), Last: netip.MustParseAddr("255.255.255.255"), Timeout: time.Hour, Comment: "net"}},
	})
	t.Log(err, time.Since(now))
	t.Log(nfttest.Run(t, "nft", "list", "ruleset"))
	t.Log(k.Get(ctx, Ban4, a))
	t.Log(k.Get(ctx, Net4, netip.MustParseAddr("10.1.2.3")))
	t.Log(k.Get(ctx, Net4, netip.MustParseAddr("255.255.255.255")))
	t.Log(k.Get(ctx, Net4, netip.MustParseAddr("11.1.2.3")))
	for _, s := range Sets {
		t.Log(k.Dump(ctx, s, func(e Element) error { t.Log(e, e.Timeout, e.Expires, e.Comment); return nil }))
		t.Log(k.Count(ctx, s))
	}
}
