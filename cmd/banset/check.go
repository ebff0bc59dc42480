package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"banset/cmd/internal/configfile"
	"banset/policy/config"
)

func (a *app) checkCommand() *cobra.Command {
	short := false
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "is the configuration right, do the filters know their samples, what is watched",
		Long: `check reads the configuration, or FILE instead, and shows every problem with its place. It runs the samples of all
filters, and then says what would be watched. It changes nothing and asks no daemon. The status is 1 when there are
problems; warnings alone leave it at 0.`,
		Example: `  $ banset check
  /etc/banset/banset.yaml:9:5: policy exim2-repeater has no key "maxretries"
    9 |     maxretries: 10
      |     ^
    did you mean maxretry?`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := a.configPath
			if len(args) == 1 {
				if path != "" {
					return usagef(cmd, "--config and FILE say the same: give one of them")
				}
				path = args[0]
			}
			return a.check(path, short)
		},
	}
	cmd.Flags().BoolVar(&short, "short", false, "of what is watched say only which policies have a log")
	return cmd
}

// A checkReport is what check found.
type checkReport struct {
	Config   string          `json:"config"`
	Table    string          `json:"table,omitempty"` // in the kernel
	Files    []string        `json:"files"`
	Problems config.Problems `json:"problems"`
	Samples  int             `json:"samples"` // that were run
	Policies []checkPolicy   `json:"policies"`
}

// A checkPolicy is a policy as it would be run.
type checkPolicy struct {
	Name    string     `json:"name"`
	Enabled bool       `json:"enabled"`
	Filter  string     `json:"filter,omitempty"`
	After   string     `json:"after"`   // when it bans, in words
	BanTime string     `json:"bantime"` // for how long, in words
	Logs    []checkLog `json:"logs,omitempty"`
}

// A checkLog is a log as it is now.
type checkLog struct {
	Name  string `json:"name"`            // as configured
	State string `json:"state"`           // in words
	Files int    `json:"files,omitempty"` // that exist; 1 for a journal with lines
}

func (a *app) check(path string, short bool) error {
	set, err := configfile.Read(path)
	if err != nil {
		return err
	}
	c, problems := set.Load()
	r := checkReport{Config: set.Name, Problems: problems, Policies: []checkPolicy{}}
	for _, f := range set.Files {
		r.Files = append(r.Files, f.Name)
	}
	if c != nil {
		r.Table = c.NFTables.Table
		for _, f := range c.Filters {
			r.Samples += len(f.Samples)
		}
		r.Problems = append(r.Problems, c.CheckSamples(a.now())...)
		r.Problems = append(r.Problems, missingPrograms(c.Hooks)...)
		// All at once: each may ask the journal, and a start waits for it.
		r.Policies = make([]checkPolicy, len(c.Policies))
		var asking sync.WaitGroup
		for i, p := range c.Policies {
			asking.Go(func() { r.Policies[i] = checkedPolicy(p) })
		}
		asking.Wait()
	}
	if r.Problems == nil {
		r.Problems = config.Problems{}
	}
	if a.json {
		err = a.printJSON(r)
	} else {
		err = r.writeTo(a.stdout, short, append(set.Library, set.Files...))
	}
	if err == nil && r.Problems.Err() != nil {
		err = errFinding
	}
	return err
}

// missingPrograms warns of hooks whose program is not there now, or can't be run.
func missingPrograms(hooks []*config.Hook) (warnings config.Problems) {
	for _, h := range hooks {
		if !h.Enabled || len(h.Command) == 0 {
			continue
		}
		program := h.Command[0]
		info, err := os.Stat(program)
		what := ""
		switch {
		case errors.Is(err, fs.ErrNotExist):
			what = "there is no " + program
		case err != nil:
			what = err.Error()
		case info.IsDir() || info.Mode()&0o111 == 0:
			what = program + " is no program"
		default:
			continue
		}
		warnings = append(warnings, config.Problem{
			File: h.Pos.File, Line: h.Pos.Line, Column: h.Pos.Column, Warning: true, Msg: fmt.Sprintf("hook %s: %s", h.Name, what),
			Hint: "until then every event for it fails",
		})
	}
	return warnings
}

