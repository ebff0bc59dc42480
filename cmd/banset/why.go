package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"banset/cmd/internal/control"
)

func (a *app) whyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "why ADDR…",
		Short: "all that is known of an address: bans, failures, offences",
		Long: `why tells all that is known of an address: the bans that cover it and their reasons, what the kernel holds, the
failures that each policy remembers, and where it stands on the ladder of repeat offenders. It ends with status 1
when an address is not banned. Without a daemon it knows what blocklist and kernel know.`,
		Example: `  $ banset why 122.154.29.30
  122.154.29.30 is banned until 2027-11-23 18:12:45Z (in 364d)
    exim2-repeater: 10 failures; since 2026-11-23 18:12:45Z (3h ago)
    kernel: ban4 122.154.29.30, expires in 364d`,
		Args: atLeast(1, "the address"),
		RunE: func(cmd *cobra.Command, args []string) error {
			hosts, err := parseHosts(args)
			if err != nil {
				return usagef(cmd, "%s", err)
			}
			answer, err := a.ask(cmd.Context(), control.Request{Op: control.OpWhy, Hosts: hosts})
			if err != nil {
				return err
			}
			if a.json {
				err = a.printJSON(answer.Whys)
			}
			for _, w := range answer.Whys {
				if !a.json {
					if werr := writeWhy(a.stdout, w, a.now()); werr != nil {
						return werr
					}
				}
				if len(w.Bans) == 0 && err == nil {
					err = errFinding
				}
			}
			return err
		},
		ValidArgsFunction: a.completeBanned,
	}
}

// writeWhy prints what is known of one host, as a paragraph.
func writeWhy(w io.Writer, why control.Why, now time.Time) error {
	var b strings.Builder
	host := showHost(why.Host)
	switch {
	case len(why.Bans) == 0:
		fmt.Fprintf(&b, "%s is not banned\n", host)
	default:
		last := why.Bans[0]
		for _, ban := range why.Bans[1:] {
			if !last.Until.IsZero() && (ban.Until.IsZero() || ban.Until.After(last.Until)) {
				last = ban
			}
		}
		fmt.Fprintf(&b, "%s is banned %s\n", host, ending(last.Until, now))
	}
	if why.Allowed != "" {
		fmt.Fprintf(&b, "  allowlist: %s covers it, so it is never banned\n", printable(why.Allowed))
	}
	if why.Counted.IsValid() && why.Counted != why.Host {
		fmt.Fprintf(&b, "  counted and banned as %s\n", showHost(why.Counted))
	}
	for _, ban := range why.Bans {
		b.WriteString("  ")
		if ban.Host != why.Host {
			fmt.Fprintf(&b, "%s: ", showHost(ban.Host))
		}
		b.WriteString(printable(ban.Reason))
		if !unknown(ban.At) {
			fmt.Fprintf(&b, "; since %s", when(ban.At, now))
		}
		if len(why.Bans) > 1 {
			fmt.Fprintf(&b, ", until %s", until(ban.Until, now))
		}
		b.WriteByte('\n')
	}
	if why.Kernel != "" {
		fmt.Fprintf(&b, "  kernel: %s\n", printable(why.Kernel))
	}
	for _, c := range why.Counts {
		fmt.Fprintf(&b, "  %s: %d of %s, the last %s\n", printable(c.Policy), c.Failures, plural(c.MaxRetry, "failure"),
			when(c.Last, now))
		if f := fieldText(c.Fields); f != "" {
			fmt.Fprintf(&b, "    %s\n", f)
		}
	}
	for _, r := range why.Ladder {
		fmt.Fprintf(&b, "  %s: %s", printable(r.Policy), plural(r.Offences, "offence"))
		if r.LastEnd.IsZero() {
			b.WriteString(", the last ban never ends\n")
		} else {
			fmt.Fprintf(&b, ", the end of the last ban %s\n", when(r.LastEnd, now))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// fieldText shows the named groups of a failure. Their text is an attacker's.
func fieldText(fields []control.Field) string {
	parts := make([]string, len(fields))
	for i, f := range fields {
		parts[i] = printable(f.Name) + "=" + shorten(escaped(f.Value), 60)
	}
	return strings.Join(parts, "  ")
}
