package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"banset/cmd/internal/control"
	"banset/policy"
	"banset/policy/match"
)

// A lineVerdict is what one policy makes of a line.
type lineVerdict struct {
	Policy    string           `json:"policy"`
	Hit       bool             `json:"hit"`               // the line is a failure
	Host      string           `json:"host,omitempty"`    // whose
	Counted   string           `json:"counted,omitempty"` // the host or prefix that is counted and banned
	Allowed   string           `json:"allowed,omitempty"` // the allowlist entry that covers it
	Layout    string           `json:"layout,omitempty"`  // of the time stamp
	StampText string           `json:"stamp_text,omitempty"`
	Stamp     time.Time        `json:"stamp,omitzero"`
	Text      string           `json:"text"` // what the patterns saw
	Failregex []patternVerdict `json:"failregex"`
	Ignored   int              `json:"ignored,omitempty"` // the ignoreregex that dropped the line, from 1
	Fields    []control.Field  `json:"fields,omitempty"`
	limits    *policy.Policy
}

// A patternVerdict is what one failregex makes of a line.
type patternVerdict struct {
	Pattern string `json:"pattern"`
	Outcome string `json:"outcome"`
	Story   string `json:"story"` // the same in words
}

// testLine explains what each policy makes of one line.
func (a *app) testLine(t *trial, line string) error {
	now := a.now()
	var all []lineVerdict
	hits := 0
	for _, e := range match.NewScanner(t.jobs).Explain([]byte(line), now) {
		v := verdictOf(e)
		v.limits = &t.policies[e.Job].Policy
		if e.Hit {
			hits++
			if p, ok := t.covers(e.Job, e.Match.Host); ok {
				v.Allowed = showHost(p)
			}
			v.Counted = showHost(t.hit(e.Job, e.Match.Host, e.Match.Stamp, now).Host)
		}
		all = append(all, v)
	}
	if a.json {
		if err := a.printJSON(all); err != nil {
			return err
		}
	} else if err := writeVerdicts(a.stdout, all, now); err != nil {
		return err
	}
	if hits == 0 {
		return errFinding
	}
	return nil
}

func verdictOf(e match.Explanation) lineVerdict {
	v := lineVerdict{
		Policy: e.Policy, Hit: e.Hit, Layout: e.Layout, StampText: e.StampText, Stamp: e.Stamp, Text: e.Text,
		Ignored: e.Ignored + 1,
	}
	if e.Hit {
		v.Host = showHost(e.Match.Host)
	}
	for _, p := range e.Patterns {
		v.Failregex = append(v.Failregex, patternVerdict{p.Pattern, string(p.Outcome), patternStory(p)})
	}
	for _, f := range e.Match.Fields {
		v.Fields = append(v.Fields, control.Field(f))
	}
	return v
}

// writeVerdicts explains the policies that looked at the line closely, and names the others. A single one is always
// explained.
func writeVerdicts(w io.Writer, all []lineVerdict, now time.Time) error {
	var b strings.Builder
	var others []string
	for _, v := range all {
		if len(all) > 1 && !v.Hit && v.untried() {
			others = append(others, v.Policy)
			continue
		}
		writeVerdict(&b, v, now)
	}
	if len(others) > 0 {
		fmt.Fprintf(&b, "no failure for %s: none of the texts that their patterns need is in the line\n",
			strings.Join(others, ", "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// untried reports whether every failregex was left out for want of its literal text.
func (v *lineVerdict) untried() bool {
	for _, p := range v.Failregex {
		if p.Outcome != string(match.NoLiteral) {
			return false
		}
	}
	return true
}

func writeVerdict(b *strings.Builder, v lineVerdict, now time.Time) {
	switch {
	case v.Hit && v.Allowed != "":
		fmt.Fprintf(b, "[%s] a failure of %s, which is never banned\n", v.Policy, v.Host)
	case v.Hit:
		fmt.Fprintf(b, "[%s] a failure of %s\n", v.Policy, v.Host)
	default:
		fmt.Fprintf(b, "[%s] no failure\n", v.Policy)
	}
	step := func(name, format string, args ...any) {
		fmt.Fprintf(b, "  %-11s  %s\n", name, fmt.Sprintf(format, args...))
	}
	if v.Stamp.IsZero() {
		step("stamp", "none that can be read: the line counts when it arrives")
	} else {
		step("stamp", `"%s" (%s), read as %s`, escaped(v.StampText), v.Layout, stamp(v.Stamp))
	}
	step("text", `"%s"`, escaped(v.Text))
	untried := 0
	for i, p := range v.Failregex {
		if p.Outcome == string(match.NotTried) {
			untried++
			continue
		}
		step(numbered("failregex", i, len(v.Failregex)), "%s", printable(p.Pattern))
		step("", "%s", p.Story)
	}
	if untried > 0 {
		step("", "%s after it not tried", plural(untried, "failregex"))
	}
	for _, f := range v.Fields {
		step("field", `%s="%s"`, f.Name, escaped(f.Value))
	}
	switch {
	case v.Ignored > 0:
		step("ignoreregex", "number %d matches too: the line is dropped", v.Ignored)
	case !v.Hit:
		return
	default:
		step("ignoreregex", "none matches")
	}
	if !v.Hit {
		return
	}
	if v.Allowed != "" {
		step("allowlist", "%s covers the host: nothing is counted", v.Allowed)
		return
	}
	step("allowlist", "does not cover the host")
	if v.Counted != v.Host {
		step("host", "counted and banned as %s", v.Counted)
	}
	after, length := limits(v.limits)
	if v.limits.MaxRetry == 1 {
		step("counting", "each earns a ban of %s", length)
	} else {
		step("counting", "one of %s that earn a ban of %s", after, length)
	}
	if left := v.limits.LongestBan(); left != policy.Forever && !v.Stamp.IsZero() && v.Stamp.Add(left).Before(now) {
		step("", "too long ago: read from a backlog today, no ban from then would still hold")
	}
}

// numbered tells several of a kind apart.
func numbered(name string, i, n int) string {
	if n == 1 {
		return name
	}
	return fmt.Sprintf("%s %d", name, i+1)
}

// patternStory is what became of one failregex, in words.
func patternStory(p match.PatternTrace) string {
	var need string
	switch {
	case p.Found != "":
		need = fmt.Sprintf(`"%s" is there; `, printable(p.Found))
	case len(p.Literals) == 0:
		need = "needs no certain text; "
	}
	switch p.Outcome {
	case match.NoLiteral:
		quoted := make([]string, len(p.Literals))
		for i, l := range p.Literals {
			quoted[i] = `"` + printable(l) + `"`
		}
		return "not tried: " + strings.Join(quoted, " or ") + " is not in the line"
	case match.NotTried:
		return "not tried: an earlier one matched"
	case match.NotMatched:
		return need + "does not match"
	case match.Refused:
		return need + fmt.Sprintf(`matches, but "%s" is no host: %s`, escaped(p.Host), printable(p.Why))
	case match.Matched:
		return need + "matches; the host is " + showHost(p.Addr)
	}
	return need + string(p.Outcome)
}
