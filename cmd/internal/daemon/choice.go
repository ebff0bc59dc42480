package daemon

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"banset/cmd/internal/source"
	"banset/cmd/internal/source/journal"
	"banset/policy"
)

// An origin is where a line was read.
type origin int

const (
	fromFile origin = iota
	fromJournal
)

const (
	// lookForFile is how often it is looked whether a policy's files are there.
	lookForFile = 20 * time.Second
	// lookForStale is how long a file must have been silent to be asked whether the journal goes on without it.
	lookForStale = 10 * time.Minute
	// staleAfter is how much later than the file's last line an entry of the journal must be to say that it does.
	staleAfter = time.Minute
	// near is how far the stamps of one message may be apart in file and journal.
	near = 2 * time.Second
	// tick is the longest step of the kernel's clock for files, and some.
	tick = 20 * time.Millisecond
	// manyTwins bounds the failures remembered for telling twins.
	manyTwins = 1024
)

// A choice is that of a policy which has files and journal: the file where one exists, as its lines come at once and
// cost least; the journal where none does, or where it goes on without the file. One counts at a time. They change
// places at a point in time: what happened before it is the one's, what happened after it the other's; and near to it,
// where their stamps do not agree well enough, each failure is looked for among what the other counted.
//
// Which was read last is told by the positions: that of the journal and those of the files say how far in time.
type choice struct {
	journal  *journalLog
	every    time.Duration // lookForFile, for tests
	silentIn time.Duration // lookForStale, for tests

	mu      sync.Mutex
	now     origin
	changed chan struct{} // closed when now changes
	wanted  chan struct{} // rung by a file that speaks while the journal is read
	cut     time.Time     // what happened before it was the other's; zero: there was no other
	fresh   bool          // the other was not read by this process: what it counted near the cut is not known
	past    time.Time     // up to when the journal counted before this process; zero: it was not the origin then
	wrote   time.Time     // when a file was last written to, as far as known
	spoke   bool          // a file was read by this process
	twins   []twin        // failures counted lately, oldest first
}

// A twin is a counted failure that may come again from the other origin.
type twin struct {
	host netip.Prefix
	at   time.Time
	from origin
}

func newChoice(j *journalLog, from []source.Position) *choice {
	c := &choice{journal: j, every: lookForFile, silentIn: lookForStale, changed: make(chan struct{}), wanted: make(chan struct{}, 1)}
	for _, p := range from {
		if p.Cursor == "" && reads(j.policy, []string{p.Path}) && p.Mod > c.wrote.UnixNano() {
			c.wrote = time.Unix(0, p.Mod)
		}
	}
	switch read := time.Unix(0, j.position.Mod); {
	case j.position.Cursor == "":
		// The file, or nothing yet.
	case read.After(c.wrote):
		c.now, c.past = fromJournal, read
	default:
		c.cut, c.fresh = read, true
	}
	return c
}

