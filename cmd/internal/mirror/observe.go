package mirror

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"banset/nft"
	"banset/policy"
	"banset/policy/judge"
	"banset/policy/ledger"
)

// observe answers what somebody else did to our table: changes of elements alone are that person's will; anything
// done to table, sets, chain or rules is an accident, and then the elements of the same transaction are no will
// either.
func (k *Kernel) observe(ctx context.Context, t nft.Transaction) error {
	switch {
	case t.Lost:
		k.Log.Warn("kernel: events were lost; comparing with what stands there")
		k.ask(repair{why: "events were lost", lost: true})
		return nil
	case t.Own:
		return nil
	}
	who := fmt.Sprintf("%s[%d]", printable(t.Program), t.PID)
	structure, anew := "", false
	for _, e := range t.Events {
		switch e.Kind {
		case nft.ElementAdded, nft.ElementDeleted:
		case nft.ChainAdded, nft.ChainDeleted, nft.RuleAdded, nft.RuleDeleted:
			structure = e.Kind.String()
		default:
			structure, anew = e.Kind.String(), true
		}
	}
	if structure != "" {
		k.ask(repair{why: who + ": " + structure, anew: anew})
		return nil
	}
	now := k.Now()
	err := k.Do(ctx, func(j *judge.Judge) {
		for _, e := range last(t.Events) {
			if e.Kind == nft.ElementAdded {
				k.adopt(j, e.Element, now, who)
			} else {
				k.pardon(j, e.Element, now, who)
			}
		}
	})
	if ctx.Err() != nil {
		return nil
	}
	k.Wake()
	return err
}

// last keeps the last event of each element: a delete and an add in one transaction replace it.
func last(events []nft.Event) []nft.Event {
	type key struct {
		set   nft.Set
		first netip.Addr
	}
	at := make(map[key]int, len(events))
	for i, e := range events {
		at[key{e.Element.Set, e.Element.First}] = i
	}
	out := events[:0:0]
	for i, e := range events {
		if at[key{e.Element.Set, e.Element.First}] == i {
			out = append(out, e)
		}
	}
	return out
}

// adopt takes an element that somebody put into the kernel as a ban by hand, with the timeout it came with.
func (k *Kernel) adopt(j *judge.Judge, e nft.Element, now time.Time, who string) {
	b := policy.Ban{At: now.Unix(), Until: policy.Never}
	b.Policy, b.Failures, b.Note = policy.ParseReason(e.Comment)
	b.Note = policy.CleanNote(b.Note)
	if e.Timeout > 0 {
		left := e.Expires
		if left == 0 {
			left = e.Timeout
		}
		if b.Policy != "" {
			// One of ours, of which a crash let nothing else know.
			e.Expires = left
			b = earned(e, netip.Prefix{}, now)
		} else {
			// Round up: a person's ban is not cut short for the sake of whole seconds.
			b.Until = now.Add(left + time.Second - 1).Unix()
		}
	}
	var hosts []netip.Prefix
	switch e.Set {
	case nft.Ban4:
		hosts = []netip.Prefix{netip.PrefixFrom(e.First, 32)}
	case nft.Ban6:
		p := policy.HostPrefix(e.First, k.IPv6Prefix)
		if p.Addr() != e.First {
			// The rule looks up prefixes, so a whole address in ban6 matches nothing: it can only mean itself.
			p = netip.PrefixFrom(e.First, 128)
			k.mu.Lock()
			k.strays = append(k.strays, e)
			k.mu.Unlock()
		}
		hosts = []netip.Prefix{p}
	default:
		hosts = ledger.Prefixes(e.First, e.Last)
		k.mu.Lock()
		k.seenNets = append(k.seenNets, e)
		k.mu.Unlock()
	}
	for _, host := range hosts {
		b.Host = host
		if old, ok := j.Book().Get(host); ok && sameEnd(e, old, now) {
			continue
		}
		outcome, covered, ok := j.Take(b)
		switch {
		case !ok:
			j.Book().Mark(ledger.Kernel, host)
			k.Log.Warn(fmt.Sprintf("[by hand] Not banned %s (%s): the allowlist has %s; taken out of the kernel", Host(host), who, Host(covered)))
		case outcome == ledger.Added:
			k.Log.Info(fmt.Sprintf("[%s] Ban %s %s (%s)", Label(b), Host(host), Until(b), who))
		case outcome == ledger.Moved:
			k.Log.Info(fmt.Sprintf("[%s] Ban %s now %s (%s)", Label(b), Host(host), Until(b), who))
		}
	}
}

// earned is the ban of a host for which a policy put an element into the kernel: it ends with a whole second and is as
// long as its timeout, so this is the very ban that the log's line gives. It is the zero Ban where that can't be told.
func earned(e nft.Element, host netip.Prefix, now time.Time) policy.Ban {
	b := policy.Ban{Host: host}
	if b.Policy, b.Failures, _ = policy.ParseReason(e.Comment); b.Policy == "" || e.Timeout == 0 {
		return policy.Ban{Host: host}
	}
	b.Until = now.Add(e.Expires).Round(time.Second).Unix()
	b.At = b.Until - int64(e.Timeout.Round(time.Second)/time.Second)
	return b
}

// pardon takes an element that somebody deleted as that person's unban. One whose time was over is none.
func (k *Kernel) pardon(j *judge.Judge, e nft.Element, now time.Time, who string) {
	var hosts []netip.Prefix
	switch e.Set {
	case nft.Ban4, nft.Ban6:
		hosts = []netip.Prefix{policy.HostPrefix(e.First, k.IPv6Prefix)}
		if hosts[0].Addr() != e.First {
			return // one that never stood for a ban
		}
	default:
		// A range may be a cut of one prefix: the ban that has it is meant.
		for b := range j.Book().Nets() {
			if b.Host.Contains(e.First) && b.Host.Contains(e.Last) {
				hosts = append(hosts, b.Host)
			}
		}
		k.mu.Lock()
		k.lostNets = append(k.lostNets, e)
		k.mu.Unlock()
	}
	for _, host := range hosts {
		if b, ok := j.Book().Get(host); !ok || b.Left(now) < resolution {
			continue
		}
		b, _ := j.Pardon(host)
		k.Log.Info(fmt.Sprintf("[%s] Unban %s (%s)", Label(b), Host(host), who))
	}
}

// printable is a program's name as the kernel tells it, which the program chose.
func printable(s string) string {
	out := []rune{}
	for _, r := range s {
		if r < ' ' || r > '~' {
			r = '?'
		}
		out = append(out, r)
	}
	if len(out) == 0 {
		return "unknown program"
	}
	return string(out)
}
