package follow

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"banset/cmd/internal/source"
)

const (
	// blockSize is how much is read at once.
	blockSize = 256 << 10
	// pieceSize is enough for what waits most of the time. Like blockSize it holds a line of source.MaxLine with room
	// to spare: a read that ends in no line's end must be long enough to call the line too long.
	pieceSize = source.MaxLine + 4<<10
	// burstSize is how much of what was just written is told to be one burst: the failures of ten thousand hosts that one
	// write brought are banned in one transaction.
	burstSize = 2 << 20
	// trickle is how much may wait for hpcloud/tail to read it.
	trickle = 16 << 10
	// flood is the time between two reads of a file below which blocks take over: a thousand wake-ups a second are
	// no trickle.
	flood = time.Millisecond
)

// blocks and pieces are buffers with room for the fingerprint before what is read and for a '\n' behind it.
var (
	blocks = sync.Pool{New: func() any { b := make([]byte, printLen+blockSize+1); return &b }}
	pieces = sync.Pool{New: func() any { b := make([]byte, printLen+pieceSize+1); return &b }}
)

// small are buffers for hpcloud's lines.
var small = sync.Pool{New: func() any { b := make([]byte, 0, 2*trickle); return &b }}

// errChanged says that what we read is not the continuation of what we had read.
var errChanged = errors.New("the file was truncated")

// drain reads g to its end. What can't be read now is tried again at the next ring; an error is the handler's.
func (c *chain) drain(ctx context.Context, g *file) error {
	if g.over {
		return nil
	}
	if g.packed != "" {
		return c.drainPacked(ctx, g)
	}
	for ctx.Err() == nil {
		more, err := c.readOn(ctx, g)
		if errors.Is(err, errChanged) && !slices.Contains(c.queue, g) {
			// A rotated file was written over, most likely by a copy of the log of today.
			c.close(g)
			return nil
		}
		if errors.Is(err, errChanged) {
			if err = c.truncated(ctx, g); err == nil {
				continue
			}
		}
		var ioErr readError
		if errors.As(err, &ioErr) {
			c.fail(err)
			return nil
		}
		if err != nil {
			return err
		}
		if !more {
			c.failed.Store(nil)
			c.leave(g)
			return nil
		}
	}
	return ctx.Err()
}

// A readError is one of the file, not of the handler.
type readError struct{ error }

func (e readError) Unwrap() error { return e.error }

func (c *chain) fail(err error) {
	if c.failed.Swap(&err) == nil {
		c.f.ringNames() // from now on the overseer has to look more often
		c.f.log.Warn("log can't be read, trying again", "log", c.path(), "error", err)
	}
}

// leave drops the names that g had only for what it held then.
func (c *chain) leave(g *file) {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	if len(g.leaving) > 0 {
		g.names = slices.DeleteFunc(slices.Clone(g.names), func(n string) bool { return slices.Contains(g.leaving, n) })
		g.leaving = nil
	}
}

// readOn reads one helping from g and delivers it. more says that it may not have been the last.
func (c *chain) readOn(ctx context.Context, g *file) (more bool, err error) {
	st, err := g.stat()
	if err != nil {
		return false, readError{err}
	}
	// From here on the slow look rings only for what comes after this.
	g.seenSize.Store(st.Size)
	g.seenMod.Store(st.Mtim.Nano())
	if !g.holds(g.fd, st.Size) {
		return false, errChanged
	}
	g.mod = st.Mtim.Nano()
	if g.off == 0 && g.skipHole() {
		return true, nil
	}
	wait := st.Size - g.off
	if wait == 0 {
		return false, nil
	}
	live := g.off >= g.start
	if !live {
		wait = min(wait, g.start-g.off)
	} else if g.scanned > g.off && wait <= source.MaxLine {
		// An unfinished line grew: only what came needs to be looked at.
		ended, err := g.ends(st.Size)
		if err != nil || !ended {
			return false, err
		}
	}
	now := time.Now()
	tail := live && wait <= trickle && !g.inside() && now.Sub(g.read) > flood && !c.f.noTail
	g.read = now
	var used int
	if tail {
		g.burst = 0
		used, err = c.readTail(ctx, g)
	}
	if !tail || errors.Is(err, errNoTail) {
		if live && (g.off >= g.burst || g.burst > st.Size) {
			g.burst = g.off + min(wait, burstSize)
		}
		used, err = c.readBlock(ctx, g, int(min(wait, blockSize)), live)
	}
	switch {
	case err != nil:
		return false, err
	case used > 0:
		g.grew = now
		return true, nil
	case !live:
		g.start = g.off // the backlog ends within a line, which is live once it is finished
		g.noteOff()
		return true, nil
	}
	return false, nil
}

