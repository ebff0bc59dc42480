package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strings"

	"banset/cmd/internal/configfile"
	"banset/cmd/internal/control"
	"banset/cmd/internal/state"
	"banset/policy/config"
)

// ask has a request done: by the daemon, or where none runs and it can be done without, by [withoutDaemon]. The
// answer's Error has become the error, but for problems of a configuration, which are left in the answer.
func (a *app) ask(ctx context.Context, r control.Request) (control.Answer, error) {
	c, name, configErr := a.configOrDefault()
	if c == nil {
		return control.Answer{}, configErr
	}
	answer, err := control.Call(ctx, c.Socket, r)
	if errors.Is(err, control.ErrNoDaemon) {
		if configErr != nil {
			return control.Answer{}, configErr
		}
		answer, err = a.withoutDaemon(ctx, c, name, r)
	}
	if err != nil {
		return control.Answer{}, err
	}
	if answer.Error != "" && answer.Problems == "" {
		return control.Answer{}, &refusal{answer.Error, answer.Denied}
	}
	return answer, nil
}

// configOrDefault is the configuration and what people call it. Where it has problems a daemon may run all the same,
// with the one before: then the Config only says where the daemon probably listens, and err tells the problems.
func (a *app) configOrDefault() (c *config.Config, name string, err error) {
	set, err := configfile.Read(a.configPath)
	if err != nil {
		return nil, "", err
	}
	c, problems := set.Load()
	if c == nil {
		return &config.Config{Socket: likelySocket(set)}, set.Name, badConfig(problems)
	}
	return c, set.Name, nil
}

// likelySocket finds the socket in a configuration that has problems elsewhere.
func likelySocket(set configfile.Set) string {
	socket := config.DefaultSocket
	for _, f := range set.Files {
		for line := range strings.Lines(string(f.Data)) {
			if value, ok := strings.CutPrefix(line, "socket:"); ok {
				value, _, _ = strings.Cut(value, " #")
				if value = strings.Trim(value, " \t\r\n'\""); filepath.IsAbs(value) {
					socket = value
				}
			}
		}
	}
	return socket
}

// A refusal is a request that the daemon did not do.
type refusal struct {
	text   string
	denied bool
}

func (e *refusal) Error() string { return e.text }

// Is makes a lack of rights known as such.
func (e *refusal) Is(target error) bool { return e.denied && target == fs.ErrPermission }

// errNoDaemonRuns is for what only a daemon can do.
var errNoDaemonRuns = errors.New("no daemon runs; start it: systemctl start banset")

// explain words an error, and says what to do next where that is known.
func explain(err error) string {
	text := strings.TrimSpace(strings.ReplaceAll(err.Error(), "\n", "; "))
	var usage *usageError
	var file *fs.PathError
	var dial *net.OpError
	switch {
	case errors.As(err, &usage), errors.Is(err, errNoDaemonRuns):
	case errors.Is(err, state.ErrInUse):
		text += ": a daemon runs already (systemctl status banset)"
	case errors.Is(err, control.ErrNoDaemon):
		text = errNoDaemonRuns.Error()
	case errors.Is(err, fs.ErrPermission) && (errors.As(err, &file) || errors.As(err, &dial)):
		text += ": run as root" // nft says itself which right it lacks
	}
	return text
}

// notice tells on stderr that no daemon answered and where the answer comes from instead.
func (a *app) notice(format string, args ...any) {
	a.complain("no daemon runs; %s", fmt.Sprintf(format, args...))
}
