// Package journal is the source that reads the systemd journal: every entry of one set of matches once, in order,
// through rotation, vacuum, restarts of journald, stops and crashes.
//
// Entries come from journalctl, which knows every format of a journal file; nothing is linked against. There is one
// journalctl for each source, and one source for each policy: the place in the journal is then the policy's own, so that
// a policy with a new match goes on where it was, a new policy gets its history, and none waits for another.
//
// Two kinds of journalctl take turns: one that reads what there is and ends, one that follows. What the first brings is
// backlog, what the second brings is live, and neither a clock nor a guess is needed to tell. Whatever happens to the
// second, the first goes on at the last entry that was handed over.
//
// Entries are read in journalctl's export format: of two formats that say the same it takes less than half the time that
// JSON takes, and it tells the length of a field beforehand, so that an endless one costs no memory.
//
// A line is made of an entry as rsyslog makes it, "2026-11-23T20:33:58.108212+00:00 mx1 sshd[15098]: text", so that a
// filter sees the same whether it reads file or journal. Control characters are escaped as #ooo: an entry is one line,
// whatever a client put into it.
//
// What can't be had: entries that were vacuumed away before they were read; two entries in the same microsecond in two
// journal files, of which journalctl itself may pass over one.
package journal

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"banset/cmd/internal/source"
)

// Options say how to read the journal. The zero value reads all of this machine's journal.
type Options struct {
	// Key names the position among others: it is its Path. Empty: "journal".
	Key string
	// From are positions of which that with our Key is resumed from; the others are not looked at.
	From []source.Position
	// Since makes a journal that From says nothing about begin with the entries at or after this time. Zero: with the
	// first.
	Since time.Time
	// Logger gets trouble with reading; nil: nobody.
	Logger *slog.Logger
	// Journalctl is the program to run. Empty: journalctl.
	Journalctl string
	// Directory holds the journal files, or directories of them. Empty: this machine's, volatile and persistent.
	Directory string
	// Look is how long after the last entry it is first asked whether journalctl still hears; it doubles up to 16 times
	// that as long as it does. It is asked only when the journal grew meanwhile. 0: 30 s.
	Look time.Duration
	// ToEnd makes Run return when everything there is has been handed over.
	ToEnd bool
}

// A Journal reads the entries of one set of matches. It implements [source.Source]; Run may be called once.
type Journal struct {
	name  string
	names []string
	match []string
	opts  Options
	log   *slog.Logger
	roots []string      // where journal files are
	began func(*child)  // for tests: told of each journalctl
	retry time.Duration // the first pause after a failure of journalctl; it doubles up to 64 times that

	place    place // where reading goes on; this and the next are Run's
	failures int   // of journalctl, one after the other
	doubted  id    // the last entry that may have been given in part,
	looks    int   // and how often it was
	nameless bool  // some entries have no identifier for good
	watch    *watcher

	mu     sync.Mutex
	status source.Status
	inside bool      // the handler is at work
	last   time.Time // when journalctl last gave something, or began
	doubts int       // how often it was asked whether it hears since it gave something
}

// New reads the entries that match: journalctl's terms, FIELD=VALUE and "+", checked by the caller to be those and no
// options. None at all: every entry.
func New(match []string, opts Options) *Journal {
	if opts.Key == "" {
		opts.Key = "journal"
	}
	if opts.Journalctl == "" {
		opts.Journalctl = "journalctl"
	}
	if opts.Look <= 0 {
		opts.Look = 30 * time.Second
	}
	j := &Journal{name: Name(match), match: slices.Clone(match), opts: opts, log: opts.Logger, roots: roots, retry: time.Second}
	if opts.Directory != "" {
		j.roots = []string{opts.Directory}
	}
	if j.log == nil {
		j.log = slog.New(slog.DiscardHandler)
	}
	j.names = []string{j.name}
	j.status = source.Status{Name: j.name, State: source.Waiting}
	for _, p := range opts.From {
		if p.Path == opts.Key && p.Cursor != "" {
			j.place = placeAt(p)
		}
	}
	return j
}

// Name is what people call the entries that match.
func Name(match []string) string {
	return strings.TrimRight("journal: "+strings.Join(match, " "), ": ")
}

var _ source.Source = (*Journal)(nil)

// Status implements [source.Source].
func (j *Journal) Status() []source.Status {
	j.mu.Lock()
	defer j.mu.Unlock()
	return []source.Status{j.status}
}

func (j *Journal) set(s source.State, trouble string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.status.State, j.status.Error = s, trouble
}

// Run implements [source.Source].
func (j *Journal) Run(ctx context.Context, h source.Handler) error {
	j.watch = newWatcher(j.roots)
	defer j.watch.close()
	err := j.run(ctx, h)
	if cause := ctx.Err(); cause != nil && (err == nil || errors.Is(err, cause)) {
		return nil
	}
	return err
}

