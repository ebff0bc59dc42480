package main

import (
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"banset/cmd/internal/daemon"
	"banset/cmd/internal/state"
)

func (a *app) restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "restore",
		Short: "put the bans of the blocklist into the kernel, once, without a daemon",
		Long: `restore puts the bans of the blocklist into the kernel, each with the time that is left of it, and ends. It is for the
boot, before the network is up and any daemon runs (banset-restore.service). "banset run" does the same when it
starts. While a daemon runs there is nothing to do. It takes root.`,
		Example: `  # banset restore
  412 bans are in the kernel`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.loadConfig()
			if err != nil {
				return err
			}
			n, err := daemon.Restore(cmd.Context(), c, slog.New(warnings{a}))
			if errors.Is(err, state.ErrInUse) {
				// Not a failure: whoever restarts the ruleset restarts banset-restore.service, too.
				a.complain("nothing to do: a daemon runs, and puts back by itself what the kernel loses")
				return nil
			}
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(struct {
					Bans int `json:"bans"`
				}{n})
			}
			if n == 1 {
				return a.say("1 ban is in the kernel")
			}
			return a.say("%d bans are in the kernel", n)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
}
