package mirror

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"banset/nft"
	"banset/policy"
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

// NewBook is an empty book for Verify, of bans that somebody else judged.
func NewBook(ipv6Prefix int, allow judge.Allow) *ledger.Ledger {
	return ledger.New(0, func(p netip.Prefix) bool {
		_, ok := hostSet(p, ipv6Prefix)
		return ok && (p.Addr().Is4() || !allow.Overlaps(p))
	})
}

// Verify compares the book of bans with the file (nil: with none) and with the kernel, element by element and without a dump,
// and the rules with what they ought to be. allow are the prefixes that must be in none of them. progress is called
// now and then with how many of how many bans were looked at; nil: nobody. unseen is called for a set that is too large
// to look for elements that no ban has, as this kernel does not count them. Everything that differs is yielded; an error
// says that it could not be found out.
func Verify(ctx context.Context, keeper *nft.Keeper, book *ledger.Ledger, file Content, allow judge.Allow,
	now time.Time, progress func(done, of int), unseen func(nft.Set), yield func(Drift)) error {
	report, err := keeper.Check(ctx)
	if err != nil {
		return err
	}
	for _, text := range report.Changes {
		yield(Drift{Text: "kernel: " + text})
	}
	v := verifier{keeper: keeper, book: book, file: file, allow: allow, now: now, yield: yield, progress: progress, unseen: unseen,
		found: map[nft.Set]int{}}
	var nets []policy.Ban
	for b := range book.Nets() {
		nets = append(nets, b)
	}
	err = v.elements(ctx, ledger.Ranges(nets, allow))
	if file != nil && (err == nil || errors.Is(err, nft.ErrMissing)) {
		if lineErr := v.lines(); lineErr != nil {
			return lineErr
		}
	}
	if err == nil {
		err = v.strangers(ctx)
	}
	if errors.Is(err, nft.ErrMissing) {
		return nil // told by the check of table and sets
	}
	return err
}

// verifier compares with the kernel and the file.
type verifier struct {
	keeper   *nft.Keeper
	book     *ledger.Ledger
	file     Content
	allow    judge.Allow
	now      time.Time
	yield    func(Drift)
	progress func(done, of int)
	unseen   func(nft.Set)
	found    map[nft.Set]int // elements that are there as they ought to be
}

// expected is an element that the kernel ought to hold.
type expected struct {
	first, last netip.Addr
	ban         policy.Ban
}

// elements compares every ban with the file, and with the kernel as one of its hosts or as part of the ranges.
func (v *verifier) elements(ctx context.Context, ranges []ledger.Range) error {
	ipv6Prefix := v.keeper.Config().IPv6Prefix
	var asked []expected // and not answered yet, in order
	done := 0
	tell := func(n int) {
		if done += n; v.progress != nil && (n > 1 || done%1000 == 0) {
			v.progress(done, v.book.Len())
		}
	}
	return v.keeper.GetEach(ctx, func(ask func(nft.Element) bool) {
		for b := range v.book.All() {
			if b.Left(v.now) < resolution {
				tell(1)
				continue // it may end while we look
			}
			v.line(b)
			set, ok := hostSet(b.Host, ipv6Prefix)
			if !ok || !v.book.IsHost(b.Host) {
				tell(1)
				continue
			}
			addr := b.Host.Addr()
			asked = append(asked, expected{addr, addr, b})
			if !ask(nft.Element{Set: set, First: addr}) {
				return
			}
		}
		for _, r := range ranges {
			set := nft.Net4
			if r.First.Is6() {
				set = nft.Net6
			}
			if r.Ban.Left(v.now) < resolution {
				continue
			}
			asked = append(asked, expected{r.First, r.Last, r.Ban})
			if !ask(nft.Element{Set: set, First: r.First}) {
				return
			}
		}
	}, func(wanted, e nft.Element, found bool) error {
		x := asked[0]
		if asked = asked[1:]; len(asked) == 0 {
			asked = nil
		}
		if !wanted.Set.Ranges() {
			tell(1)
		}
		v.element(x, wanted.Set, e, found)
		return nil
	})
}

// line looks for a ban's line in the file.
func (v *verifier) line(b policy.Ban) {
	if x, ok := v.allow.Covers(b.Host); ok {
		v.yield(Drift{b.Host, fmt.Sprintf("banned, but ignoreip has %s", Host(x))})
	}
	if v.file != nil && !v.file.Has(b.Host) {
		v.yield(Drift{b.Host, "banned " + Until(b) + ", but not in the blocklist"})
	}
}

// element compares what ought to be in the kernel with what is.
func (v *verifier) element(x expected, set nft.Set, e nft.Element, found bool) {
	what := set.String() + " " + x.first.String()
	if x.first != x.last {
		what += "-" + x.last.String()
	}
	switch {
	case !found:
		v.yield(Drift{x.ban.Host, fmt.Sprintf("banned %s, but %s is not in the kernel", Until(x.ban), what)})
		return
	case e.Last != x.last:
		v.yield(Drift{x.ban.Host, fmt.Sprintf("the kernel has %s %s-%s instead of %s", set, e.First, e.Last, what)})
		return
	case !sameEnd(e, x.ban, time.Now()):
		v.yield(Drift{x.ban.Host, fmt.Sprintf("banned %s, but in the kernel %s", Until(x.ban), describe(e))})
	}
	v.found[set]++
}

// lines finds what the file has otherwise, and what only the file has.
func (v *verifier) lines() error {
	for e := range v.file.Entries() {
		if b, ok := v.book.Get(e.Ban.Host); ok {
			if b.Until != e.Ban.Until && b.Left(v.now) >= resolution {
				v.yield(Drift{b.Host, fmt.Sprintf("banned %s, but %s in the blocklist", Until(b), Until(e.Ban))})
			}
			continue
		}
		if e.Ban.Left(v.now) < resolution {
			continue
		}
		if _, ok := v.allow.Covers(e.Ban.Host); ok {
			continue // such a line stays, and is not applied
		}
		v.yield(Drift{e.Ban.Host, fmt.Sprintf("line %d of the blocklist bans it %s, but it is not banned", e.Line, Until(e.Ban))})
	}
	return v.file.Err()
}

// strangers finds what only the kernel has. The counts tell whether there is anything; only then is a set read.
func (v *verifier) strangers(ctx context.Context) error {
	for _, set := range nft.Sets {
		n, known, err := v.keeper.Counted(ctx, set)
		if err != nil {
			return err
		}
		if !known && v.found[set] > namedDrifts {
			v.unseen(set)
			continue
		}
		if known && n <= v.found[set] {
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
				if len(v.book.Covering(p)) == 0 {
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
