package main

import (
	"cmp"
	"encoding/binary"
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

	bans     []policy.Ban         // what Bans will be
	standing map[netip.Prefix]int // the latest of bans for each host
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
	hosts   hostSet
}

type trialBan struct {
	control.Ban
	Ended bool `json:"ended"` // it would be over by now
}

func (s *tally) init(t *trial) {
	s.Policies = make([]policyTally, len(t.policies))
	for i, p := range t.policies {
		s.Policies[i] = policyTally{Name: p.Name, hosts: newHostSet()}
	}
	s.standing = make(map[netip.Prefix]int)
}

// count takes in the verdict on a hit of a job.
func (s *tally) count(job int, v judge.Verdict) {
	p := &s.Policies[job]
	p.Hits++
	if v.Failures <= 1 { // whoever has more is known
		p.hosts.add(v.Host)
	}
	switch v.Kind {
	case judge.Allowed:
		p.Allowed++
	case judge.Banned:
		p.Bans++
		s.standing[v.Host] = len(s.bans)
		s.bans = append(s.bans, v.Ban)
	case judge.Moved:
		s.bans[s.standing[v.Host]] = v.Ban
	}
}

// end closes the sum at now.
func (s *tally) end(now time.Time, took time.Duration) {
	s.Seconds = took.Seconds()
	for i := range s.Policies {
		s.Policies[i].Hosts = s.Policies[i].hosts.len()
	}
	s.standing = nil // it would point to the wrong ones from here on
	slices.SortStableFunc(s.bans, func(a, b policy.Ban) int { return cmp.Compare(a.At, b.At) })
	s.Bans = make([]trialBan, len(s.bans))
	for i, b := range s.bans {
		s.Bans[i] = trialBan{Ban: banned(b), Ended: b.Ended(now)}
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

// A hostSet counts different hosts in little memory.
type hostSet struct {
	v4   map[uint32]struct{}
	v6   map[uint64]struct{} // /64
	more map[netip.Prefix]struct{}
}

func newHostSet() hostSet {
	return hostSet{make(map[uint32]struct{}), make(map[uint64]struct{}), make(map[netip.Prefix]struct{})}
}

func (h *hostSet) add(p netip.Prefix) {
	switch {
	case p.Addr().Is4() && p.Bits() == 32:
		a := p.Addr().As4()
		h.v4[binary.BigEndian.Uint32(a[:])] = struct{}{}
	case p.Addr().Is6() && p.Bits() == 64:
		a := p.Addr().As16()
		h.v6[binary.BigEndian.Uint64(a[:])] = struct{}{}
	default:
		h.more[p] = struct{}{}
	}
}

func (h *hostSet) len() int { return len(h.v4) + len(h.v6) + len(h.more) }
