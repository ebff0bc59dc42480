package config

import (
	"net/netip"
	"time"

	"gopkg.in/yaml.v3"

	"banset/policy/match"
)

// raw is what the files say, file over file, before anything is made of it.
type raw struct {
	blocklist, state, socket      value[string]
	ignoreIP                      value[allow]
	ipv6Prefix, maxBans, maxHosts value[int]
	table, hook                   value[string]
	priority                      value[int]
	direction, verdict, protect   value[string]
	counters                      value[bool]
	metrics                       rawMetrics
	hooks                         map[string]*rawHook
	defaults                      rawLimits
	policies                      map[string]*rawPolicy
	filters                       map[string]*rawFilter
	policiesPos                   Pos // of the first policies map
}

// rawLimits is how strict a policy is.
type rawLimits struct {
	maxRetry value[int]
	findTime value[time.Duration]
	banTime  value[[]time.Duration]
}

func (l *rawLimits) over(other rawLimits) {
	l.maxRetry.over(other.maxRetry)
	l.findTime.over(other.findTime)
	l.banTime.over(other.banTime)
}

type rawPolicy struct {
	pos          Pos
	broken       bool // some problem of it has been reported, so that what it lacks may be meant to be there
	enabled      value[bool]
	filter       value[string]
	fail, ignore value[[]value[string]]
	logPath      value[[]value[string]]
	journal      value[[]string]
	ignoreIP     value[allow]
	limits       rawLimits
	date         value[*match.DatePattern]
	zone         value[*time.Location]
}

// over lays what a later file says over p, key by key. Patterns of the one replace a filter of the other.
func (p *rawPolicy) over(later *rawPolicy) {
	if later.filter.set {
		p.fail, p.ignore = later.fail, later.ignore
	}
	if later.fail.set {
		p.filter = later.filter
	}
	p.broken = p.broken || later.broken
	p.enabled.over(later.enabled)
	p.filter.over(later.filter)
	p.fail.over(later.fail)
	p.ignore.over(later.ignore)
	p.logPath.over(later.logPath)
	p.journal.over(later.journal)
	p.ignoreIP.over(later.ignoreIP)
	p.limits.over(later.limits)
	p.date.over(later.date)
	p.zone.over(later.zone)
}

type rawFilter struct {
	pos          Pos
	broken       bool
	description  value[string]
	fail, ignore value[[]value[string]]
	date         value[*match.DatePattern]
	zone         value[*time.Location]
	samples      value[[]Sample]
}

// over lays what a later file says over f: all of it when it has failregexes of its own, because nothing that was
// written for others can be known to fit them; otherwise key by key.
func (f *rawFilter) over(later *rawFilter) {
	if later.fail.set {
		*f = *later
		return
	}
	f.broken = f.broken || later.broken
	f.description.over(later.description)
	f.ignore.over(later.ignore)
	f.date.over(later.date)
	f.zone.over(later.zone)
	f.samples.over(later.samples)
}

// misplaced are words that have their meaning further down, and the jail's way of saying things.
var misplaced = map[string]string{
	"maxretry": "put it under defaults, or in a policy",
	"findtime": "put it under defaults, or in a policy",
	"bantime":  "put it under defaults, or in a policy",
	"logpath":  "put it in a policy",
	"filter":   "put it in a policy; patterns stand under filters",
	"jails":    "jails are called policies here",
	"jail":     "jails are called policies here",
	"DEFAULT":  "it is called defaults here",
	"hook":     "put it under nftables",
	"priority": "put it under nftables",
	"table":    "put it under nftables",
}

// fail2banWords are words of a fail2ban jail that a policy does not need.
var fail2banWords = map[string]string{
	"action":            "there are no actions: a ban drops everything from the host, in one nftables set",
	"banaction":         "there are no actions: a ban drops everything from the host, in one nftables set",
	"port":              "a ban drops everything from the host, whatever the port",
	"protocol":          "a ban drops everything from the host, whatever the protocol",
	"chain":             "see nftables: hook and priority",
	"backend":           "logpath reads files, journalmatch reads the journal",
	"usedns":            "names are never looked up",
	"ignoreself":        "put the word self into ignoreip",
	"ignorecommand":     "no programs are run: put addresses into ignoreip",
	"bantime.increment": "bantime takes a list for repeat offenders: [10m, 1d, 30d, forever]",
	"maxlines":          "a failure is one line",
	"logencoding":       "lines are taken as bytes, whatever their encoding",
	"datedetector":      "it is called datepattern here",
	"ignoreips":         "did you mean ignoreip?",
}

