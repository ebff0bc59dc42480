package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"banset/cmd/internal/control"
)

func (a *app) listCommand() *cobra.Command {
	var policyName string
	cmd := &cobra.Command{
		Use:   "list [ADDR…]",
		Short: "who is banned, until when and why",
		Long: `list shows the bans, the latest first. With addresses or prefixes it shows the bans that cover them or lie within
them, and ends with status 1 when one of them has none. Without a daemon it reads the blocklist.`,
		Example: `  $ banset list
  HOST           SINCE                 UNTIL                           REASON
  122.154.29.30  2026-11-23 18:12:45Z  2027-11-23 18:12:45Z (in 364d)  exim2-repeater: 10 failures`,
		ValidArgsFunction: a.completeBanned,
		RunE: func(cmd *cobra.Command, args []string) error {
			hosts, err := parseHosts(args)
			if err != nil {
				return usagef(cmd, "%s", err)
			}
			thrifty()
			answer, err := a.ask(cmd.Context(), control.Request{Op: control.OpList})
			if err != nil {
				return err
			}
			return a.printList(answer.Bans, hosts, policyName)
		},
	}
	cmd.Flags().StringVar(&policyName, "policy", "", "only the bans of this policy `NAME`")
	return cmd
}

// latestFirst is the order of bans in a list.
func latestFirst(x, y control.Ban) int { return cmp.Or(y.At.Compare(x.At), x.Host.Compare(y.Host)) }

// printList shows those of bans that hosts and policyName, where given, select. It changes bans.
func (a *app) printList(bans []control.Ban, hosts []netip.Prefix, policyName string) error {
	absent := slices.Clone(hosts)
	shown := bans[:0]
	if bans == nil {
		shown = []control.Ban{} // in JSON a list without bans is one, too
	}
	for _, b := range bans {
		if policyName != "" && b.Policy != policyName {
			continue
		}
		if len(hosts) > 0 && !slices.ContainsFunc(hosts, b.Host.Overlaps) {
			continue
		}
		absent = slices.DeleteFunc(absent, b.Host.Overlaps)
		shown = append(shown, b)
	}
	slices.SortFunc(shown, latestFirst)
	var err error
	switch {
	case a.json:
		err = a.printJSON(shown)
	case len(shown) > 0:
		err = writeBans(a.stdout, shown, a.now())
	case len(hosts) == 0 && policyName != "":
		a.complain("nobody is banned by %s", policyName)
	case len(hosts) == 0:
		a.complain("nobody is banned")
	}
	for _, h := range absent {
		a.complain("%s is not banned%s", showHost(h), byPolicy(policyName))
	}
	if err == nil && len(absent) > 0 {
		err = errFinding
	}
	return err
}

func byPolicy(name string) string {
	if name == "" {
		return ""
	}
	return " by " + name
}

// writeBans prints bans as a table.
func writeBans(w io.Writer, bans []control.Ban, now time.Time) error {
	t := newTable("HOST", "SINCE", "UNTIL", "REASON")
	t.rows = func(yield func([]string) bool) {
		row := make([]string, 4)
		for i := range bans {
			b := &bans[i]
			if row[0], row[1], row[2], row[3] = showHost(b.Host), stamp(b.At), until(b.Until, now), printable(b.Reason); !yield(row) {
				return
			}
		}
	}
	return t.writeTo(w)
}

// completeBanned offers the banned hosts to the shell.
func (a *app) completeBanned(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	silent := *a
	silent.stderr = io.Discard
	answer, err := silent.ask(ctx, control.Request{Op: control.OpList})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	const most = 200 // more than a person looks through
	var hosts []cobra.Completion
	for _, b := range answer.Bans[:min(most, len(answer.Bans))] {
		hosts = append(hosts, cobra.CompletionWithDesc(showHost(b.Host), fmt.Sprintf("%s, %s", printable(b.Reason),
			until(b.Until, a.now()))))
	}
	return hosts, cobra.ShellCompDirectiveNoFileComp
}