// run lets file and journal take turns until ctx ends. The file is read in any case, by who reads all files.
func (c *choice) run(ctx context.Context) error {
	select {
	case <-c.journal.logs.source.Looked():
	case <-ctx.Done():
		return nil
	}
	missing, started := 0, true
	stale := time.Now()
	ticker := time.NewTicker(c.every)
	defer ticker.Stop()
	for {
		if c.is(fromJournal) {
			if err := c.readJournal(ctx); err != nil || ctx.Err() != nil {
				return err
			}
			missing, stale = 0, time.Now()
		}
		there := c.look()
		switch {
		case there:
			missing = 0
		default:
			missing++
		}
		c.mu.Lock()
		wrote := c.wrote
		c.mu.Unlock()
		switch {
		case !there && (started || missing > 1): // not in the moment of a rotation
			c.toJournal("there is no file of its logpath")
			started = false
			continue
		case there && time.Since(wrote) > c.silentIn && (started || time.Since(stale) > c.silentIn):
			stale = time.Now()
			if c.journal.hasSince(ctx, wrote.Add(staleAfter)) {
				c.toJournal("its file is not written to any more")
				started = false
				continue
			}
		}
		started = false
		select {
		case <-ticker.C:
		case <-c.wanted:
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *choice) is(o origin) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now == o
}

// look reports whether a file of the policy is there and can be read, and notes when one was last written to.
func (c *choice) look() bool {
	there := false
	for _, s := range c.journal.logs.source.Status() {
		if s.State != source.Following && s.State != source.Reading || !reads(c.journal.policy, []string{s.Name}) {
			continue
		}
		there = true
		if info, err := os.Stat(s.Name); err == nil {
			c.mu.Lock()
			if info.ModTime().After(c.wrote) {
				c.wrote = info.ModTime()
			}
			c.mu.Unlock()
		}
	}
	return there
}

// toJournal makes the journal count, from where the file ended.
func (c *choice) toJournal(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.wrote.IsZero() {
		// A file's time lags behind the clock by up to a tick.
		c.cut, c.fresh = c.wrote.Add(tick), !c.spoke
	}
	select {
	case <-c.wanted: // of another time
	default:
	}
	c.turn(fromJournal)
	c.journal.tell("reads the journal: %s", why)
}

// turn changes the origin that counts. c.mu is held.
func (c *choice) turn(to origin) {
	c.now = to
	close(c.changed)
	c.changed = make(chan struct{})
}

// readJournal reads the journal until a file speaks; then, once more, up to what it holds by then.
func (c *choice) readJournal(ctx context.Context) error {
	var o journal.Options
	c.mu.Lock()
	read := time.Unix(0, c.journal.position.Mod)
	if since := c.cut.Add(-near); !c.cut.IsZero() && (c.journal.position.Cursor == "" || since.Truncate(time.Second).After(read)) {
		// The file was read since. What the journal itself brought before is not read again.
		c.journal.position = source.Position{}
		o.Since = since
	}
	c.mu.Unlock()
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		select {
		case <-c.wanted:
			cancel()
		case <-inner.Done():
		}
	}()
	err := c.journal.read(ctx, inner, o)
	cancel()
	<-heard
	if err != nil || ctx.Err() != nil {
		return err
	}
	// The journal has a message before any file does: what it has now is its own, what comes is the file's.
	now := time.Now()
	o.ToEnd = true
	if err := c.journal.read(ctx, ctx, o); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	if ctx.Err() != nil {
		return nil // the file has not spoken yet, as far as the state will know
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut, c.fresh, c.wrote = now, false, now
	c.turn(fromFile)
	c.journal.tell("reads its file again")
	return nil
}

// fileSpoke is told that a file has lines, before they are judged. It returns when the file is the origin that counts.
func (c *choice) fileSpoke(ctx context.Context, chunk source.Chunk) error {
	for {
		c.mu.Lock()
		if c.now == fromFile {
			c.spoke = true
			if at := time.Unix(0, chunk.Next.Mod); at.After(c.wrote) {
				c.wrote = at
			}
			c.mu.Unlock()
			return nil
		}
		changed := c.changed
		c.mu.Unlock()
		select {
		case c.wanted <- struct{}{}:
		default:
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// counts reports whether a failure counts, or is the other origin's.
func (c *choice) counts(h policy.Hit, from origin) bool {
	at := h.Stamp
	if at.IsZero() || h.Live && h.Arrived.Sub(at).Abs() > time.Minute {
		at = h.Arrived
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case from == fromFile && !c.past.IsZero() && !at.After(c.past.Add(tick)):
		// A file whose place was not known is read again. What lies within the tick was brought by this journal, too.
		c.dropTwin(h.Host, at, from, tick)
		return false
	case c.cut.IsZero() || at.After(c.cut.Add(near)):
	case at.Before(c.cut.Add(-near)):
		return false
	case c.fresh && !at.After(c.cut):
		return false
	default:
		if c.dropTwin(h.Host, at, from, near) {
			return false
		}
	}
	if len(c.twins) >= manyTwins {
		c.twins = append(c.twins[:0], c.twins[manyTwins/2:]...)
	}
	c.twins = append(c.twins, twin{h.Host, at, from})
	return true
}

// dropTwin forgets a failure of the other origin that is near in time, and reports whether there was one. c.mu is held.
func (c *choice) dropTwin(host netip.Prefix, at time.Time, from origin, near time.Duration) bool {
	i := slices.IndexFunc(c.twins, func(t twin) bool {
		return t.from != from && t.host == host && t.at.Sub(at).Abs() <= near
	})
	if i < 0 {
		return false
	}
	c.twins = slices.Delete(c.twins, i, i+1)
	return true
}
