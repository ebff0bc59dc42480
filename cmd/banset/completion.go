package main

import (
	"strings"

	"github.com/spf13/cobra"
)

var shells = []string{"bash", "zsh", "fish"}

func (a *app) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "print a script that completes banset's commands in a shell",
		Example: `  $ banset completion bash >/etc/bash_completion.d/banset
  $ banset completion zsh >/usr/share/zsh/vendor-completions/_banset
  $ banset completion fish >/etc/fish/completions/banset.fish`,
		ValidArgs: shells,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := atLeast(1, "the shell ("+strings.Join(shells, ", ")+")")(cmd, args); err != nil {
				return err
			}
			return atMost(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.stdout, true)
			case "zsh":
				return root.GenZshCompletion(a.stdout)
			case "fish":
				return root.GenFishCompletion(a.stdout, true)
			}
			return usagef(cmd, "%s is no shell that is known here: take %s", quoted(args[0]), strings.Join(shells, ", "))
		},
	}
}
