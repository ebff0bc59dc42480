// Package follow is the source that reads log files: every line of every configured file once, in order, through
// rotations of all kinds, stops and crashes.
//
// One goroutine, the overseer, looks at what the configured paths lead to: when inotify says that a name changed, and
// slowly without it. Each log is a [chain] of files, one generation after the other, with a goroutine that reads the
// oldest to its end before it goes on to the next. It sleeps until inotify says that its file was written to.
//
// A trickle of lines is read by hpcloud/tail (tail.go), everything else in large blocks (read.go). Both end in deliver,
// which alone moves a file's place.
//
// What can't be had: lines that a copytruncate destroys between its copy and its truncation; lines truncated away
// without a copy before they were read; siblings moved to another directory while nobody followed. A line that a
// copytruncate cuts in two counts as two.
package follow

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"banset/cmd/internal/source"
)

// Options say how to follow. The zero value reads all files from their beginning.
type Options struct {
	// From are the positions to resume from, as [source.Advance] keeps them. One that nothing is found for is given
	// back in Chunk.Done.
	From []source.Position
	// Since makes a log that From says nothing about begin with its rotated siblings, as far as they were written at
	// or after this time. Zero: with the file itself.
	Since time.Time
	// Logger gets rotations, cut lines, and what can't be read; nil: nobody.
	Logger *slog.Logger
	// Grace is how long a rotated or deleted file must have been quiet before it is given up; until then lines of a
	// program that still has it open are read. 0: two minutes.
	Grace time.Duration
	// Poll is how often to look for what no notification from the kernel tells of, while there is any: a log that can't
	// be read, a directory that can't be watched. 0: every five seconds. File systems that give no notifications at all,
	// those of a network, are looked at every second at least; where everything is watched, a look every ten minutes
	// remains, or every Poll if that is longer.
	Poll time.Duration
}

// A Follower follows files. It implements [source.Source]; Run may be called once.
type Follower struct {
	patterns []pattern
	opts     Options
	log      *slog.Logger
	noEvents bool          // for tests: no inotify
	noTail   bool          // for tests: blocks only
	tailed   atomic.Uint64 // lines that hpcloud/tail read, for tests
	held     atomic.Int32  // tailers that wait for a line

	watch  *watcher
	rescan chan struct{}
	looked chan struct{} // closed by the first scan

	mu      sync.Mutex
	from    []source.Position // not taken by a chain yet
	files   map[fileID]*file
	byPath  map[string]*file // what a configured path leads to now
	chains  map[string]*chain
	trouble map[string]error // paths that can't be read, and why
	empty   []string         // globs that match nothing; before the first look, all patterns
}

// New follows the files that patterns name: absolute paths, with the glob characters of filepath.Match or without.
func New(patterns []string, opts Options) *Follower {
	if opts.Grace <= 0 {
		opts.Grace = 2 * time.Minute
	}
	if opts.Poll <= 0 {
		opts.Poll = 5 * time.Second
	}
	f := &Follower{
		opts: opts, log: opts.Logger, from: slices.Clone(opts.From), rescan: make(chan struct{}, 1), looked: make(chan struct{}),
		files: map[fileID]*file{}, byPath: map[string]*file{}, chains: map[string]*chain{}, trouble: map[string]error{},
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	patterns = slices.Clone(patterns)
	slices.Sort(patterns)
	for _, p := range slices.Compact(patterns) {
		f.patterns = append(f.patterns, parsePattern(p))
		f.empty = append(f.empty, p)
	}
	return f
}

var _ source.Source = (*Follower)(nil)

// Run implements [source.Source].
func (f *Follower) Run(ctx context.Context, h source.Handler) error {
	if !f.noEvents {
		w, err := newWatcher()
		if err != nil {
			f.log.Warn("no notifications of changed files, looking for them instead", "error", err)
		} else {
			f.watch = w
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	if f.watch != nil {
		g.Go(func() error {
			return f.watch.run(func(g *file) { g.chain.ring() }, f.ringNames, f.ringAll)
		})
		stop := context.AfterFunc(gctx, f.watch.close)
		defer stop()
	}
	g.Go(func() error { return f.oversee(gctx, g, h) })
	err := g.Wait()
	f.watch.close()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.chains {
		for _, g := range c.incoming {
			f.closeLocked(g)
		}
	}
	for _, g := range f.files {
		f.closeLocked(g)
	}
	if cause := ctx.Err(); cause != nil && (err == nil || errors.Is(err, cause)) {
		return nil
	}
	return err
}

// Looked is closed when Run has looked once for every configured log: from then on Status tells which are there.
func (f *Follower) Looked() <-chan struct{} { return f.looked }

// ringNames makes the overseer look again.
func (f *Follower) ringNames() { ring(f.rescan) }

// ringAll makes everybody look again, after notifications were lost.
func (f *Follower) ringAll() {
	f.ringNames()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.chains {
		c.ring()
	}
}

// ring is heard once however often it is rung.
func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// Status implements [source.Source]. A log that several configured paths lead to appears under the first of them; a glob
// without a match under itself.
func (f *Follower) Status() []source.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []source.Status
	for _, c := range f.chains {
		if g := f.byPath[c.path()]; g != nil && g.chain != c && !c.busy.Load() {
			continue // its path leads to another log's file
		}
		s := c.status()
		switch err := f.trouble[c.path()]; {
		case s.Backlog > 0:
			s.State = source.Reading
		case err != nil:
			s.State = source.Unreadable
		case f.byPath[c.path()] == nil:
			s.State = source.Waiting
		default:
			s.State = source.Following
		}
		if err := f.trouble[c.path()]; err != nil {
			s.Error = errorText(err)
		} else if e := c.failed.Load(); e != nil {
			s.State, s.Error = source.Unreadable, errorText(*e)
		}
		list = append(list, s)
	}
	for path, err := range f.trouble {
		if f.chains[path] == nil {
			list = append(list, source.Status{Name: path, State: source.Unreadable, Error: errorText(err)})
		}
	}
	for _, glob := range f.empty {
		list = append(list, source.Status{Name: glob, State: source.Waiting})
	}
	slices.SortFunc(list, func(a, b source.Status) int { return strings.Compare(a.Name, b.Name) })
	return list
}
