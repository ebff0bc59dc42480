package follow

import (
	"bytes"
	"context"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"banset/cmd/internal/source"
)

// maxPast is how many generations of one log are known by their ends. None of those may be forgotten that were
// compressed since the last look.
const maxPast = 64

// maxLate is how many rotated files of one log are watched for late lines at the same time.
const maxLate = 8

// A chain is one log: the files that were found under its name, read one after the other by the chain's goroutine.
type chain struct {
	f      *Follower
	key    atomic.Pointer[string]
	wake   chan struct{}
	cancel context.CancelFunc
	had    bool // it had a file; under Follower.mu

	mu       sync.Mutex
	incoming []*file // from the overseer, not taken yet
	base     string  // the name that siblings are found beside: path without symbolic links
	named    []string
	done     []source.Position

	// The goroutine's own.
	h     source.Handler
	from  []source.Position // to resume from; set before the start
	held  []source.Position // in a file that is there, but can't be opened yet
	queue []*file           // the oldest first; the last one is the log as it is now
	late  []*file           // rotated and read to their end, watched for late lines
	past  []end             // of the last files that were done with, to know their copies by
	seen  map[fileID]trace  // siblings that are read, or were there before us
	mod   int64             // siblings written before this time, nanoseconds, were read
	heads map[fileID]head   // of compressed siblings

	begun  atomic.Bool
	busy   atomic.Bool // has files to read or watch
	failed atomic.Pointer[error]

	lines, bytes, cut, rotated, last atomic.Uint64
}

func (c *chain) path() string { return *c.key.Load() }

func (c *chain) ring() { ring(c.wake) }

// push hands g, opened and registered, to the chain.
func (c *chain) push(g *file) {
	c.mu.Lock()
	c.incoming = append(c.incoming, g)
	c.mu.Unlock()
	c.busy.Store(true)
	c.ring()
}

func (c *chain) setBase(base string, names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base, c.named = base, names
}

func (c *chain) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.named
}

func (c *chain) baseName() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.base
}

func (c *chain) addDone(p source.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = append(c.done, p)
}

// rest reports whether the chain has begun and has nothing left to read or to watch. Follower.mu is held, so nothing
// is pushed meanwhile.
func (c *chain) rest() bool { return c.begun.Load() && !c.busy.Load() }

func (c *chain) status() source.Status {
	s := source.Status{
		Name: c.path(), Lines: c.lines.Load(), Bytes: c.bytes.Load(), Cut: c.cut.Load(), Rotated: c.rotated.Load(),
	}
	if t := c.last.Load(); t != 0 {
		s.LastLine = time.Unix(0, int64(t))
	}
	for _, g := range c.f.files {
		if g.chain == c && !g.over {
			s.Backlog += g.backlog.Load()
		}
	}
	return s
}

// run reads the chain until ctx ends.
func (c *chain) run(ctx context.Context, h source.Handler) error {
	c.h = h
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next, err := c.step(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if next < never {
			timer.Reset(next)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		case <-timer.C:
		}
	}
}

// never is when to come again to a log that is only to be read when it is rung for.
const never = time.Duration(math.MaxInt64)

// step reads all that there is and returns when to come again without being rung for.
func (c *chain) step(ctx context.Context) (time.Duration, error) {
	next := never
	c.take()
	if !c.begun.Load() {
		ok, err := c.begin(ctx)
		if err != nil || !ok {
			return next, err
		}
		c.begun.Store(true)
	}
	for {
		for _, g := range slices.Clone(c.late) {
			if err := c.drain(ctx, g); err != nil {
				return 0, err
			}
		}
		c.take()
		if len(c.queue) == 0 {
			break
		}
		cur := c.queue[0]
		if cur.fresh {
			if err := c.catchUp(ctx, cur, nil); err != nil {
				return 0, err
			}
		}
		if err := c.drain(ctx, cur); err != nil {
			return 0, err
		}
		c.take()
		if len(c.queue) == 1 {
			break
		}
		if err := c.retire(ctx, cur); err != nil {
			return 0, err
		}
	}
	// Files that are quiet for long enough are given up, the one that lost its name included.
	now := time.Now()
	for _, g := range slices.Clone(c.late) {
		if left := c.f.opts.Grace - now.Sub(g.grew); left > 0 {
			next = min(next, left)
		} else if err := c.finish(ctx, g); err != nil {
			return 0, err
		}
	}
	if len(c.queue) == 1 && c.orphan(c.queue[0]) {
		g := c.queue[0]
		if left := c.f.opts.Grace - now.Sub(g.grew); left > 0 {
			next = min(next, left)
		} else if err := c.finish(ctx, g); err != nil {
			return 0, err
		}
	}
	c.mu.Lock()
	if len(c.queue)+len(c.late)+len(c.incoming) == 0 {
		if c.busy.Swap(false) {
			c.f.ringNames() // what nothing leads to any more is to be forgotten
		}
	}
	c.mu.Unlock()
	return max(next, time.Millisecond), nil
}

