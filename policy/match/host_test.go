package match

import (
	"net/netip"
	"strings"
	"testing"
)

func TestHost(t *testing.T) {
	tests := []struct{ pattern, line, host string }{
		{`from <HOST>`, "from 192.0.2.1", "192.0.2.1/32"},
		{`from <HOST>`, "from 192.0.2.1.", "192.0.2.1/32"},
		{`from <HOST>`, "from 192.0.2.1, again", "192.0.2.1/32"},
		{`from <HOST>`, "from 192.0.2.1:25", "192.0.2.1/32"},
		{`from <HOST>`, "from [192.0.2.1]:25", "192.0.2.1/32"},
		{`from <ADDR>`, "from [2001:db8::1]:25", "2001:db8::1/128"},
		{`from <HOST>`, "from 2001:db8::1:", "2001:db8::1/128"},
		{`from <HOST>`, "from 2001:db8::1: no", "2001:db8::1/128"},
		{`from <HOST>:`, "from 2001:db8::1: no", "2001:db8::1/128"},
		{`from <HOST>$`, "from 2001:db8::", "2001:db8::/128"},
		{`from <HOST>`, "from 2001:db8::1%eth0 port 3", "2001:db8::1/128"},
		{`from <HOST> port`, "from 2001:db8::1%eth0 port 3", "2001:db8::1/128"},
		{`from <HOST>`, "from 2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6/128"},
		{`from <HOST>`, "from 2001:db8:1:2:3:4:192.0.2.1", "2001:db8:1:2:3:4:c000:201/128"},
		{`from <HOST>`, "from ::ffff:192.0.2.1", "192.0.2.1/32"},
		{`from <HOST>`, "from ::FFFF:192.0.2.1.", "192.0.2.1/32"},
		{`from <HOST>`, "from ::ffff:c000:201", "192.0.2.1/32"},
		{`rip=<HOST>,`, "rip=::ffff:192.0.2.1, lip=::1", "192.0.2.1/32"},
		{`ip<HOST>`, "ip192.0.2.1", "192.0.2.1/32"},
		{`ip<HOST>`, "ip2001:db8::1", "2001:db8::1/128"},
		{`ip<HOST>`, "ip::ffff:192.0.2.1", "192.0.2.1/32"},
		{`from:<HOST>`, "from:192.0.2.1", "192.0.2.1/32"},
		{`source:<HOST>`, "source:192.0.2.1", "192.0.2.1/32"},
		{`source:<HOST>`, "source:2001:db8::1", "2001:db8::1/128"},
		// A port is told from a group by its five digits, or by the address being complete.
		{`client <HOST>(?::\d+)?\]`, "[client 2001:db8::1:49152] no", "2001:db8::1/128"},
		{`client <HOST>(?::\d+)?\]`, "[client 2001:db8:1:2:3:4:5:6:8080] no", "2001:db8:1:2:3:4:5:6/128"},
		{`client <HOST>:\d+\]`, "[client 2001:db8::1:8080] no", ""},
		{`client <HOST>:\d+\]`, "[client 192.0.2.1:8080] no", "192.0.2.1/32"},
		// What is greedy before the tag does not eat into the address.
		{`.*<HOST>`, "from 192.0.2.111", "192.0.2.111/32"},
		{`.*<HOST>`, "from 2001:db8::1", "2001:db8::1/128"},
		{`.*<IP6>$`, "from 2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6/128"},
		{`.*<HOST>`, "from 2001:db8::1:2:3:4", "2001:db8::1:2:3:4/128"},
		{`.*<HOST>`, "from ip:2001:db8::1", "2001:db8::1/128"},
		{`.*<HOST>`, "from ip:2001:db8::1:49152", "2001:db8::1/128"},
		{`\S*<HOST>`, "x=2001:db8::1", "2001:db8::1/128"},
		{`.*<HOST>`, "from 2001:db8::192.0.2.1", "2001:db8::c000:201/128"},
		{`.*<HOST>`, "from ::ffff:192.0.2.1", "192.0.2.1/32"},
		{`.*<IP4>`, "from ::ffff:192.0.2.1", "192.0.2.1/32"},
		{`.*<HOST>`, "from 1:0::", "1::/128"},
		{`(?:\S*:<IP6>|\S*<SUBNET>)$`, "2001:db8::1", "2001:db8::1/128"},
		{`(?:\S*<IP4>)$`, "::ffff:192.0.2.1", "192.0.2.1/32"},
		// No address, and no fragment of one.
		{`ab:<HOST>|by <HOST>`, "ab:cd::1 by 192.0.2.1", ""},
		{`ab:<HOST>|<HOST> b`, "ab:cd::1 b", "ab:cd::1/128"},
		{`.*<HOST>`, "2001:db8::224.0.0.1:x::1", ""},
		{`from :0:<HOST>`, "from :0:0:0:0:0:0:0.0.0.1", ""},
		{`from <HOST>`, "from 999.1.1.1", ""},
		{`from <HOST>`, "from 192.0.2.1.5", ""},
		{`from <HOST>`, "from 192.0.2.1234", ""},
		{`from <HOST>\d`, "from 192.0.2.123", ""},
		{`from <HOST>\.\d`, "from 192.0.2.1.5", ""},
		{`from \d\.<HOST>`, "from 1.192.0.2.1", ""},
		{`from \d*<HOST>`, "from 1192.0.2.1", ""},
		{`from <HOST>`, "from 192.0.2.1.example.org", ""},
		{`from <HOST>`, "from 192.0.2.1-dsl.example.org", ""},
		{`from <HOST>`, "from 192.0.2.1_a", ""},
		{`from <HOST>`, "from 192.0.2.010", ""},
		{`from <HOST>`, "from 010.192.0.2", ""},
		{`from <HOST>`, "from 192.0.2", ""},
		{`from <HOST>`, "from 2001:db8::1::2", ""},
		{`from <HOST>`, "from 2001:db8:::1", ""},
		{`from <HOST>`, "from 1:2:3:4:5:6:7:8:9:a", ""},
		{`from 1:<HOST>`, "from 1:2:3:4:5:6:7:8:9", ""},
		{`:<HOST>`, "from 2001:db8::192.0.2.1", ""},
		{`from <HOST>`, "from 12:30:45", ""},
		{`from <HOST>`, "from std::string", ""},
		{`from <HOST>`, "from dead::beefs", ""},
		{`at .*?<HOST>`, "at 12:30:45 a::z from 192.0.2.1", "192.0.2.1/32"},
		{`from <HOST>`, "from 0.0.0.0", ""},
		{`from <HOST>`, "from ::", ""},
		{`from <HOST>`, "from 224.0.0.1", ""},
		{`from <HOST>`, "from ff02::1", ""},
		{`from <HOST>`, "from 255.255.255.255", ""},
		{`from <HOST>`, "from ::ffff:0.0.0.0", ""},
		// Families and prefixes.
		{`from <IP4>`, "from 192.0.2.1", "192.0.2.1/32"},
		{`from <IP4>`, "from ::ffff:192.0.2.1", "192.0.2.1/32"},
		{`from <IP4>`, "from 2001:db8::1", ""},
		{`from <IP6>`, "from 192.0.2.1", ""},
		{`from <IP6>`, "from 2001:db8::1", "2001:db8::1/128"},
		{`from <IP6>`, "from ::ffff:192.0.2.1", ""},
		{`net <SUBNET>`, "net 192.0.2.77/24", "192.0.2.0/24"},
		{`net <CIDR>`, "net 192.0.2.77", "192.0.2.77/32"},
		{`net <SUBNET>`, "net [2001:db8::1/32]", "2001:db8::/32"},
		{`net <SUBNET>`, "net ::ffff:192.0.2.77/120", "192.0.2.0/24"},
		{`net <SUBNET>`, "net 192.0.2.77/0", ""},
		{`net <SUBNET>`, "net ::ffff:192.0.2.77/96", ""},
		{`net <SUBNET>`, "net ::ffff:192.0.2.77/90", ""},
		{`net <SUBNET>`, "net 192.0.2.77/33", ""},
		{`net <SUBNET>`, "net 192.0.2.77/024", ""},
		{`net <SUBNET>/2`, "net 192.0.2.77/24", ""},
		{`net <SUBNET>/24`, "net 192.0.2.77/24", ""},
		{`from <HOST>`, "from 192.0.2.1/443", "192.0.2.1/32"},
		// Each branch has its tag.
		{`(?:from|by) <HOST>|peer=<IP6>`, "peer=2001:db8::1", "2001:db8::1/128"},
		{`(?:from|by) <HOST>|peer=<IP6>`, "by 192.0.2.1", "192.0.2.1/32"},
		// Flags of the pattern do not reach into the tag.
		{`(?iU)FROM <HOST>`, "from 192.0.2.111", "192.0.2.111/32"},
	}
	for _, tt := range tests {
		f := compile(t, []string{tt.pattern})
		got := ""
		if p := hostIn(t, f, tt.line); p.IsValid() {
			got = p.String()
		}
		if got != tt.host {
			t.Errorf("%s on %q: got %q, want %q", tt.pattern, tt.line, got, tt.host)
		}
	}
}

