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
  nothing is wrong
  banset     v1.0.0, pid 812, since 2026-11-23 18:12:45Z (3h ago)
  config     /etc/banset/banset.yaml
  blocklist  /var/lib/banset/blocklist, 412 bans
  bans       412; kernel: ban4 410, ban6 2
  counted    failures of 53 hosts; 90311 packets dropped
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

// So much fits one screen of 24 lines, on a usual host.
const (
	manyProblems = 5 // are shown
	manyPolicies = 7 // are shown with their figures; of more, those that found nothing are only named
	manyLogs     = 7 // are shown; of more, those without trouble are only counted
	columns      = 80
)

// writeStatus prints s, first what is wrong.
func writeStatus(w io.Writer, s *control.Status, now time.Time) error {
	var b strings.Builder
	for _, p := range s.Problems[:min(manyProblems, len(s.Problems))] {
		fmt.Fprintf(&b, "WRONG: %s\n", printable(p))
	}
	if more := len(s.Problems) - manyProblems; more > 0 {
		fmt.Fprintf(&b, "WRONG: and %d more (banset status --json)\n", more)
	}
	if len(s.Problems) == 0 {
		b.WriteString("nothing is wrong\n")
	}
	if s.PID == 0 {
		b.WriteString("what is banned in the kernel stays banned until its time is over\n")
	} else {
		fmt.Fprintf(&b, "banset     %s, pid %d, since %s\n", printable(s.Version), s.PID, when(s.Started, now))
	}
	fmt.Fprintf(&b, "config     %s", printable(s.Config))
	if !s.ConfigFrom.IsZero() && s.ConfigFrom.Sub(s.Started).Abs() > time.Minute {
		fmt.Fprintf(&b, ", read %s", distance(s.ConfigFrom, now))
	}
	fmt.Fprintf(&b, "\nblocklist  %s, %s", printable(s.Blocklist.Path), plural(s.Blocklist.Lines, "ban"))
	if n := len(s.Blocklist.Problems); n > 0 {
		fmt.Fprintf(&b, ", %s", plural(n, "problem"))
	}
	b.WriteByte('\n')
	if s.PID != 0 {
		fmt.Fprintf(&b, "bans       %d%s\n", s.Bans, kernelText(s))
		fmt.Fprintf(&b, "counted    failures of %s; %s dropped\n", plural(s.Hosts, "host"), plural(s.Dropped, "packet"))
	}
	b.WriteString(hooksText(s.Hooks))
	writePolicies(&b, s.Policies, s.PID != 0, now)
	writeLogs(&b, s.Logs, now)
	_, err := io.WriteString(w, b.String())
	return err
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// kernelText is what the kernel holds, in words, as far as it counts that itself (not on Linux 6.12 and before).
func kernelText(s *control.Status) string {
	var parts []string
	for _, set := range slices.Sorted(maps.Keys(s.Kernel)) {
		if n := s.Kernel[set]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", printable(set), n))
		}
	}
	text := ""
	switch {
	case len(parts) > 0:
		text = "; kernel: " + strings.Join(parts, ", ")
	case len(s.Kernel) > 0:
		text = "; kernel: none"
	}
	if s.Healings > 0 {
		text += "; put back " + times(s.Healings)
	}
	return text
}

// hooksText is one line about all hooks; nothing when there are none.
func hooksText(hooks []control.HookStatus) string {
	if len(hooks) == 0 {
		return ""
	}
	var sum control.HookStatus
	for _, h := range hooks {
		sum.OK += h.OK
		sum.Failed += h.Failed + h.TimedOut
		sum.Dropped += h.Dropped
		sum.Waiting += h.Waiting
	}
	text := fmt.Sprintf("hooks      %s told", plural(sum.OK, "event"))
	for _, part := range []struct {
		n    uint64
		what string
	}{{sum.Failed, "failed"}, {sum.Dropped, "dropped"}, {uint64(sum.Waiting), "waiting"}} {
		if part.n > 0 {
			text += fmt.Sprintf(", %d %s", part.n, part.what)
		}
	}
	return text + "\n"
}

