package mirror

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"banset/nft"
	"banset/policy"
	"banset/policy/blocklist"
	"banset/policy/judge"
	"banset/policy/ledger"
)

// A Drift is one difference between the copies.
type Drift struct {
	Host netip.Prefix `json:"host,omitzero"` // invalid for a difference that is not about one host
	Text string       `json:"text"`
}

// namedDrifts bounds how many elements that only the kernel has are read back to be named.
const namedDrifts = 10_000

// Verify compares the book of bans with the file's text and with the kernel, element by element and without a dump,
// and the rules with what they ought to be. allow are the prefixes that must be in none of them. progress is called
// now and then with how many of how many bans were looked at; nil: nobody. Everything that differs is yielded; an
// error says that it could not be found out.
func Verify(ctx context.Context, keeper *nft.Keeper, bans []policy.Ban, file *blocklist.File, allow judge.Allow,
	now time.Time, progress func(done, of int), yield func(Drift)) error {
	ipv6Prefix := keeper.Config().IPv6Prefix
	report, err := keeper.Check(ctx)
	if err != nil {
		return err
	}
	for _, text := range report.Changes {
		yield(Drift{Text: "kernel: " + text})
	}
	book := ledger.New(0, func(p netip.Prefix) bool {
		_, ok := hostSet(p, ipv6Prefix)
		return ok && (p.Addr().Is4() || !allow.Overlaps(p))
	})
	for _, b := range bans {
		book.Take(b)
	}
	want := map[nft.Set]int{}
	done := 0
	for b := range book.All() {
		if done++; progress != nil && done%1000 == 0 {
			progress(done, book.Len())
		}
		if b.Left(now) < resolution {
			continue // it may end while we look
		}
		if x, ok := allow.Covers(b.Host); ok {
			yield(Drift{b.Host, fmt.Sprintf("banned, but ignoreip has %s", Host(x))})
		}
		if file != nil {
			switch e, ok := file.Lookup(b.Host); {
			case !ok:
				yield(Drift{b.Host, "banned " + Until(b) + ", but not in the blocklist"})
			case e.Ban.Until != b.Until:
				yield(Drift{b.Host, fmt.Sprintf("banned %s, but %s in the blocklist", Until(b), Until(e.Ban))})
			}
		}
		if set, ok := hostSet(b.Host, ipv6Prefix); ok && book.IsHost(b.Host) {
			want[set]++
			if err := verifyElement(ctx, keeper, set, b.Host.Addr(), b.Host.Addr(), b, now, yield); err != nil {
				return err
			}
		}
	}
	var nets []policy.Ban
	for b := range book.Nets() {
		nets = append(nets, b)
	}
	for _, r := range ledger.Ranges(nets, allow) {
		set := nft.Net4
		if r.First.Is6() {
			set = nft.Net6
		}
		if r.Ban.Left(now) < resolution {
			continue
		}
		want[set]++
		if err := verifyElement(ctx, keeper, set, r.First, r.Last, r.Ban, now, yield); err != nil {
			return err
		}
	}
	if file != nil {
		for e := range file.Entries() {
			if _, ok := book.Get(e.Ban.Host); ok || e.Ban.Left(now) < resolution {
				continue
			}
			if _, ok := allow.Covers(e.Ban.Host); ok {
				continue // such a line stays, and is not applied
			}
			yield(Drift{e.Ban.Host, fmt.Sprintf("line %d of the blocklist bans it %s, but it is not banned", e.Line, Until(e.Ban))})
		}
	}
	return verifyExtras(ctx, keeper, book, want, now, yield)
}

// verifyElement looks one element up.
func verifyElement(ctx context.Context, keeper *nft.Keeper, set nft.Set, first, last netip.Addr, b policy.Ban, now time.Time, yield func(Drift)) error {
	e, found, err := keeper.Get(ctx, set, first)
	if err != nil {
		return err
	}
	what := set.String() + " " + first.String()
	if first != last {
		what += "-" + last.String()
	}
	switch {
	case !found:
		yield(Drift{b.Host, fmt.Sprintf("banned %s, but %s is not in the kernel", Until(b), what)})
	case e.First != first || e.Last != last:
		yield(Drift{b.Host, fmt.Sprintf("the kernel has %s %s-%s instead of %s", set, e.First, e.Last, what)})
	case !sameEnd(e, b, time.Now()):
		yield(Drift{b.Host, fmt.Sprintf("banned %s, but in the kernel %s", Until(b), describe(e))})
	}
	return nil
}

// verifyExtras finds what only the kernel has. The counts tell whether there is anything; only then is a set read.
func verifyExtras(ctx context.Context, keeper *nft.Keeper, book *ledger.Ledger, want map[nft.Set]int, now time.Time, yield func(Drift)) error {
	for _, set := range nft.Sets {
		n, err := keeper.Count(ctx, set)
		if err != nil {
			return err
		}
		if n <= want[set] {
			continue
		}
		if n > namedDrifts+want[set] {
			yield(Drift{Text: fmt.Sprintf("kernel: %s has %d elements, the book has %d of them", set, n, want[set])})
			continue
		}
		err = keeper.Dump(ctx, set, func(e nft.Element) error {
			if e.Timeout > 0 && e.Expires < resolution {
				return nil // over, and not collected yet
			}
			for _, p := range ledger.Prefixes(e.First, e.Last) {
				if set == nft.Ban6 {
					p, _ = p.Addr().Prefix(keeper.Config().IPv6Prefix)
				}
				if len(book.Covering(p)) == 0 {
					yield(Drift{p, "in the kernel (" + describe(e) + "), but not banned"})
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
