package main

import (
	"strings"

	"github.com/spf13/cobra"

	"banset/cmd/internal/control"
)

func (a *app) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "make the daemon read its configuration again",
		Long: `reload makes the daemon read its configuration again. A configuration with problems is not taken: they are printed,
the status is 1, and the daemon goes on with the one it has.`,
		Example: `  $ banset reload
  reloaded`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			answer, err := a.ask(cmd.Context(), control.Request{Op: control.OpReload})
			if err != nil {
				return err
			}
			if a.json {
				if err := a.printJSON(answer); err != nil {
					return err
				}
			} else if answer.Problems != "" {
				if err := a.say("%s", printableLines(answer.Problems)); err != nil {
					return err
				}
			} else if err := a.say("%s", printable(answer.Text)); err != nil {
				return err
			}
			if answer.Problems != "" {
				return &findingError{"the configuration has problems; the daemon goes on with the one it has"}
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
}

// printableLines is printable for a text of several lines.
func printableLines(s string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	return strings.Join(lines, "\n")
}
