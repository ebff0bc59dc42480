package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"banset/cmd/internal/control"
	"banset/cmd/internal/source"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "what is wrong, what is watched, how many are banned",
		Long: `status shows the daemon on one screen, first what is wrong. It ends with status 1 when something is. Without a
daemon it shows what blocklist and configuration tell, and ends with status 3.`,
		Example: `  $ banset status
  banset v1.0.0 runs since 2026-11-23 18:12:45Z (3h ago), pid 812; nothing is wrong
  configuration  /etc/banset/banset.yaml, read 2026-11-23 18:12:45Z (3h ago)
  bans           412; in the kernel: ban4 410, ban6 2; 90311 packets dropped
  …`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			answer, err := a.ask(cmd.Context(), control.Request{Op: control.OpStatus})
			if err != nil {
				return err
			}
			if answer.Status == nil {
				return fmt.Errorf("the daemon's answer has no status: it is another version; restart it")
			}
			if a.json {
				err = a.printJSON(answer.Status)
			} else {
				err = writeStatus(a.stdout, answer.Status, a.now())
			}
			switch {
			case err != nil:
				return err
			case answer.Status.PID == 0:
				return exitStatusError(exitCant) // it stands there already
			case len(answer.Status.Problems) > 0:
				return errFinding
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
}

// manyProblems is how many problems status shows.
const manyProblems = 8

// manyRows is how many logs status lists; of more, those without trouble are only counted.
const manyRows = 12

// writeStatus prints s, first what is wrong.
func writeStatus(w io.Writer, s *control.Status, now time.Time) error {
	var b strings.Builder
	for _, p := range s.Problems[:min(manyProblems, len(s.Problems))] {
		fmt.Fprintf(&b, "WRONG: %s\n", printable(p))
	}
	if more := len(s.Problems) - manyProblems; more > 0 {
		fmt.Fprintf(&b, "WRONG: and %d more (banset status --json)\n", more)
	}
	wrong := "nothing is wrong"
	if n := len(s.Problems); n > 0 {
		wrong = plural(n, "problem") + ", see above"
	}
	if s.PID == 0 {
		b.WriteString("what is banned in the kernel stays banned until its time is over\n")
	} else {
		fmt.Fprintf(&b, "banset %s runs since %s, pid %d; %s\n", printable(s.Version), when(s.Started, now), s.PID, wrong)
	}
	fmt.Fprintf(&b, "configuration  %s", printable(s.Config))
	if !s.ConfigFrom.IsZero() {
		fmt.Fprintf(&b, ", read %s", when(s.ConfigFrom, now))
	}
	fmt.Fprintf(&b, "\nblocklist      %s, %s", printable(s.Blocklist.Path), plural(s.Blocklist.Lines, "ban"))
	if n := len(s.Blocklist.Problems); n > 0 {
		fmt.Fprintf(&b, ", %s", plural(n, "problem"))
	}
	b.WriteByte('\n')
	if s.PID != 0 {
		fmt.Fprintf(&b, "bans           %d%s\n", s.Bans, kernelText(s))
		fmt.Fprintf(&b, "counted        failures of %s", plural(s.Hosts, "host"))
		if s.Healings > 0 {
			fmt.Fprintf(&b, "; the kernel's side had to be put back %s", times(s.Healings))
		}
		b.WriteByte('\n')
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	if err := writePolicies(w, s.Policies, s.PID != 0, now); err != nil {
		return err
	}
	return writeLogs(w, s.Logs, now)
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// kernelText is what the kernel holds, in words.
func kernelText(s *control.Status) string {
	if len(s.Kernel) == 0 {
		return ""
	}
	var parts []string
	for _, set := range slices.Sorted(maps.Keys(s.Kernel)) {
		if n := s.Kernel[set]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", printable(set), n))
		}
	}
	text := "; in the kernel: none"
	if len(parts) > 0 {
		text = "; in the kernel: " + strings.Join(parts, ", ")
	}
	return text + "; " + plural(s.Dropped, "packet") + " dropped"
}

// writePolicies prints a table of the enabled policies, and how many others there are.
func writePolicies(w io.Writer, policies []control.PolicyStatus, running bool, now time.Time) error {
	t := newTable("POLICY", "STATE", ">BANNED NOW", ">FOUND", ">BANS", "LAST FOUND")
	if !running {
		t = newTable("POLICY", ">BANNED")
	}
	off := 0
	for _, p := range policies {
		state := "watching"
		switch {
		case !p.Enabled:
			off++
			continue
		case !running:
			t.row(printable(p.Name), fmt.Sprint(p.Bans))
			continue
		case p.Waiting:
			state = "waiting for a log"
		}
		t.row(printable(p.Name), state, fmt.Sprint(p.Bans), fmt.Sprint(p.Found), fmt.Sprint(p.Banned), when(p.Last, now))
	}
	var err error
	if len(t.cells) > 0 {
		if _, err = io.WriteString(w, "\n"); err == nil {
			err = t.writeTo(w)
		}
	}
	if err == nil && off > 0 {
		_, err = fmt.Fprintf(w, "(%s not enabled)\n", plural(off, "policy"))
	}
	return err
}

// writeLogs prints a table of the logs; of many only those with trouble.
func writeLogs(w io.Writer, logs []control.LogStatus, now time.Time) error {
	t := newTable("LOG", "STATE", ">LINES", "LAST LINE", "POLICIES", "NOTE")
	well := 0
	for _, l := range logs {
		note := logNote(l)
		if len(logs) > manyRows && note == "" && l.State == source.Following {
			well++
			continue
		}
		t.row(printable(l.Name), string(l.State), fmt.Sprint(l.Lines), when(l.LastLine, now),
			printable(strings.Join(l.Policies, " ")), note)
	}
	var err error
	if len(t.cells) > 0 {
		if _, err = io.WriteString(w, "\n"); err == nil {
			err = t.writeTo(w)
		}
	}
	if err == nil && well > 0 {
		_, err = fmt.Fprintf(w, "(%s without trouble; all of them: banset status --json)\n", plural(well, "log"))
	}
	return err
}

// logNote is what there is to know of a log beside the figures; "" when all is as it should be. Its error is among what
// is wrong.
func logNote(l control.LogStatus) string {
	var notes []string
	if l.Backlog > 0 {
		notes = append(notes, size(uint64(l.Backlog))+" to read")
	}
	if l.Skew >= time.Minute {
		notes = append(notes, "its stamps are "+about(l.Skew)+" behind")
	} else if -l.Skew >= time.Minute {
		notes = append(notes, "its stamps are "+about(-l.Skew)+" ahead")
	}
	if l.Cut > 0 {
		notes = append(notes, plural(l.Cut, "line")+" cut at 64 KiB")
	}
	return strings.Join(notes, "; ")
}
