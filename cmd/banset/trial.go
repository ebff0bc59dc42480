package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"banset/policy"
	"banset/policy/config"
	"banset/policy/judge"
	"banset/policy/match"
)

// A trial judges log text by policies of a configuration the way a run would, and changes nothing.
type trial struct {
	policies []*config.Policy
	jobs     []match.Job // of the policies, in the same order
	allow    judge.Allow
	own      []judge.Allow // each policy's own allowlist
	judge    *judge.Judge
}

// newTrial tries these policies of c, whether enabled or not. self are the addresses of this host.
func newTrial(c *config.Config, policies []*config.Policy, self []netip.Prefix) *trial {
	t := &trial{policies: policies, allow: judge.NewAllow(allowed(c.IgnoreIP, c.IgnoreSelf, self))}
	settings := judge.Settings{
		Allow: t.allow, AllowFor: make(map[string][]netip.Prefix),
		IPv6Prefix: c.IPv6Prefix, MaxHosts: c.MaxHosts, MaxBans: c.MaxBans,
	}
	for _, p := range policies {
		t.jobs = append(t.jobs, match.Job{Policy: p.Name, Filter: p.Filter, Date: p.Date, Zone: p.Zone})
		own := judge.NewAllow(allowed(p.IgnoreIP, p.IgnoreSelf, self))
		t.own = append(t.own, own)
		settings.AllowFor[p.Name] = own
		settings.Policies = append(settings.Policies, p.Policy)
	}
	t.judge = judge.New(settings)
	return t
}

func allowed(list []netip.Prefix, withSelf bool, self []netip.Prefix) []netip.Prefix {
	if withSelf {
		return slices.Concat(list, self)
	}
	return list
}

// covers returns the allowlist entry that lets job's policy leave host alone.
func (t *trial) covers(job int, host netip.Prefix) (netip.Prefix, bool) {
	if p, ok := t.allow.Covers(host); ok {
		return p, true
	}
	return t.own[job].Covers(host)
}

// hit judges a failure as if the daemon had run when it happened: bans that were over by then have ended, and the ban
// that it earns is made even if it would be over today. A line without a stamp happened at now.
func (t *trial) hit(job int, host netip.Prefix, stamp, now time.Time) judge.Verdict {
	if stamp.IsZero() || stamp.After(now) {
		stamp = now
	}
	t.judge.Book().EndOver(stamp)
	return t.judge.Hit("", policy.Hit{Policy: t.policies[job].Name, Host: host, Stamp: stamp, Arrived: stamp})
}

// adHoc is the name of the policy that --failregex makes.
const adHoc = "failregex"

// choosePolicies are those that `test` tries: the one called name, enabled or not; else all enabled ones. A failregex
// takes the place of the filter, under the limits of the named policy or of the defaults.
func choosePolicies(c *config.Config, name, failregex string) ([]*config.Policy, error) {
	var chosen []*config.Policy
	for _, p := range c.Policies {
		if p.Name == name || name == "" && p.Enabled {
			chosen = append(chosen, p)
		}
	}
	if name != "" && len(chosen) == 0 {
		var names []string
		for _, p := range c.Policies {
			names = append(names, p.Name)
		}
		return nil, fmt.Errorf("--policy: there is no policy %s; the policies are: %s", quoted(name), strings.Join(names, ", "))
	}
	if failregex == "" {
		if len(chosen) == 0 {
			return nil, fmt.Errorf("no policy is enabled; name one with --policy, or try a --failregex")
		}
		return chosen, nil
	}
	filter, problems := match.Compile([]string{failregex}, nil)
	if len(problems) > 0 {
		p := problems[0]
		if p.Offset >= 0 {
			return nil, fmt.Errorf("--failregex: at character %d: %s", 1+len([]rune(failregex[:p.Offset])), p.Msg)
		}
		return nil, fmt.Errorf("--failregex: %s", p.Msg)
	}
	trial := config.Policy{Policy: policy.Policy{
		Name: adHoc, MaxRetry: config.DefaultMaxRetry, FindTime: config.DefaultFindTime,
		BanTime: []time.Duration{config.DefaultBanTime},
	}, Enabled: true}
	if name != "" {
		trial = *chosen[0]
	}
	trial.Filter = filter
	return []*config.Policy{&trial}, nil
}

// limits says in words when a policy bans and for how long: "10 failures within 1y".
func limits(p *policy.Policy) (after, length string) {
	after = plural(p.MaxRetry, "failure")
	if p.MaxRetry > 1 {
		if p.FindTime == policy.Forever {
			after += " at any time"
		} else {
			after += " within " + policy.FormatDuration(p.FindTime)
		}
	}
	rungs := make([]string, len(p.BanTime))
	for i, d := range p.BanTime {
		rungs[i] = policy.FormatDuration(d)
	}
	return after, strings.Join(rungs, ", ")
}
