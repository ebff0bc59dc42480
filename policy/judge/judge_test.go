package judge

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"banset/policy"
	"banset/policy/ledger"
)

var t0 = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func newJudge(policies ...policy.Policy) *Judge {
	return New(Settings{Policies: policies, IPv6Prefix: 64, MaxHosts: 1000, MaxBans: 1000,
		Allow: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:0:1::7/128")}})
}

func hit(name, host string, at time.Time) policy.Hit {
	a := netip.MustParseAddr(host)
	return policy.Hit{Policy: name, Host: netip.PrefixFrom(a, a.BitLen()), Stamp: at, Arrived: at, Live: true}
}

var seed = policy.Policy{Name: "exim2-repeater", MaxRetry: 3, FindTime: time.Hour, BanTime: []time.Duration{time.Hour}}

func TestBanRunsFromTheFailure(t *testing.T) {
	j := newJudge(seed)
	for i := range 3 {
		h := hit("exim2-repeater", "192.0.2.1", t0.Add(time.Duration(i)*time.Minute))
		h.Live, h.Arrived = false, t0.Add(30*time.Minute)
		v := j.Hit("log", h)
		if want := Found; i < 2 && v.Kind != want {
			t.Fatalf("failure %d: %v, want Found", i, v.Kind)
		}
		if i == 2 {
			want := policy.Ban{Host: netip.MustParsePrefix("192.0.2.1/32"), At: t0.Add(2 * time.Minute).Unix(),
				Until: t0.Add(62 * time.Minute).Unix(), Policy: "exim2-repeater", Failures: 3}
			if v.Kind != Banned || v.Ban != want {
				t.Errorf("third failure: %v %+v, want banned as %+v", v.Kind, v.Ban, want)
			}
		}
	}
}

func TestBanThatWouldBeOver(t *testing.T) {
	j := newJudge(seed)
	var v Verdict
	for range 3 {
		h := hit("exim2-repeater", "192.0.2.1", t0)
		h.Live, h.Arrived = false, t0.Add(time.Hour)
		v = j.Hit("log", h)
	}
	if v.Kind != Over || j.Book().Len() != 0 {
		t.Errorf("verdict %v with %d bans, want Over and none", v.Kind, j.Book().Len())
	}
}

func TestAllowlist(t *testing.T) {
	j := newJudge(seed)
	for range 5 {
		if v := j.Hit("log", hit("exim2-repeater", "198.51.100.9", t0)); v.Kind != Allowed {
			t.Fatalf("verdict %v, want Allowed", v.Kind)
		}
	}
	if _, by, ok := j.Take(policy.Ban{Host: netip.MustParsePrefix("198.51.100.9/32"), Until: policy.Never}); ok || by.String() != "198.51.100.0/24" {
		t.Errorf("a person's ban of an allowlisted host: %v by %v, want refused", ok, by)
	}
	// A neighbour in the allowlisted host's /64 is banned around it.
	for range 3 {
		j.Hit("log", hit("exim2-repeater", "2001:db8:0:1::bad", t0))
	}
	got := j.Ranges()
	if len(got) != 2 || got[0].Last.String() != "2001:db8:0:1::6" || got[1].First.String() != "2001:db8:0:1::8" {
		t.Errorf("ranges %v, want the /64 without ::7", got)
	}
	lifted := j.Reconfigure(Settings{Policies: []policy.Policy{seed}, IPv6Prefix: 64, MaxHosts: 1000,
		Allow: []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}})
	if len(lifted) != 1 || j.Book().Len() != 0 {
		t.Errorf("lifted %v, %d left; want the one ban lifted", lifted, j.Book().Len())
	}
}

func TestAllowlistOfOnePolicy(t *testing.T) {
	other := seed
	other.Name = "sshd"
	j := New(Settings{Policies: []policy.Policy{seed, other}, IPv6Prefix: 64, MaxHosts: 1000,
		AllowFor: map[string][]netip.Prefix{seed.Name: {netip.MustParsePrefix("192.0.2.0/24")}}})
	for range 5 {
		if v := j.Hit("log", hit(seed.Name, "192.0.2.1", t0)); v.Kind != Allowed {
			t.Fatalf("verdict %v, want Allowed", v.Kind)
		}
	}
	var v Verdict
	for range 3 {
		v = j.Hit("log", hit(other.Name, "192.0.2.1", t0))
	}
	if v.Kind != Banned || v.Failures != 3 {
		t.Errorf("the other policy: %v after %d failures, want Banned after 3", v.Kind, v.Failures)
	}
}

func TestIPv6CountsPerPrefix(t *testing.T) {
	j := newJudge(seed)
	var v Verdict
	for _, a := range []string{"2001:db8::1", "2001:db8::2", "2001:db8::ffff:3"} {
		v = j.Hit("log", hit("exim2-repeater", a, t0))
	}
	if v.Kind != Banned || v.Ban.Host.String() != "2001:db8::/64" {
		t.Errorf("%v %v, want the /64 banned", v.Kind, v.Ban.Host)
	}
}

func TestLadder(t *testing.T) {
	p := seed
	p.MaxRetry = 1
	p.BanTime = []time.Duration{time.Minute, time.Hour, policy.Forever}
	j := newJudge(p)
	offend := func(at time.Time) Verdict {
		t.Helper()
		j.Book().EndOver(at)
		return j.Hit("log", hit(p.Name, "192.0.2.1", at))
	}
	end := func(v Verdict) time.Duration { return time.Duration(v.Ban.Until-t0.Unix()) * time.Second }
	if v := offend(t0); v.Kind != Banned || v.Offences != 1 || end(v) != time.Minute {
		t.Fatalf("first offence: %+v", v)
	}
	if v := offend(t0.Add(30 * time.Second)); v.Kind != Moved || v.Offences != 1 || end(v) != 90*time.Second {
		t.Errorf("knocking while banned: %+v, want the later end on the same rung", v)
	}
	if v := offend(t0.Add(90 * time.Second)); v.Kind != Banned || v.Offences != 2 || end(v) != 90*time.Second+time.Hour {
		t.Errorf("an offence after the ban's end: %+v, want the second rung", v)
	}
	j.Pardon(netip.MustParsePrefix("192.0.2.1/32"))
	if v := offend(t0.Add(2 * time.Minute)); v.Offences != 1 {
		t.Errorf("after a pardon: offence %d, want 1", v.Offences)
	}
	quiet := t0.Add(minMemory + 24*time.Hour)
	if v := offend(quiet); v.Offences != 1 {
		t.Errorf("after a long quiet time: offence %d, want 1", v.Offences)
	}
	for i := range 3 {
		quiet = quiet.Add(2 * time.Hour)
		if v := offend(quiet); i == 2 && (v.Kind != Again || v.Ban.Until != policy.Never) {
			t.Errorf("banned forever and knocking: %+v", v)
		}
	}
}

func TestTimeRule(t *testing.T) {
	const hour = time.Hour
	type step struct {
		stamp, arrived time.Duration // from t0
		none           bool          // no stamp
		live           bool
		want           time.Duration
	}
	tests := []struct {
		name  string
		steps []step
		skew  time.Duration
	}{
		{"live and right", []step{{stamp: 0, arrived: 3 * time.Second, live: true, want: 0}}, 0},
		{"live without a stamp", []step{{none: true, arrived: 3 * time.Second, live: true, want: 3 * time.Second}}, 0},
		{"a zone off", []step{{stamp: -hour, arrived: time.Second, live: true, want: time.Second}}, hour + time.Second},
		{"the skew puts a backlog right", []step{
			{stamp: -hour, arrived: 0, live: true, want: 0},
			{stamp: -2 * hour, arrived: time.Minute, want: -hour},
		}, hour},
		{"live and right again", []step{
			{stamp: -hour, arrived: 0, live: true, want: 0},
			{stamp: time.Minute, arrived: time.Minute, live: true, want: time.Minute},
			{stamp: -2 * hour, arrived: 2 * time.Minute, want: -2 * hour},
		}, 0},
		{"a backlog from the future counts now", []step{{stamp: hour, arrived: 0, want: 0}}, 0},
		{"a backlog from a day that no zone explains keeps its own time", []step{
			{stamp: 400 * 24 * hour, arrived: 0, want: 400 * 24 * hour},
			{stamp: 401 * 24 * hour, arrived: time.Second, want: 401 * 24 * hour},
			{stamp: time.Minute, arrived: time.Minute, live: true, want: time.Minute},
		}, 0},
		{"a little ahead, live and read again", []step{
			{stamp: 20 * time.Second, arrived: 0, live: true, want: 20 * time.Second},
			{stamp: 20 * time.Second, arrived: 5 * time.Second, want: 20 * time.Second},
		}, 0},
		{"ahead after the skew was put right", []step{
			{stamp: hour, arrived: 0, live: true, want: 0},
			{stamp: hour + 5*time.Second, arrived: time.Second, want: time.Second},
		}, -hour},
		{"a minute is borne", []step{{stamp: -time.Minute, arrived: 0, live: true, want: -time.Minute}}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var c clock
			for i, s := range tt.steps {
				h := policy.Hit{Stamp: t0.Add(s.stamp), Arrived: t0.Add(s.arrived), Live: s.live}
				if s.none {
					h.Stamp = time.Time{}
				}
				if got := c.time(&h).Sub(t0); got != s.want {
					t.Errorf("step %d: %s, want %s", i, got, s.want)
				}
			}
			if c.skew != tt.skew {
				t.Errorf("skew %s, want %s", c.skew, tt.skew)
			}
		})
	}
}