// FuzzHost puts any text where a host tag is. netip is the judge: an address must be found, whole; and what is found
// must be an address that no longer address around it has inside.
func FuzzHost(f *testing.F) {
	for _, s := range []string{"192.0.2.1", "999.1.1.1", "192.0.2.1.5", "192.0.2.1234", "192.0.2.1.example.org", "2001:db8::1",
		"::ffff:192.0.2.1", "[2001:db8::1]:25", "192.0.2.1:25", "2001:db8::1:49152", "2001:db8:::1", "fe80::1%eth0", "::",
		"1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:192.0.2.1", "::192.0.2.1", "192.0.2.1/24", "a::", "192.0.2.010",
		"1:0::", ":0:0:0:0:0:0:0.0.0.1"} {
		f.Add(s)
	}
	patterns := []string{`from <HOST>`, `from <HOST> `, `from .*<HOST>`, `from .*?<HOST>`, `from \S*<IP6>`, `from \W*<IP4>`,
		`from <SUBNET>`, `from \w*?<HOST>\W`, `from (?:\d+:)?<HOST>(?::\d+)?`}
	var filters []*Filter
	for _, p := range patterns {
		filters = append(filters, compile(f, []string{p}))
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Contains(s, "\n") || len(s) > 200 {
			return
		}
		line := "from " + s + " end"
		for i, filter := range filters {
			e := NewScanner([]Job{{Filter: filter}}).Explain([]byte(line), now)[0]
			kind := filter.fail[0].hosts[0].kind
			if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
				want, why := kind.parse(s)
				switch {
				case e.Hit && (why != "" || e.Match.Host != want):
					t.Errorf("%s on %q: got %v, want %v %v", patterns[i], line, e.Match.Host, want, why)
				case !e.Hit && why == "" && patterns[i] != `from \w*?<HOST>\W`:
					t.Errorf("%s on %q: nothing, want %v: %+v", patterns[i], line, want, e.Patterns)
				}
			}
			if !e.Hit {
				continue
			}
			host, _, _ := strings.Cut(e.Patterns[0].Host, "%")
			host, length, hasLength := strings.Cut(host, "/")
			a, err := netip.ParseAddr(host)
			if err != nil {
				t.Fatalf("%s on %q: %q is no address", patterns[i], line, host)
			}
			a = a.Unmap()
			if !hasLength && e.Match.Host != netip.PrefixFrom(a, a.BitLen()) || a.IsMulticast() || a.IsUnspecified() {
				t.Errorf("%s on %q: %q became %v", patterns[i], line, host, e.Match.Host)
			}
			if hasLength && (e.Match.Host.Bits() == 0 || !e.Match.Host.Contains(a)) {
				t.Errorf("%s on %q: %q/%q became %v", patterns[i], line, host, length, e.Match.Host)
			}
			whole(t, line, host)
		}
	})
}

// whole checks that at least one place where host is in line is not part of a longer address.
func whole(t *testing.T, line, host string) {
	t.Helper()
	inside := func(at int) bool {
		for from := at; from >= max(0, at-50); from-- {
			for to := at + len(host); to <= min(len(line), at+len(host)+50); to++ {
				cut := from > 0 && isWord(line[from-1]) && isWord(line[from]) || to < len(line) && isWord(line[to]) && isWord(line[to-1])
				if to-from > len(host) && !cut {
					if _, err := netip.ParseAddr(line[from:to]); err == nil && !strings.Contains(line[from:to], "%") {
						return true
					}
				}
			}
		}
		return false
	}
	for at := 0; ; at++ {
		n := strings.Index(line[at:], host)
		if n < 0 {
			t.Fatalf("%q in %q is part of a longer address", host, line)
		}
		if at += n; !inside(at) {
			return
		}
	}
}
