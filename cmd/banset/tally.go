package main

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"banset/cmd/internal/control"
	"banset/policy"
	"banset/policy/judge"
)

// A tally is the sum of what was found in logs.
type tally struct {
	Files    []fileTally   `json:"files,omitempty"`
	Lines    uint64        `json:"lines"`
	Bytes    uint64        `json:"bytes"` // of plain text
	Cut      uint64        `json:"cut,omitempty"`
	Seconds  float64       `json:"seconds"` // that it took
	Policies []policyTally `json:"policies"`
	// Bans are all that would have been made, in order of time. One that later failures prolonged is one ban.
	Bans []trialBan `json:"bans"`

	standing map[netip.Prefix]int // the latest of Bans for each host
}

type fileTally struct {
	Name  string `json:"name"`
	Lines uint64 `json:"lines"`
	Bytes uint64 `json:"bytes"`
	Hits  uint64 `json:"hits"`
	Error string `json:"error,omitempty"` // why it could not be read to its end
}

type policyTally struct {
	Name    string `json:"name"`
	Hits    uint64 `json:"hits"`
	Hosts   int    `json:"hosts"`             // different ones
	Allowed uint64 `json:"allowed,omitempty"` // hits of hosts on the allowlist, counted in Hits
	Bans    int    `json:"bans"`              // new ones: a ban that is prolonged is no new one
	hosts   map[netip.Prefix]struct{}
}

type trialBan struct {
	control.Ban
	Ended bool `json:"ended"` // it would be over by now
}

func (s *tally) init(t *trial) {
	s.Policies = make([]policyTally, len(t.policies))
	for i, p := range t.policies {
		s.Policies[i] = policyTally{Name: p.Name, hosts: make(map[netip.Prefix]struct{})}
	}
	s.Bans = []trialBan{}
	s.standing = make(map[netip.Prefix]int)
}

// count takes in the verdict on a hit of a job.
func (s *tally) count(job int, v judge.Verdict) {
	p := &s.Policies[job]
	p.Hits++
	p.hosts[v.Host] = struct{}{}
	switch v.Kind {
	case judge.Allowed:
		p.Allowed++
	case judge.Banned:
		p.Bans++
		s.standing[v.Host] = len(s.Bans)
		s.Bans = append(s.Bans, trialBan{Ban: banned(v.Ban)})
	case judge.Moved:
		s.Bans[s.standing[v.Host]].Ban = banned(v.Ban)
	}
}

// end closes the sum at now.
func (s *tally) end(now time.Time, took time.Duration) {
	s.Seconds = took.Seconds()
	for i := range s.Policies {
		s.Policies[i].Hosts = len(s.Policies[i].hosts)
	}
	s.standing = nil // it would point to the wrong ones from here on
	slices.SortStableFunc(s.Bans, func(a, b trialBan) int { return a.At.Compare(b.At) })
	for i := range s.Bans {
		b := &s.Bans[i]
		b.Ended = !b.Until.IsZero() && !b.Until.After(now)
	}
}

func (s *tally) hits() (n uint64) {
	for _, p := range s.Policies {
		n += p.Hits
	}
	return n
}

// writeTo prints the sum: each policy, and what was read.
func (s *tally) writeTo(w io.Writer) error {
	t := newTable("POLICY", ">HITS", ">HOSTS", ">BANS", ">IN FORCE")
	force := make(map[string]int)
	for _, b := range s.Bans {
		if !b.Ended {
			force[b.Policy]++
		}
	}
	for _, p := range s.Policies {
		t.row(p.Name, fmt.Sprint(p.Hits), fmt.Sprint(p.Hosts), fmt.Sprint(p.Bans), fmt.Sprint(force[p.Name]))
	}
	if err := t.writeTo(w); err != nil {
		return err
	}
	text := fmt.Sprintf("%s, %s", plural(s.Lines, "line"), size(s.Bytes))
	if s.Seconds >= 0.2 { // of less the speed says nothing
		text += fmt.Sprintf(" in %.2f s (%s/s)", s.Seconds, size(uint64(float64(s.Bytes)/s.Seconds)))
	}
	if s.Cut > 0 {
		text += ", " + plural(s.Cut, "line") + " cut at 64 KiB"
	}
	if _, err := fmt.Fprintln(w, text); err != nil {
		return err
	}
	for _, p := range s.Policies {
		if p.Allowed > 0 {
			if _, err := fmt.Fprintf(w, "%s: %s of allowlisted hosts\n", p.Name, plural(p.Allowed, "hit")); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeBans prints the bans, the latest first.
func (s *tally) writeBans(w io.Writer, now time.Time) error {
	if len(s.Bans) == 0 {
		_, err := fmt.Fprintln(w, "nobody would have been banned")
		return err
	}
	t := newTable("HOST", "BANNED", "UNTIL", "REASON")
	for _, b := range slices.Backward(s.Bans) {
		t.row(showHost(b.Host), stamp(b.At), until(b.Until, now), b.Reason)
	}
	return t.writeTo(w)
}

// banned is a ban as people see it.
func banned(b policy.Ban) control.Ban {
	c := control.Ban{Host: b.Host, At: time.Unix(b.At, 0).UTC(), Policy: b.Policy, Failures: b.Failures, Reason: b.Reason()}
	if b.Until != policy.Never {
		c.Until = time.Unix(b.Until, 0).UTC()
	}
	return c
}

// byTime orders hits, for the judge to see them as they happened.
func byTime(a, b summaryHit) int { return cmp.Compare(a.at, b.at) }
