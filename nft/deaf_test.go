package nft

import (
	"context"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"

	"banset/nft/nfttest"
)

// TestReplaceIsUnheard: while a table that is gone is put back nobody of us listens, and afterwards all do again.
func TestReplaceIsUnheard(t *testing.T) {
	nfttest.Clean(t)
	k, err := Open(standard)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ready, seen, ended := make(chan struct{}), make(chan Transaction, 100), make(chan error, 1)
	var own atomic.Int32
	go func() {
		ended <- k.Watch(ctx, func() { close(ready) }, func(tx Transaction) error {
			if tx.Own {
				own.Add(1)
			} else {
				seen <- tx
			}
			return nil
		})
	}()
	<-ready
	hosts := []Element{
		{Set: Ban4, First: netip.MustParseAddr("192.0.2.1"), Last: netip.MustParseAddr("192.0.2.1")},
		{Set: Ban4, First: netip.MustParseAddr("192.0.2.2"), Last: netip.MustParseAddr("192.0.2.2")},
	}
	if err := k.Replace(ctx, slices.Values(hosts)); err != nil {
		t.Fatal(err)
	}
	nfttest.Nft(t, "add element inet banset ban4 { 192.0.2.9 }")
	tx := <-seen
	if len(tx.Events) != 1 || tx.Events[0].Kind != ElementAdded || tx.Program != "nft" {
		t.Errorf("after a restore a watch saw %+v, want the one element added by nft", tx)
	}
	if n := own.Load(); n != 0 {
		t.Errorf("the watch heard %d transactions of our own restore", n)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestUnheardIsNotAlone: what somebody else does meanwhile is noticed, whatever table it is about.
func TestUnheardIsNotAlone(t *testing.T) {
	nfttest.Clean(t)
	k, err := Open(standard)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	ctx := context.Background()
	for _, tt := range []struct {
		name string
		f    func() error
		want bool
	}{
		{"nothing", func() error { return nil }, true},
		{"ours", func() error { return k.Remove(ctx) }, true},
		{"somebody's", func() error { nfttest.Nft(t, "add table inet other"); return nil }, false},
		{"both", func() error { nfttest.Nft(t, "delete table inet other"); return k.Remove(ctx) }, false},
	} {
		if alone, err := k.unheard(ctx, tt.f); alone != tt.want || err != nil {
			t.Errorf("%s: alone %v, %v; want %v", tt.name, alone, err, tt.want)
		}
	}
}

// TestReplaceAmongOthers: an element that somebody put into the table while it was put back, unheard, does not stay.
func TestReplaceAmongOthers(t *testing.T) {
	nfttest.Clean(t)
	k, err := Open(standard)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	ctx := context.Background()
	first := true
	const n = firstElements + maxElements + 1000
	elements := func(yield func(Element) bool) {
		for i := range n {
			a := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
			if !yield(Element{Set: Ban4, First: a, Last: a}) {
				return
			}
			if first && i == n-500 { // the first transaction is done, the third is not
				first = false
				nfttest.Nft(t, "add element inet banset ban4 { 192.0.2.9 }")
			}
		}
	}
	if err := k.Replace(ctx, elements); err != nil {
		t.Fatal(err)
	}
	if _, found, err := k.Get(ctx, Ban4, netip.MustParseAddr("192.0.2.9")); found || err != nil {
		t.Errorf("somebody's element is there: %v, %v", found, err)
	}
	if got, err := k.Count(ctx, Ban4); got != n || err != nil {
		t.Errorf("%d elements, %v; want %d", got, err, n)
	}
}