// run lets the two kinds of journalctl take turns.
func (j *Journal) run(ctx context.Context, h source.Handler) error {
	pause, told := j.retry, ""
	var followed time.Time // until when one followed, for all we know
	for ctx.Err() == nil {
		j.watch.look()
		if !j.watch.exists() {
			j.set(source.Waiting, "")
			if j.opts.ToEnd {
				return nil
			}
			if err := j.watch.wait(ctx, j.opts.Look); err != nil {
				return err
			}
			continue
		}
		j.mu.Lock()
		if j.status.State != source.Following {
			j.status.State = source.Reading
		}
		j.mu.Unlock()
		began := time.Now()
		err := j.catchUp(ctx, h, followed)
		if errors.Is(err, errAgain) {
			_ = j.watch.wait(ctx, beforeAgain) // the loop looks at ctx
			continue
		}
		followed = time.Time{}
		if err == nil && j.opts.ToEnd {
			return nil
		}
		if err == nil {
			if told != "" {
				j.log.Info("journal: reading works again", "log", j.name)
				told = ""
			}
			j.set(source.Following, "")
			followed, err = j.follow(ctx, h)
		}
		var failed *readError
		switch {
		case err == nil, errors.Is(err, errAgain):
			pause = j.retry
			continue
		case !errors.As(err, &failed):
			return err
		}
		j.set(source.Unreadable, failed.Error())
		if text := failed.Error(); text != told {
			j.log.Warn("journal can't be read, trying again", "log", j.name, "error", text)
			told = text
		}
		if time.Since(began) > 2*pause {
			pause = j.retry // it worked for a while
		}
		if err := j.watch.wait(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, 64*j.retry)
	}
	return ctx.Err()
}

// catchUp hands over what there is. followed: a journalctl followed until then, and so should have left nothing behind.
func (j *Journal) catchUp(ctx context.Context, h source.Handler, followed time.Time) error {
	c, err := j.start(ctx, false)
	if err != nil {
		return err
	}
	defer c.release()
	first, seen, err := j.hand(ctx, c, h, false)
	if err == nil {
		err = c.wait()
	}
	if err != nil {
		j.astray(err, seen)
		return err
	}
	if p := &j.place; !seen && p.real > uint64(time.Now().Add(time.Minute).UnixMicro()) && !p.ahead {
		// The clock was wrong when that entry was written, and since it is gone it can't be found but by its time.
		p.ahead = true
		return j.catchUp(ctx, h, followed)
	}
	// What is that old should have come by itself.
	if late := followed.Add(-slack); !followed.IsZero() && !first.IsZero() && first.Before(late) {
		j.mu.Lock()
		j.status.Deaf++
		j.status.DeafAt = time.Now()
		j.mu.Unlock()
		j.log.Warn("journalctl had stopped hearing new entries; it was started anew and nothing is lost",
			"log", j.name, "since", first.UTC().Format(time.RFC3339))
	}
	return nil
}

// astray is told that journalctl failed. When it does so again and again before it gave anything, it may be the cursor:
// then we go by time.
func (j *Journal) astray(err error, seen bool) {
	switch {
	case seen:
		j.failures = 0
	case errors.As(err, new(*readError)):
		if j.failures++; j.failures >= 3 {
			j.place.lost = true
		}
	}
}

// slack is how late an entry may come without journalctl being called deaf.
const slack = 5 * time.Second

// settle is how long journalctl must have been silent before it is stopped because files were moved: long enough for
// what it saw to come.
const settle = time.Second

// follow hands over entries as they are written, until journalctl ends or there is a reason to start it anew. It returns
// until when it followed.
func (j *Journal) follow(ctx context.Context, h source.Handler) (time.Time, error) {
	c, err := j.start(ctx, true)
	if err != nil {
		return time.Time{}, err
	}
	defer c.release()
	handed := make(chan error, 1)
	go func() {
		_, _, err := j.hand(ctx, c, h, true)
		handed <- err
	}()
	seen, forced := j.watch.grown(), false
	wait := j.patience()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case err := <-handed:
			if err == nil {
				err = c.wait()
			}
			if failed := (*readError)(nil); errors.As(err, &failed) && time.Since(c.began) > j.retry {
				err = nil // it worked for a while: whoever ended it, the next one will do
			}
			return time.Now(), err
		case <-ctx.Done():
			c.stop()
			return time.Time{}, <-handed
		case <-j.watch.moved:
			// Files came or went: the kind of change that a journalctl may fail to follow.
			j.watch.look()
			forced, wait = true, settle
			timer.Reset(wait)
			continue
		case <-timer.C:
		}
		switch quiet, now := j.quiet(), j.watch.grown(); {
		case quiet < wait: // it hears
			timer.Reset(max(wait-quiet, 10*time.Millisecond))
			if seen = now; !forced {
				wait = max(wait, j.patience())
			}
		case now == seen && !forced: // there was nothing to hear
			timer.Reset(wait)
		default:
			if forced {
				j.rotated()
			} else {
				j.doubt()
			}
			c.stop()
			return time.Now(), <-handed
		}
	}
}

// patience is how long journalctl may be silent before it is asked whether it hears.
func (j *Journal) patience() time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.opts.Look << j.doubts
}

// doubt lengthens patience: it was not deaf the last time.
func (j *Journal) doubt() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.doubts = min(j.doubts+1, 4)
}

func (j *Journal) rotated() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.status.Rotated++
}

// quiet is how long ago journalctl gave something; not long while the handler has it.
func (j *Journal) quiet() time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.inside {
		return 0
	}
	return time.Since(j.last)
}
