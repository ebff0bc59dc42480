package main

import (
	"github.com/spf13/cobra"

	"banset/cmd/internal/control"
	"banset/policy"
)

func (a *app) banCommand() *cobra.Command {
	var length, reason string
	cmd := &cobra.Command{
		Use:   "ban ADDR… [--for DUR] [--reason TEXT]",
		Short: "ban addresses or prefixes",
		Long: `ban puts addresses and prefixes into kernel and blocklist at once. What is asked for replaces a ban that is there
already. An address that the allowlist (ignoreip) covers is refused. Without a daemon the command does the work itself,
which takes root.`,
		Example: `  $ banset ban 203.0.113.66 --for 30d --reason "scans for open relays"
  203.0.113.66: banned until 2026-12-23 18:12:45Z`,
		Args: atLeast(1, "the address to ban"),
		RunE: func(cmd *cobra.Command, args []string) error {
			hosts, err := parseHosts(args)
			if err != nil {
				return usagef(cmd, "%s", err)
			}
			for i, h := range hosts {
				if h.Bits() == 0 {
					return usagef(cmd, "%s is everybody", args[i])
				}
			}
			req := control.Request{Op: control.OpBan, Hosts: hosts, For: policy.Forever, Reason: reason}
			if cmd.Flags().Changed("for") {
				if req.For, err = policy.ParseDuration(length); err != nil {
					return usagef(cmd, "--for: %s", err)
				}
			}
			answer, err := a.ask(cmd.Context(), req)
			if err != nil {
				return err
			}
			return a.printChanges(answer.Changes, false)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().StringVar(&length, "for", "", "how long, as `DUR`: 90s, 10m, 1h, 1d, 1w, 1mo, 1y or forever (the default)")
	cmd.Flags().StringVar(&reason, "reason", "", "why, as `TEXT` of one line for blocklist and kernel")
	return cmd
}

// printChanges shows what became of the hosts of a ban or unban. Hosts that were refused, and with undoneIsFinding
// those for which there was nothing to do, make it end with status 1.
func (a *app) printChanges(changes []control.Change, undoneIsFinding bool) error {
	var err error
	if a.json {
		err = a.printJSON(changes)
	}
	for _, c := range changes {
		finding := c.Failed || undoneIsFinding && !c.Done
		if !a.json {
			text := showHost(c.Host) + ": " + printable(c.Text)
			if finding {
				a.complain("%s", text)
			} else if serr := a.say("%s", text); err == nil {
				err = serr
			}
		}
		if finding && err == nil {
			err = errFinding
		}
	}
	return err
}
