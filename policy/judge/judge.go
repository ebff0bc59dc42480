// Package judge turns hits into sentences: the allowlist, the time rule, the count within findtime, the ladder and
// the book of bans, in this order. A person's ban or pardon goes through the same door.
//
// A Judge belongs to one goroutine. It has no clock: now is an argument.
package judge

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"banset/policy"
	"banset/policy/ledger"
	"banset/policy/window"
)

// Settings is what the configuration says.
type Settings struct {
	Policies []policy.Policy // the enabled ones
	Allow    []netip.Prefix  // self already spelled out
	// AllowFor is what single policies overlook besides, by name: their hits count for nothing, but another policy
	// or a person may ban the host.
	AllowFor   map[string][]netip.Prefix
	IPv6Prefix int
	MaxHosts   int
	MaxBans    int
}

// A Kind is what a hit came to.
type Kind int

const (
	Dropped Kind = iota // its policy is gone, or its host can't be banned
	Allowed             // on the allowlist
	Found               // counted
	Again               // earned a ban, but the one that stands ends no earlier
	Over                // earned a ban that would have ended already
	Banned              // banned by this hit
	Moved               // was banned; the end moved by this hit
)

// A Verdict is what the judge says to one hit.
type Verdict struct {
	Kind     Kind
	Policy   string
	Host     netip.Prefix // as it is counted and banned
	At       time.Time    // when the failure happened, by the rules of time
	Failures int          // of the host within findtime, this one included
	Offences int          // for Banned, Moved, Again and Over: the step of the ladder, from 1
	Ban      policy.Ban   // for Banned, Moved and Again: the ban that stands
}

// A Judge is the judgement of one daemon.
type Judge struct {
	set      Settings
	policies map[string]*rule
	allow    Allow
	windows  *window.Book
	ladder   *ladder
	clocks   map[string]*clock
	book     *ledger.Ledger
}

// A rule is a policy in force.
type rule struct {
	*policy.Policy
	id    window.PolicyID
	allow Allow // its own allowlist
}

// New makes a judge with nothing counted and nobody banned.
func New(s Settings) *Judge {
	j := &Judge{windows: window.New(s.MaxHosts), ladder: newLadder(s.MaxHosts), clocks: make(map[string]*clock)}
	j.book = ledger.New(s.MaxBans, j.isHost)
	j.adopt(s)
	return j
}

func (j *Judge) adopt(s Settings) {
	j.set = s
	j.allow = NewAllow(s.Allow)
	j.policies = make(map[string]*rule, len(s.Policies))
	for i := range s.Policies {
		p := &s.Policies[i]
		j.policies[p.Name] = &rule{p, j.windows.Policy(p.Name), NewAllow(s.AllowFor[p.Name])}
	}
}

// Reconfigure takes new settings. Counts of policies that are gone are forgotten; bans stay, but for those of hosts
// that the allowlist now covers, which are lifted and returned.
func (j *Judge) Reconfigure(s Settings) (lifted []policy.Ban) {
	old := j.policies
	j.adopt(s)
	for name := range old {
		if j.policies[name] == nil {
			j.windows.Drop(name)
		}
	}
	for b := range j.book.All() {
		if _, ok := j.allow.Covers(b.Host); ok {
			lifted = append(lifted, b)
		}
	}
	for _, b := range lifted {
		j.book.Remove(b.Host)
	}
	j.book.Reshape()
	return lifted
}

// Book is the book of bans.
func (j *Judge) Book() *ledger.Ledger { return j.book }

// Allow is the allowlist in force.
func (j *Judge) Allow() Allow { return j.allow }

// AllowChanges reports whether new settings have other allowlists than those in force.
func (j *Judge) AllowChanges(s Settings) bool {
	return !slices.Equal(NewAllow(s.Allow), j.allow) ||
		!maps.EqualFunc(s.AllowFor, j.set.AllowFor, func(a, b []netip.Prefix) bool { return slices.Equal(NewAllow(a), NewAllow(b)) })
}

// isHost tells the prefixes that are one element of a hash set: a whole IPv4 address, an IPv6 prefix of the length
// that is counted. One that shares addresses with the allowlist is ranges instead, cut around them.
func (j *Judge) isHost(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() == 32
	}
	return p.Bits() == j.set.IPv6Prefix && !j.allow.Overlaps(p)
}

// Ranges is what the kernel's interval sets ought to hold.
func (j *Judge) Ranges() []ledger.Range {
	var bans []policy.Ban
	for b := range j.book.Nets() {
		bans = append(bans, b)
	}
	if len(bans) == 0 {
		return nil
	}
	return ledger.Ranges(bans, j.allow)
}