// skipHole moves the place behind a hole at the file's beginning. A program that does not open its log for appending
// goes on after a copytruncate where it was, and what lies before that was never written. It reports whether it moved.
func (g *file) skipHole() bool {
	fd := int(g.fd.Fd())
	data, err := unix.Seek(fd, 0, unix.SEEK_DATA)
	if err != nil || data == 0 {
		return false
	}
	// The hole ends with a file system's block, and zeros fill the rest up to what was written.
	var buf [4 << 10]byte
	for {
		n, _ := g.fd.ReadAt(buf[:], data)
		zeros := n - len(bytes.TrimLeft(buf[:n], "\x00"))
		data += int64(zeros)
		if n == 0 || zeros < n {
			break
		}
	}
	g.mark = mark{off: data, mod: g.mod}
	g.noteOff()
	return true
}

// ends looks for the end of the unfinished line in what came since the last look.
func (g *file) ends(size int64) (bool, error) {
	var buf [4 << 10]byte
	for g.scanned < size {
		n, err := g.fd.ReadAt(buf[:min(int64(len(buf)), size-g.scanned)], g.scanned)
		if bytes.IndexByte(buf[:n], '\n') >= 0 {
			return true, nil
		}
		g.scanned += int64(n)
		if n == 0 {
			if err != nil && !errors.Is(err, io.EOF) {
				return false, readError{err}
			}
			return false, nil
		}
	}
	return false, nil
}

// readBlock reads up to n bytes together with the fingerprint before them, so that both are of one content.
func (c *chain) readBlock(ctx context.Context, g *file, n int, live bool) (int, error) {
	pool := &blocks
	if n <= pieceSize {
		pool = &pieces
	}
	buf := pool.Get().(*[]byte)
	defer pool.Put(buf)
	pre := len(g.tail)
	b := (*buf)[:pre+n]
	got, err := g.fd.ReadAt(b, g.off-int64(pre))
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, readError{err}
	}
	if got < pre || !bytes.Equal(b[:pre], g.tail) {
		return 0, errChanged
	}
	raw := b[pre:got]
	g.scanned = g.off + int64(len(raw))
	return c.deliver(ctx, g, raw, live, false)
}

// errNoTail says that hpcloud/tail can't do it here.
var errNoTail = errors.New("can't be read by tail")

// readTail has hpcloud/tail read to the end. Its last line may be one that has no end yet, and the file may have been
// truncated under it: what it read counts only as far as it lies between fingerprints that still hold.
func (c *chain) readTail(ctx context.Context, g *file) (int, error) {
	buf := small.Get().(*[]byte)
	defer small.Put(buf)
	t := g.next
	if t == nil || t.off != g.off {
		c.f.unhold(g)
		var err error
		if t, err = newTailer(g.fd, g.off); err != nil {
			return 0, errNoTail
		}
	} else {
		g.next = nil
		c.f.held.Add(-1)
	}
	raw, err := t.read(source.MaxLine, (*buf)[:0])
	if err != nil {
		return 0, errNoTail
	}
	if cap(raw) <= 4*source.MaxLine {
		*buf = raw[:0]
	}
	if len(raw) == 0 {
		return 0, nil
	}
	g.scanned = g.off
	if !g.endsLike(raw) {
		g.scanned += int64(len(raw) - 1)
		raw = raw[:bytes.LastIndexByte(raw[:len(raw)-1], '\n')+1]
		if len(raw) > 0 && !g.endsLike(raw) {
			return 0, errChanged
		}
	}
	var pre [printLen]byte
	if !sameAt(g.fd, g.off-int64(len(g.tail)), g.tail, pre[:]) {
		return 0, errChanged
	}
	c.f.tailed.Add(uint64(bytes.Count(raw, newline)))
	used, err := c.deliver(ctx, g, raw, true, false)
	if err == nil && g.next == nil && c.f.held.Load() < maxHeld {
		if g.next, _ = newTailer(g.fd, g.off); g.next != nil {
			c.f.held.Add(1)
		}
	}
	return used, err
}