// TestForgetSkews: what was learned of a log's stamps in one zone is of no use in another, also after a restart.
func TestForgetSkews(t *testing.T) {
	j := newJudge(seed)
	h := hit(seed.Name, "192.0.2.1", t0)
	h.Stamp = t0.Add(-5 * time.Hour)
	j.Hit("log", h)
	j.Changed(func(Part, []byte, []byte) {})
	j.ForgetSkews()
	told := false
	j.Changed(func(p Part, key, value []byte) { told = told || p == Skews && string(key) == "log" })
	if !told || j.Skew("log") != 0 {
		t.Errorf("told %v, skew %s", told, j.Skew("log"))
	}
	h.Live, h.Stamp, h.Arrived = false, t0.Add(time.Minute), t0.Add(time.Hour)
	if v := j.Hit("log", h); !v.At.Equal(h.Stamp) {
		t.Errorf("a backlog's line counts at %s, want %s", v.At, h.Stamp)
	}
}

// TestClockBack: failures that were counted by a clock that was ahead don't keep those after it from counting.
func TestClockBack(t *testing.T) {
	j := newJudge(seed)
	for range 2 {
		j.Hit("log", hit(seed.Name, "192.0.2.1", t0.Add(24*365*time.Hour)))
		j.Hit("log", hit(seed.Name, "192.0.2.2", t0.Add(4*time.Minute)))
	}
	for i, want := range []Kind{Found, Found, Banned} {
		if v := j.Hit("log", hit(seed.Name, "192.0.2.1", t0)); v.Kind != want || v.Failures != i+1 {
			t.Errorf("failure %d after the clock was set back: %v, %d failures", i+1, v.Kind, v.Failures)
		}
	}
	// What is a little late is no clock that was set back: nothing is forgotten.
	if v := j.Hit("log", hit(seed.Name, "192.0.2.2", t0)); v.Kind != Banned {
		t.Errorf("the third failure within minutes: %v", v.Kind)
	}
}

