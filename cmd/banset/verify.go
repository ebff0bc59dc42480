package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"banset/cmd/internal/control"
	"banset/cmd/internal/daemon"
	"banset/cmd/internal/mirror"
	"banset/nft"
	"banset/policy"
	"banset/policy/config"
	"banset/policy/judge"
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

	unseen []string // sets that were not searched for what no ban has
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
	keeper, err := nft.Open(daemon.KernelConfig(c))
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
	for _, set := range r.unseen {
		a.complain("%s is not searched for elements that no ban has: it is too large to list, and this kernel does not count them", set)
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
	settings, err := daemon.Settings(c)
	if err != nil {
		return verifyReport{}, err
	}
	thrifty()
	r := verifyReport{Source: "daemon", Differs: []drift{}}
	allow := judge.NewAllow(settings.Allow)
	var file mirror.Content // nil: the bans are what it says
	bans := mirror.NewBook(c.IPv6Prefix, allow)
	answer, err := control.CallEach(ctx, c.Socket, control.Request{Op: control.OpList}, func(x control.Ban) {
		ban := policy.Ban{Host: x.Host, At: x.At.Unix(), Until: policy.Never, Policy: x.Policy, Failures: x.Failures}
		if !x.Until.IsZero() {
			ban.Until = x.Until.Unix()
		}
		bans.Take(ban)
	})
	switch {
	case errors.Is(err, control.ErrNoDaemon):
		r.Source = "blocklist"
		b, err := a.readBook(c)
		if err != nil {
			return r, err
		}
		bans = b.judge.Book()
	case err != nil:
		return r, err
	case answer.Error != "":
		return r, &refusal{answer.Error, answer.Denied}
	default:
		var done func() error
		if file, done, err = mirror.ReadContent(c.Blocklist, blocklistOptions(c)); err != nil {
			return r, fmt.Errorf("reading the blocklist: %w", err)
		}
		defer done()
	}
	r.Bans = bans.Len()
	p := a.startProgress(int64(r.Bans), func(n uint64) string { return plural(int(n), "ban") })
	defer p.stop()
	err = mirror.Verify(ctx, keeper, bans, file, allow, a.now(), func(done, _ int) { p.done.Store(int64(done)) }, func(set nft.Set) {
		r.unseen = append(r.unseen, set.String())
	}, func(d mirror.Drift) {
		host := ""
		if d.Host.IsValid() {
			host = showHost(d.Host)
		}
		r.Differs = append(r.Differs, drift{host, d.Text})
	})
	return r, err
}