// writePolicies prints a table of the policies that watch, and names the others.
func writePolicies(b *strings.Builder, policies []control.PolicyStatus, running bool, now time.Time) {
	t := newTable("POLICY", ">BANNED NOW", ">FOUND", ">BANS", "LAST FOUND")
	if !running {
		t = newTable("POLICY", ">BANNED NOW")
	}
	var off, waiting, quiet []string
	watching := 0
	for _, p := range policies {
		if p.Enabled && !p.Waiting {
			watching++
		}
	}
	for _, p := range policies {
		name := printable(p.Name)
		switch {
		case !p.Enabled:
			off = append(off, name)
		case p.Waiting && p.Bans == 0:
			waiting = append(waiting, name)
		case watching > manyPolicies && p.Bans == 0 && p.Found == 0:
			quiet = append(quiet, name)
		case !running:
			t.row(name, fmt.Sprint(p.Bans))
		default:
			last := "-"
			if !unknown(p.Last) {
				last = distance(p.Last, now)
			}
			t.row(name, fmt.Sprint(p.Bans), fmt.Sprint(p.Found), fmt.Sprint(p.Banned), last)
			if p.Waiting {
				waiting = append(waiting, name)
			}
		}
	}
	if len(policies) > 0 {
		b.WriteByte('\n')
	}
	if len(t.cells) > 0 {
		t.writeTo(b) // a Builder takes everything
	}
	names(b, "found nothing yet: ", quiet)
	names(b, "waiting for a log: ", waiting)
	names(b, "not enabled: ", off)
}

// names prints one line with as many names as fit.
func names(b *strings.Builder, what string, all []string) {
	if len(all) == 0 {
		return
	}
	line := what + all[0]
	for i, name := range all[1:] {
		more := fmt.Sprintf(" and %d more", len(all)-1-i)
		if len(line)+2+len(name)+len(more) > columns {
			line += more
			break
		}
		line += ", " + name
	}
	b.WriteString(line + "\n")
}

// writeLogs prints a table of the logs that are there; of many only those with trouble.
func writeLogs(b *strings.Builder, logs []control.LogStatus, now time.Time) {
	t := newTable("LOG", ">LINES", "LAST LINE", "POLICIES", "NOTE")
	there, well, missing := 0, 0, 0
	for _, l := range logs {
		if l.State != source.Waiting {
			there++
		}
	}
	for _, l := range logs {
		note := logNote(l)
		switch {
		case l.State == source.Waiting:
			missing++
			continue
		case there > manyLogs && note == "":
			well++
			continue
		}
		last := "-"
		if !unknown(l.LastLine) {
			last = distance(l.LastLine, now)
		}
		t.row(printable(l.Name), fmt.Sprint(l.Lines), last, printable(strings.Join(l.Policies, " ")), note)
	}
	if len(t.cells) > 0 {
		b.WriteByte('\n')
		t.writeTo(b)
	} else if well+missing > 0 {
		b.WriteByte('\n')
	}
	switch {
	case well > 0 && missing > 0:
		fmt.Fprintf(b, "(%s without trouble, %d not there yet; all of them: banset status --json)\n", plural(well, "log"), missing)
	case well > 0:
		fmt.Fprintf(b, "(%s without trouble; all of them: banset status --json)\n", plural(well, "log"))
	case missing > 0:
		fmt.Fprintf(b, "(%s not there yet: banset check names them)\n", plural(missing, "log"))
	}
}

// logNote is what there is to know of a log beside the figures; "" when all is as it should be. Its error is among what
// is wrong.
func logNote(l control.LogStatus) string {
	var notes []string
	if l.State != source.Following && l.Backlog == 0 {
		notes = append(notes, string(l.State))
	}
	if l.Backlog > 0 {
		notes = append(notes, size(uint64(l.Backlog))+" to read")
	}
	if l.Skew >= time.Minute {
		notes = append(notes, "stamps "+about(l.Skew)+" behind")
	} else if -l.Skew >= time.Minute {
		notes = append(notes, "stamps "+about(-l.Skew)+" ahead")
	}
	if l.Cut > 0 {
		notes = append(notes, plural(l.Cut, "line")+" cut at 64 KiB")
	}
	if l.Deaf > 0 {
		notes = append(notes, "started anew, deaf: "+plural(l.Deaf, "time"))
	}
	return strings.Join(notes, "; ")
}
