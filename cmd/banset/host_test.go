package main

import (
	"strings"
	"testing"
)

func TestParseHost(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"192.0.2.1", "192.0.2.1/32"},
		{"192.0.2.0/24", "192.0.2.0/24"},
		{"2001:db8::1", "2001:db8::1/128"},
		{"2001:DB8::/32", "2001:db8::/32"},
		{"::ffff:192.0.2.1", "192.0.2.1/32"},
		{"::ffff:192.0.2.0/120", "192.0.2.0/24"},
		{"::/0", "::/0"},
	} {
		p, err := parseHost(c.in)
		if err != nil || p.String() != c.want {
			t.Errorf("parseHost(%q) = %v, %v; want %s", c.in, p, err, c.want)
		}
	}
}

// Each mistake that people make gets its own words, and what was probably meant.
func TestParseHostMistakes(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", `"" is no address or prefix: it is empty`},
		{"999.1.1.1", "999.1.1.1 is no address or prefix: 999 is more than 255"},
		{"1.2.3.99999999999999999999", "1.2.3.99999999999999999999 is no address or prefix: 99999999999999999999 is more than 255"},
		{"10.0.0.0/33", "10.0.0.0/33 is no address or prefix: the length of an IPv4 prefix is at most 32; did you mean 10.0.0.0/32?"},
		{"2001:db8::/129", "2001:db8::/129 is no address or prefix: the length of an IPv6 prefix is at most 128; did you mean 2001:db8::/128?"},
		{"10.0.0.0/", "10.0.0.0/ is no address or prefix: the length of an IPv4 prefix is a number from 0 to 32"},
		{"10.0.0.0/-1", "10.0.0.0/-1 is no address or prefix: the length of an IPv4 prefix is a number from 0 to 32"},
		{"10.0.0.0/08", "10.0.0.0/08 is no address or prefix: the length of an IPv4 prefix is a number from 0 to 32"},
		{"10.0.0.0/255.0.0.0", "10.0.0.0/255.0.0.0 is no address or prefix: write the netmask as a length; did you mean 10.0.0.0/8?"},
		{"10.1.0.0/255.0.255.0", "10.1.0.0/255.0.255.0 is no address or prefix: 255.0.255.0 is no netmask"},
		{"10.1.2.3/8", "10.1.2.3/8 is no address or prefix: it has bits set behind the /8; " +
			"did you mean 10.0.0.0/8 (the network) or 10.1.2.3 (the host)?"},
		{"2001:db8::1/64", "2001:db8::1/64 is no address or prefix: it has bits set behind the /64; " +
			"did you mean 2001:db8::/64 (the network) or 2001:db8::1 (the host)?"},
		{"::ffff:10.0.0.0/90", "::ffff:10.0.0.0/90 is no address or prefix: write IPv4 addresses as such; did you mean 10.0.0.0?"},
		{"fe80::1%eth0", "fe80::1%eth0 is no address or prefix: a zone (what follows %) means nothing to a ban; did you mean fe80::1?"},
		{"010.0.0.1", "010.0.0.1 is no address or prefix: 010 has a leading zero, which some programs read as octal; did you mean 10.0.0.1?"},
		{"10.0.0", "10.0.0 is no address or prefix: an IPv4 address has four numbers; did you mean 10.0.0.0/24?"},
		{"10.0.0.1.2", "10.0.0.1.2 is no address or prefix: an IPv4 address has four numbers, not 5"},
		{"10..0.1", "10..0.1 is no address or prefix: a number is missing between the dots"},
		{"10.0.0.*", "10.0.0.* is no address or prefix: wildcards are not known; did you mean 10.0.0.0/24?"},
		{"10.*", "10.* is no address or prefix: wildcards are not known; did you mean 10.0.0.0/8?"},
		{"10.0.0.1-10.0.0.9", "10.0.0.1-10.0.0.9 is no address or prefix: ranges are not known, give prefixes"},
		{"[2001:db8::1]", "[2001:db8::1] is no address or prefix: there is something around the address; did you mean 2001:db8::1?"},
		{"[2001:db8::1]:25", "[2001:db8::1]:25 is no address or prefix: there is something around the address; did you mean 2001:db8::1?"},
		{"192.0.2.1:25", "192.0.2.1:25 is no address or prefix: there is something around the address; did you mean 192.0.2.1?"},
		{"192.0.2.1,", "192.0.2.1, is no address or prefix: there is something around the address; did you mean 192.0.2.1?"},
		{" 192.0.2.0/24 ", `" 192.0.2.0/24 " is no address or prefix: there is something around the address; did you mean 192.0.2.0/24?`},
		{"2001:db8::1::2", "2001:db8::1::2 is no address or prefix: an IPv6 address has :: at most once"},
		{"2001:db8:1", "2001:db8:1 is no address or prefix: an IPv6 address has eight groups, or :: for those left out; this has 3"},
		{"1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8:9 is no address or prefix: an IPv6 address has at most eight groups"},
		{"2001:db8::12345", "2001:db8::12345 is no address or prefix: a group of an IPv6 address has at most four hex digits, not 12345"},
		{"mail.example", "mail.example is no address or prefix: banset never resolves names; give the address itself"},
		{"http://192.0.2.1/", "http://192.0.2.1/ is no address or prefix: banset never resolves names; give the address itself"},
		{"\x1b[31m", `"\x1b[31m" is no address or prefix: banset never resolves names; give the address itself`},
	} {
		_, err := parseHost(c.in)
		if err == nil || err.Error() != c.want {
			t.Errorf("parseHost(%q)\n got %v\nwant %s", c.in, err, c.want)
		}
	}
}

// FuzzParseHost: what is accepted is masked, has no zone, is never v4-mapped, and is read again as itself when shown;
// what is refused is refused in one printable line, and the first meaning that is offered is accepted.
func FuzzParseHost(f *testing.F) {
	for _, s := range []string{"192.0.2.1", "10.0.0.0/33", "::ffff:1.2.3.4/97", "10.*", "1.2.3", "fe80::1%x", "[::1]:1", "a.b", "1:2", "0/0", "%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parseHost(s)
		if err != nil {
			text := err.Error()
			if printable(text) != text {
				t.Errorf("parseHost(%q): the error is not printable: %q", s, text)
			}
			if _, meant, ok := strings.Cut(text, "; did you mean "); ok {
				meant, _, _ = strings.Cut(strings.TrimSuffix(meant, "?"), " ")
				if _, err := parseHost(meant); err != nil {
					t.Errorf("parseHost(%q) offers %q, which is refused: %v", s, meant, err)
				}
			}
			return
		}
		if p != p.Masked() || p.Addr().Zone() != "" || p.Addr().Is4In6() && p.Bits() >= 96 {
			t.Errorf("parseHost(%q) = %v", s, p)
		}
		if again, err := parseHost(showHost(p)); err != nil || again != p {
			t.Errorf("parseHost(%q) = %v, shown as %s, read as %v, %v", s, p, showHost(p), again, err)
		}
	})
}
