package main

import (
	"bytes"
	"context"
	"os/exec"
	"strings"
	"time"
)

// journalPatience is how long the journal may take to say whether it has a line: it may be large, and its disk slow.
const journalPatience = 5 * time.Second

// lookAtJournal says whether the journal has a line that matches, by journalctl, the program.
func lookAtJournal(journalctl string, match []string) checkLog {
	l := checkLog{Name: "journal: " + strings.Join(match, " ")}
	ctx, cancel := context.WithTimeout(context.Background(), journalPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, journalctl, append([]string{"--quiet", "--no-pager", "--lines=1", "--output=cat"}, match...)...)
	cmd.WaitDelay = time.Second
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	switch {
	case len(out) > 0:
		l.State, l.Files = "there", 1
	case err != nil && ctx.Err() != nil:
		l.State = "slow to answer"
	case err != nil:
		why, _, _ := strings.Cut(strings.TrimSpace(errs.String()), "\n")
		if why == "" {
			why = err.Error()
		}
		l.State = "can't be read: " + printable(why)
	default:
		l.State = "waits for a first line"
	}
	return l
}
