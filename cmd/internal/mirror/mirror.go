// Package mirror keeps the kernel's sets and the blocklist file in step with the book of bans, and tells the judge
// what people did to either. It does all writing of the file.
//
// The book is the truth. A mirror comes for pending work, does it and says how it went; a change that somebody else
// made to a copy is compared with what the copy was last known to hold, and becomes that person's will or an accident.
package mirror

import (
	"context"
	"net/netip"
	"time"

	"banset/nft"
	"banset/policy"
	"banset/policy/judge"
)

// Do runs f in the goroutine that owns the judgement and returns when it has run, or ctx's error when it never will.
type Do func(ctx context.Context, f func(*judge.Judge)) error

// Label is how a log line names who banned: the policy, or "by hand".
func Label(b policy.Ban) string {
	if b.Policy == "" {
		return "by hand"
	}
	return b.Policy
}

// Host is how people write a prefix: an address alone where it is one.
func Host(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// Until is how log lines and listings write a ban's end.
func Until(b policy.Ban) string {
	if b.Until == policy.Never {
		return "forever"
	}
	return "until " + time.Unix(b.Until, 0).UTC().Format("2006-01-02 15:04:05Z")
}

// hostSet is the hash set for a prefix of a host's shape, and false for every other prefix.
func hostSet(p netip.Prefix, ipv6Prefix int) (nft.Set, bool) {
	switch {
	case p.Addr().Is4() && p.Bits() == 32:
		return nft.Ban4, true
	case p.Addr().Is6() && p.Bits() == ipv6Prefix:
		return nft.Ban6, true
	}
	return 0, false
}

// element is a ban as the kernel holds it; false when nothing is left of it.
func element(set nft.Set, first, last netip.Addr, b policy.Ban, now time.Time) (nft.Element, bool) {
	return elementFor(set, first, last, b, b.Reason(), now)
}

// elementFor is element with the ban's reason, for who has it already.
func elementFor(set nft.Set, first, last netip.Addr, b policy.Ban, reason string, now time.Time) (nft.Element, bool) {
	e := nft.Element{Set: set, First: first, Last: last, Comment: reason}
	if b.Until == policy.Never {
		return e, true
	}
	// The kernel takes no expiration beyond the timeout; a ban dated in the future has more left than it is long.
	e.Expires = b.Left(now)
	e.Timeout = max(b.Length(), e.Expires)
	return e, e.Expires >= time.Millisecond
}