// TestClockBehind: a host whose clock is years behind its log bans nobody for failures that are months apart, and
// those who earned it, until the clock is set.
func TestClockBehind(t *testing.T) {
	j := newJudge(seed)
	now := time.Date(1970, 1, 1, 0, 1, 0, 0, time.UTC)
	back := func(host string, at time.Time) Verdict {
		h := hit(seed.Name, host, at)
		h.Live, h.Arrived = false, now
		return j.Hit("log", h)
	}
	for i := range 12 {
		if v := back("192.0.2.1", t0.AddDate(0, i, 0)); v.Kind != Found || v.Failures != 1 {
			t.Errorf("failure of month %d: %v, %d failures", i, v.Kind, v.Failures)
		}
	}
	for i := range 3 {
		if v := back("192.0.2.2", t0.Add(time.Duration(i)*time.Minute)); i == 2 && (v.Kind != Banned || v.Ban.At != t0.Add(2*time.Minute).Unix()) {
			t.Errorf("three within minutes: %+v", v)
		}
	}
	// Those who fail now are banned by the clock as it is.
	for i := range 3 {
		if v := j.Hit("log", hit(seed.Name, "192.0.2.1", now)); (v.Kind == Banned) != (i == 2) {
			t.Errorf("live failure %d: %v", i+1, v.Kind)
		}
	}
	if over := j.Book().EndOver(t0.AddDate(1, 0, 0)); len(over) != 2 {
		t.Errorf("%d bans are over once the clock is set", len(over))
	}
}

