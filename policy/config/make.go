package config

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"banset/policy"
	"banset/policy/match"
)

// conntrack is the priority at which connection tracking sees a packet that comes in, of the kernel's
// NF_IP_PRI_CONNTRACK: before it nobody knows the direction of a connection.
const conntrack = -200

// A maker makes a Config of what the files say.
type maker struct {
	*list
	*raw
	whole bool // every file could be read, so that what is missing is missing
}

// config makes the configuration and reports what does not fit together. The result is of no use after a problem.
func (m *maker) config() *Config {
	c := &Config{
		Blocklist:  m.blocklist.or(DefaultBlocklist),
		State:      m.state.or(DefaultState),
		Socket:     m.socket.or(DefaultSocket),
		IPv6Prefix: m.ipv6Prefix.or(DefaultIPv6Prefix),
		MaxBans:    m.maxBans.or(DefaultMaxBans),
		MaxHosts:   m.maxHosts.or(DefaultMaxHosts),
		NFTables: NFTables{
			Table:     m.table.or(DefaultTable),
			Hook:      m.hook.or(DefaultHook),
			Priority:  m.priority.or(DefaultPriority),
			Direction: m.direction.or(DefaultDirection),
			Verdict:   m.verdict.or(DefaultVerdict),
			Counters:  m.counters.or(false),
			Protect:   m.protect.or(DefaultProtect),
		},
		Filters: make(map[string]*Filter),
	}
	ignore := m.ignoreIP.or(allow{self: true, prefixes: []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
	}})
	c.IgnoreIP, c.IgnoreSelf = ignore.prefixes, ignore.self
	c.Metrics = m.makeMetrics()
	m.checkPaths(c)
	m.checkHook(c)
	if m.ipv6Prefix.or(64) < 32 {
		m.warn(m.ipv6Prefix.pos, "64 is what one customer has at least, 48 or 56 what many have",
			"ipv6_prefix %d bans many customers of a provider for one of them", c.IPv6Prefix)
	}
	for _, name := range slices.Sorted(maps.Keys(m.filters)) {
		c.Filters[name] = m.makeFilter(name, m.filters[name])
	}
	for _, name := range slices.Sorted(maps.Keys(m.hooks)) {
		c.Hooks = append(c.Hooks, m.makeHook(name, m.hooks[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(m.policies)) {
		c.Policies = append(c.Policies, m.makePolicy(name, m.policies[name], c.Filters))
	}
	return c
}

// checkPaths holds that no two files are one.
func (m *maker) checkPaths(c *Config) {
	paths := []struct {
		name, path string
		pos        Pos
	}{{"blocklist", c.Blocklist, m.blocklist.pos}, {"state", c.State, m.state.pos}, {"socket", c.Socket, m.socket.pos}}
	if strings.HasPrefix(c.Metrics.Listen, "/") {
		paths = append(paths, struct {
			name, path string
			pos        Pos
		}{"metrics' listen", c.Metrics.Listen, m.metrics.listen.pos})
	}
	for i, a := range paths {
		for _, b := range paths[:i] {
			if a.path != b.path {
				continue
			}
			if a.pos == (Pos{}) {
				a, b = b, a // the one that was written, not the default
			}
			m.fail(a.pos, "take another path", "%s is the same file as %s", a.name, b.name)
		}
	}
}

// checkHook holds that the direction of a connection is known where the rules look at it.
func (m *maker) checkHook(c *Config) {
	nft := c.NFTables
	if nft.Hook != "prerouting" || nft.Direction != "original" || nft.Priority > conntrack {
		return
	}
	m.fail(m.priority.pos, "write a larger priority, or direction: any",
		"priority %d comes before connection tracking (%d), which direction: original needs", nft.Priority, conntrack)
}

// watched warns of a configuration that does nothing.
func (m *maker) watched(c *Config, files []File) {
	at := Pos{Line: 1, Column: 1}
	if len(files) > 0 {
		at.File = files[0].Name
	}
	if m.policiesPos != (Pos{}) {
		at = m.policiesPos
	}
	switch {
	case len(c.Policies) == 0:
		m.warn(at, "add one under policies: a filter and a logpath", "there is no policy: nothing is watched")
	case !slices.ContainsFunc(c.Policies, func(p *Policy) bool { return p.Enabled }):
		m.warn(at, "write enabled: true in one of them", "no policy is enabled: nothing is watched")
	}
}

// texts are the values of a list.
func texts(vs []value[string]) []string {
	s := make([]string, len(vs))
	for i, v := range vs {
		s[i] = v.v
	}
	return s
}

// compile compiles patterns and reports those that are wrong, each at the character at fault.
func (m *maker) compile(fail, ignore []value[string]) *match.Filter {
	f, errs := match.Compile(texts(fail), texts(ignore))
	for _, e := range errs {
		from, what := fail, "failregex"
		if e.Ignore {
			from, what = ignore, "ignoreregex"
		}
		if e.Index < 0 || e.Index >= len(from) {
			continue
		}
		v := from[e.Index]
		at := v.pos
		if e.Offset >= 0 && v.inside != nil {
			at = v.inside(e.Offset)
		}
		m.fail(at, "", "%s: %s", what, e.Msg)
	}
	return f
}

func (m *maker) makeFilter(name string, r *rawFilter) *Filter {
	f := &Filter{
		Name:        name,
		Description: r.description.v,
		Fail:        texts(r.fail.v),
		Ignore:      texts(r.ignore.v),
		Date:        r.date.v,
		Zone:        r.zone.v,
		Samples:     inZone(r.samples.v, r.zone.v),
		Pos:         r.pos,
	}
	for _, v := range r.fail.v {
		f.failPos = append(f.failPos, v.pos)
	}
	if len(r.fail.v)+len(r.ignore.v) > 0 {
		f.Filter = m.compile(r.fail.v, r.ignore.v)
	}
	switch {
	case r.fail.bad:
	case !r.fail.set && m.whole && !r.broken:
		hint := "write failregex: ['...<HOST>...']"
		if other := nearest(name, m.wholeFilters()); other != "" {
			hint = "did you mean filter " + other + "? or " + hint
		}
		m.fail(r.pos, hint, "filter %s has no failregex", name)
	case r.fail.set && len(r.fail.v) == 0:
		m.fail(r.fail.pos, "write failregex: ['...<HOST>...']", "filter %s has an empty failregex", name)
	}
	return f
}

// wholeFilters are the names of filters that have patterns, which a later file may change.
func (m *maker) wholeFilters() []string {
	var names []string
	for name, f := range m.filters {
		if f.fail.set {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// inZone gives samples whose time was written without a zone the one of their filter, or the local one.
func inZone(samples []Sample, zone *time.Location) []Sample {
	if zone == nil {
		zone = time.Local
	}
	for i, s := range samples {
		if s.noZone {
			t := s.Time
			samples[i].Time = time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, zone)
		}
	}
	return samples
}

func (m *maker) makePolicy(name string, r *rawPolicy, filters map[string]*Filter) *Policy {
	p := &Policy{
		Policy: policy.Policy{
			Name:     name,
			MaxRetry: r.limits.maxRetry.or(m.defaults.maxRetry.or(DefaultMaxRetry)),
			FindTime: r.limits.findTime.or(m.defaults.findTime.or(DefaultFindTime)),
			BanTime:  r.limits.banTime.or(m.defaults.banTime.or([]time.Duration{DefaultBanTime})),
		},
		Enabled:      r.enabled.or(true),
		FilterName:   r.filter.v,
		LogPath:      texts(r.logPath.v),
		JournalMatch: r.journal.v,
		IgnoreIP:     r.ignoreIP.v.prefixes,
		IgnoreSelf:   r.ignoreIP.v.self,
		Date:         r.date.v,
		Zone:         r.zone.v,
		Pos:          r.pos,
	}
	m.patternsOf(p, r, filters)
	if r.logPath.set && !r.logPath.bad && len(r.logPath.v) == 0 && !r.journal.set {
		m.fail(r.logPath.pos, "write logpath: /var/log/...", "policy %s has an empty logpath", name)
	}
	if m.whole && !r.broken {
		m.checkWhole(name, r)
	}
	return p
}

// checkWhole reports a policy that lacks what nobody can do without.
func (m *maker) checkWhole(name string, r *rawPolicy) {
	const (
		patterns = "filter: NAME, or failregex: ['...<HOST>...']"
		log      = "logpath: /var/log/..., or journalmatch: _SYSTEMD_UNIT=..."
	)
	match := r.filter.set || r.fail.set
	read := r.logPath.set || r.journal.set
	switch {
	case match && !read:
		m.fail(r.pos, "write "+log, "policy %s has no log to read: neither logpath nor journalmatch", name)
	case read && !match:
		m.fail(r.pos, "write "+patterns, "policy %s has no patterns: neither filter nor failregex", name)
	case !read && !match:
		hint := "write " + patterns + "; and " + log
		if other := m.meant(name); other != "" {
			hint = "did you mean policy " + other + "? or " + hint
		}
		m.fail(r.pos, hint, "policy %s has neither patterns nor a log to read", name)
	}
}

// meant is the policy whose name was perhaps meant by that of one that has nothing: a later file would change it.
func (m *maker) meant(name string) string {
	var others []string
	for other, p := range m.policies {
		if other != name && (p.filter.set || p.fail.set) {
			others = append(others, other)
		}
	}
	slices.Sort(others)
	return nearest(name, others)
}

// patternsOf gives a policy its filter, or its own patterns.
func (m *maker) patternsOf(p *Policy, r *rawPolicy, filters map[string]*Filter) {
	own := r.fail
	if !own.set {
		own = r.ignore
	}
	switch {
	case r.filter.set && own.set:
		what := "failregex"
		if !r.fail.set {
			what = "ignoreregex"
		}
		hint := "keep one of the two"
		if !r.filter.bad {
			hint += "; what shall hold for the filter everywhere goes into filters: " + printable(r.filter.v)
		}
		m.fail(own.pos, hint, "policy %s has both a filter and an own %s", p.Name, what)
	case r.filter.bad:
	case r.fail.bad:
		m.compile(r.fail.v, r.ignore.v) // for the problems of the good ones
	case r.filter.set:
		f, ok := filters[r.filter.v]
		if !ok {
			if m.whole {
				m.fail(r.filter.pos, oneOf(r.filter.v, slices.Sorted(maps.Keys(filters))), "there is no filter %s",
					quoted(r.filter.v))
			}
			return
		}
		p.Filter = f.Filter
		if !r.date.set {
			p.Date = f.Date
		}
		if !r.zone.set {
			p.Zone = f.Zone
		}
	case r.fail.set && len(r.fail.v) == 0:
		m.fail(r.fail.pos, "write failregex: ['...<HOST>...']", "policy %s has an empty failregex", p.Name)
	case r.fail.set:
		p.Filter = m.compile(r.fail.v, r.ignore.v)
	}
}
