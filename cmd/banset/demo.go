package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) demoCommand() *cobra.Command {
	var inside bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "see an attack and its ban; needs no root, touches nothing",
		Long: `demo shows banset at work in a few seconds: a password guesser attacks a mail server over real TCP connections, the
real daemon reads the log and bans it in the kernel. All of it happens in private namespaces (network, mounts, and
unless run by root users), which vanish with the demo: this machine's rules, network and files are not touched.`,
		Example: `  $ banset demo
  A mail server, 192.0.2.25, and a password guesser, 203.0.113.66, each in a network namespace of its own.
  …`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if inside {
				return a.demoInside(cmd.Context())
			}
			status, err := inPrivateRoom([]string{"demo", "--inside"}, a.stdout, a.stderr)
			if err != nil {
				return err
			}
			if status != exitFine {
				return exitStatusError(status) // the child has told why
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVar(&inside, "inside", false, "we are in the private namespaces already")
	if err := cmd.Flags().MarkHidden("inside"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

// An exitStatusError passes on the status of a part of this program that ran as a process of its own and has told its
// errors.
type exitStatusError int

func (e exitStatusError) Error() string { return fmt.Sprintf("status %d", int(e)) }
