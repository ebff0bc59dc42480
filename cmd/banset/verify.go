package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"banset/cmd/internal/control"
	"banset/nft"
	"banset/policy"
	"banset/policy/config"
)

func (a *app) verifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "do daemon, blocklist and kernel say the same",
		Long: `verify compares the three copies of the bans: what the daemon knows (without one: what the blocklist says), the
blocklist, and the kernel, which it asks for every single one. It also checks table, sets, chain and rules. It
changes nothing; the daemon puts right by itself what it sees. The status is 1 when something differs. It needs
the right to read the kernel's tables: root, or CAP_NET_ADMIN.`,
		Example: `  # banset verify
  203.0.113.66: banned until 2026-12-23 18:12:45Z, but not in the kernel
  412 bans compared: 1 difference`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.verify(cmd.Context()) },

		ValidArgsFunction: cobra.NoFileCompletions,
	}
}

// A verifyReport is what verify found.
type verifyReport struct {
	Source  string  `json:"source"` // what the copies are compared with: "daemon" or "blocklist"
	Bans    int     `json:"bans"`
	Differs []drift `json:"differs"`
}

// A drift is one difference between the copies.
type drift struct {
	Host string `json:"host,omitempty"` // none for the table itself
	Text string `json:"text"`
}

func (a *app) verify(ctx context.Context) error {
	c, err := a.loadConfig()
	if err != nil {
		return err
	}
	keeper, err := nft.Open(kernelConfig(c))
	if err != nil {
		return err
	}
	defer keeper.Close()
	// What a daemon is just about to write looks like a difference: one that lasts is none of these.
	const looks, pause = 3, 500 * time.Millisecond
	var r verifyReport
	for look := 1; ; look++ {
		if r, err = a.compare(ctx, c, keeper); err != nil {
			return err
		}
		if len(r.Differs) == 0 || r.Source != "daemon" || look == looks {
			break
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if a.json {
		err = a.printJSON(r)
	} else {
		err = r.writeTo(a.stdout)
	}
	if err == nil && len(r.Differs) > 0 {
		err = errFinding
	}
	return err
}

func (r *verifyReport) writeTo(w io.Writer) error {
	for _, d := range r.Differs {
		text := printable(d.Text)
		if d.Host != "" {
			text = d.Host + ": " + text
		}
		if _, err := fmt.Fprintln(w, text); err != nil {
			return err
		}
	}
	sum := "they all say the same"
	if n := len(r.Differs); n > 0 {
		sum = plural(n, "difference")
	}
	without := ""
	if r.Source != "daemon" {
		without = " (no daemon runs: blocklist and kernel alone)"
	}
	_, err := fmt.Fprintf(w, "%s compared: %s%s\n", plural(r.Bans, "ban"), sum, without)
	return err
}

// compare looks at the copies once.
func (a *app) compare(ctx context.Context, c *config.Config, keeper *nft.Keeper) (verifyReport, error) {
	b, err := a.readBook(c)
	if err != nil {
		return verifyReport{}, err
	}
	r := verifyReport{Source: "daemon", Differs: []drift{}}
	answer, err := control.Call(ctx, c.Socket, control.Request{Op: control.OpList})
	switch {
	case errors.Is(err, control.ErrNoDaemon):
		r.Source = "blocklist"
	case err != nil:
		return r, err
	case answer.Error != "":
		return r, &refusal{answer.Error, answer.Denied}
	default:
		r.compareFile(b, answer.Bans, a.now())
	}
	r.Bans = b.judge.Book().Len()
	report, err := keeper.Check(ctx)
	if err != nil {
		return r, err
	}
	for _, change := range report.Changes {
		r.add("", "the kernel's table: %s", change)
	}
	return r, r.compareKernel(ctx, b, keeper, a.now())
}

func (r *verifyReport) add(host, format string, args ...any) {
	r.Differs = append(r.Differs, drift{host, fmt.Sprintf(format, args...)})
}

// compareFile compares the daemon's bans with the blocklist, and makes b's book the daemon's.
func (r *verifyReport) compareFile(b *book, bans []control.Ban, now time.Time) {
	known := make(map[netip.Prefix]struct{}, len(bans))
	for _, ban := range bans {
		known[ban.Host] = struct{}{}
		want := policy.Ban{Host: ban.Host, At: ban.At.Unix(), Until: policy.Never, Policy: ban.Policy, Failures: ban.Failures}
		if !ban.Until.IsZero() {
			want.Until = ban.Until.Unix()
		}
		e, ok := b.file.Lookup(ban.Host)
		switch {
		case !ok:
			r.add(showHost(ban.Host), "banned %s, but not in the blocklist", ending(ban.Until, now))
		case e.Ban.Until != want.Until:
			r.add(showHost(ban.Host), "banned %s, but in the blocklist (line %d) %s", ending(ban.Until, now), e.Line,
				ending(banned(e.Ban).Until, now))
		}
		b.judge.Take(want)
	}
	var extra []policy.Ban
	for ban := range b.judge.Book().All() {
		if _, ok := known[ban.Host]; !ok {
			extra = append(extra, ban)
		}
	}
	for _, ban := range extra {
		r.add(showHost(ban.Host), "in the blocklist, but the daemon does not know the ban")
		b.judge.Book().Remove(ban.Host)
	}
}

// slack is how far the kernel's time of an end may be from ours: it counts from when it was told, in its own ticks.
const slack = 2 * time.Second

// mostDumped is how many elements of a set are read to find those that nobody knows; the kernel's dump is quadratic.
const mostDumped = 50_000

// compareKernel asks the kernel for each ban, and for what it has besides.
func (r *verifyReport) compareKernel(ctx context.Context, b *book, keeper *nft.Keeper, now time.Time) error {
	want := b.wanted(keeper.Config().IPv6Prefix)
	missing := false
	for _, w := range want {
		e, ok, err := keeper.Get(ctx, w.Set, w.First)
		if errors.Is(err, nft.ErrMissing) {
			missing = true // Check has told
			break
		}
		if err != nil {
			return err
		}
		left := w.ban.Left(now)
		switch {
		case left < slack:
		case !ok:
			r.add(w.host(), "banned %s, but not in the kernel", ending(banned(w.ban).Until, now))
		case e.First != w.First || e.Last != w.Last:
			r.add(w.host(), "the kernel has %s in its place", e)
		case (e.Timeout == 0) != (w.ban.Until == policy.Never):
			r.add(w.host(), "banned %s, but in the kernel %s", ending(banned(w.ban).Until, now), kernelEnd(e, now))
		case e.Timeout > 0 && (e.Expires-left).Abs() > slack:
			r.add(w.host(), "banned %s, but in the kernel %s", ending(banned(w.ban).Until, now), kernelEnd(e, now))
		}
	}
	if missing {
		return nil
	}
	return r.findStrangers(ctx, want, keeper, now)
}

// findStrangers looks for elements that belong to no ban.
func (r *verifyReport) findStrangers(ctx context.Context, want []wanted, keeper *nft.Keeper, now time.Time) error {
	type place struct {
		set   nft.Set
		first netip.Addr
	}
	known := make(map[place]struct{}, len(want))
	for _, w := range want {
		known[place{w.Set, w.First}] = struct{}{}
	}
	for _, set := range nft.Sets {
		n, err := keeper.Count(ctx, set)
		if err != nil {
			return err
		}
		if n > mostDumped {
			r.add("", "set %s has %d elements, too many to read them all: those that belong to no ban are not looked for", set, n)
			continue
		}
		err = keeper.Dump(ctx, set, func(e nft.Element) error {
			if _, ok := known[place{set, e.First}]; !ok && (e.Timeout == 0 || e.Expires > slack) {
				r.add("", "the kernel has %s (%s), but there is no such ban", e, kernelEnd(e, now))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func kernelEnd(e nft.Element, now time.Time) string {
	if e.Timeout == 0 {
		return "forever"
	}
	return "until " + when(now.Add(e.Expires), now)
}

// wanted is an element that ought to be in the kernel, and the ban that it is of.
type wanted struct {
	Set         nft.Set
	First, Last netip.Addr
	ban         policy.Ban
}

func (w *wanted) host() string { return showHost(w.ban.Host) }

// wanted are the elements of all bans.
func (b *book) wanted(ipv6Prefix int) []wanted {
	var all []wanted
	l := b.judge.Book()
	for ban := range l.All() {
		if !l.IsHost(ban.Host) {
			continue
		}
		set := nft.Ban4
		if ban.Host.Addr().Is6() {
			set = nft.Ban6
		}
		all = append(all, wanted{set, ban.Host.Addr(), ban.Host.Addr(), ban})
	}
	for _, x := range b.judge.Ranges() {
		set := nft.Net4
		if x.First.Is6() {
			set = nft.Net6
		}
		all = append(all, wanted{set, x.First, x.Last, x.Ban})
	}
	return all
}