func TestPardonForgetsFailures(t *testing.T) {
	j := newJudge(seed)
	j.Hit("log", hit(seed.Name, "192.0.2.1", t0))
	j.Hit("log", hit(seed.Name, "192.0.2.1", t0))
	j.Pardon(netip.MustParsePrefix("192.0.2.1/32"))
	if v := j.Hit("log", hit(seed.Name, "192.0.2.1", t0)); v.Failures != 1 {
		t.Errorf("%d failures after a pardon, want 1", v.Failures)
	}
}

// TestMemory stops a judge in the middle and goes on with another one that loaded what the first one told.
func TestMemory(t *testing.T) {
	p := seed
	p.BanTime = []time.Duration{time.Minute, time.Hour}
	store := map[Part]map[string][]byte{Windows: {}, Ladder: {}, Skews: {}}
	save := func(j *Judge) {
		// As the daemon does: first all of it, then the store.
		type change struct {
			part Part
			k, v []byte
		}
		var changes []change
		j.Changed(func(p Part, k, v []byte) { changes = append(changes, change{p, k, v}) })
		for _, c := range changes {
			if c.v == nil {
				delete(store[c.part], string(c.k))
			} else {
				store[c.part][string(c.k)] = c.v
			}
		}
	}
	restart := func(old *Judge) *Judge {
		t.Helper()
		save(old)
		j := newJudge(p)
		for part, all := range store {
			for k, v := range all {
				if err := j.Load(part, []byte(k), v); err != nil {
					t.Fatal(err)
				}
			}
		}
		j.Loaded()
		return j
	}
	one, other := newJudge(p), newJudge(p)
	hosts := []string{"192.0.2.1", "192.0.2.2", "2001:db8:5::1"}
	for i := range 120 {
		h := hit(p.Name, hosts[i%3], t0.Add(time.Duration(i/3)*40*time.Second))
		h.Arrived = h.Stamp.Add(2 * time.Hour) // a zone off
		one.Book().EndOver(h.Arrived)
		other.Book().EndOver(h.Arrived)
		a, b := one.Hit("log", h), other.Hit("log", h)
		// The book is kept elsewhere: what the first judge says of it may differ.
		if a.Failures != b.Failures || a.Offences != b.Offences || a.At != b.At {
			t.Fatalf("failure %d: %+v after restarts, %+v without", i, b, a)
		}
		if i%3 < 2 {
			continue // several hosts change between two commits
		}
		next := restart(other)
		for b := range other.Book().All() {
			next.Book().Take(b)
		}
		other = next
	}
	if err := other.Load(Ladder, []byte("x"), nil); err == nil {
		t.Error("a ladder key of garbage was taken")
	}
	if err := other.Load(Part("nothing"), nil, nil); err == nil {
		t.Error("a part that does not exist was taken")
	}
}

