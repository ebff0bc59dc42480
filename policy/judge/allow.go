package judge

import (
	"net/netip"
	"slices"
)

// Allow is the allowlist: prefixes that are never banned, whatever a log or a person says. Immutable.
type Allow []netip.Prefix

// NewAllow returns the prefixes masked, sorted and without duplicates.
func NewAllow(prefixes []netip.Prefix) Allow {
	a := make(Allow, 0, len(prefixes))
	for _, p := range prefixes {
		a = append(a, p.Masked())
	}
	slices.SortFunc(a, func(x, y netip.Prefix) int {
		if c := x.Addr().Compare(y.Addr()); c != 0 {
			return c
		}
		return x.Bits() - y.Bits()
	})
	return slices.Compact(a)
}

// Covers returns the entry that covers all of p.
func (a Allow) Covers(p netip.Prefix) (netip.Prefix, bool) {
	for _, x := range a {
		if x.Bits() <= p.Bits() && x.Contains(p.Addr()) {
			return x, true
		}
	}
	return netip.Prefix{}, false
}

// Overlaps reports whether an entry has an address in common with p.
func (a Allow) Overlaps(p netip.Prefix) bool {
	return slices.ContainsFunc(a, p.Overlaps)
}
