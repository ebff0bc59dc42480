package mirror

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"banset/nft"
	"banset/policy"
	"banset/policy/judge"
	"banset/policy/ledger"
)

// settle looks up in the kernel what ought to be in some sets, and settles what is right already.
func (k *Kernel) settle(ctx context.Context, sets []nft.Set) error {
	if len(sets) == 0 {
		return nil
	}
	var bans []ledger.Place
	if err := k.Do(ctx, func(j *judge.Judge) { bans = j.Book().Latest() }); err != nil {
		return err
	}
	var wanted, found []nft.Element
	for len(bans) > 0 {
		some := bans[:min(len(bans), perLook)]
		bans = bans[len(some):]
		wanted, found = wanted[:0], found[:0]
		if err := k.Do(ctx, func(j *judge.Judge) {
			for _, at := range some {
				b, ok := j.Book().At(at)
				if set, is := hostSet(b.Host, k.IPv6Prefix); ok && is && slices.Contains(sets, set) {
					wanted = append(wanted, nft.Element{Set: set, First: b.Host.Addr()})
				}
			}
		}); err != nil {
			return err
		}
		err := k.Keeper.GetEach(ctx, slices.Values(wanted), func(_, e nft.Element, there bool) error {
			if there {
				found = append(found, e)
			}
			return nil
		})
		if errors.Is(err, nft.ErrMissing) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := k.Do(ctx, func(j *judge.Judge) {
			book, now := j.Book(), k.Now()
			for _, e := range found {
				host := policy.HostPrefix(e.First, k.IPv6Prefix)
				if b, ok := book.Get(host); ok && sameEnd(e, b, now) && e.Comment == k.reasons.of(&b) && book.IsHost(host) {
					book.Settle(ledger.Kernel, host)
				}
			}
		}); err != nil {
			return err
		}
	}
	return nil
}

// compare reads the sets back and settles what is right already; what the book has and the kernel has not is put
// back, and what only the kernel has is adopted.
func (k *Kernel) compare(ctx context.Context) error {
	now := k.Now()
	bans := 0
	if err := k.Do(ctx, func(j *judge.Judge) { bans = j.Book().Len() }); err != nil {
		return err
	}
	var standing []nft.Element
	var large []nft.Set
	for _, set := range nft.Sets {
		n, known, err := k.Keeper.Counted(ctx, set)
		if errors.Is(err, nft.ErrMissing) {
			continue
		}
		if err != nil {
			return err
		}
		if !known {
			n = bans
		}
		if n > dumpable {
			k.Log.Warn(fmt.Sprintf("kernel: %s has some %d elements, too many to list: the book's bans are looked up, and what else stands there stays as it is", set, n))
			large = append(large, set)
			continue
		}
		if err := k.Keeper.Dump(ctx, set, func(e nft.Element) error {
			standing = append(standing, e)
			return nil
		}); err != nil && !errors.Is(err, nft.ErrMissing) {
			return err
		}
	}
	if err := k.Do(ctx, func(j *judge.Judge) { j.Book().MarkAll(ledger.Kernel) }); err != nil {
		return err
	}
	if err := k.settle(ctx, large); err != nil {
		return err
	}
	return k.Do(ctx, func(j *judge.Judge) {
		book := j.Book()
		clear(k.nets) // what was there and is no more must be put back
		ours := make(map[netip.Addr]ledger.Range)
		for _, r := range j.Ranges() {
			ours[r.First] = r
		}
		for _, e := range standing {
			if e.Set.Ranges() {
				ne := netElement{Element: e}
				if r, ok := ours[e.First]; ok && r.Last == e.Last && sameEnd(e, r.Ban, now) && e.Comment == r.Ban.Reason() {
					ne.until, ne.host = r.Ban.Until, r.Ban.Host
				} else if !ok && !k.known(j, e) {
					k.adopt(j, e, now, "found in the kernel")
				}
				k.nets[e.First] = ne
				continue
			}
			host := policy.HostPrefix(e.First, k.IPv6Prefix)
			b, ok := book.Get(host)
			switch {
			case ok && host.Addr() == e.First && sameEnd(e, b, now) && e.Comment == b.Reason() && book.IsHost(host):
				book.Settle(ledger.Kernel, host)
			case !ok && (book.Holds(ledger.Kernel, host) || host.Addr() == e.First && newer(book, earned(e, host, now))):
				k.adopt(j, e, now, "found in the kernel")
			}
		}
	})
}

// known reports whether a range of the interval sets lies within bans of the book, or within such as wait to be taken
// out: then it is an older cut of ours.
func (k *Kernel) known(j *judge.Judge, e nft.Element) bool {
	for _, p := range ledger.Prefixes(e.First, e.Last) {
		if len(j.Book().Covering(p)) == 0 && !j.Book().GoneAround(ledger.Kernel, p) {
			return false
		}
	}
	return true
}

func sameEnd(e nft.Element, b policy.Ban, now time.Time) bool {
	if e.Timeout == 0 || b.Until == policy.Never {
		return e.Timeout == 0 && b.Until == policy.Never
	}
	return (e.Expires - b.Left(now)).Abs() <= resolution
}
