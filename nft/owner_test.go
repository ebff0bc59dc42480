package nft

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"banset/nft/nfttest"
)

func owned(c *Config) { c.Owner = true }

func mustOwn(t *testing.T, k *Keeper, want bool) {
	t.Helper()
	if owns, possible, err := k.Owns(ctx); owns != want || !possible || err != nil {
		t.Errorf("owns %v, possible %v, %v; want %v", owns, possible, err, want)
	}
}

// What others do to an owned table has no effect, and what only reads still works.
func TestOwnerKeepsOthersOut(t *testing.T) {
	k := ready(t, owned)
	mustOwn(t, k, true)
	apply(t, k, add("192.0.2.7", time.Hour), add("198.51.100.0/24", 0))
	before := nfttest.Run(t, "nft", "list", "chain", "inet", "banset", "prerouting")
	nfttest.Nft(t, "flush ruleset")
	nfttest.Nft(t, "flush ruleset\nadd table inet filter\n")
	for _, args := range []string{
		"delete table inet banset", "flush table inet banset", "delete element inet banset ban4 { 192.0.2.7 }",
		"add element inet banset ban4 { 192.0.2.8 }", "flush set inet banset ban4", "add rule inet banset prerouting accept",
		"delete chain inet banset prerouting", "add table inet banset { flags dormant; }",
	} {
		out, err := nfttest.Command(t, "nft", args).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "Operation not permitted") {
			t.Errorf("nft %s: %v %s, want not permitted", args, err, out)
		}
	}
	if after := nfttest.Run(t, "nft", "list", "chain", "inet", "banset", "prerouting"); after != before {
		t.Errorf("the chain changed:\n%s", after)
	}
	other := another(t, owned)
	if r, err := other.Check(ctx); err != nil || len(r.Changes) > 0 || r.Plain {
		t.Errorf("another Keeper's Check: %v, plain %v, %v", r, r.Plain, err)
	}
	if _, found, err := other.Get(ctx, Ban4, elem("192.0.2.7", 0).First); err != nil || !found {
		t.Errorf("another Keeper's Get: %v, %v", found, err)
	}
	if n, err := other.Count(ctx, Net4); err != nil || n != 1 {
		t.Errorf("another Keeper's Count: %d, %v", n, err)
	}
	err := other.Apply(ctx, []Change{add("192.0.2.9", 0)})
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "owned by another running program") {
		t.Errorf("another Keeper's Apply: %v", err)
	}
	mustOwn(t, other, false)
	mustOwn(t, k, true)
	apply(t, k, add("192.0.2.8", 0))
}

// When the owner goes, the table stays for anybody, and the next Keeper takes it with what others put there.
func TestOwnerComesBack(t *testing.T) {
	k := open(t, owned)
	first, err := Open(k.config)
	if err != nil {
		t.Fatal(err)
	}
	ensure(t, first)
	apply(t, first, add("192.0.2.7", time.Hour))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	nfttest.Nft(t, "add element inet banset ban4 { 192.0.2.8 }")
	before := nfttest.Run(t, "nft", "-a", "list", "chain", "inet", "banset", "prerouting")
	if r := ensure(t, k); len(r.Changes) > 0 || r.Plain {
		t.Errorf("an orphan that is as it ought to be: %v, plain %v", r, r.Plain)
	}
	if after := nfttest.Run(t, "nft", "-a", "list", "chain", "inet", "banset", "prerouting"); after != before {
		t.Errorf("the chain changed:\n%s\nwas\n%s", after, before)
	}
	mustOwn(t, k, true)
	if n, err := k.Count(ctx, Ban4); n != 2 || err != nil {
		t.Errorf("%d elements, %v; want 2", n, err)
	}
	// A Keeper that does not want to own takes over what is left, too; and repairs it.
	if err := k.Release(); err != nil {
		t.Fatal(err)
	}
	plain := another(t)
	apply(t, plain, add("192.0.2.9", 0))
	nfttest.Nft(t, "flush chain inet banset prerouting")
	if r := ensure(t, plain); len(r.Changes) != 1 {
		t.Errorf("an orphan without rules: %v", r)
	}
	apply(t, k, add("192.0.2.10", 0)) // and the one that gave it up does not take it again
	mustOwn(t, k, false)
	nfttest.Nft(t, "add element inet banset ban4 { 192.0.2.11 }")
	if n, err := k.Count(ctx, Ban4); n != 5 || err != nil {
		t.Errorf("%d elements, %v; want 5", n, err)
	}
}

