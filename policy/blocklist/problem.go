package blocklist

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// A Problem is a line that can't be read, or not all of it. The line stays as it is.
type Problem struct {
	Line   int    // its number in the file as it is now, from 1
	Text   string // the word or text in question: quoted, printable, cut
	Reason string // what is wrong, what it means and what to do
}

func (p Problem) String() string { return fmt.Sprintf("line %d: %s: %s", p.Line, p.Text, p.Reason) }

// MaxProblems is the most problems that Problems returns.
const MaxProblems = 100

// Problems returns the first problems of the file, at most MaxProblems, and how many there are.
func (f *File) Problems() (first []Problem, total int) {
	if f.bad == 0 {
		return nil, 0
	}
	f.number()
	for i := range f.items {
		it := &f.items[i]
		if it.flags&problem == 0 || it.size == 0 {
			continue
		}
		var l line
		l.read(f.bytes(it), &f.opts)
		first = append(first, l.tell(int(it.line)))
		if len(first) == min(MaxProblems, f.bad) {
			break
		}
	}
	return first, f.bad
}

// tell is the problem of a line that has one.
func (l *line) tell(number int) Problem {
	return Problem{Line: number, Text: quote(l.word), Reason: l.why()}
}

// quoteMax is how much of a line is shown.
const quoteMax = 48

// quote makes text from the file fit for a terminal.
func quote(b []byte) string {
	b = trim(b)
	if len(b) > quoteMax {
		return strconv.QuoteToASCII(string(b[:quoteMax])) + "..."
	}
	return strconv.QuoteToASCII(string(b))
}

func (l *line) why() string {
	const forever = "; banned for ever until the line is mended"
	switch l.problem {
	case badStamp:
		return `no time after the "/", like 2026-11-23 18:12:45Z` + forever
	case badEnd:
		return `no end that can be read: write "until 2027-11-23 18:12:45Z:" or "until forever:"` + forever
	case stripNote:
		return `only the first word of a line is read; write "#" before a note`
	case tooLong:
		return fmt.Sprintf("longer than %d bytes: not read", MaxLine)
	}
	if s := hint(l.word); s != not {
		return s
	}
	return not + ` (a line begins with one; write "#" before a comment)`
}

const not = "not an address or prefix"

// hint says why a word is not an address, and what may have been meant.
func hint(word []byte) string {
	switch {
	case bytes.IndexByte(word, 0) >= 0:
		return "NUL bytes: not a text file, or a damaged one"
	case len(word) > 64:
		return not
	}
	s := string(word)
	if bare := strings.TrimRight(s, ".,;"); bare != s {
		if p, ok := hostOf(bare); ok {
			return not + ": did you mean " + p + "?"
		}
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		if p.Bits() == 0 || p.Addr().Is4In6() {
			return "this would ban everybody: not applied"
		}
		return not
	}
	if a, err := netip.ParseAddrPort(s); err == nil {
		return "an address with a port: did you mean " + a.Addr().Unmap().WithZone("").String() + "?"
	}
	if bare := strings.Trim(s, "[]<>()\"'"); bare != s {
		if p, ok := hostOf(bare); ok {
			return not + ": did you mean " + p + "?"
		}
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() != "" {
		return "an address with a zone: did you mean " + a.WithZone("").String() + "?"
	}
	if _, _, ok := strings.Cut(s, "-"); ok && strings.Trim(s, "0123456789abcdefABCDEF.:-") == "" {
		return "a range: write it as prefixes, like 192.0.2.0/24"
	}
	addr, bits, hasBits := strings.Cut(s, "/")
	if a, err := netip.ParseAddr(addr); err == nil && hasBits {
		if mask, err := netip.ParseAddr(bits); err == nil && mask.Is4() && a.Is4() {
			if n, ok := maskBits(mask); ok {
				return fmt.Sprintf("a netmask: did you mean %s/%d?", a, n)
			}
		}
		return fmt.Sprintf("the prefix length of %s must be a number from 1 to %d", a, a.BitLen())
	}
	if p, ok := dotted(addr); ok {
		if hasBits {
			p = strings.TrimSuffix(p[:strings.IndexByte(p, '/')], "/") + "/" + bits
		}
		if p, ok := hostOf(p); ok {
			return not + ": did you mean " + p + "?"
		}
	}
	if strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789-._") == "" && strings.Contains(s, ".") &&
		strings.Trim(s, "0123456789.") != "" {
		return "a name: names are not looked up, write its address"
	}
	return not
}

// hostOf is how a valid word would be written.
func hostOf(word string) (string, bool) {
	k, ok := parseHost([]byte(word))
	if !ok {
		return "", false
	}
	if p := k.host(); !p.IsSingleIP() {
		return p.String(), true
	}
	return k.host().Addr().String(), true
}

// maskBits is the length of a netmask.
func maskBits(mask netip.Addr) (int, bool) {
	a := mask.As4()
	m := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	n := 0
	for m&(1<<31) != 0 {
		m <<= 1
		n++
	}
	return n, m == 0 && n > 0
}

// dotted reads an IPv4 address with leading zeros or with too few parts, and completes it to a prefix.
func dotted(s string) (string, bool) {
	parts := strings.Split(strings.TrimSuffix(s, "."), ".")
	if len(parts) < 2 || len(parts) > 4 {
		return "", false
	}
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 10, 8)
		if err != nil {
			return "", false
		}
		parts[i] = strconv.FormatUint(v, 10)
	}
	bits := 8 * len(parts)
	for len(parts) < 4 {
		parts = append(parts, "0")
	}
	return strings.Join(parts, ".") + "/" + strconv.Itoa(bits), true
}
