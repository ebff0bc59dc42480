package match

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
)

// A hostKind is which host tag a pattern has, and so which addresses it takes.
type hostKind uint8

const (
	hostAny    hostKind = iota // <HOST>, <ADDR>
	hostIP4                    // <IP4>
	hostIP6                    // <IP6>
	hostSubnet                 // <SUBNET>, <CIDR>
)

// The host's text is matched loosely, as the longest run that looks like an address, and judged by netip afterwards:
// so 999.1.1.1 and 1.2.3.4.5 are taken whole and refused whole, and no fragment of them can become a host. Word
// boundaries keep a preceding .* from eating the first digits. A group of an IPv6 address has at most four digits, so
// that the five of a port stay outside, and there must be a "::" or seven colons, so that 12:30:45 is no candidate.
const (
	reHex  = `[0-9A-Fa-f]{1,4}`
	reQuad = `[0-9]+(?:\.[0-9]+){3,}`
	reZone = `(?:%[0-9A-Za-z]+(?:[._-][0-9A-Za-z]+)*)?`
)

// reV6 matches the eight groups written out, or what is around a "::"; the last two groups may be a dotted quad. word
// and colon are the assertions in front of an address that begins with a digit or with a colon.
func reV6(word, colon string) string {
	return `(?:` + word + `(?:` + reHex + `:){6}(?:` + reQuad + `|` + reHex + `:` + reHex + `)\b|` +
		`(?:` + word + reHex + `(?::` + reHex + `)*|` + colon + `)::` +
		`(?:(?:` + reHex + `:)*(?:` + reQuad + `|` + reHex + `)\b|\B))` + reZone
}

// expr is the tag's regular expression with one capture group around the address. wordBefore says that the pattern has
// a letter right before the tag ("ip<HOST>"), where a word boundary can't be.
func (k hostKind) expr(wordBefore bool) string {
	word, colon := `\b`, `\B`
	if wordBefore {
		word, colon = ``, ``
	}
	v4, v6 := word+reQuad+`\b`, reV6(word, colon)
	switch k {
	case hostIP4:
		v4 = `(?:` + colon + `::[Ff]{4}:|` + word + `)` + reQuad + `\b`
		return `(?-imsU:\[?(` + v4 + `)\]?)`
	case hostIP6:
		return `(?-imsU:\[?(` + v6 + `)\]?)`
	case hostSubnet:
		return `(?-imsU:\[?((?:` + v4 + `|` + v6 + `)(?:/[0-9]+\b)?)\]?)`
	}
	return `(?-imsU:\[?(` + v4 + `|` + v6 + `)\]?)`
}

// A refusal says why a text that a host tag matched is no host.
type refusal string

const (
	notAddress  refusal = "is not an address"
	notPrefix   refusal = "is not an address with a prefix length"
	everything  refusal = "is the whole internet"
	fragment    refusal = "is part of a longer name or address"
	unspecified refusal = "is the unspecified address, no host"
	multicast   refusal = "is a multicast address, no host"
	broadcast   refusal = "is the broadcast address, no host"
	notIP4      refusal = "is not an IPv4 address"
	notIP6      refusal = "is not an IPv6 address"
)

// parseHost reads the text of a host tag at text[from:to] strictly. The neighbours are looked at too: an address that
// goes on to either side is none. A refusal of "" means that p is good.
func (k hostKind) parseHost(text []byte, from, to int) (p netip.Prefix, why refusal) {
	if quad, ok := readQuad(text[from:to]); ok {
		p, why = k.prefix(quad, 32)
	} else {
		p, why = k.parse(string(text[from:to]))
	}
	if why == notAddress || why == notPrefix {
		return p, why
	}
	v6 := bytes.IndexByte(text[from:to], ':') >= 0
	length := k == hostSubnet && to+1 < len(text) && text[to] == '/' && isDigit(text[to+1])
	if length || !freeLeft(text, from, to) || !freeRight(text, to, v6) {
		return netip.Prefix{}, fragment
	}
	return p, why
}

// parse reads an address, or with <SUBNET> a prefix, without regard to its surroundings.
func (k hostKind) parse(s string) (netip.Prefix, refusal) {
	addr, length, hasLength := strings.Cut(s, "/")
	addr, _, _ = strings.Cut(addr, "%")
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return netip.Prefix{}, notAddress
	}
	mapped := a.Is4In6()
	bits := a.BitLen()
	if hasLength {
		p, err := netip.ParsePrefix(addr + "/" + length)
		switch {
		case err != nil:
			return netip.Prefix{}, notPrefix
		case p.Bits() == 0 || mapped && p.Bits() <= 96:
			return netip.Prefix{}, everything
		}
		bits = p.Bits()
	}
	if mapped {
		a, bits = a.Unmap(), bits-96
	}
	return k.prefix(a, bits)
}