// readFile reads all of a configuration file into c.
func (r *reader) readFile(n *yaml.Node, c *raw) {
	r.keys(n, "the configuration", misplaced,
		field(r, "blocklist", &c.blocklist, r.path),
		field(r, "state", &c.state, r.path),
		field(r, "socket", &c.socket, r.socket),
		field(r, "ignoreip", &c.ignoreIP, r.ignoreIP),
		field(r, "ipv6_prefix", &c.ipv6Prefix, r.between(1, 128)),
		field(r, "max_bans", &c.maxBans, r.between(1, 1<<24)),
		field(r, "max_hosts", &c.maxHosts, r.between(1, 1<<24)),
		key{name: "nftables", read: func(n *yaml.Node) { r.readNFTables(n, c) }},
		key{name: "metrics", read: func(n *yaml.Node) { r.readMetrics(n, &c.metrics) }},
		key{name: "hooks", read: func(n *yaml.Node) {
			r.named(n, "hooks", "hook", func(name string, key, n *yaml.Node) {
				h := r.readHook(name, key, n)
				switch first, ok := c.hooks[name]; {
				case ok:
					first.over(h)
				case len(c.hooks) == MaxHooks:
					r.fail(r.at(key), "let one program tell the others", "%s is one hook too many: there may be %d", name, MaxHooks)
				default:
					c.hooks[name] = h
				}
			})
		}},
		key{name: "defaults", read: func(n *yaml.Node) { r.keys(n, "defaults", fail2banWords, r.limits(&c.defaults)...) }},
		key{name: "policies", read: func(n *yaml.Node) {
			if c.policiesPos == (Pos{}) {
				c.policiesPos = r.at(n)
			}
			r.named(n, "policies", "policy", func(name string, key, n *yaml.Node) {
				p := r.readPolicy(name, key, n)
				if first, ok := c.policies[name]; ok {
					first.over(p)
				} else {
					c.policies[name] = p
				}
			})
		}},
		r.filters(func(name string, f *rawFilter) {
			if first, ok := c.filters[name]; ok {
				first.over(f)
			} else {
				c.filters[name] = f
			}
		}))
}

// readLibrary reads a file that holds nothing but filters. A name may not come again in another one.
func (r *reader) readLibrary(n *yaml.Node, c *raw) {
	r.keys(n, "a file of filters", nil, r.filters(func(name string, f *rawFilter) {
		if first, ok := c.filters[name]; ok {
			r.fail(f.pos, "rename one of them", "the filter %s is there already: %s:%d", name, printable(first.pos.File),
				first.pos.Line)
			return
		}
		c.filters[name] = f
	}))
}

func (r *reader) filters(take func(name string, f *rawFilter)) key {
	return key{name: "filters", read: func(n *yaml.Node) {
		r.named(n, "filters", "filter", func(name string, key, n *yaml.Node) { take(name, r.readFilter(name, key, n)) })
	}}
}

func (r *reader) readNFTables(n *yaml.Node, c *raw) {
	word := func(allowed ...string) func(*yaml.Node, string) (string, bool) {
		return func(n *yaml.Node, what string) (string, bool) { return r.word(n, what, allowed...) }
	}
	r.keys(n, "nftables", nil,
		field(r, "table", &c.table, r.table),
		field(r, "hook", &c.hook, word("prerouting", "input")),
		field(r, "priority", &c.priority, r.priority),
		field(r, "direction", &c.direction, word("original", "any")),
		field(r, "verdict", &c.verdict, word("drop", "reject")),
		field(r, "counters", &c.counters, r.boolean),
		field(r, "protect", &c.protect, word("none", "owner")),
	)
}

// between makes a reader of whole numbers.
func (r *reader) between(least, most int) func(*yaml.Node, string) (int, bool) {
	return func(n *yaml.Node, what string) (int, bool) { return r.integer(n, what, least, most) }
}

// priorities are nft's words for numbers, of nft(8).
var priorities = map[string]string{
	"raw": "-300", "mangle": "-150", "dstnat": "-100", "filter": "0", "security": "50", "srcnat": "100",
}

func (r *reader) priority(n *yaml.Node, what string) (int, bool) {
	if number, ok := priorities[n.Value]; ok && n.Kind == yaml.ScalarNode {
		r.fail(r.at(n), "write "+number, "%s must be a number, not nft's word %s", what, n.Value)
		return 0, false
	}
	return r.integer(n, what, -400, 400)
}

func (r *reader) limits(l *rawLimits) []key {
	return []key{
		field(r, "maxretry", &l.maxRetry, r.between(1, 10000)),
		field(r, "findtime", &l.findTime, r.duration),
		field(r, "bantime", &l.banTime, r.ladder),
	}
}

