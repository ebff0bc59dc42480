package mirror

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"banset/nft"
	"banset/policy"
	"banset/policy/judge"
)

// When the wall clock moves against the kernel's, every element gets the time that is left by the wall clock, and
// nobody is taken for a person who changed them.
func TestClockSet(t *testing.T) {
	r := newRig(t, "", "198.51.100.7/32")
	for _, host := range []string{"203.0.113.1/32", "2001:db8::/64", "198.51.100.0/24", "2001:db8:1::/48"} {
		r.take(host, 10*time.Hour)
	}
	r.take("203.0.113.2/32", policy.Forever)
	r.settled()
	r.mu.Lock()
	bans := r.judge.Book().Len()
	r.mu.Unlock()
	for _, ahead := range []time.Duration{5 * time.Hour, -20 * time.Hour, 0} {
		r.ahead.Store(int64(ahead))
		r.kernel.ClockSet()
		for _, e := range []struct {
			set  nft.Set
			addr string
		}{
			{nft.Ban4, "203.0.113.1"}, {nft.Ban6, "2001:db8::"}, {nft.Net4, "198.51.100.6"}, {nft.Net4, "198.51.100.8"}, {nft.Net6, "2001:db8:1::1"},
		} {
			r.until(e.addr+" has the end of a clock that is "+ahead.String()+" ahead", func(*judge.Judge) bool {
				element, ok, err := r.keeper.Get(context.Background(), e.set, netip.MustParseAddr(e.addr))
				if err != nil || !ok {
					t.Fatalf("%s: in the kernel: %v, %v", e.addr, ok, err)
				}
				return (element.Expires - (10*time.Hour - ahead)).Abs() < time.Minute
			})
		}
		element, ok, err := r.keeper.Get(context.Background(), nft.Ban4, netip.MustParseAddr("203.0.113.2"))
		if err != nil || !ok || element.Timeout != 0 {
			t.Errorf("the ban that never ends: %+v, %v, %v", element, ok, err)
		}
	}
	r.settled()
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.judge.Book().Len(); n != bans {
		t.Errorf("%d bans, want %d", n, bans)
	}
}
