package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"time"

	"banset/policy/judge"
	"banset/policy/match"
)

// testFile prints a line for each failure in a log and for each ban that it would have led to, then the sum.
func (a *app) testFile(t *trial, name string, r io.Reader) error {
	plain, err := unpacked(r)
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, bare(err))
	}
	defer plain.Close()
	var sum tally
	sum.init(t)
	scanner := match.NewScanner(t.jobs)
	out := bufio.NewWriter(a.stdout)
	now := a.now()
	began := now
	read, err := readBlocks(plain, func(block []byte) error {
		for line := range bytes.Lines(block) {
			sum.Lines++
			scanner.Scan(line, now, func(m match.Match) {
				v := t.hit(m.Job, m.Host, m.Stamp, now)
				sum.count(m.Job, v)
				if !a.json {
					writeHit(out, sum.Lines, m, v, now)
				}
			})
		}
		return out.Flush() // standard input may be a log that is being written
	})
	sum.Bytes, sum.Cut = read.bytes, read.cut
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, bare(err))
	}
	sum.end(now, a.now().Sub(began))
	if a.json {
		err = a.printJSON(sum)
	} else {
		if sum.hits() > 0 {
			out.WriteString("\n")
		}
		sum.writeTo(out)
		err = out.Flush()
	}
	if err == nil && sum.hits() == 0 {
		err = errFinding
	}
	return err
}

// writeHit prints what was found in line n, the way the daemon's log would say it.
func writeHit(w io.Writer, n uint64, m match.Match, v judge.Verdict, now time.Time) {
	at := "without a stamp"
	if !m.Stamp.IsZero() {
		at = "at " + stamp(m.Stamp)
	}
	fmt.Fprintf(w, "%d: [%s] Found %s %s", n, v.Policy, showHost(m.Host), at)
	switch v.Kind {
	case judge.Allowed:
		fmt.Fprint(w, " (allowlist)")
	case judge.Again:
		fmt.Fprint(w, " (banned already)")
	}
	fmt.Fprintln(w)
	longer := ""
	switch v.Kind {
	case judge.Moved:
		longer = "now "
		fallthrough
	case judge.Banned:
		b := banned(v.Ban)
		fmt.Fprintf(w, "%d: [%s] Ban %s %s%s: %s\n", n, v.Policy, showHost(b.Host), longer, ending(b.Until, now),
			plural(v.Failures, "failure"))
	}
}
