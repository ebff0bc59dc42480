package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"banset/cmd/internal/configfile"
	"banset/cmd/internal/daemon"
	"banset/policy/config"
)

func (a *app) runCommand() *cobra.Command {
	var debug bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "watch the logs and ban, in the foreground",
		Long: `run is the daemon: it puts the bans that it knows into the kernel, then reads the logs and bans. It runs in the
foreground, logs to stderr, and is meant to be started by systemd (banset.service). SIGTERM and SIGINT stop it; the
bans in the kernel stay. SIGHUP makes it read its configuration again, as "banset reload" does.`,
		Example: `  # banset run
  2026-11-23 18:12:45.218 [exim2-repeater] Found 122.154.29.30
  2026-11-23 18:12:45.218 [exim2-repeater] Ban 122.154.29.30 until 2027-11-23 18:12:45Z (10 failures)`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGTERM, unix.SIGINT)
			defer stop()
			return a.run(ctx, debug)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVar(&debug, "debug", false, "log more")
	return cmd
}

// run runs the daemon until ctx ends.
func (a *app) run(ctx context.Context, debug bool) error {
	set, err := configfile.Read(a.configPath)
	if err != nil {
		return err
	}
	if c, problems := set.Load(); c == nil {
		fmt.Fprintln(a.stderr, problems.Format(append(set.Library, set.Files...)...))
		return &findingError{"the configuration has " + plural(countSerious(problems), "problem") + ": nothing is started"}
	}
	// journald may go away and take the other end of stderr with it: the runtime would end the program with the next line
	// of its log, and systemd takes that for a wanted end.
	signal.Ignore(unix.SIGPIPE)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, unix.SIGHUP)
	defer signal.Stop(hup)
	reload := make(chan struct{}, 1)
	var forward sync.WaitGroup
	forward.Go(func() {
		for range hup {
			select {
			case reload <- struct{}{}:
			default: // one is waiting already
			}
		}
	})
	defer forward.Wait()
	defer close(hup)
	log, flush := daemon.NewLogger(a.stderr, debug)
	defer flush()
	if set.Name == configfile.Embedded {
		log.Warn(fmt.Sprintf("there is no %s: running with the embedded default (see banset check)", configfile.DefaultFile))
	}
	return daemon.Run(ctx, daemon.Options{
		Load:    func() (*config.Config, error) { return loadAll(a.configPath) },
		Config:  set.Name,
		Version: readVersion().Version,
		Log:     log,
		Reload:  reload,
	})
}

// loadAll reads and checks the configuration. Its error shows all problems, with their lines.
func loadAll(path string) (*config.Config, error) {
	set, err := configfile.Read(path)
	if err != nil {
		return nil, err
	}
	c, problems := set.Load()
	if c == nil {
		return nil, errors.New(problems.Format(append(set.Library, set.Files...)...))
	}
	return c, nil
}

func countSerious(problems config.Problems) (n int) {
	for _, p := range problems {
		if !p.Warning {
			n++
		}
	}
	return n
}