func (r *reader) readPolicy(name string, k, n *yaml.Node) *rawPolicy {
	p := &rawPolicy{pos: r.at(k)}
	before := r.errors
	defer func() { p.broken = r.errors > before }()
	r.keys(n, "policy "+name, fail2banWords, append([]key{
		field(r, "enabled", &p.enabled, r.boolean),
		field(r, "filter", &p.filter, r.text),
		field(r, "failregex", &p.fail, r.patterns),
		field(r, "ignoreregex", &p.ignore, r.patterns),
		field(r, "logpath", &p.logPath, func(n *yaml.Node, what string) ([]value[string], bool) {
			return r.texts(n, what, r.logPath)
		}),
		field(r, "journalmatch", &p.journal, r.journal),
		field(r, "ignoreip", &p.ignoreIP, r.ignoreIP),
		field(r, "datepattern", &p.date, r.date),
		field(r, "timezone", &p.zone, r.zone),
	}, r.limits(&p.limits)...)...)
	return p
}

func (r *reader) patterns(n *yaml.Node, what string) ([]value[string], bool) {
	return r.texts(n, what, r.pattern)
}

func (r *reader) readFilter(name string, k, n *yaml.Node) *rawFilter {
	f := &rawFilter{pos: r.at(k)}
	before := r.errors
	defer func() { f.broken = r.errors > before }()
	r.keys(n, "filter "+name, nil,
		field(r, "description", &f.description, r.text),
		field(r, "failregex", &f.fail, r.patterns),
		field(r, "ignoreregex", &f.ignore, r.patterns),
		field(r, "datepattern", &f.date, r.date),
		field(r, "timezone", &f.zone, r.zone),
		field(r, "samples", &f.samples, r.samples),
	)
	return f
}

// samples reads lines and their verdicts.
func (r *reader) samples(n *yaml.Node, what string) ([]Sample, bool) {
	if n.Kind != yaml.SequenceNode {
		r.fail(r.at(n), "write - line: '...', and host: below it", "%s must be a list, not %s", what, kind(n))
		return nil, false
	}
	nodes, _ := r.items(n, what)
	if nodes == nil {
		return nil, false
	}
	first := make(map[string]Pos)
	var samples []Sample
	for _, n := range nodes {
		var line value[string]
		var host value[netip.Prefix]
		var stamp value[sampleTime]
		r.keys(n, "a sample", nil,
			field(r, "line", &line, r.pattern),
			field(r, "host", &host, r.sampleHost),
			field(r, "time", &stamp, r.sampleTime))
		switch at, dup := first[line.v]; {
		case n.Kind != yaml.MappingNode || line.bad:
		case !line.set:
			r.fail(r.at(n), "write line: '...'", "the sample has no line")
		case dup:
			r.fail(line.pos, "keep one of them", "this sample is there already, in line %d", at.Line)
		default:
			first[line.v] = line.pos
			if !host.bad && !stamp.bad {
				samples = append(samples, Sample{line.v, host.v, stamp.v.Time, line.pos, stamp.v.noZone})
			}
		}
	}
	return samples, true
}

// sampleHost reads the host that a sample names; the zero prefix for none.
func (r *reader) sampleHost(n *yaml.Node, what string) (netip.Prefix, bool) {
	s, ok := r.text(n, what)
	if !ok || s == "none" {
		return netip.Prefix{}, ok
	}
	p, err := parsePrefix(s)
	if err != nil {
		r.fail(r.at(n), "write the address, or none for a line that must not match", "%s: %s is no address", what, quoted(s))
		return p, false
	}
	return p.Masked(), true
}

// A sampleTime is the time of a sample, in UTC as long as its zone is not known.
type sampleTime struct {
	time.Time
	noZone bool
}

func (r *reader) sampleTime(n *yaml.Node, what string) (sampleTime, bool) {
	s, ok := r.text(n, what)
	if !ok {
		return sampleTime{}, false
	}
	for _, form := range []string{time.RFC3339, "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05 Z07:00"} {
		if t, err := time.Parse(form, s); err == nil && t.Year() >= 1970 {
			return sampleTime{t, false}, true
		}
	}
	for _, form := range []string{"2006-01-02 15:04:05", "2006-01-02T15:04:05"} {
		if t, err := time.Parse(form, s); err == nil && t.Year() >= 1970 {
			return sampleTime{t, true}, true
		}
	}
	r.fail(r.at(n), "write 2026-11-23 18:12:45, or 2026-11-23T18:12:45Z", "%s: %s is no time", what, quoted(s))
	return sampleTime{}, false
}