// readQuad reads an IPv4 address that is all of b, by netip's rules.
func readQuad(b []byte) (netip.Addr, bool) {
	if len(b) > len("255.255.255.255") {
		return netip.Addr{}, false
	}
	var quad [4]byte
	n, digits, value := 0, 0, 0
	for _, c := range b {
		switch {
		case isDigit(c) && !(digits > 0 && value == 0): // a zero leads nothing
			value = value*10 + int(c-'0')
			if digits++; value > 255 {
				return netip.Addr{}, false
			}
		case c == '.' && digits > 0 && n < 3:
			quad[n] = byte(value)
			n++
			digits, value = 0, 0
		default:
			return netip.Addr{}, false
		}
	}
	quad[3] = byte(value)
	return netip.AddrFrom4(quad), n == 3 && digits > 0
}

// prefix is an address or prefix, if a host can have it.
func (k hostKind) prefix(a netip.Addr, bits int) (netip.Prefix, refusal) {
	p := netip.PrefixFrom(a, bits)
	if bits < a.BitLen() {
		p = p.Masked()
	}
	switch a = p.Addr(); {
	case a.IsUnspecified():
		return netip.Prefix{}, unspecified
	case a.IsMulticast():
		return netip.Prefix{}, multicast
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return netip.Prefix{}, broadcast
	case k == hostIP4 && !a.Is4():
		return netip.Prefix{}, notIP4
	case k == hostIP6 && !a.Is6():
		return netip.Prefix{}, notIP6
	}
	return p, ""
}

// freeLeft reports whether nothing before text[from:to] makes it the tail of something longer.
func freeLeft(text []byte, from, to int) bool {
	if from == 0 {
		return true
	}
	switch text[from-1] {
	case '.':
		return from < 2 || !isWord(text[from-2])
	case ':':
		before := text[addressStart(text, from):from]
		switch {
		case len(before) == 0:
			return from < 2 || text[from-2] != ':'
		case bytes.IndexByte(text[from:to], ':') >= 0:
			return false // another group of it
		}
		// "25:192.0.2.1" is a number and an address, but six groups and a dotted quad are one address.
		return !bytes.Contains(before, []byte("::")) && bytes.Count(before, []byte(":")) < 6
	}
	return true
}

// addressStart goes left from at, which follows a colon, over all groups that could belong to an IPv6 address that
// goes on at at.
func addressStart(text []byte, at int) int {
	l := at
	for l > 0 && (isWord(text[l-1]) || text[l-1] == ':') {
		l--
	}
	start, word := l, l
	for i := l; i < at; i++ {
		if text[i] == ':' {
			if i-word > 4 || !allHex(text[word:i]) {
				start = i + 1
			}
			word = i + 1
		}
	}
	if start < at && text[start] == ':' && (start+1 == at || text[start+1] != ':') {
		start++ // one colon is no beginning
	}
	return start
}

// freeRight reports whether nothing after text[:to] makes it the head of something longer. v6 says that the text ends
// in an IPv6 address, where a colon may be the address going on.
func freeRight(text []byte, to int, v6 bool) bool {
	rest := text[to:]
	if len(rest) < 2 {
		return true
	}
	switch rest[0] {
	case '.', '-':
		return !isWord(rest[1])
	case ':':
		if !v6 {
			return true
		}
		if rest[1] == ':' {
			return false
		}
		n := 1
		for n < len(rest) && isWord(rest[n]) {
			n++
		}
		if n == 1 {
			return text[to-1] != ':' // a colon after the sentence's address, but never a third one in a row
		}
		// A port has five digits to be told from a group, or the address before it has all its groups.
		if digits := rest[1:n]; allDigits(digits) {
			_, err := netip.ParseAddr(string(text[addressStart(text, to+1) : to+n]))
			return err != nil && len(digits) <= 5 && text[to-1] != ':' &&
				(n+1 >= len(rest) || rest[n] != ':' || !isWord(rest[n+1]))
		}
		return false
	}
	return true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func isWord(c byte) bool { return isDigit(c) || isLetter(c) || c == '_' }

func allHex(b []byte) bool {
	for _, c := range b {
		if !isDigit(c) && (c|0x20 < 'a' || 'f' < c|0x20) {
			return false
		}
	}
	return true
}

func allDigits(b []byte) bool {
	for _, c := range b {
		if !isDigit(c) {
			return false
		}
	}
	return len(b) > 0
}

// standIn takes the place of an IPv6 address that a greedy pattern cut short, see pattern.find. No part of it looks
// like an address.
func (k hostKind) standIn() string {
	if k == hostIP4 {
		return "192.0.2.1"
	}
	return "::1"
}

// explain is the refusal as a sentence.
func (r refusal) explain(host string) string { return fmt.Sprintf("%s %s", host, string(r)) }
