package match

import (
	"bytes"
	"math"
	"net/netip"
	"time"
	"unicode/utf8"

	"banset/policy"
)

// A Scanner runs jobs over the chunks of one log and remembers what the log's time stamps look like. It belongs to
// one goroutine.
type Scanner struct {
	jobs    []Job
	units   []unit
	unitOf  []int // the unit of each job
	finders []finder

	sieve  sieve
	every  bool // some pattern has no literal: each line is a candidate
	walker walker
}

// A unit is a filter with a way to find stamps: jobs that share both share the work.
type unit struct {
	filter *Filter
	finder int
	lits   [][]int // for each failregex, indices of sieve.needles

	// The line at hand.
	done   bool
	hit    hit
	groups []int // memory for those of hit
}

// A hit is what a filter makes of a line.
type hit struct {
	ok      bool
	pattern int
	host    netip.Prefix
	found   found
	ignored int // index of the ignoreregex that dropped it, -1
}

// NewScanner makes a scanner for one log.
func NewScanner(jobs []Job) *Scanner {
	s := &Scanner{jobs: jobs}
	type clock struct {
		date *DatePattern
		zone *time.Location
	}
	type key struct {
		filter *Filter
		finder int
	}
	clocks, keys, literals := map[clock]int{}, map[key]int{}, map[literal]int{}
	for _, j := range jobs {
		c, ok := clocks[clock{j.Date, j.Zone}]
		if !ok {
			c = len(s.finders)
			clocks[clock{j.Date, j.Zone}] = c
			s.finders = append(s.finders, finder{date: j.Date, zone: j.Zone})
		}
		u, ok := keys[key{j.Filter, c}]
		if !ok {
			u = len(s.units)
			keys[key{j.Filter, c}] = u
			s.units = append(s.units, unit{filter: j.Filter, finder: c, lits: s.intern(j.Filter, literals)})
		}
		s.unitOf = append(s.unitOf, u)
	}
	s.sieve.next = make([]int, len(s.sieve.needles))
	return s
}

// intern gives the literals of a filter numbers, the same ones for the same text.
func (s *Scanner) intern(f *Filter, known map[literal]int) [][]int {
	out := make([][]int, len(f.fail))
	for i, p := range f.fail {
		s.every = s.every || len(p.lits) == 0
		for _, l := range p.lits {
			n, ok := known[l]
			if !ok {
				n = len(s.sieve.needles)
				known[l] = n
				s.sieve.needles = append(s.sieve.needles, newNeedle(l))
			}
			out[i] = append(out[i], n)
		}
	}
	return out
}

// Scan looks for failures in lines (whole lines, each ended by '\n', before which '\r' counts for nothing) and calls yield for each: by line, and for one
// line by job. For one job the first failregex that matches counts. now resolves stamps without a year. Scan allocates
// nothing for lines that miss.
func (s *Scanner) Scan(lines []byte, now time.Time, yield func(Match)) {
	s.sieve.begin(lines)
	for pos := 0; pos < len(lines); {
		from, first := pos, s.sieve.first(lines, pos)
		if !s.every {
			if first == len(lines) {
				return
			}
			from = lineAt(lines, pos, first)
			// A literal that spans a line break is in no line; the patterns will say so.
		} else {
			first = pos
		}
		to, end := len(lines), len(lines)
		if n := bytes.IndexByte(lines[first:], '\n'); n >= 0 {
			to, end = first+n, first+n+1
		}
		s.sieve.line(lines, to)
		for to > from && lines[to-1] == '\r' {
			to--
		}
		s.line(lines[from:to], from, now, yield)
		pos = end
	}
}

// line judges one line, which begins at from in its block.
func (s *Scanner) line(line []byte, from int, now time.Time, yield func(Match)) {
	s.begin()
	for j := range s.jobs {
		u := &s.units[s.unitOf[j]]
		if !u.done {
			s.judge(u, line, from, nil)
			u.done = true
		}
		if !u.hit.ok || u.hit.ignored >= 0 {
			continue
		}
		yield(s.match(j, u, line, now))
	}
}

// begin forgets the last line.
func (s *Scanner) begin() {
	for i := range s.finders {
		s.finders[i].seen = false
	}
	for i := range s.units {
		s.units[i].done = false
	}
}

// match makes the Match of a hit.
func (s *Scanner) match(job int, u *unit, line []byte, now time.Time) Match {
	f := &s.finders[u.finder]
	if !f.found {
		f.unstamped++
	}
	return Match{
		Job: job, Pattern: u.hit.pattern, Host: u.hit.host, Stamp: f.time(now), Line: line,
		Fields: u.fields(f.text, s.jobs[job].NoFields),
	}
}

// fields are the named groups of the hit, unless nobody wants them.
func (u *unit) fields(text []byte, unwanted bool) []policy.Field {
	if unwanted {
		return nil
	}
	return u.filter.fail[u.hit.pattern].named(text, u.hit.found)
}

// judge runs a filter on a line, for u.hit. tr is nil but in Explain, where it is told of each step.
func (s *Scanner) judge(u *unit, line []byte, from int, tr *Explanation) {
	u.hit.ok = false
	f := &s.finders[u.finder]
	for i := range u.filter.fail {
		if !s.sieve.has(u.lits[i], from, from+len(line)) {
			tr.missing(i)
			continue
		}
		f.look(line)
		p := &u.filter.fail[i]
		fnd, host, why := p.find(f, &s.walker)
		tr.tried(i, f.text, fnd, host, why)
		if !fnd.ok || why != "" {
			continue
		}
		u.groups = append(u.groups[:0], fnd.groups...) // the walker's are soon another unit's
		fnd.groups = u.groups
		u.hit = hit{ok: true, pattern: i, host: host, found: fnd, ignored: -1}
		for n := range u.filter.ignore {
			if u.filter.ignore[n].matches(f, &s.walker) {
				u.hit.ignored = n
				break
			}
		}
		return
	}
}

