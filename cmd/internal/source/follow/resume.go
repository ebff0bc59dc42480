package follow

import (
	"context"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"banset/cmd/internal/source"
)

// slack is how far modification times of two files may be apart from the order in which they were written.
const slack = int64(time.Second)

// A plan is what a chain begins with.
type plan struct {
	sibs   []sibling
	cur    *file            // the oldest of the queue, as a rule the log's own file; nil: none yet
	places map[int]*opened  // what to read before the log's file, by index in sibs; strays below 0
	newest int              // the index of the newest file that a position was found in, len(sibs) for the log's own
	at     *source.Position // the place in the log's own file
	held   []source.Position
	done   []source.Position // over, because they were found in a copy
	lost   []source.Position // not found
	seen   map[fileID]trace
	moved  bool // a file was renamed meanwhile: look again
}

const nothing = -1 << 30 // plan.newest when no position was found

// begin finds the places to resume from and reads everything older than the log's file of today, the oldest first. It
// reports false while there is nothing at all, e.g. because a file system is not mounted yet.
func (c *chain) begin(ctx context.Context) (bool, error) {
	if len(c.queue) == 0 && len(siblings(c.baseName())) == 0 && c.currentID() == (fileID{}) {
		return false, nil
	}
	if len(c.from) > 0 {
		c.mod = 0
		for _, p := range c.from {
			c.mod = max(c.mod, p.Mod)
		}
	}
	p := c.plan()
	for try := 0; ctx.Err() == nil && (p.moved && try < 50 || len(p.lost) > 0 && try < 4); try++ {
		for _, o := range p.places {
			o.close()
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
		p = c.plan()
	}
	for _, q := range p.lost {
		c.f.log.Warn("the file that was being read is gone", "log", c.path(), "offset", q.Offset)
		c.addDone(q)
	}
	for _, q := range p.done {
		c.addDone(q)
	}
	c.held = p.held
	maps.Copy(c.seen, p.seen)
	if p.at != nil {
		cur := p.cur
		cur.mark, cur.fresh, cur.stored = markOf(*p.at), false, p.at.Path
		cur.noteOff()
	}
	var olds []*file
	for _, i := range slices.Sorted(maps.Keys(p.places)) {
		if g := c.adopt(p.places[i]); g != nil {
			olds = append(olds, g)
		}
	}
	for _, g := range olds {
		if err := c.readOld(ctx, g); err != nil {
			return false, err
		}
	}
	return true, ctx.Err()
}

// plan looks for the places of c.from in the log's own file, if it is there, and beside it, and for the files that were
// never read: those newer than the newest place; on a first start those that the options ask for.
func (c *chain) plan() *plan {
	p := &plan{sibs: siblings(c.baseName()), places: map[int]*opened{}, newest: nothing, seen: map[fileID]trace{}}
	// A sibling may be one of ours, compressed: whatever was opened before that is in the queue now.
	c.f.mu.Lock()
	c.take()
	c.f.mu.Unlock()
	if len(c.queue) > 0 {
		p.cur = c.queue[0]
	}
	cur := p.cur
	for _, q := range c.from {
		m := markOf(q)
		if cur != nil && idOf(q) == cur.id {
			if st, err := cur.stat(); err == nil && m.holds(cur.fd, st.Size) {
				p.at, p.newest = &q, max(p.newest, indexOf(p.sibs, cur.id))
				continue
			}
		}
		if cur == nil && c.mayBeCurrent(idOf(q), m) {
			p.held, p.newest = append(p.held, q), len(p.sibs)
			continue
		}
		i, o, moved := c.find(p.sibs, idOf(q), m)
		p.moved = p.moved || moved
		if o == nil {
			p.lost = append(p.lost, q)
			continue
		}
		if o.s.id == idOf(q) {
			o.stored = q.Path
		} else {
			p.done = append(p.done, q)
		}
		if have := p.places[i]; have != nil {
			o, have = further(o, have)
			have.close()
		}
		p.places[i], p.newest = o, max(p.newest, i)
	}
	// A file that is gone, deleted most likely, was read after those that were not written to later.
	gone := int64(0)
	for _, q := range p.lost {
		gone = max(gone, q.Mod)
	}
	begins := slices.ContainsFunc(c.queue, func(q *file) bool { return q.off == 0 })
	older := p.sibs
	if cur != nil {
		older = older[:c.ordinal(older, cur, nil)] // what is newer comes after it
	}
	for i, s := range older {
		if p.places[i] != nil {
			p.seen[s.id] = traceOf(s)
			continue
		}
		unread := false
		switch {
		case !s.known || s.size == 0:
		case len(c.from) == 0:
			unread = c.f.wants(s.path) || !c.f.opts.Since.IsZero() && s.mod >= c.f.opts.Since.UnixNano()
		case p.newest > nothing:
			unread = i > p.newest && s.mod > gone
		default:
			unread = c.mod > 0 && s.mod >= c.mod
		}
		if i > p.newest && s.size > 0 && (unread || begins && s.mod > time.Now().Add(-time.Hour).UnixNano()) {
			o, moved := openSibling(s)
			p.moved = p.moved || moved
			if o != nil && slices.ContainsFunc(c.queue, func(q *file) bool { return q.off == 0 && c.copies(o, q, nil) }) {
				o.close()
				continue // neither read nor seen: a copy of what is about to be read, and then truncated
			}
			if o != nil && unread {
				p.places[i] = o
			} else if o != nil {
				o.close()
			}
		}
		p.seen[s.id] = traceOf(s)
	}
	return p
}

// resumeHeld gives g, which can be opened now, the place it was left at.
func (c *chain) resumeHeld(g *file) {
	for i, p := range c.held {
		if idOf(p) != g.id {
			continue
		}
		c.held = slices.Delete(c.held, i, i+1)
		m := markOf(p)
		if st, err := g.stat(); err == nil && m.holds(g.fd, st.Size) {
			g.mark, g.fresh, g.stored = m, false, p.Path
			g.noteOff()
		} else {
			c.addDone(p)
		}
		return
	}
}

// mayBeCurrent reports whether m is a place in the file that the log's name leads to, which is not ours yet, as far as we
// may look: what has the inode of a file that was deleted is another one.
func (c *chain) mayBeCurrent(id fileID, m mark) bool {
	if c.currentID() != id {
		return false
	}
	fd, st, err := openFile(c.baseName())
	if err != nil {
		return !missing(err)
	}
	defer fd.Close()
	return idOfStat(&st) == id && m.holds(fd, st.Size)
}

// currentID is the file that the log's name leads to, whether we may open it or not.
func (c *chain) currentID() fileID {
	var st unix.Stat_t
	if unix.Stat(c.baseName(), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fileID{}
	}
	return idOfStat(&st)
}

// An opened is a sibling that was opened, and the place in it to read from.
type opened struct {
	s      sibling
	at     mark
	fd     *os.File
	size   int64
	stream *unpacked
	found  bool   // the very file that a position names
	stored string // the log that this position is stored under
}

func (o *opened) close() {
	if o.stream != nil {
		o.stream.Close()
	}
	o.fd.Close()
}

func further(a, b *opened) (more, less *opened) {
	if a.at.off >= b.at.off {
		return a, b
	}
	return b, a
}

// openSibling opens s at its beginning. nil: it can't be read. moved: it is no longer where it was listed.
func openSibling(s sibling) (o *opened, moved bool) {
	fd, st, err := openFile(s.path)
	if err != nil {
		return nil, missing(err)
	}
	if idOfStat(&st) != s.id {
		fd.Close()
		return nil, true
	}
	o = &opened{s: s, fd: fd, size: st.Size, at: mark{mod: st.Mtim.Nano()}}
	if s.packed != "" {
		if o.stream, err = unpack(fd, s.packed); err != nil {
			fd.Close()
			return nil, false
		}
	}
	return o, false
}

// openAt opens s if m is a place in it.
func openAt(s sibling, m mark) (o *opened, moved bool) {
	if s.packed == "" && s.size < m.off {
		return nil, false
	}
	o, moved = openSibling(s)
	if o == nil {
		return nil, moved
	}
	if o.stream != nil && m.holdsStream(o.stream) || o.stream == nil && m.holds(o.fd, o.size) {
		o.at = mark{off: m.off, head: slices.Clone(m.head), tail: slices.Clone(m.tail), mod: o.at.mod}
		return o, false
	}
	o.close()
	return nil, false
}

// find looks for the file that m is a place in: by inode first, then for a copy of it by what it holds, the newest
// sibling first; at last for the inode under any other name. moved: it may have been missed.
func (c *chain) find(sibs []sibling, id fileID, m mark) (index int, o *opened, moved bool) {
	try := func(s sibling, want bool) bool {
		if !want || c.taken(s.id) {
			return false
		}
		may, mv := c.mayHold(s, m)
		if may {
			o, mv = openAt(s, m)
		}
		moved = moved || mv
		return o != nil
	}
	for i, s := range sibs {
		if try(s, s.id == id) {
			o.found = true
			return i, o, false
		}
	}
	for i, s := range slices.Backward(sibs) {
		if try(s, m.tells() && s.id != id && s.mod >= m.mod-2*slack) {
			return i, o, false
		}
	}
	if id != (fileID{}) {
		for i, s := range strays(c.baseName()) {
			if try(s, s.id == id) {
				o.found = true
				return -1 - i, o, false
			}
		}
	}
	return 0, nil, moved
}

// taken reports whether the file is read already, by this chain or another one.
func (c *chain) taken(id fileID) bool {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	g := c.f.files[id]
	return g != nil && !g.over
}

// read reports whether id is a file that this chain has read to its end. One that had nothing to read does not count: what
// was in it before it was truncated may be in a copy that nobody has looked for yet.
func (c *chain) read(id fileID) bool {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	g := c.f.files[id]
	return g != nil && g.chain == c && !g.fresh && !slices.Contains(c.queue, g)
}

// adopt registers o as a file of the chain; nil if somebody else reads it already.
func (c *chain) adopt(o *opened) *file {
	f := c.f
	g := &file{id: o.s.id, chain: c, fd: o.fd, mark: o.at, packed: o.s.packed, stream: o.stream, start: o.size,
		paths: map[string]bool{}, names: c.names(), exact: o.found, stored: o.stored, grew: time.Now()}
	g.seenSize.Store(o.size)
	f.mu.Lock()
	defer f.mu.Unlock()
	if have := f.files[g.id]; have != nil && !have.over {
		o.close()
		return nil
	}
	if f.wants(o.s.path) && o.s.packed == "" {
		g.paths[o.s.path] = true
		g.names = append(slices.Clone(g.names), o.s.path)
		slices.Sort(g.names)
	}
	f.files[g.id] = g
	c.seen[g.id] = traceOf(o.s)
	c.busy.Store(true)
	g.noteOff()
	if g.packed == "" {
		f.watchFile(g)
	}
	return g
}

// readOld reads a generation that is no longer the log's file. One that may still be written to is watched for a while.
func (c *chain) readOld(ctx context.Context, g *file) error {
	if err := c.drain(ctx, g); err != nil {
		return err
	}
	if g.packed == "" && !g.over && (g.exact || time.Since(time.Unix(0, g.mod)) < c.f.opts.Grace) {
		c.remember(g.id, g.mark)
		c.late = append(c.late, g)
		return nil
	}
	return c.finish(ctx, g)
}

// fromStart has look read o from its beginning, without moving its place.
func (o *opened) fromStart(look func(io.Reader) bool) bool {
	if o.stream == nil {
		return look(wholeOf(o.fd))
	}
	r, err := unpack(o.fd, o.s.packed)
	if err != nil {
		return false
	}
	defer r.Close()
	return look(r)
}

func wholeOf(f *os.File) io.Reader { return io.NewSectionReader(f, 0, 1<<62) }

// indexOf is where id is among sibs, their number if it is none of them.
func indexOf(sibs []sibling, id fileID) int {
	if i := slices.IndexFunc(sibs, func(s sibling) bool { return s.id == id }); i >= 0 {
		return i
	}
	return len(sibs)
}