// An ordinary table can't get an owner: Replace makes it anew, elements and rules in one transaction.
func TestOwnerOfPlainTable(t *testing.T) {
	plain := ready(t)
	apply(t, plain, add("192.0.2.7", 0))
	k := another(t, owned)
	if r := ensure(t, k); !r.Plain || len(r.Changes) > 0 {
		t.Errorf("%v, plain %v; want plain and nothing else", r, r.Plain)
	}
	mustOwn(t, k, false)
	gen := genID(t, k)
	if err := k.Replace(ctx, slices.Values([]Element{elem("192.0.2.7", 0)})); err != nil {
		t.Fatal(err)
	}
	if n := genID(t, k) - gen; n != 1 {
		t.Errorf("%d transactions, want one", n)
	}
	mustOwn(t, k, true)
	if r, err := k.Check(ctx); err != nil || r.Plain || len(r.Changes) > 0 {
		t.Errorf("%v, plain %v, %v", r, r.Plain, err)
	}
}

// A socket that has to be replaced takes the ownership with it, and gets it back.
func TestOwnerAfterSocketWasReplaced(t *testing.T) {
	k := ready(t, owned)
	apply(t, k, add("192.0.2.7", 0))
	if err := k.command.reopen(errLost); !errors.Is(err, errLost) {
		t.Fatal(err)
	}
	apply(t, k, add("192.0.2.8", 0))
	mustOwn(t, k, true)
	k.command.reopen(errLost)
	ensure(t, k)
	mustOwn(t, k, true)
}

// A kernel without the flags gets an ordinary table.
func TestOwnerUnknownToKernel(t *testing.T) {
	k := open(t, owned)
	const noSuchFlag = 0x80
	if err := k.probeWith(nftTableOwner | noSuchFlag); err != nil {
		t.Fatal(err)
	}
	if r := ensure(t, k); r.Plain || len(r.Changes) != 1 {
		t.Errorf("%v, plain %v", r, r.Plain)
	}
	apply(t, k, add("192.0.2.7", 0))
	if owns, possible, err := k.Owns(ctx); owns || possible || err != nil {
		t.Errorf("owns %v, possible %v, %v; want neither", owns, possible, err)
	}
	nfttest.Nft(t, "add element inet banset ban4 { 192.0.2.11 }")
	if r, err := k.Check(ctx); r.Plain || err != nil {
		t.Errorf("plain %v, %v: there is nothing to be done about it", r.Plain, err)
	}
}

func TestRemoveOwned(t *testing.T) {
	k := ready(t, owned)
	if err := k.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	if got := nfttest.Run(t, "nft", "list", "ruleset"); got != "" {
		t.Errorf("left:\n%s", got)
	}
	ensure(t, k)
	mustOwn(t, k, true)
}

// A second table protects while one with more elements than fit a transaction is made anew; one that a crash left
// behind goes with the next Ensure.
func TestSpareTable(t *testing.T) {
	k := ready(t)
	spare := k.config.spare()
	nfttest.Nft(t, "add table inet "+spare.Table)
	if r := ensure(t, k); r.String() != "table inet banset.spare was left behind" {
		t.Errorf("report %q", r)
	}
	if r := ensure(t, k); len(r.Changes) > 0 {
		t.Errorf("report %q", r)
	}
	all := func(yield func(Element) bool) {
		for i := range maxElements + 5 {
			if !yield(host4(i)) {
				return
			}
		}
	}
	for range 2 {
		if err := k.Replace(ctx, all); err != nil {
			t.Fatal(err)
		}
		if n, err := k.Count(ctx, Ban4); n != maxElements+5 || err != nil {
			t.Errorf("%d elements, %v", n, err)
		}
		if r, err := k.Check(ctx); err != nil || len(r.Changes) > 0 {
			t.Errorf("%v, %v", r, err)
		}
	}
}
