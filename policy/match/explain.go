package match

import (
	"net/netip"
	"time"
)

// An Explanation tells step by step what a job makes of a line.
type Explanation struct {
	Job    int
	Policy string

	Layout    string    // the layout of the line's time stamp and where it is; "" without one
	StampText string    // the stamp as it stands in the line
	Stamp     time.Time // zero without one
	Text      string    // what the patterns saw: the line without its stamp

	Patterns []PatternTrace // one for each failregex
	Ignored  int            // index of the ignoreregex that dropped the hit, -1 for none
	Hit      bool           // the verdict: the line is a failure of Match.Host
	Match    Match          // as Scan would yield it, if Hit
}

// A PatternTrace tells what became of one failregex.
type PatternTrace struct {
	Pattern  string   // the failregex as it was written
	Literals []string // one of these must be in the line; none: any line is tried
	Found    string   // the one that is; "" if none is, or none is needed
	Outcome  Outcome
	Host     string       // the text at the host tag, if the pattern matched
	Addr     netip.Prefix // what it was read as, if Outcome is Matched
	Why      string       // why it is no host, if Outcome is Refused
}

// An Outcome is what became of one failregex on one line.
type Outcome string

// The outcomes of a failregex.
const (
	NotTried   Outcome = "not tried"   // an earlier one matched
	NoLiteral  Outcome = "no literal"  // none of its required texts is in the line
	NotMatched Outcome = "not matched" // the expression does not match
	Refused    Outcome = "refused"     // it matches, but the text at the host tag is no host
	Matched    Outcome = "matched"
)

// Explain tells for each job what Scan would make of one line (without its '\n'), by the same steps. It moves the
// scanner's memory of the log's time stamps on as Scan would.
func (s *Scanner) Explain(line []byte, now time.Time) []Explanation {
	s.begin()
	s.sieve.all(line)
	// The finder's memory moves on only for lines that Scan would have looked at.
	before := make([]finder, len(s.finders))
	copy(before, s.finders)
	looked := make([]bool, len(s.finders))
	out := make([]Explanation, len(s.jobs))
	for j := range s.jobs {
		u := &s.units[s.unitOf[j]]
		e := &out[j]
		*e = Explanation{Job: j, Policy: s.jobs[j].Policy, Ignored: -1, Patterns: make([]PatternTrace, len(u.filter.fail))}
		for i, p := range u.filter.fail {
			e.Patterns[i] = PatternTrace{Pattern: p.src, Literals: p.literals(), Outcome: NotTried}
			for n, l := range u.lits[i] {
				if s.sieve.next[l] < len(line) {
					e.Patterns[i].Found = p.lits[n].text
					break
				}
			}
		}
		s.judge(u, line, 0, e)
		f := &s.finders[u.finder]
		looked[u.finder] = looked[u.finder] || f.seen
	}
	for j := range s.jobs {
		u, e := &s.units[s.unitOf[j]], &out[j]
		f := &s.finders[u.finder]
		f.look(line)
		e.Text = string(f.text)
		if f.found {
			e.Layout = layoutNames[f.at.layout] + " " + placeNames[f.at.place]
			e.StampText = string(line[f.at.from:f.at.to])
			e.Stamp = f.time(now)
		}
		if u.hit.ok {
			e.Ignored = u.hit.ignored
			e.Hit = u.hit.ignored < 0
		}
		if e.Hit {
			e.Match = s.match(j, u, line, now)
		}
	}
	for i := range s.finders {
		if !looked[i] {
			f, b := &s.finders[i], before[i]
			f.place, f.layout, f.misses = b.place, b.layout, b.misses
		}
	}
	return out
}

// missing notes that a pattern's literals are not there.
func (e *Explanation) missing(i int) {
	if e != nil {
		e.Patterns[i].Outcome = NoLiteral
	}
}

// tried notes what a pattern did.
func (e *Explanation) tried(i int, text []byte, f found, host netip.Prefix, why refusal) {
	if e == nil {
		return
	}
	t := &e.Patterns[i]
	if !f.ok {
		t.Outcome = NotMatched
		return
	}
	t.Host = string(text[f.groups[2*f.host.group]:f.groups[2*f.host.group+1]])
	if why != "" {
		t.Outcome, t.Why = Refused, why.explain(t.Host)
		return
	}
	t.Outcome, t.Addr = Matched, host
}
