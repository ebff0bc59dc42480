package follow

import (
	"bytes"
	"context"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// slack is how far modification times of two files may be apart from the order in which they were written.
const slack = int64(time.Second)

// begin finds the places to resume from and reads everything older than the log's file of today, the oldest first. It
// reports false while there is nothing at all, e.g. because a file system is not mounted yet.
func (c *chain) begin(ctx context.Context) (bool, error) {
	var cur *file
	if len(c.queue) > 0 {
		cur = c.queue[0]
	}
	first := len(c.from) == 0
	if cur == nil && len(siblings(c.baseName())) == 0 && c.currentID() == (fileID{}) {
		return false, nil
	}
	sibs, places, newest, sure := c.locateAll(ctx, cur)
	if cur != nil {
		sibs = sibs[:c.ordinal(sibs, cur, nil)] // what is newer comes after it
	}
	for i, s := range sibs {
		if o := places[i]; o == nil && i > newest && copyAhead(s, c.queue) {
			continue
		}
		c.seen[s.id] = s.mod
		if places[i] != nil || !s.known || s.size == 0 {
			continue
		}
		switch {
		case first && (c.f.wants(s.path) || !c.f.opts.Since.IsZero() && s.mod >= c.f.opts.Since.UnixNano()):
		case !first && sure && i > newest:
		case !first && !sure && c.mod > 0 && s.mod >= c.mod:
		default:
			continue
		}
		if o := openSibling(s); o != nil {
			places[i] = o
		}
	}
	var olds []*file
	for _, i := range sortedKeys(places) {
		if g := c.adopt(places[i]); g != nil {
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

// locateAll looks for the places of c.from. places has what was found beside cur, by the index of the sibling, -1 and
// less for strays, which are older than all of them. newest is the index of the newest file found, len(sibs) for cur;
// sure says whether any was found.
func (c *chain) locateAll(ctx context.Context, cur *file) (sibs []sibling, places map[int]*opened, newest int, sure bool) {
	places, newest = map[int]*opened{}, -1<<30
	if len(c.from) > 0 {
		c.mod = 0
	}
	left := c.from
	for _, p := range left {
		c.mod = max(c.mod, p.Mod)
	}
	for try := 0; ; try++ {
		sibs = siblings(c.baseName())
		again := left[:0:0]
		for _, p := range left {
			m := markOf(p)
			if cur != nil && idOf(p) == cur.id {
				if st, err := cur.stat(); err == nil && m.holds(cur.fd, st.Size) {
					cur.mark, cur.fresh = m, false
					cur.noteOff()
					newest, sure = max(newest, indexOf(sibs, cur.id)), true
					continue
				}
			}
			if cur == nil && idOf(p) == c.currentID() {
				c.held = append(c.held, p)
				newest, sure = len(sibs), true
				continue
			}
			i, o := c.find(sibs, idOf(p), m)
			if o == nil {
				again = append(again, p)
				continue
			}
			if o.s.id != idOf(p) {
				c.addDone(p)
			}
			if have := places[i]; have != nil {
				o, have = further(o, have)
				have.close()
			}
			places[i] = o
			newest, sure = max(newest, i), true
		}
		left = again
		// A listing taken while files are being renamed may miss one: it is worth another look.
		if len(left) == 0 || try == 3 || ctx.Err() != nil {
			break
		}
		for _, o := range places {
			o.close()
		}
		clear(places)
		left = c.from
		c.held = nil
		newest, sure = -1<<30, false
		c.mu.Lock()
		c.done = nil
		c.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	for _, p := range left {
		c.f.log.Warn("the file that was being read is gone", "log", c.path(), "offset", p.Offset)
		c.addDone(p)
	}
	return sibs, places, newest, sure
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
			g.mark, g.fresh = m, false
			g.noteOff()
		} else {
			c.addDone(p)
		}
		return
	}
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
	found  bool // the very file that a position names
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

// openSibling opens s at its beginning; nil if it can't be read, or was exchanged since it was listed.
func openSibling(s sibling) *opened {
	fd, st, err := openFile(s.path)
	if err != nil {
		return nil
	}
	o := &opened{s: s, fd: fd, size: st.Size, at: mark{mod: st.Mtim.Nano()}}
	if idOfStat(&st) == s.id {
		if s.packed == "" {
			return o
		}
		if o.stream, err = unpack(fd, s.packed); err == nil {
			return o
		}
	}
	fd.Close()
	return nil
}

// openAt opens s if m is a place in it.
func openAt(s sibling, m mark) *opened {
	if s.packed == "" && s.size < m.off {
		return nil
	}
	o := openSibling(s)
	if o == nil {
		return nil
	}
	if o.stream != nil && m.holdsStream(o.stream) || o.stream == nil && m.holds(o.fd, o.size) {
		o.at = mark{off: m.off, head: slices.Clone(m.head), tail: slices.Clone(m.tail), mod: o.at.mod}
		return o
	}
	o.close()
	return nil
}

// find looks for the file that m is a place in: by inode first, then for a copy of it by what it holds, the newest
// sibling first; at last for the inode under any other name.
func (c *chain) find(sibs []sibling, id fileID, m mark) (int, *opened) {
	for i, s := range sibs {
		if s.id == id && !c.taken(s.id) {
			if o := openAt(s, m); o != nil {
				o.found = true
				return i, o
			}
		}
	}
	for i, s := range slices.Backward(sibs) {
		if m.off > 0 && s.id != id && !c.taken(s.id) && s.mod >= m.mod-2*slack {
			if o := openAt(s, m); o != nil {
				return i, o
			}
		}
	}
	if id == (fileID{}) {
		return 0, nil
	}
	for i, s := range strays(c.baseName()) {
		if s.id == id && !c.taken(s.id) {
			if o := openAt(s, m); o != nil {
				o.found = true
				return -1 - i, o
			}
		}
	}
	return 0, nil
}

// taken reports whether the file is read already, by this chain or another one.
func (c *chain) taken(id fileID) bool {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	g := c.f.files[id]
	return g != nil && !g.over
}

// adopt registers o as a file of the chain; nil if somebody else reads it already.
func (c *chain) adopt(o *opened) *file {
	f := c.f
	g := &file{id: o.s.id, chain: c, fd: o.fd, mark: o.at, packed: o.s.packed, stream: o.stream, start: o.size,
		paths: map[string]bool{}, names: c.names(), exact: o.found, grew: time.Now()}
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
	c.seen[g.id] = o.s.mod
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
		c.remember(g.mark)
		c.late = append(c.late, g)
		return nil
	}
	return c.finish(ctx, g)
}

// truncated is called when g, which is open, no longer holds what was read from it. What was cut off before it was read
// is in the copy that was made of it, if any was.
func (c *chain) truncated(ctx context.Context, g *file) error {
	old, was := g.position(), g.mark
	c.rotated.Add(1)
	was.head, was.tail = slices.Clone(was.head), slices.Clone(was.tail)
	c.remember(was)
	var o *opened
	for try := 0; o == nil && try < 2; try++ {
		_, o = c.find(siblings(c.baseName()), fileID{}, was)
	}
	c.f.log.Info("log truncated", "log", c.path(), "offset", old.Offset, "copy", o != nil)
	g.rewind()
	if o != nil {
		c.addDone(old)
		if h := c.adopt(o); h != nil {
			if err := c.drain(ctx, h); err != nil {
				return err
			}
			if err := c.finish(ctx, h); err != nil {
				return err
			}
		}
	}
	return c.catchUp(ctx, g, nil)
}

// catchUp reads the generations that came and went between the last file read and g, of which raw, if given, is the
// beginning and nothing was delivered yet.
func (c *chain) catchUp(ctx context.Context, g *file, raw []byte) error {
	sibs := siblings(c.baseName())
	// A sibling may be one of ours, compressed: whatever was opened before that is in the queue now.
	c.f.mu.Lock()
	c.take()
	c.f.mu.Unlock()
	for _, s := range sibs[:c.ordinal(sibs, g, raw)] {
		if !s.known || s.size == 0 || c.seen[s.id] == s.mod || s.mod < c.mod-slack || c.taken(s.id) {
			continue
		}
		o := openSibling(s)
		if o == nil {
			continue
		}
		if raw != nil && o.copies(bytes.NewReader(raw)) || slices.ContainsFunc(c.queue, func(q *file) bool {
			return (q != g || raw == nil) && q.fd != nil && o.copies(wholeOf(q.fd))
		}) {
			o.close() // a copy of one that is still to be read: compressed, or about to be truncated
			continue
		}
		if slices.ContainsFunc(c.past, func(m mark) bool { return o.is(m) }) {
			c.seen[s.id] = s.mod
			o.close() // a copy of what was read, compressed meanwhile
			continue
		}
		if h := c.adopt(o); h != nil {
			c.f.log.Info("log rotated more than once", "log", c.path(), "file", s.path)
			if err := c.readOld(ctx, h); err != nil {
				return err
			}
		}
	}
	return nil
}

// ordinal is how many of sibs are older than g, of which raw, if given, is the beginning. g may have been renamed, or even
// compressed, since it was opened.
func (c *chain) ordinal(sibs []sibling, g *file, raw []byte) int {
	if i := slices.IndexFunc(sibs, func(s sibling) bool { return s.id == g.id }); i >= 0 {
		return i
	}
	if c.currentID() == g.id {
		return len(sibs)
	}
	for i, s := range sibs {
		if s.size == 0 || c.seen[s.id] == s.mod || s.mod < c.mod-slack || c.taken(s.id) {
			continue
		}
		if o := openSibling(s); o != nil {
			whole := wholeOf(g.fd)
			if raw != nil {
				whole = bytes.NewReader(raw)
			}
			is := o.copies(whole)
			o.close()
			if is {
				return i
			}
		}
	}
	st, err := g.stat()
	if err != nil {
		return 0
	}
	return len(slices.DeleteFunc(slices.Clone(sibs), func(s sibling) bool { return s.mod > st.Mtim.Nano() }))
}

// copies reports whether o, as far as can be seen, is a copy of whole, taken now or while it was shorter.
func (o *opened) copies(whole io.Reader) bool { return samePrefix(o.beginning(), whole, copied) }

// copied is how much of two files is compared to find that one is a copy of the other.
const copied = 64 << 10

func wholeOf(f *os.File) io.Reader { return io.NewSectionReader(f, 0, 1<<62) }

// beginning reads o without moving its place.
func (o *opened) beginning() io.Reader {
	if o.stream == nil {
		return wholeOf(o.fd)
	}
	r, err := unpack(o.fd, o.s.packed)
	if err != nil {
		return bytes.NewReader(nil)
	}
	return r
}

// is reports whether o holds what m is the end of.
func (o *opened) is(m mark) bool {
	if o.stream == nil {
		return m.holds(o.fd, o.size)
	}
	return m.holdsStream(o.beginning())
}

// copyAhead reports whether s is a copy of one of the files that are still to be read.
func copyAhead(s sibling, queue []*file) bool {
	o := openSibling(s)
	if o == nil {
		return false
	}
	defer o.close()
	return slices.ContainsFunc(queue, func(q *file) bool { return q.off == 0 && o.copies(wholeOf(q.fd)) })
}

// indexOf is where id is among sibs, their number if it is none of them.
func indexOf(sibs []sibling, id fileID) int {
	if i := slices.IndexFunc(sibs, func(s sibling) bool { return s.id == id }); i >= 0 {
		return i
	}
	return len(sibs)
}

func sortedKeys(m map[int]*opened) []int {
	keys := make([]int, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
