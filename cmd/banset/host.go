package main

import (
	"fmt"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"
)

// parseHost reads a host argument: an address or a prefix. What comes back is masked, never v4-mapped, never with a
// zone. The error says in plain words what is wrong and, where it can be told, what was meant.
func parseHost(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		if a.Zone() != "" {
			return netip.Prefix{}, hostError(s, "a zone (what follows %) means nothing to a ban", a.WithZone("").String())
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		if p.Addr().Is4In6() {
			// A mapped prefix of fewer than 96 bits covers more than IPv4 and nothing that a packet carries.
			if p.Bits() < 96 {
				return netip.Prefix{}, hostError(s, "write IPv4 addresses as such", p.Addr().Unmap().String())
			}
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if m := p.Masked(); m != p {
			return netip.Prefix{}, hostError(s, "it has bits set behind the /"+strconv.Itoa(p.Bits()),
				m.String()+" (the network)", p.Addr().String()+" (the host)")
		}
		return p, nil
	}
	return netip.Prefix{}, badHost(s)
}

// parseHosts reads all of args, or fails with the first that is wrong.
func parseHosts(args []string) ([]netip.Prefix, error) {
	hosts := make([]netip.Prefix, len(args))
	for i, arg := range args {
		var err error
		if hosts[i], err = parseHost(arg); err != nil {
			return nil, err
		}
	}
	return hosts, nil
}

// showHost prints a single address without its length.
func showHost(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func hostError(s, why string, meant ...string) error {
	text := fmt.Sprintf("%s is no address or prefix: %s", quoted(s), why)
	if len(meant) > 0 {
		text += "; did you mean " + strings.Join(meant, " or ") + "?"
	}
	return fmt.Errorf("%s", text)
}

// quoted shows an argument: bare when it can't be mistaken, else in quotes.
func quoted(s string) string {
	if s == "" || len(s) > 60 || strings.ContainsAny(s, " \"'") || printable(s) != s {
		return strconv.Quote(shorten(s, 60))
	}
	return s
}

// badHost finds out what is wrong with s, which netip does not take.
func badHost(s string) error {
	if s == "" {
		return hostError(s, "it is empty")
	}
	if meant, ok := stripped(s); ok {
		return hostError(s, "there is something around the address", meant)
	}
	if _, _, ok := strings.Cut(s, "-"); ok && dottedDigits(strings.ReplaceAll(s, "-", ".")) {
		return hostError(s, "ranges are not known, give prefixes")
	}
	addr, length, hasLength := strings.Cut(s, "/")
	if a, err := netip.ParseAddr(addr); err == nil && hasLength {
		return badLength(s, a, length)
	}
	if head, ok := strings.CutSuffix(s, "*"); ok {
		if p, ok := fewer(strings.TrimRight(head, ".*")); ok {
			return hostError(s, "wildcards are not known", p)
		}
	}
	if dottedDigits(addr) {
		return badIPv4(s, addr)
	}
	if strings.Contains(addr, ":") && strings.Trim(addr, "0123456789abcdefABCDEF:.") == "" {
		return hostError(s, badIPv6(addr))
	}
	return hostError(s, "banset never resolves names; give the address itself")
}

// stripped removes what people paste along with an address: a port, brackets, a full stop, a comma.
func stripped(s string) (string, bool) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone("").String(), true
	}
	t := strings.Trim(s, "[](){}<>,;.:'\" \t\r\n")
	if t == s {
		return "", false
	}
	if p, err := parseHost(t); err == nil {
		return showHost(p), true
	}
	return "", false
}

// badLength explains a prefix whose address is right.
func badLength(s string, a netip.Addr, length string) error {
	family := "IPv6"
	if a.Is4() {
		family = "IPv4"
	}
	if m, err := netip.ParseAddr(length); err == nil && m.Is4() && a.Is4() {
		b := m.As4()
		mask := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
		if ones := bits.LeadingZeros32(^mask); mask<<ones == 0 {
			return hostError(s, "write the netmask as a length", netip.PrefixFrom(a, ones).Masked().String())
		}
		return hostError(s, length+" is no netmask")
	}
	if n, err := strconv.Atoi(length); err == nil && n > a.BitLen() {
		return hostError(s, fmt.Sprintf("the length of an %s prefix is at most %d", family, a.BitLen()),
			netip.PrefixFrom(a, a.BitLen()).String())
	}
	return hostError(s, fmt.Sprintf("the length of an %s prefix is a number from 0 to %d", family, a.BitLen()))
}

// dottedDigits reports whether s looks like somebody's IPv4 address.
func dottedDigits(s string) bool {
	return strings.Contains(s, ".") && strings.Trim(s, "0123456789.") == ""
}

// badIPv4 explains digits and dots that are no address.
func badIPv4(s, addr string) error {
	if p, ok := fewer(addr); ok {
		return hostError(s, "an IPv4 address has four numbers", p)
	}
	parts := strings.Split(addr, ".")
	fixed := make([]string, len(parts))
	zero := ""
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		switch {
		case p == "":
			return hostError(s, "a number is missing between the dots")
		case err != nil || n > 255:
			return hostError(s, p+" is more than 255")
		case len(p) > 1 && p[0] == '0' && zero == "":
			zero = p
		}
		fixed[i] = strconv.Itoa(n)
	}
	if len(parts) != 4 {
		return hostError(s, fmt.Sprintf("an IPv4 address has four numbers, not %d", len(parts)))
	}
	if zero != "" {
		return hostError(s, zero+" has a leading zero, which some programs read as octal", strings.Join(fixed, "."))
	}
	return hostError(s, "it can't be read")
}

// fewer reads the first numbers of an IPv4 address as the prefix they probably mean: "10.0.0" as 10.0.0.0/24.
func fewer(s string) (prefix string, ok bool) {
	n := strings.Count(s, ".") + 1
	if n > 3 {
		return "", false
	}
	a, err := netip.ParseAddr(s + strings.Repeat(".0", 4-n))
	if err != nil {
		return "", false
	}
	return netip.PrefixFrom(a, 8*n).String(), true
}

// badIPv6 explains hex digits and colons that are no address.
func badIPv6(s string) string {
	groups := strings.Split(s, ":")
	for _, g := range groups {
		if len(g) > 4 && !strings.Contains(g, ".") {
			return "a group of an IPv6 address has at most four hex digits, not " + quoted(g)
		}
	}
	switch {
	case strings.Count(s, "::") > 1 || strings.Contains(s, ":::"):
		return "an IPv6 address has :: at most once"
	case len(groups) > 8:
		return "an IPv6 address has at most eight groups"
	case !strings.Contains(s, "::") && len(groups) < 8:
		return fmt.Sprintf("an IPv6 address has eight groups, or :: for those left out; this has %d", len(groups))
	}
	return "it can't be read as IPv6"
}
