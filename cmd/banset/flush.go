package main

import (
	"github.com/spf13/cobra"

	"banset/cmd/internal/control"
)

func (a *app) flushCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "flush",
		Short: "take banset's table, bans and all, out of the kernel",
		Long: `flush takes banset's table with its sets and rules out of the kernel: nobody is kept out any more. The blocklist
keeps the bans, and the next start puts them back. A daemon that runs refuses: it would put its table back at once;
stop it first. To end all bans for good, use "banset unban --all".`,
		Example: `  # banset flush --yes
  table inet banset is gone from the kernel; /var/lib/banset/blocklist keeps its bans for the next start`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !yes && !a.confirm("Take banset's table, and with it all bans, out of the kernel?") {
				return errNotConfirmed
			}
			answer, err := a.ask(cmd.Context(), control.Request{Op: control.OpFlush})
			if err != nil {
				return err
			}
			return a.printText(answer)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// printText shows the answer to a request that is answered in one line.
func (a *app) printText(answer control.Answer) error {
	if a.json {
		return a.printJSON(answer)
	}
	return a.say("%s", printable(answer.Text))
}