// take takes the files that the overseer has for us.
func (c *chain) take() {
	c.mu.Lock()
	came := c.incoming
	c.incoming = nil
	c.mu.Unlock()
	for _, g := range came {
		g.grew = time.Now()
		if g.revived {
			g.revived = false
			c.late = append(c.late, g)
			continue
		}
		g.fresh = true
		c.resumeHeld(g)
		c.queue = append(c.queue, g)
	}
}

// orphan reports whether nothing will ever lead to g again: it has no name at all, or it had one by a glob and has it no
// more. A plain path's file that was renamed away stays until a successor comes, however long its writer is quiet.
func (c *chain) orphan(g *file) bool {
	st, err := g.stat()
	if err != nil {
		return false
	}
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	if len(g.paths) > 0 {
		g.nameless = false
		return false
	}
	if st.Nlink > 0 && slices.ContainsFunc(c.f.patterns, func(p pattern) bool { return !p.glob && p.match(c.path()) }) {
		return false
	}
	if !g.nameless {
		g.nameless, g.grew = true, time.Now()
	}
	return true
}

// retire ends the reading of g, the oldest of the queue, because it has a successor; late lines are waited for.
func (c *chain) retire(ctx context.Context, g *file) error {
	c.queue = c.queue[1:]
	c.rotated.Add(1)
	c.f.log.Info("log rotated", "log", c.path())
	c.remember(g.id, g.mark)
	g.grew = time.Now()
	c.late = append(c.late, g)
	if len(c.late) > maxLate {
		return c.finish(ctx, c.late[0])
	}
	return nil
}

// finish reads the last of g, an unfinished line included, and closes it.
func (c *chain) finish(ctx context.Context, g *file) error {
	if err := c.drain(ctx, g); err != nil {
		return err
	}
	if err := c.flush(ctx, g); err != nil {
		return err
	}
	c.close(g)
	return nil
}

// close gives g up.
func (c *chain) close(g *file) {
	if g.over {
		return
	}
	c.queue = slices.DeleteFunc(c.queue, func(o *file) bool { return o == g })
	c.late = slices.DeleteFunc(c.late, func(o *file) bool { return o == g })
	c.remember(g.id, g.mark)
	if !g.fresh {
		c.seen[g.id] = trace{g.mod, slices.Clone(g.head)}
	}
	f := c.f
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closeLocked(g)
	g.over = true
	g.backlog.Store(0)
	if len(g.paths) == 0 {
		if f.files[g.id] == g {
			delete(f.files, g.id)
		}
		c.addDone(g.position())
	}
}

// An end is where a file that is done with ended.
type end struct {
	id fileID
	mark
}

// A trace is what a file is known by that we need no more: when it was written, and how it begins.
type trace struct {
	mod  int64
	head []byte // none if it is compressed already
}

// remember keeps where a file ended.
func (c *chain) remember(id fileID, m mark) {
	c.mod = max(c.mod, m.mod)
	if m.off == 0 {
		return
	}
	m.head, m.tail = slices.Clone(m.head), slices.Clone(m.tail)
	c.past = slices.DeleteFunc(c.past, func(e end) bool { return e.id == id && bytes.Equal(e.head, m.head) })
	c.past = append(c.past, end{id, m})
	if len(c.past) > maxPast {
		c.past = slices.Delete(c.past, 0, 1)
	}
}

// forget drops traces of files that none of sibs can be, once there are many.
func (c *chain) forget(sibs []sibling) {
	if len(c.seen) < 2*maxPast+2*len(sibs) {
		return
	}
	maps.DeleteFunc(c.seen, func(_ fileID, t trace) bool {
		return !slices.ContainsFunc(sibs, func(s sibling) bool { return s.mod == t.mod })
	})
}