// Hit judges one failure found in the log of that name.
func (j *Judge) Hit(log string, h policy.Hit) Verdict {
	c := j.clocks[log]
	if c == nil {
		c = &clock{}
		j.clocks[log] = c
	}
	// The clock learns from every live line, also from those that count for nothing.
	v := Verdict{Policy: h.Policy, Host: h.Host, At: c.time(&h)}
	p := j.policies[h.Policy]
	if p == nil || !h.Host.IsValid() {
		return v
	}
	if _, ok := j.allow.Covers(h.Host); ok {
		v.Kind = Allowed
		return v
	}
	if _, ok := p.allow.Covers(h.Host); ok {
		v.Kind = Allowed
		return v
	}
	v.Host = j.counted(h.Host)
	at := v.At.Unix()
	if h.Live {
		j.forgetFuture(p.id, v.Host, at)
	}
	n, earned := j.windows.Add(p.id, v.Host, at, p.MaxRetry, p.FindTime)
	v.Kind, v.Failures = Found, n
	j.book.Touch(v.Host, at)
	if !earned {
		return v
	}
	length, offences := j.ladder.step(p.Policy, v.Host, at)
	v.Offences = offences
	b := policy.Ban{Host: v.Host, At: at, Until: endOf(at, length), Policy: p.Name, Failures: n}
	if b.Ended(h.Arrived) {
		v.Kind = Over
		return v
	}
	var outcome ledger.Outcome
	v.Ban, outcome = j.book.Enter(b)
	switch outcome {
	case ledger.Added:
		v.Kind = Banned
	case ledger.Moved:
		v.Kind = Moved
	default:
		v.Kind = Again
	}
	return v
}

// counted is the host or prefix that counts for what a line names.
func (j *Judge) counted(host netip.Prefix) netip.Prefix {
	if host.IsSingleIP() {
		return policy.HostPrefix(host.Addr(), j.set.IPv6Prefix)
	}
	if host.Addr().Is6() && host.Bits() > j.set.IPv6Prefix {
		host, _ = host.Addr().Prefix(j.set.IPv6Prefix)
	}
	return host
}

// Together is how many hits at once are best told to Expect.
const Together = 64

// Expect is told of hits just before each is judged: when very many hosts are tracked, all that is known of these is
// then fetched together. It changes no verdict.
func (j *Judge) Expect(hits []policy.Hit) {
	j.windows.Expect(len(hits), func(i int) (window.PolicyID, netip.Prefix) {
		if p := j.policies[hits[i].Policy]; p != nil && hits[i].Host.IsValid() {
			return p.id, j.counted(hits[i].Host)
		}
		return 0, netip.Prefix{}
	})
}

// setBack is how much later than now a failure may have been counted without the clock having been set back since.
const setBack = 5 * time.Minute

// forgetFuture forgets the failures of a host that fails now when they lie in the future, from before the clock was set
// back. The window would take the new ones for older than it is long, and never ban the host again.
func (j *Judge) forgetFuture(id window.PolicyID, host netip.Prefix, now int64) {
	if _, last := j.windows.Count(id, host, now, policy.Forever); last-now > int64(setBack/time.Second) {
		j.windows.Forget(id, host)
	}
}

// Take enters a ban by a person's will, whatever stands in the book. A host that the allowlist covers is refused:
// the entry that covers it is returned, and false.
func (j *Judge) Take(b policy.Ban) (outcome ledger.Outcome, covered netip.Prefix, ok bool) {
	if x, found := j.allow.Covers(b.Host); found {
		return ledger.Unchanged, x, false
	}
	return j.book.Take(b), netip.Prefix{}, true
}

// Pardon lifts a host's ban by a person's will and forgets its failures and its offences. It returns the ban that
// stood.
func (j *Judge) Pardon(host netip.Prefix) (policy.Ban, bool) {
	for name, p := range j.policies {
		j.windows.Forget(p.id, host)
		j.ladder.drop(rungKey{name, host})
	}
	return j.book.Remove(host)
}

// A Standing is where a host stands with one policy.
type Standing struct {
	Policy   *policy.Policy
	Failures int       // within findtime
	Last     time.Time // zero: none
	Offences int
	LastEnd  int64 // of the last ban, seconds since the epoch or Never; 0: none
}

// Standings is where a host stands with every policy that remembers it.
func (j *Judge) Standings(host netip.Prefix, now time.Time) []Standing {
	var all []Standing
	for i := range j.set.Policies {
		p := j.policies[j.set.Policies[i].Name]
		s := Standing{Policy: p.Policy}
		n, last := j.windows.Count(p.id, host, now.Unix(), p.FindTime)
		if s.Failures = n; n > 0 {
			s.Last = time.Unix(last, 0)
		}
		if r, ok := j.ladder.get(rungKey{p.Name, host}); ok {
			s.Offences, s.LastEnd = int(r.offences), r.end
		}
		if s.Failures > 0 || s.Offences > 0 {
			all = append(all, s)
		}
	}
	return all
}

// Hosts is the number of hosts whose failures are remembered; Evicted how many had to be forgotten for want of room.
func (j *Judge) Hosts() (n int, evicted uint64) { return j.windows.Len(), j.windows.Evicted() }

// Skew is how far a log's time stamps were off when last seen live: arrival less stamp.
func (j *Judge) Skew(log string) time.Duration {
	if c := j.clocks[log]; c != nil {
		return c.skew
	}
	return 0
}

// ForgetSkews makes every log's time stamps count as they are until its next live line: the zone changed in which they
// are read.
func (j *Judge) ForgetSkews() {
	for _, c := range j.clocks {
		c.set(0)
	}
}

// Forget drops up to limit hosts that no policy can count any more at now. Call it only when no backlog is being
// read: a backlog's time is not now.
func (j *Judge) Forget(now time.Time, limit int) {
	j.windows.Expire(now.Unix(), limit, func(name string) time.Duration {
		if p := j.policies[name]; p != nil {
			return p.FindTime
		}
		return 0
	})
}
