package nft

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"banset/nft/nfttest"
)

// Under fire from a host in a banned network nothing gets through while its range is replaced, is made of parts, and
// while the whole table is made anew; and nothing is left of what protected meanwhile.
func TestNoGapInRanges(t *testing.T) {
	k := ready(t, func(c *Config) { c.Direction = "any" })
	l := newLink(t)
	const banned = "192.0.2.200"
	l.peer.AddAddress(banned + "/24")
	whole := add("192.0.2.128/25", time.Hour)
	apply(t, k, whole)
	if got := l.passes(banned, nfttest.There4); len(got) != 1 {
		t.Fatalf("%v pass", got)
	}
	var leaked atomic.Int64
	quiet := make(chan struct{})
	go func() { // all there is to hear is what must not get through
		defer close(quiet)
		for p := make([]byte, 64); ; leaked.Add(1) {
			if n, _, err := l.udp.ReadFrom(p); err != nil || string(p[:n]) == "last" {
				return
			}
		}
	}()
	cease := l.fire(banned)
	for i := range 1000 {
		whole.Timeout = time.Hour + time.Duration(i)*time.Second
		apply(t, k, whole)
		apply(t, k, add("192.0.2.128/26", 0), add("192.0.2.192/26", 0), del("192.0.2.128/25"))
		apply(t, k, whole, del("192.0.2.128/26"), del("192.0.2.192/26"))
		if i%10 == 0 {
			if err := k.Replace(ctx, slices.Values([]Element{whole.Element})); err != nil {
				t.Fatal(err)
			}
		}
	}
	sent := cease()
	l.datagram(nfttest.There4, "last")
	<-quiet
	if n := leaked.Load(); n > 0 {
		t.Errorf("%d of %d packets leaked", n, sent)
	}
	if sent < 1000 {
		t.Errorf("only %d packets were sent", sent)
	}
	if r, err := k.Check(ctx); err != nil || len(r.Changes) > 0 {
		t.Error(r, err)
	}
	if e, found, err := k.Get(ctx, Net4, netip.MustParseAddr(banned)); !found || e.Timeout != whole.Timeout || err != nil {
		t.Error(e, found, err)
	}
}
