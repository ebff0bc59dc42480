package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"banset/cmd/internal/control"
	"banset/cmd/internal/source"
	"banset/cmd/internal/source/follow"
	"banset/cmd/internal/source/journal"
	"banset/policy"
	"banset/policy/config"
	"banset/policy/judge"
	"banset/policy/match"
)

// logs is the task that follows the policies' log files, matches their lines in the sources' own goroutines, and
// sends the hits to the court.
type logs struct {
	court    *court
	log      *slog.Logger
	policies []*config.Policy
	source   *follow.Follower
	journals []*journalLog
	choices  map[string]*choice // of the policies that read file or journal, by name
	// journalDir is another directory of journal files than this machine's, for tests.
	journalDir string

	mu      sync.Mutex
	readers map[string]*reader // by the log's names
	lanes   map[string]*lane   // by name
	reading map[*journalLog]*journal.Journal
}

// reader is what is known of one log: which policies read it and what its lines look like. Only the goroutine that
// the log's chunks come from uses the scanner.
type reader struct {
	name     string
	policies []string
	scanner  *match.Scanner
	told     bool // that lines without a time stamp count at their arrival
	lanes    []*lane

	mu        sync.Mutex
	layout    string
	unstamped uint64
}

func newLogs(c *court, log *slog.Logger, policies []*config.Policy, from []source.Position, since time.Time) *logs {
	l := &logs{court: c, log: log, readers: make(map[string]*reader), lanes: make(map[string]*lane), choices: make(map[string]*choice),
		reading: make(map[*journalLog]*journal.Journal)}
	var patterns []string
	inFiles := slices.DeleteFunc(slices.Clone(from), func(p source.Position) bool { return p.Cursor != "" })
	for _, p := range policies {
		if !p.Enabled {
			continue
		}
		l.policies = append(l.policies, p)
		patterns = append(patterns, p.LogPath...)
		if len(p.JournalMatch) > 0 {
			l.journals = append(l.journals, newJournalLog(l, p, from, since))
		}
	}
	l.source = follow.New(patterns, follow.Options{From: inFiles, Since: since, Logger: log})
	return l
}

func (l *logs) String() string         { return "logs" }
func (l *logs) Ready() <-chan struct{} { return l.source.Looked() }

// Run follows the logs until ctx ends, and returns when the court has heard all that was found.
func (l *logs) Run(ctx context.Context) error {
	if err := l.court.do(ctx, func(*judge.Judge) { l.court.unread() }); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.source.Run(gctx, l.chunk) })
	for _, j := range l.journals {
		g.Go(func() error { return j.run(gctx) })
	}
	err := g.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return errors.Join(err, l.court.do(last, func(*judge.Judge) { l.court.hearRest() }))
}

// chunk takes a chunk of a file.
func (l *logs) chunk(ctx context.Context, c source.Chunk) error {
	r := l.reader(c.Names)
	for _, ch := range l.choicesOf(r) {
		if err := ch.fileSpoke(ctx, c); err != nil {
			return err
		}
	}
	return l.judge(ctx, r, c, fromFile)
}

// judge matches the lines of one chunk. What it found and where reading goes on are one message, so that a commit
// never has the one without the other.
func (l *logs) judge(ctx context.Context, r *reader, c source.Chunk, from origin) error {
	f := finding{live: c.Live, more: c.More, next: c.Next, done: c.Done}
	if r != nil && len(c.Lines) > 0 {
		f.log = r.name
		r.scanner.Scan(c.Lines, c.Arrived, func(m match.Match) {
			h := policy.Hit{
				Policy: r.policies[m.Job], Host: m.Host, Stamp: m.Stamp, Arrived: c.Arrived, Live: c.Live, Fields: m.Fields,
			}
			if ch := l.choices[h.Policy]; ch == nil || ch.counts(h, from) {
				f.hits.add(h)
			}
		})
		r.note(l.log)
	}
	var lanes []*lane
	if r != nil {
		lanes = r.lanes
	}
	return l.court.send(ctx, f, lanes)
}

// reader finds the reader for a log that is known under these names, nil when no policy reads it.
func (l *logs) reader(names []string) *reader {
	key := strings.Join(names, "\x00")
	l.mu.Lock()
	defer l.mu.Unlock()
	if r, ok := l.readers[key]; ok {
		return r
	}
	r := &reader{}
	var jobs []match.Job
	for _, p := range l.policies {
		if reads(p, names) {
			r.policies = append(r.policies, p.Name)
			jobs = append(jobs, match.Job{Policy: p.Name, Filter: p.Filter, Date: p.Date, Zone: p.Zone})
		}
	}
	if len(jobs) == 0 {
		l.readers[key] = nil
		return nil
	}
	r.name = names[0]
	r.scanner = match.NewScanner(jobs)
	for _, name := range names {
		if l.lanes[name] == nil {
			l.lanes[name] = new(lane)
		}
		r.lanes = append(r.lanes, l.lanes[name])
	}
	l.readers[key] = r
	return r
}

// reads reports whether one of a policy's paths leads to a log of these names.
func reads(p *config.Policy, names []string) bool {
	for _, pattern := range p.LogPath {
		for _, name := range names {
			if name == pattern {
				return true
			}
			if ok, _ := filepath.Match(pattern, name); ok {
				return true
			}
		}
	}
	return false
}

// note takes over from the scanner what status shows, and says once that a log's lines have no time.
func (r *reader) note(log *slog.Logger) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unstamped = 0
	for i := range r.policies {
		if layout := r.scanner.Layout(i); layout != "" {
			r.layout = layout
		}
		r.unstamped = max(r.unstamped, r.scanner.Unstamped(i))
	}
	if r.unstamped > 0 && !r.told {
		r.told = true
		log.Warn(fmt.Sprintf("%s: a failure has no time stamp that can be read: it counts at its arrival (see datepattern in banset.yaml(5))", r.name))
	}
}

// status is what people see of the logs, and which policies wait for one.
func (l *logs) status() (all []control.LogStatus, waiting map[string]bool) {
	waiting = make(map[string]bool)
	for _, p := range l.policies {
		waiting[p.Name] = true
	}
	for _, j := range l.journals {
		if ls, ok := j.status(); ok {
			all = append(all, ls)
			if ls.State != source.Waiting {
				delete(waiting, j.policy.Name)
			}
		}
	}
	for _, s := range l.source.Status() {
		ls := control.LogStatus{Status: s}
		for _, p := range l.policies {
			if reads(p, []string{s.Name}) || slices.Contains(p.LogPath, s.Name) {
				if s.State == source.Waiting && l.readsJournal(p.Name) {
					continue // nobody waits for it
				}
				ls.Policies = append(ls.Policies, p.Name)
				if s.State != source.Waiting {
					delete(waiting, p.Name)
				}
			}
		}
		if len(ls.Policies) == 0 && s.State == source.Waiting {
			continue
		}
		l.mu.Lock()
		for _, r := range l.readers {
			if r != nil && r.name == s.Name {
				r.mu.Lock()
				ls.Stamps = r.layout
				r.mu.Unlock()
			}
		}
		l.mu.Unlock()
		all = append(all, ls)
	}
	return all, waiting
}