func checkedPolicy(p *config.Policy) checkPolicy {
	c := checkPolicy{Name: p.Name, Enabled: p.Enabled, Filter: p.FilterName}
	c.After, c.BanTime = limits(&p.Policy)
	if !p.Enabled {
		return c // its logs are nobody's business
	}
	for _, pattern := range p.LogPath {
		c.Logs = append(c.Logs, lookAtLog(pattern))
	}
	if len(p.JournalMatch) > 0 {
		c.Logs = append(c.Logs, lookAtJournal("journalctl", p.JournalMatch))
	}
	return c
}

// lookAtLog says what there is of a log, without opening it.
func lookAtLog(pattern string) checkLog {
	l := checkLog{Name: pattern, State: "waits until it exists"}
	// A pattern that Glob can't read is none that Load lets through.
	names, _ := filepath.Glob(pattern)
	var bytes int64
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil || info.IsDir() {
			continue
		}
		l.Files++
		bytes += info.Size()
	}
	switch {
	case l.Files == 1:
		l.State = "there, " + size(uint64(bytes))
	case l.Files > 1:
		l.State = fmt.Sprintf("%d files, %s", l.Files, size(uint64(bytes)))
	case len(names) > 0:
		l.State = "is a directory, or can't be looked at"
	}
	return l
}

// writeTo prints the problems and then, if there is a configuration, what it watches.
func (r *checkReport) writeTo(w io.Writer, short bool, sources []config.File) error {
	serious, warnings := 0, 0
	for _, p := range r.Problems {
		if p.Warning {
			warnings++
		} else {
			serious++
		}
	}
	var b strings.Builder
	if len(r.Problems) > 0 {
		b.WriteString(r.Problems.Format(sources...) + "\n\n")
	}
	if short {
		r.writeShort(&b)
	} else if err := r.writePolicies(&b); err != nil {
		return err
	}
	var sums []string
	if serious > 0 {
		sums = append(sums, plural(serious, "problem"))
	}
	if warnings > 0 {
		sums = append(sums, plural(warnings, "warning"))
	}
	if len(sums) == 0 {
		sums = append(sums, "no problems")
	}
	if len(r.Policies) > 0 {
		enabled := 0
		for _, p := range r.Policies {
			if p.Enabled {
				enabled++
			}
		}
		sums = append(sums, fmt.Sprintf("%d of %s enabled", enabled, plural(len(r.Policies), "policy")))
	}
	name := printable(r.Config)
	if n := len(r.Files); n > 1 {
		name += " and " + plural(n-1, "other")
	}
	fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(sums, ", "))
	_, err := io.WriteString(w, b.String())
	return err
}

// writeShort prints a line for each policy whose log is there, and one for the others.
func (r *checkReport) writeShort(b *strings.Builder) {
	var waiting []string
	for _, p := range r.Policies {
		var names []string
		for _, l := range p.Logs {
			_, isJournal := strings.CutPrefix(l.Name, "journal: ")
			switch {
			case l.Files == 0:
			case !isJournal:
				names = append(names, printable(l.Name))
			case len(names) == 0: // the journal is for when there is no file
				names = append(names, "journal")
			}
		}
		switch {
		case len(names) > 0:
			fmt.Fprintf(b, "%s: on (%s)\n", p.Name, strings.Join(names, ", "))
		case p.Enabled:
			waiting = append(waiting, p.Name)
		}
	}
	if len(waiting) > 0 {
		fmt.Fprintf(b, "waiting for a log: %s\n", strings.Join(waiting, ", "))
	}
}

// writePolicies prints the enabled policies, a line for each log.
func (r *checkReport) writePolicies(w io.Writer) error {
	t := newTable("POLICY", "BANS AFTER", "FOR", "LOG", "NOW")
	for _, p := range r.Policies {
		if !p.Enabled {
			continue
		}
		name, after, length := p.Name, p.After, p.BanTime
		for _, l := range p.Logs {
			t.row(name, after, length, printable(l.Name), l.State)
			name, after, length = "", "", ""
		}
	}
	if len(t.cells) == 0 {
		return nil
	}
	if err := t.writeTo(w); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
