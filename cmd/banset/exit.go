package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// The exit statuses, part of the surface: scripts rely on them.
const (
	exitFine    = 0
	exitFinding = 1 // the command worked and found something: a problem, an absent ban, drift
	exitUsage   = 2
	exitCant    = 3 // no right, no daemon, a file that can't be read
)

// errFinding ends a command that has printed its findings already.
var errFinding = errors.New("something was found")

// A findingError is a finding that is one line of text.
type findingError struct{ text string }

func (e *findingError) Error() string { return e.text }

// A usageError is a command line that can't be understood.
type usageError struct {
	command string // its path, for the hint: "banset ban"
	text    string
}

func (e *usageError) Error() string { return e.text }

func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{cmd.CommandPath(), fmt.Sprintf(format, args...)}
}

// status says with which status a command that returned err ends.
func status(err error) int {
	var found *findingError
	var usage *usageError
	var passed exitStatusError
	switch {
	case err == nil:
		return exitFine
	case errors.As(err, &passed):
		return int(passed)
	case errors.Is(err, errFinding), errors.As(err, &found):
		return exitFinding
	case errors.As(err, &usage):
		return exitUsage
	}
	return exitCant
}

// report prints err for a person: one line, and for wrong usage a hint.
func (a *app) report(err error) {
	var passed exitStatusError
	if err == nil || errors.Is(err, errFinding) || errors.As(err, &passed) {
		return
	}
	a.complain("%s", explain(err))
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(a.stderr, "see %s --help\n", usage.command)
	}
}

// complain prints one line to stderr.
func (a *app) complain(format string, args ...any) {
	text := strings.TrimRight(fmt.Sprintf(format, args...), "\n")
	fmt.Fprintf(a.stderr, "banset: %s\n", printable(text))
}