// A found is where a pattern matched in a text. groups are regexp's pairs, those of hosts and fields at least; where a
// stand-in took the place of the host (see search), they are mapped back.
type found struct {
	ok     bool
	groups []int
	host   hostGroup
}

// find matches a pattern against a line without its stamp. why says why the text at the host tag is no host.
func (p *pattern) find(f *finder, w *walker) (fnd found, host netip.Prefix, why refusal) {
	if p.program != nil && f.plain {
		switch p.program.walk(f.text, w) {
		case missed:
			return found{}, netip.Prefix{}, ""
		case matched:
			fnd = found{ok: true, groups: w.saves, host: p.hostOf(w.saves)}
			from, to := fnd.groups[2*fnd.host.group], fnd.groups[2*fnd.host.group+1]
			if host, why = fnd.host.kind.parseHost(f.text, from, to); why != fragment || f.text[from-min(from, 1)] != ':' {
				return fnd, host, why
			}
		}
	}
	return p.search(f.text, w)
}

// matches reports whether a pattern matches a line without its stamp, whatever is at its host tags.
func (p *pattern) matches(f *finder, w *walker) bool {
	if p.program != nil && f.plain {
		if v := p.program.walk(f.text, w); v != unsure {
			return v == matched
		}
	}
	return w.regexp(p).Match(f.text)
}

// search is find by regexp.
func (p *pattern) search(text []byte, w *walker) (f found, host netip.Prefix, why refusal) {
	groups := w.regexp(p).FindSubmatchIndex(text)
	if groups == nil {
		return found{}, netip.Prefix{}, ""
	}
	f = found{ok: true, groups: groups, host: p.hostOf(groups)}
	from, to := groups[2*f.host.group], groups[2*f.host.group+1]
	if host, why = f.host.kind.parseHost(text, from, to); why != fragment || text[from-min(from, 1)] != ':' {
		return f, host, why
	}
	// A greedy .* before the tag leaves only the last groups of an IPv6 address to it. Whether the pattern takes the
	// whole address there is found out with a short address in its place, of which no part can be mistaken for one.
	start, standIn := addressStart(text, from), f.host.kind.standIn()
	short := make([]byte, 0, len(text)-(to-start)+len(standIn))
	short = append(append(append(short, text[:start]...), standIn...), text[to:]...)
	groups = w.regexp(p).FindSubmatchIndex(short)
	if groups == nil {
		return f, netip.Prefix{}, fragment
	}
	again := p.hostOf(groups)
	if groups[2*again.group] != start || groups[2*again.group+1] != start+len(standIn) {
		return f, netip.Prefix{}, fragment
	}
	if host, why = again.kind.parseHost(text, start, to); why != "" {
		return f, netip.Prefix{}, why
	}
	for i, g := range groups {
		if g >= start+len(standIn) {
			groups[i] = g - len(standIn) + to - start
		}
	}
	return found{ok: true, groups: groups, host: again}, host, ""
}

// hostOf is the host tag that took part in a match. There is exactly one, Compile saw to it.
func (p *pattern) hostOf(groups []int) hostGroup {
	for _, h := range p.hosts {
		if groups[2*h.group] >= 0 {
			return h
		}
	}
	return hostGroup{}
}

// named are the named groups that matched something.
func (p *pattern) named(text []byte, f found) []policy.Field {
	var out []policy.Field
	for _, g := range p.fields {
		from, to := f.groups[2*g.group], f.groups[2*g.group+1]
		if from < to {
			out = append(out, policy.Field{Name: g.name, Value: cutField(text[from:to])})
		}
	}
	return out
}

// cutField is the text of a field, MaxField bytes at the most.
func cutField(b []byte) string {
	if len(b) > MaxField {
		n := MaxField
		for n > MaxField-utf8.UTFMax && !utf8.RuneStart(b[n]) {
			n--
		}
		b = b[:n]
	}
	return string(b)
}

// FirstStamp is the time of the first line of a log that has one, as the first of jobs reads it, in seconds since the
// epoch; the least number there is if there is none.
func FirstStamp(jobs []Job, lines []byte, now time.Time) int64 {
	if len(jobs) > 0 {
		f := finder{date: jobs[0].Date, zone: jobs[0].Zone}
		for line := range bytes.Lines(lines) {
			f.seen = false
			if f.look(line); f.found {
				return f.time(now).Unix()
			}
		}
	}
	return math.MinInt64
}

// Layout says how the log's time stamps look to a job, "iso at the start of the line" for example, or "" while that is
// not settled.
func (s *Scanner) Layout(job int) string {
	f := &s.finders[s.units[s.unitOf[job]].finder]
	if f.place == placeNone {
		return ""
	}
	return layoutNames[f.layout] + " " + placeNames[f.place]
}

// Unstamped is how many of a job's matches so far had no time stamp that could be read. Jobs that share filter,
// datepattern and zone share the count.
func (s *Scanner) Unstamped(job int) uint64 {
	return s.finders[s.units[s.unitOf[job]].finder].unstamped
}
