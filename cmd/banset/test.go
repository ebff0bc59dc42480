package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"banset/cmd/internal/daemon"
)

func (a *app) testCommand() *cobra.Command {
	var o testOptions
	cmd := &cobra.Command{
		Use:   "test (LINE|FILE|-) | test --summary FILE…",
		Short: "what would be found in a line or log, and why",
		Long: `test runs the daemon's own code over log text and changes nothing. A LINE is explained step by step up to the
verdict. A FILE, or - for standard input, gives a line for each failure found and a sum; with --summary only the
sum and the bans, from any number of files at full speed. Compressed files (gzip, zstd, xz) are read as they are.
All enabled policies are tried whatever their logpath, or only --policy NAME, enabled or not. Bans are those that a
daemon running at the time would have made. The status is 0 when a failure was found, 1 when none was.`,
		Example: `  $ banset test '2016-04-15 00:21:45 login authenticator failed for (User) [122.154.29.30]: 535 Incorrect authentication data'
  [exim2-repeater] a failure of 122.154.29.30
    stamp        "2016-04-15 00:21:45" (iso at the start of the line), read as 2016-04-15 00:21:45Z
    …`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := atLeast(1, "the line or file to test")(cmd, args); err != nil {
				return err
			}
			if !o.summary && len(args) > 1 {
				return usagef(cmd, "%s is one argument too many: put a line in quotes, or give --summary for several files",
					quoted(args[1]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.test(cmd, o, args) },
	}
	cmd.Flags().BoolVar(&o.summary, "summary", false, "read whole files and print sums and bans only")
	cmd.Flags().StringVar(&o.policy, "policy", "", "try only this policy `NAME`, enabled or not")
	cmd.Flags().StringVar(&o.failregex, "failregex", "", "try this `RE` in place of a filter")
	return cmd
}

// testOptions are the flags of test.
type testOptions struct {
	summary           bool
	policy, failregex string
}

func (a *app) test(cmd *cobra.Command, o testOptions, args []string) error {
	c, err := a.loadConfig()
	if err != nil {
		return err
	}
	chosen, err := choosePolicies(c, o.policy, o.failregex)
	if err != nil {
		return usagef(cmd, "%s", err)
	}
	self, err := daemon.OwnAddresses()
	if err != nil {
		return err
	}
	t := newTrial(c, chosen, self)
	if o.summary {
		return a.testSummary(cmd.Context(), t, args)
	}
	arg := args[0]
	if arg == "-" {
		return a.testFile(t, "(standard input)", a.stdin)
	}
	info, err := os.Stat(arg)
	switch {
	case err == nil && info.IsDir():
		return usagef(cmd, "%s is a directory: name the log itself", quoted(arg))
	case err == nil:
		f, err := os.Open(arg)
		if err != nil {
			return fmt.Errorf("opening the log: %w", err)
		}
		defer f.Close()
		return a.testFile(t, arg, f)
	case errors.Is(err, fs.ErrNotExist) && strings.Contains(arg, "/") && !strings.Contains(arg, " "):
		return fmt.Errorf("there is no file %s", quoted(arg)) // no log line has a slash but no space
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("opening the log: %w", err)
	}
	return a.testLine(t, strings.TrimRight(arg, "\r\n"))
}
