package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
)

const rootHelp = `banset reads the logs of this host, counts the failures of every remote host, and drops the ones that earned it
in the kernel.`

const rootExample = `  banset demo                             # see an attack and its ban; touches nothing
  banset check                            # is the configuration right, what is watched
  banset test /var/log/exim4/mainlog      # what would be found in a log
  banset list                             # who is banned, until when and why`

// helpTemplate is the help of one command; the root's has the list of commands.
const helpTemplate = `{{with (or .Long .Short)}}{{. | trimTrailingWhitespaces}}{{end}}

Usage:
  {{.UseLine}}
{{- if .HasAvailableSubCommands}}
{{- $cmds := .Commands}}{{range $group := .Groups}}

{{$group.Title}}
{{- range $cmds}}{{if eq .GroupID $group.ID}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{end}}
{{- if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{- if .HasAvailableInheritedFlags}}

Flags of every command:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{- if .HasExample}}

Example:
{{.Example | trimTrailingWhitespaces}}{{end}}
{{- if .HasAvailableSubCommands}}

Exit status: 0 fine, 1 something was found (a problem, an absent ban, drift), 2 wrong usage, 3 it can't be done.
"banset COMMAND --help" tells more; so does banset(8).{{end}}
`

// The groups of the root's help.
const (
	groupLook   = "look"
	groupBan    = "ban"
	groupConfig = "config"
	groupRun    = "run"
	groupOther  = "other"
)

func init() {
	cobra.EnableCommandSorting = false // the order of the help is ours
}

// main builds the commands, runs the one that args name and returns the exit status.
func (a *app) main(args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.Execute()
	a.report(err)
	return status(err)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "banset COMMAND",
		Long:          rootHelp,
		Example:       rootExample,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			text := "there is no command " + quoted(args[0])
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				text += "; did you mean " + strings.Join(near, " or ") + "?"
			}
			return usagef(cmd, "%s", text)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(a.stderr)
			return errors.Join(cmd.Help(), usagef(cmd, "a command is missing"))
		},
		CompletionOptions:          cobra.CompletionOptions{DisableDefaultCmd: true},
		SuggestionsMinimumDistance: 2,
		DisableFlagsInUseLine:      true,
	}
	root.SetHelpTemplate(helpTemplate)
	root.SetHelpCommand(helpCommand(root))
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usagef(cmd, "%s", err) })
	root.PersistentFlags().StringVar(&a.configPath, "config", "", "the configuration `FILE` (default "+
		"/etc/banset/banset.yaml and /etc/banset/conf.d/*.yaml)")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON instead of tables")
	root.AddGroup(
		&cobra.Group{ID: groupLook, Title: "Look:"},
		&cobra.Group{ID: groupBan, Title: "Ban and unban by hand:"},
		&cobra.Group{ID: groupConfig, Title: "Configuration and filters:"},
		&cobra.Group{ID: groupRun, Title: "The daemon:"},
		&cobra.Group{ID: groupOther, Title: "Other:"},
	)
	for _, c := range []struct {
		group string
		cmd   *cobra.Command
	}{
		{groupLook, a.statusCommand()},
		{groupLook, a.listCommand()},
		{groupLook, a.whyCommand()},
		{groupLook, a.verifyCommand()},
		{groupBan, a.banCommand()},
		{groupBan, a.unbanCommand()},
		{groupBan, a.flushCommand()},
		{groupConfig, a.checkCommand()},
		{groupConfig, a.testCommand()},
		{groupConfig, a.reloadCommand()},
		{groupRun, a.runCommand()},
		{groupRun, a.restoreCommand()},
		{groupOther, a.demoCommand()},
		{groupOther, a.completionCommand()},
		{groupOther, a.versionCommand()},
	} {
		c.cmd.GroupID = c.group
		c.cmd.DisableFlagsInUseLine = true
		root.AddCommand(c.cmd)
	}
	return root
}

// helpCommand is `help COMMAND`, which is COMMAND --help.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:    "help [COMMAND]",
		Short:  "help for a command",
		Hidden: true,
		Args:   atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			topic, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usagef(root, "there is no command %s", quoted(args[0]))
			}
			topic.InitDefaultHelpFlag()
			return topic.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			var names []cobra.Completion
			for _, c := range root.Commands() {
				if c.IsAvailableCommand() {
					names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

// atLeast is the check of a command that takes n arguments or more, called what in its errors.
func atLeast(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return usagef(cmd, "%s is missing", what)
		}
		return nil
	}
}

// atMost is the check of a command that takes up to n arguments.
func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return usagef(cmd, "%s is one argument too many", quoted(args[n]))
		}
		return nil
	}
}
