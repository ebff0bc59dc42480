// Command banset watches the logs of a host and bans, in the kernel, the hosts that they show failing too often. This
// package is its command line: one file a command, each of which reads flags, makes one call and prints the answer.
package main

import (
	"io"
	"os"
	"time"
)

func main() { os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// Main runs one command line, without the program's name, and returns the exit status. It leaves signals and the
// process alone but for the commands that say otherwise (run, demo).
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, now: time.Now}
	return a.main(args)
}

// An app is one run of the program: where it reads and writes, what it takes for now, and the global flags.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	now            func() time.Time

	configPath string // --config; "" is the default place
	json       bool   // --json
}
