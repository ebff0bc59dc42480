package ledger

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"banset/policy"
)

func ban(host string, until int64) policy.Ban {
	return policy.Ban{Host: netip.MustParsePrefix(host), Until: until}
}

func show(rs []Range) string {
	var b strings.Builder
	for _, r := range rs {
		fmt.Fprintf(&b, "%s-%s %s\n", r.First, r.Last, r.Ban.Host)
	}
	return b.String()
}

func TestRanges(t *testing.T) {
	tests := []struct {
		name  string
		bans  []policy.Ban
		holes []string
		want  string
	}{
		{"none", nil, nil, ""},
		{"one", []policy.Ban{ban("10.0.0.0/8", 5)}, nil, "10.0.0.0-10.255.255.255 10.0.0.0/8\n"},
		{"inner ends earlier", []policy.Ban{ban("10.0.0.0/8", 5), ban("10.1.0.0/16", 4)}, nil,
			"10.0.0.0-10.255.255.255 10.0.0.0/8\n"},
		{"inner ends later", []policy.Ban{ban("10.0.0.0/8", 5), ban("10.1.0.0/16", 6)}, nil,
			"10.0.0.0-10.0.255.255 10.0.0.0/8\n10.1.0.0-10.1.255.255 10.1.0.0/16\n10.2.0.0-10.255.255.255 10.0.0.0/8\n"},
		{"inner at the start, outer forever", []policy.Ban{ban("10.0.0.0/8", policy.Never), ban("10.0.0.0/16", policy.Never)}, nil,
			"10.0.0.0-10.255.255.255 10.0.0.0/8\n"},
		{"the whole space", []policy.Ban{ban("0.0.0.0/1", 5), ban("128.0.0.0/1", 6)}, nil,
			"0.0.0.0-127.255.255.255 0.0.0.0/1\n128.0.0.0-255.255.255.255 128.0.0.0/1\n"},
		{"hole", []policy.Ban{ban("10.0.0.0/30", 5)}, []string{"10.0.0.2/32"},
			"10.0.0.0-10.0.0.1 10.0.0.0/30\n10.0.0.3-10.0.0.3 10.0.0.0/30\n"},
		{"ban inside a hole", []policy.Ban{ban("10.0.0.4/30", 5)}, []string{"10.0.0.0/8"}, ""},
		{"hole of the same size", []policy.Ban{ban("10.0.0.0/8", 5)}, []string{"10.0.0.0/8"}, ""},
		{"top of IPv6", []policy.Ban{ban("ff00::/8", 5), ban("ffff::/16", 9)}, nil,
			"ff00::-fffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff ff00::/8\nffff::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff::/16\n"},
		{"both families", []policy.Ban{ban("255.0.0.0/8", 5), ban("::/8", 5)}, nil,
			"255.0.0.0-255.255.255.255 255.0.0.0/8\n::-ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ::/8\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var holes []netip.Prefix
			for _, h := range tt.holes {
				holes = append(holes, netip.MustParsePrefix(h))
			}
			if got := show(Ranges(tt.bans, holes)); got != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
		})
	}
}

// TestRangesModel compares with the plain rule, address by address, in a /24.
func TestRangesModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	prefix := func() netip.Prefix {
		p, _ := netip.AddrFrom4([4]byte{192, 0, 2, byte(rng.Uint32())}).Prefix(24 + rng.IntN(9))
		return p
	}
	for range 3000 {
		seen := map[netip.Prefix]bool{}
		var bans []policy.Ban
		var holes []netip.Prefix
		for range rng.IntN(12) {
			if p := prefix(); !seen[p] {
				seen[p] = true
				bans = append(bans, policy.Ban{Host: p, Until: int64(1 + rng.IntN(5))})
			}
		}
		for range rng.IntN(3) {
			holes = append(holes, prefix())
		}
		got := make([]int64, 256)
		last := -1
		for _, r := range Ranges(bans, holes) {
			if int(r.First.As4()[3]) <= last {
				t.Fatalf("overlap or disorder in %v of %v", r, bans)
			}
			last = int(r.Last.As4()[3])
			for i := int(r.First.As4()[3]); i <= last; i++ {
				got[i] = r.Ban.Until
			}
		}
		for i := range 256 {
			a := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
			var want int64
			for _, b := range bans {
				if b.Host.Contains(a) {
					want = max(want, b.Until)
				}
			}
			if slices.ContainsFunc(holes, func(p netip.Prefix) bool { return p.Contains(a) }) {
				want = 0
			}
			if got[i] != want {
				t.Fatalf("%s until %d, want %d; bans %v holes %v", a, got[i], want, bans, holes)
			}
		}
	}
}

func TestPrefixes(t *testing.T) {
	for _, tt := range []struct{ first, last, want string }{
		{"10.0.0.0", "10.0.0.0", "[10.0.0.0/32]"},
		{"10.0.0.0", "10.255.255.255", "[10.0.0.0/8]"},
		{"10.0.0.1", "10.0.0.6", "[10.0.0.1/32 10.0.0.2/31 10.0.0.4/31 10.0.0.6/32]"},
		{"0.0.0.0", "255.255.255.255", "[0.0.0.0/0]"},
		{"ffff::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "[ffff::/16]"},
	} {
		if got := fmt.Sprint(Prefixes(netip.MustParseAddr(tt.first), netip.MustParseAddr(tt.last))); got != tt.want {
			t.Errorf("%s-%s: %s, want %s", tt.first, tt.last, got, tt.want)
		}
	}
}
