package match

import "testing"

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
		{`\S*<HOST>`, "x=2001:db8::1", "2001:db8::1/128"},
		{`.*<HOST>`, "from 2001:db8::192.0.2.1", "2001:db8::c000:201/128"},
		{`.*<HOST>`, "from ::ffff:192.0.2.1", "192.0.2.1/32"},
		{`.*<IP4>`, "from ::ffff:192.0.2.1", "192.0.2.1/32"},
		// No address, and no fragment of one.
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