func TestDroppedPolicy(t *testing.T) {
	j := newJudge(seed)
	if v := j.Hit("log", hit("other", "192.0.2.1", t0)); v.Kind != Dropped {
		t.Errorf("verdict %v of a policy that is not there, want Dropped", v.Kind)
	}
	if _, outcome := j.Book().Enter(policy.Ban{Host: netip.MustParsePrefix("192.0.2.9/32"), Until: policy.Never}); outcome != ledger.Added {
		t.Error("the book is not empty")
	}
}

// A banned host that goes on failing, be it through what was under way, stays the first to be put back.
func TestFailuresOfBannedHostsCountAsActivity(t *testing.T) {
	j := newJudge(seed)
	for i := range 3 {
		j.Hit("log", hit("exim2-repeater", "192.0.2.1", t0.Add(time.Duration(i)*time.Second)))
		j.Hit("log", hit("exim2-repeater", "192.0.2.2", t0.Add(time.Duration(i+10)*time.Second)))
	}
	j.Hit("log", hit("exim2-repeater", "192.0.2.1", t0.Add(time.Minute)))
	if b, _ := j.Book().Told(ledger.Kernel, j.Book().Latest()[0]); b.Host.Addr().String() != "192.0.2.1" {
		t.Errorf("%v comes first, want the host that failed last", b.Host)
	}
}

// TestFloodOfOnePrefix: a million addresses of one /64 are one host, counted and banned once.
func TestFloodOfOnePrefix(t *testing.T) {
	j := newJudge(policy.Policy{Name: "sshd", MaxRetry: 1_000_000, FindTime: time.Hour, BanTime: []time.Duration{time.Hour}})
	base := netip.MustParseAddr("2001:db8:f::").As16()
	var v Verdict
	for i := range 1_000_000 {
		a := base
		binary.BigEndian.PutUint64(a[8:], uint64(i)*0x9e3779b97f4a7c15)
		v = j.Hit("log", policy.Hit{Policy: "sshd", Host: netip.PrefixFrom(netip.AddrFrom16(a), 128), Stamp: t0, Arrived: t0, Live: true})
		if n, _ := j.Hosts(); n > 1 {
			t.Fatalf("%d hosts after %d addresses", n, i+1)
		}
	}
	if v.Kind != Banned || v.Ban.Host.String() != "2001:db8:f::/64" || j.Book().Len() != 1 {
		t.Errorf("%v %v, %d bans; want the /64 banned once", v.Kind, v.Ban.Host, j.Book().Len())
	}
}

// TestFullOfHosts: what is tracked is bounded, the longest quiet host goes, and the loss is told.
func TestFullOfHosts(t *testing.T) {
	p := seed
	j := New(Settings{Policies: []policy.Policy{p}, IPv6Prefix: 64, MaxHosts: 100, MaxBans: 10})
	host := func(i int) string { return netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}).String() }
	for i := range 1000 {
		j.Hit("log", hit(p.Name, host(i), t0.Add(time.Duration(i)*time.Second)))
	}
	if n, lost := j.Hosts(); n != 100 || lost != 900 {
		t.Errorf("%d hosts, %d forgotten; want 100 and 900", n, lost)
	}
	for i := range 1000 {
		for range 3 {
			j.Hit("log", hit(p.Name, host(i), t0.Add(time.Hour)))
		}
	}
	if j.Book().Len() != 10 || j.Book().Evicted() != 990 {
		t.Errorf("%d bans, %d ended early; want 10 and 990", j.Book().Len(), j.Book().Evicted())
	}
	if _, ok := j.Book().Get(netip.PrefixFrom(netip.MustParseAddr(host(999)), 32)); !ok {
		t.Error("the latest ban is not among those that stayed")
	}
}