// maxHeld is the most tailers that wait for a line: each has a descriptor.
const maxHeld = 64

// unhold closes what waits to read g.
func (f *Follower) unhold(g *file) {
	if g.next != nil {
		g.next.close()
		g.next = nil
		f.held.Add(-1)
	}
}

// endsLike reports whether the file has the last bytes of raw, read from g's place, where they must be.
func (g *file) endsLike(raw []byte) bool {
	var buf [printLen]byte
	n := min(len(raw), printLen)
	return sameAt(g.fd, g.off+int64(len(raw)-n), raw[len(raw)-n:], buf[:])
}

// drainPacked reads g, which is compressed and so will not change, to its end.
func (c *chain) drainPacked(ctx context.Context, g *file) error {
	if g.stream == nil {
		return nil // read already
	}
	buf := blocks.Get().(*[]byte)
	defer blocks.Put(buf)
	b, have := *buf, 0
	for ctx.Err() == nil {
		n, err := fill(g.stream, b[have:blockSize])
		have += n
		ended := errors.Is(err, io.EOF)
		used, herr := c.deliver(ctx, g, b[:have], false, ended)
		if herr != nil {
			return herr
		}
		have = copy(b, b[used:have])
		g.backlog.Store(max(0, g.seenSize.Load()-g.stream.in.n))
		if err != nil {
			if !ended {
				c.f.log.Warn("rotated log is damaged, the rest of it is lost", "log", c.path(), "file", g.fd.Name(),
					"error", err)
			}
			g.stream.Close()
			g.stream = nil
			return nil
		}
	}
	return ctx.Err()
}

// fill reads until buf is full. Unlike io.ReadFull it gives a reader's own error, so that a file that was cut off can be
// told from one that ended.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}

// flush delivers the unfinished line at the end of g, to which nobody writes any more.
func (c *chain) flush(ctx context.Context, g *file) error {
	if g.packed != "" || g.fd == nil {
		return nil
	}
	st, err := g.stat()
	if err != nil || st.Size <= g.off {
		return nil
	}
	buf := blocks.Get().(*[]byte)
	defer blocks.Put(buf)
	n, _ := g.fd.ReadAt((*buf)[:min(st.Size-g.off, blockSize)], g.off)
	_, err = c.deliver(ctx, g, (*buf)[:n], g.off >= g.start, true)
	return err
}

// deliver hands over the whole lines of raw, the bytes at g's place, and moves the place behind them. It returns how many
// bytes that were. It changes raw up to there and may use one byte behind it. final: nothing will follow raw.
func (c *chain) deliver(ctx context.Context, g *file, raw []byte, live, final bool) (int, error) {
	used, _ := span(raw, g.inside(), final)
	if used == 0 {
		return 0, nil
	}
	if g.fresh {
		// Reading raw pinned which generation this is: those before it that nobody saw have copies by now.
		if err := c.catchUp(ctx, g, raw); err != nil {
			return 0, err
		}
		g.fresh = false
	}
	skip, more := g.inside(), live && g.off+int64(len(raw)) < g.burst
	raw = raw[:used]
	g.advance(raw)
	g.noteOff()
	lines, cut := shape(raw, skip)
	c.bytes.Add(uint64(used))
	if cut > 0 {
		if c.cut.Add(cut) == cut {
			c.f.log.Warn("log has lines that are too long, only their beginning is read", "log", c.path(),
				"limit", source.MaxLine)
		}
	}
	if len(lines) == 0 {
		return used, nil
	}
	c.f.mu.Lock()
	names := g.names
	c.f.mu.Unlock()
	c.mu.Lock()
	done := c.done
	c.done = nil
	c.mu.Unlock()
	next := g.position()
	if g.stored != "" && g.stored != next.Path {
		done = append(done, source.Position{Path: g.stored, Dev: next.Dev, Ino: next.Ino})
	}
	g.stored = next.Path
	now := time.Now()
	c.lines.Add(uint64(bytes.Count(lines, newline)))
	c.last.Store(uint64(now.UnixNano()))
	return used, c.h(ctx, source.Chunk{
		Names: names, Lines: lines, Live: live, More: more, Arrived: now, Next: next, Done: done,
	})
}

var newline = []byte("\n")
