package main

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"banset/cmd/internal/control"
)

func (a *app) unbanCommand() *cobra.Command {
	var all, yes bool
	cmd := &cobra.Command{
		Use:   "unban ADDR…|--all",
		Short: "end the bans of addresses or prefixes, or of everybody",
		Long: `unban takes the bans of exactly these addresses and prefixes out of kernel and blocklist, and forgets the failures
that were counted for them. It ends with status 1 when one of them was not banned. A prefix that covers an address
is another ban: "banset why ADDR" names it.`,
		Example: `  $ banset unban 203.0.113.66
  203.0.113.66: unbanned, and its failures are forgotten`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case all && len(args) > 0:
				return usagef(cmd, "--all and addresses exclude each other")
			case !all && len(args) == 0:
				return usagef(cmd, "the address to unban, or --all, is missing")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			hosts, err := parseHosts(args)
			if err != nil {
				return usagef(cmd, "%s", err)
			}
			if all && !yes && !a.confirm("End all bans?") {
				return errNotConfirmed
			}
			answer, err := a.ask(cmd.Context(), control.Request{Op: control.OpUnban, Hosts: hosts, All: all})
			if err != nil {
				return err
			}
			if all && !a.json {
				text := printable(answer.Text)
				if text == "" {
					text = plural(len(answer.Changes), "ban") + " ended"
				}
				return a.say("%s", text)
			}
			return a.printChanges(answer.Changes, !all)
		},
		ValidArgsFunction: a.completeBanned,
	}
	cmd.Flags().BoolVar(&all, "all", false, "end all bans")
	cmd.Flags().BoolVar(&yes, "yes", false, "with --all: do not ask")
	return cmd
}

// errNotConfirmed ends a command that a person, when asked, did not want after all.
var errNotConfirmed = &findingError{"nothing is changed"}

// confirm asks a yes-or-no question if stdin is a terminal. Anywhere else the answer is yes: a script means what it says.
func (a *app) confirm(question string) bool {
	if !isTerminal(a.stdin) {
		return true
	}
	fmt.Fprintf(a.stderr, "%s [y/N] ", question)
	line, err := bufio.NewReader(a.stdin).ReadString('\n')
	if err != nil {
		return false
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true
	}
	return false
}
