package mirror

import (
	"context"
	"errors"
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
	v := verifier{keeper, now, yield, map[nft.Set]int{}}
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
			if err := v.element(ctx, set, b.Host.Addr(), b.Host.Addr(), b); errors.Is(err, nft.ErrMissing) {
				return nil // told by the check of table and sets
			} else if err != nil {
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
		if err := v.element(ctx, set, r.First, r.Last, r.Ban); errors.Is(err, nft.ErrMissing) {
			return nil
		} else if err != nil {
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
	if err := v.strangers(ctx, book); !errors.Is(err, nft.ErrMissing) {
		return err
	}
	return nil
}

// verifier compares with the kernel.
type verifier struct {
	keeper *nft.Keeper
	now    time.Time
	yield  func(Drift)
	found  map[nft.Set]int // elements that are there as they ought to be
}

// element looks one up.
func (v *verifier) element(ctx context.Context, set nft.Set, first, last netip.Addr, b policy.Ban) error {
	e, found, err := v.keeper.Get(ctx, set, first)
	if err != nil {
		return err
	}
	what := set.String() + " " + first.String()
	if first != last {
		what += "-" + last.String()
	}
	switch {
	case !found:
		v.yield(Drift{b.Host, fmt.Sprintf("banned %s, but %s is not in the kernel", Until(b), what)})
		return nil
	case e.First != first || e.Last != last:
		v.yield(Drift{b.Host, fmt.Sprintf("the kernel has %s %s-%s instead of %s", set, e.First, e.Last, what)})
		return nil
	case !sameEnd(e, b, time.Now()):
		v.yield(Drift{b.Host, fmt.Sprintf("banned %s, but in the kernel %s", Until(b), describe(e))})
	}
	v.found[set]++
	return nil
}

// strangers finds what only the kernel has. The counts tell whether there is anything; only then is a set read.
func (v *verifier) strangers(ctx context.Context, book *ledger.Ledger) error {
	for _, set := range nft.Sets {
		n, err := v.keeper.Count(ctx, set)
		if err != nil {
			return err
		}
		if n <= v.found[set] {
			continue
		}
		if n > namedDrifts+v.found[set] {
			v.yield(Drift{Text: fmt.Sprintf("kernel: %s has %d elements, but only %d of them belong to bans", set, n, v.found[set])})
			continue
		}
		err = v.keeper.Dump(ctx, set, func(e nft.Element) error {
			if e.Timeout > 0 && e.Expires < resolution {
				return nil // over, and not collected yet
			}
			for _, p := range ledger.Prefixes(e.First, e.Last) {
				if set == nft.Ban6 {
					p, _ = p.Addr().Prefix(v.keeper.Config().IPv6Prefix)
				}
				if len(book.Covering(p)) == 0 {
					v.yield(Drift{p, "in the kernel (" + describe(e) + "), but not banned"})
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
