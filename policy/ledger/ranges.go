package ledger

import (
	"cmp"
	"net/netip"
	"slices"

	"banset/policy"
)

// A Range is what the kernel's interval set holds: addresses that one ban keeps out.
type Range struct {
	First, Last netip.Addr // inclusive
	Ban         policy.Ban
}

// Ranges cuts bans of prefixes, which may contain one another, into ranges that do not overlap, because an interval
// set refuses those that do. Each address goes to the ban that ends last, so the kernel expires every address at the
// right time by itself; holes (the allowlist) go to none. Both families may be mixed. The result is sorted.
func Ranges(bans []policy.Ban, holes []netip.Prefix) []Range {
	spans := make([]span, 0, len(bans)+len(holes))
	for i := range bans {
		spans = append(spans, span{bans[i].Host, &bans[i]})
	}
	for _, h := range holes {
		spans = append(spans, span{h.Masked(), nil})
	}
	slices.SortFunc(spans, func(a, b span) int {
		return cmp.Or(a.host.Addr().Compare(b.host.Addr()), cmp.Compare(a.host.Bits(), b.host.Bits()))
	})
	var c cutter
	for _, s := range spans {
		c.leaveBefore(s.host.Addr())
		c.enter(s)
	}
	c.leaveBefore(netip.Addr{})
	return c.out
}

// span is a prefix and the ban it belongs to; nil for a hole.
type span struct {
	host netip.Prefix
	ban  *policy.Ban
}

// open is a prefix that the sweep is inside of, and who has its addresses.
type open struct {
	last   netip.Addr
	winner *policy.Ban
	hole   bool
}

// cutter sweeps the addresses from below. Prefixes nest or are disjoint, so those it is inside of are a stack.
type cutter struct {
	stack []open
	next  netip.Addr // first address not yet given to anybody; invalid past the last address there is
	out   []Range
}

func (c *cutter) enter(s span) {
	if len(c.stack) > 0 {
		c.emit(s.host.Addr().Prev())
	}
	c.next = s.host.Addr()
	o := open{last: LastAddr(s.host), winner: s.ban, hole: s.ban == nil}
	if len(c.stack) > 0 {
		switch around := c.stack[len(c.stack)-1]; {
		case around.hole:
			o.winner, o.hole = nil, true
		case !o.hole && around.winner.Until >= s.ban.Until:
			o.winner = around.winner
		}
	}
	c.stack = append(c.stack, o)
}

// leaveBefore closes the prefixes that end before a; all of them when a is invalid.
func (c *cutter) leaveBefore(a netip.Addr) {
	for len(c.stack) > 0 {
		top := c.stack[len(c.stack)-1]
		if a.IsValid() && a.BitLen() == top.last.BitLen() && top.last.Compare(a) >= 0 {
			return
		}
		c.emit(top.last)
		c.stack = c.stack[:len(c.stack)-1]
	}
}

// emit gives the addresses from next to last to the innermost prefix.
func (c *cutter) emit(last netip.Addr) {
	if !c.next.IsValid() || !last.IsValid() || c.next.Compare(last) > 0 {
		return
	}
	first := c.next
	c.next = last.Next()
	winner := c.stack[len(c.stack)-1].winner
	if winner == nil {
		return
	}
	if n := len(c.out); n > 0 && c.out[n-1].Ban.Host == winner.Host && c.out[n-1].Last.Next() == first {
		c.out[n-1].Last = last
		return
	}
	c.out = append(c.out, Range{First: first, Last: last, Ban: *winner})
}

// LastAddr is the highest address of a masked prefix.
func LastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Prefixes is the shortest list of prefixes that cover exactly the addresses from first to last.
func Prefixes(first, last netip.Addr) []netip.Prefix {
	var out []netip.Prefix
	for first.IsValid() && first.Compare(last) <= 0 {
		bits := first.BitLen()
		for bits > 0 {
			p, _ := first.Prefix(bits - 1)
			if p.Addr() != first || LastAddr(p).Compare(last) > 0 {
				break
			}
			bits--
		}
		p := netip.PrefixFrom(first, bits)
		out = append(out, p)
		first = LastAddr(p).Next()
	}
	return out
}
