package follow

import (
	"bytes"
	"context"
	"io"
	"slices"
	"time"
)

// truncated is called when g, which is open, no longer holds what was read from it. What was cut off before it was read
// is in the copy that was made of it, if any was.
func (c *chain) truncated(ctx context.Context, g *file) error {
	old, was := g.position(), g.mark
	c.rotated.Add(1)
	was.head, was.tail = slices.Clone(was.head), slices.Clone(was.tail)
	c.remember(g.id, was)
	_, o, moved := c.find(siblings(c.baseName()), fileID{}, was)
	for try := 0; moved && try < 50 && ctx.Err() == nil; try++ {
		time.Sleep(time.Millisecond)
		_, o, moved = c.find(siblings(c.baseName()), fileID{}, was)
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
	again, err := true, error(nil)
	for try := 0; again && err == nil && try < 50 && ctx.Err() == nil; try++ {
		if try > 0 {
			time.Sleep(time.Millisecond) // a sibling was renamed under us
		}
		again, err = c.catchUpOnce(ctx, g, raw)
	}
	return err
}

func (c *chain) catchUpOnce(ctx context.Context, g *file, raw []byte) (again bool, err error) {
	sibs := siblings(c.baseName())
	// A sibling may be one of ours, compressed: whatever was opened before that is in the queue now.
	c.f.mu.Lock()
	c.take()
	c.f.mu.Unlock()
	c.forget(sibs)
	older := sibs[:c.ordinal(sibs, g, raw)]
	// What was missed is newer than everything we know.
	for i, s := range slices.Backward(older) {
		if c.knows(s) || c.read(s.id) {
			older = older[i+1:]
			break
		}
	}
	for _, s := range older {
		if !c.candidate(s) || c.wasRead(s, sibs) {
			continue
		}
		o, moved := openSibling(s)
		if moved {
			return true, nil
		}
		if o == nil {
			continue
		}
		if raw != nil && c.copies(o, g, raw) || slices.ContainsFunc(c.queue, func(q *file) bool {
			return (q != g || raw == nil) && q.fd != nil && c.copies(o, q, nil)
		}) {
			o.close() // a copy of one that is still to be read: compressed, or about to be truncated
			continue
		}
		if h := c.adopt(o); h != nil {
			c.f.log.Info("log rotated more than once", "log", c.path(), "file", s.path)
			if err := c.readOld(ctx, h); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// candidate reports whether s may be a generation that nobody has read yet.
func (c *chain) candidate(s sibling) bool {
	return s.known && s.size > 0 && s.mod >= c.mod-slack && !c.taken(s.id)
}

// knows reports whether s was read, or was there before us. What compresses a file gives the result its time.
func (c *chain) knows(s sibling) bool {
	if t, ok := c.seen[s.id]; ok && t.mod == s.mod {
		return true
	}
	for _, t := range c.seen {
		if s.packed == "" || t.mod != s.mod || len(t.head) == 0 {
			continue
		}
		if text, _ := c.beginning(s); bytes.HasPrefix(text, t.head) {
			return true
		}
	}
	return false
}

// traceOf looks how s begins, unless it is compressed.
func traceOf(s sibling) trace {
	t := trace{mod: s.mod}
	if s.packed == "" {
		if fd, st, err := openFile(s.path); err == nil {
			if idOfStat(&st) == s.id {
				var head [printLen]byte
				n, _ := fd.ReadAt(head[:], 0)
				t.head = bytes.Clone(head[:n])
			}
			fd.Close()
		}
	}
	return t
}

// wasRead reports whether s, one of all, is a copy of what was read and is no longer there itself: compressed meanwhile.
func (c *chain) wasRead(s sibling, all []sibling) bool {
	o, _ := openSibling(s)
	if o == nil {
		return false
	}
	defer o.close()
	isEnd := func(e end) bool {
		may, _ := c.mayHold(s, e.mark)
		return may && e.tells() && o.is(e.mark) && (e.id == s.id || !e.among(all))
	}
	// Lines that came to a file after it was rotated are in no end yet.
	if !slices.ContainsFunc(c.past, isEnd) && !slices.ContainsFunc(c.late, func(g *file) bool { return isEnd(end{g.id, g.mark}) }) {
		return false
	}
	c.seen[s.id] = traceOf(s)
	return true
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
		if c.knows(s) || !c.candidate(s) {
			continue
		}
		if o, _ := openSibling(s); o != nil {
			is := c.copies(o, g, raw)
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

// copies reports whether o, as far as can be seen, is a copy of g, taken now or while g was shorter: g begins with all of
// it. Less will not do, because g may hold but the beginning of its first line yet, and all lines begin alike. raw, if
// given, is what g began with when we read it: if it has been truncated since, o is the copy if it begins like that and
// was not written earlier.
func (c *chain) copies(o *opened, g *file, raw []byte) bool {
	raw = raw[:min(len(raw), copied)]
	begun := func(x []byte) bool { // like raw
		n := min(len(x), len(raw))
		return n > 0 && bytes.Equal(x[:n], raw[:n])
	}
	if o.stream != nil {
		var y [printLen]byte
		x, _ := c.beginning(o.s)
		if n, _ := g.fd.ReadAt(y[:], 0); !bytes.HasPrefix(y[:n], x) && !begun(x) {
			return false
		}
	}
	return o.fromStart(func(r io.Reader) bool {
		// In this order: g may grow meanwhile, and so may the copy.
		x, _ := io.ReadAll(io.LimitReader(r, copied))
		y, _ := io.ReadAll(io.LimitReader(wholeOf(g.fd), copied))
		if len(x) == 0 || bytes.HasPrefix(y, x) {
			return len(x) > 0
		}
		return begun(x) && !bytes.HasPrefix(y, raw) && o.s.mod >= g.mod
	})
}

// is reports whether o holds what m is the end of.
func (o *opened) is(m mark) bool {
	if o.stream == nil {
		return m.holds(o.fd, o.size)
	}
	return o.fromStart(m.holdsStream)
}

// among reports whether the file that e is the end of is one of sibs itself.
func (e end) among(sibs []sibling) bool {
	i := indexOf(sibs, e.id)
	if i == len(sibs) {
		return false
	}
	o, _ := openAt(sibs[i], e.mark) // its inode may be another file's by now
	if o != nil {
		o.close()
	}
	return o != nil
}

// copied is how much of two files is compared to find that one is a copy of the other.
const copied = 64 << 10
