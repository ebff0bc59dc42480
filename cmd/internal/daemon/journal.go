package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"banset/cmd/internal/control"
	"banset/cmd/internal/source"
	"banset/cmd/internal/source/journal"
	"banset/policy/config"
	"banset/policy/match"
)

// journalLog is the journal as one policy reads it. A policy that has files too reads them where one exists, and the
// journal where none does: then choice says which counts.
type journalLog struct {
	logs   *logs
	policy *config.Policy
	key    string // of its position
	reader *reader
	choice *choice // nil: always the journal
	since  time.Time

	// Of the goroutine that runs it.
	position source.Position
}

// journalKey is the path of a policy's position in the journal. It is the policy's own, so that one whose match
// changes goes on where it was.
func journalKey(policy string) string { return "journal/" + policy }

func newJournalLog(l *logs, p *config.Policy, from []source.Position, since time.Time) *journalLog {
	j := &journalLog{logs: l, policy: p, key: journalKey(p.Name), since: since}
	for _, pos := range from {
		if pos.Path == j.key {
			j.position = pos
		}
	}
	j.reader = &reader{
		lanes:    []*lane{new(lane)},
		name:     journal.Name(p.JournalMatch),
		policies: []string{p.Name},
		// The stamp is of our own making: what the policy says of its files' stamps is not about it.
		scanner: match.NewScanner([]match.Job{{Policy: p.Name, Filter: p.Filter}}),
	}
	if len(p.LogPath) > 0 {
		j.choice = newChoice(j, from)
		l.choices[p.Name] = j.choice
	}
	return j
}

// run reads the journal until ctx ends; where there is a choice, whenever the journal is the chosen one.
func (j *journalLog) run(ctx context.Context) error {
	if j.choice == nil {
		return j.read(ctx, ctx, journal.Options{})
	}
	return j.choice.run(ctx)
}

// read reads the journal from the policy's position on, until the second context ends. What is read by then is judged as
// long as the first one lasts: a choice remembers what was counted, and must not see it twice.
func (j *journalLog) read(ctx, until context.Context, o journal.Options) error {
	o.Key, o.Logger, o.Directory = j.key, j.logs.log, j.logs.journalDir
	if j.position.Cursor != "" {
		o.From = []source.Position{j.position}
	}
	if o.Since.IsZero() {
		o.Since = j.since
	}
	src := journal.New(j.policy.JournalMatch, o)
	j.logs.mu.Lock()
	j.logs.reading[j] = src
	j.logs.mu.Unlock()
	defer func() {
		j.logs.mu.Lock()
		delete(j.logs.reading, j)
		j.logs.mu.Unlock()
	}()
	return src.Run(until, func(_ context.Context, c source.Chunk) error {
		if err := j.logs.judge(ctx, j.reader, c, fromJournal); err != nil {
			return err
		}
		j.position = c.Next
		return nil
	})
}

// errThere ends a reading that was only to find out whether there is something.
var errThere = errors.New("there is an entry")

// hasSince reports whether the journal has an entry at or after t.
func (j *journalLog) hasSince(ctx context.Context, t time.Time) bool {
	src := journal.New(j.policy.JournalMatch, journal.Options{
		Since: t, ToEnd: true, Logger: j.logs.log, Directory: j.logs.journalDir,
	})
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return errors.Is(src.Run(ctx, func(context.Context, source.Chunk) error { return errThere }), errThere)
}

// status is what people see of it while it is read.
func (j *journalLog) status() (control.LogStatus, bool) {
	j.logs.mu.Lock()
	src := j.logs.reading[j]
	j.logs.mu.Unlock()
	if src == nil {
		return control.LogStatus{}, false
	}
	return control.LogStatus{Status: src.Status()[0], Policies: []string{j.policy.Name}}, true
}

// readsJournal reports whether a policy reads the journal now.
func (l *logs) readsJournal(policy string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for j := range l.reading {
		if j.policy.Name == policy {
			return true
		}
	}
	return false
}

// choicesOf are the choices of the policies that read a file.
func (l *logs) choicesOf(r *reader) []*choice {
	if r == nil || len(l.choices) == 0 {
		return nil
	}
	var all []*choice
	for _, name := range r.policies {
		if c := l.choices[name]; c != nil {
			all = append(all, c)
		}
	}
	return all
}

func (j *journalLog) tell(format string, args ...any) {
	j.logs.log.Info(fmt.Sprintf("[%s] %s", j.policy.Name, fmt.Sprintf(format, args...)))
}
