package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"banset/nft"
	"banset/policy/judge"
	"banset/policy/ledger"
)

// heal makes the repair that is wanted, if one is. The book is what counts: nothing that stands in a table that is
// not ours any more is adopted. quiet leaves the log alone.
func (k *Kernel) heal(ctx context.Context, quiet bool) error {
	k.mu.Lock()
	wanted := k.wanted
	k.wanted = nil
	k.mu.Unlock()
	if wanted == nil {
		return nil
	}
	err := k.putBack(ctx, *wanted, quiet)
	if err != nil {
		k.ask(*wanted)
	}
	return err
}

func (k *Kernel) putBack(ctx context.Context, r repair, quiet bool) error {
	began := time.Now()
	tell := func(format string, a ...any) {
		k.mu.Lock()
		k.healings++
		k.mu.Unlock()
		if !quiet {
			took := time.Since(began).Round(100 * time.Microsecond)
			k.Log.Warn(fmt.Sprintf("kernel: %s; put back%s in %s", r.why, fmt.Sprintf(format, a...), took))
		}
	}
	if !r.anew {
		report, err := k.Keeper.Check(ctx)
		if err != nil {
			return err
		}
		r.anew = len(report.Emptied) == len(nft.Sets)
	}
	if r.anew {
		n, err := k.replace(ctx)
		if err != nil {
			return fmt.Errorf("putting the table back: %w", err)
		}
		tell(" %d bans", n)
		// What was done between the accident and the repair can't be told from it: look once.
		return k.Push(ctx)
	}
	report, err := k.Keeper.Ensure(ctx)
	if err != nil {
		return fmt.Errorf("putting rules back: %w", err)
	}
	if len(report.Emptied) > 0 || r.lost {
		if err := k.compare(ctx); err != nil {
			return err
		}
	}
	if err := k.Push(ctx); err != nil {
		return err
	}
	if len(report.Changes) > 0 {
		tell("")
	}
	return nil
}

// replace makes the table anew with all that it ought to hold, and says how many elements these are. What changes in the
// book meanwhile is pending afterwards.
func (k *Kernel) replace(ctx context.Context) (n int, err error) {
	var bans []ledger.Place
	if err := k.Do(ctx, func(j *judge.Judge) { bans = j.Book().Latest() }); err != nil {
		return 0, err
	}
	var lookErr error
	err = k.Keeper.Replace(ctx, func(yield func(nft.Element) bool) {
		n = 0
		lookErr = k.everything(ctx, bans, func(e nft.Element) bool { n++; return yield(e) })
	})
	err = errors.Join(lookErr, err)
	doErr := k.Do(ctx, func(*judge.Judge) { k.Changed(err) })
	return n, errors.Join(err, doErr)
}

// perLook is how many bans a load takes from the book at once: the judgement goes on in between. The first look is
// short, because nothing may protect until it is over.
const (
	firstLook = 2000
	perLook   = 10_000
)

// everything yields the elements of those bans, the most recently active hosts first, and after them the ranges that the
// interval sets ought to hold. The time that is left of each counts from now, when the kernel is about to get it.
func (k *Kernel) everything(ctx context.Context, bans []ledger.Place, yield func(nft.Element) bool) error {
	elements := make([]nft.Element, 0, min(len(bans), perLook))
	for look := firstLook; len(bans) > 0; look = perLook {
		some := bans[:min(len(bans), look)]
		bans = bans[len(some):]
		if err := k.Do(ctx, func(j *judge.Judge) { elements = k.some(elements[:0], j, some, k.Now()) }); err != nil {
			return err
		}
		for _, e := range elements {
			if !yield(e) {
				return nil
			}
		}
	}
	var ranges []ledger.Range
	if err := k.Do(ctx, func(j *judge.Judge) { ranges = j.Ranges() }); err != nil {
		return err
	}
	clear(k.nets)
	var adds []nft.Change
	adds, k.nets = k.diffNets(ranges, k.Now())
	for _, c := range adds {
		if !yield(c.Element) {
			return nil
		}
	}
	return nil
}

// some appends the elements of those bans that are of hosts, and takes all of them as told.
func (k *Kernel) some(to []nft.Element, j *judge.Judge, bans []ledger.Place, now time.Time) []nft.Element {
	book := j.Book()
	for _, at := range bans {
		b, ok := book.Told(ledger.Kernel, at)
		if !ok {
			continue // it went meanwhile, and that is pending
		}
		if set, ok := hostSet(b.Host, k.IPv6Prefix); ok && book.IsHost(b.Host) {
			if e, left := elementFor(set, b.Host.Addr(), b.Host.Addr(), b, k.reasons.of(&b), now); left {
				to = append(to, e)
			}
		}
	}
	return to
}
