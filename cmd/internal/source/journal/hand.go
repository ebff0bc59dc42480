package journal

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"banset/cmd/internal/source"
)

// batch is how much text is handed over at once at the most.
const batch = 64 << 10

// errAgain says that journalctl did not give all there is, and is to be asked again from the last place on.
//
// It reads a directory and opens the files one after the other: one that is renamed meanwhile, as each rotation does, can
// be missed under both names, and what follows it is then taken for the next entry.
//
// And it leaves out a field whose data object is just being linked to the entry: the entry can be found by then, and an
// object with an entry but a count of zero is taken for damaged (link_entry_item and check_object in systemd's
// journal-file.c). That is a matter of nanoseconds, unless the writer loses its processor just then.
var errAgain = errors.New("journalctl did not give all there is")

// beforeAgain is how long who moves files or writes an entry is given before all is read again for the second time; after
// one that followed it is read at once.
const beforeAgain = 100 * time.Millisecond

// partial reports whether an entry may lack what its writer is about to link: nobody knows but by another look or two.
func (j *Journal) partial(e *entry, at id) bool {
	nameless := len(e.ident) == 0
	if e.complete && (!nameless || j.nameless) || time.Since(time.UnixMicro(int64(at.real))).Abs() > time.Minute {
		return false
	}
	if j.doubted != at {
		j.doubted, j.looks = at, 0
	}
	if j.looks++; j.looks <= 2 {
		return true
	}
	j.nameless = j.nameless || e.complete && nameless // so it is, and so are others
	return false
}

// hand hands over what a journalctl prints, up to its end. It returns the time of the first entry that it handed over,
// and whether there was any, new or not. Before anything else it makes sure that journalctl has all files. It may return errAgain.
func (j *Journal) hand(ctx context.Context, c *child, h source.Handler, live bool) (first time.Time, seen bool, err error) {
	in := newExportReader(c.out)
	var e entry
	var lines []byte
	var bytes, count, cut uint64
	past := false
	at := j.place
	flush := func() error {
		if len(lines) == 0 {
			j.place = at // entries without a message
			return nil
		}
		now := time.Now()
		j.mu.Lock()
		j.inside, j.doubts = true, 0
		j.status.Lines += count
		j.status.Bytes += bytes
		if cut > 0 && j.status.Cut == 0 {
			j.log.Warn("journal has entries that are too long, only their beginning is read", "log", j.name,
				"limit", source.MaxLine)
		}
		j.status.Cut += cut
		j.status.LastLine = now
		j.mu.Unlock()
		err := h(ctx, source.Chunk{
			Names: j.names, Lines: lines, Live: live, Arrived: now, Next: at.position(j.opts.Key),
		})
		j.mu.Lock()
		j.inside, j.last = false, time.Now()
		j.mu.Unlock()
		lines, bytes, count, cut = lines[:0], 0, 0, 0
		if err == nil {
			j.place = at
		}
		return err
	}
	for {
		err := in.read(&e)
		if !seen && !slices.Equal(c.files, j.watch.files()) {
			c.stop()
			return first, seen, errAgain
		}
		switch {
		case errors.Is(err, errFormat):
			c.stop()
			return first, seen, &readError{errors.Join(flush(), err)}
		case err != nil: // the end, or the pipe was closed
			return first, seen, errors.Join(flush(), cause(err))
		}
		seen = true
		next := place{cursor: string(e.cursor), id: parseCursor(string(e.cursor))}
		if at.before(next.id, past) {
			past = past || at.same(next.id)
			continue
		}
		if j.partial(&e, next.id) {
			c.stop()
			if err := flush(); err != nil {
				return first, seen, err
			}
			return first, seen, errAgain
		}
		at = next
		if e.complete {
			if first.IsZero() {
				first = time.UnixMicro(int64(next.real))
			}
			from, long := len(lines), false
			lines, long = e.appendLine(lines)
			bytes += uint64(len(lines) - from)
			count++
			if long {
				cut++
			}
		}
		if len(lines) >= batch || !in.more() {
			if err := flush(); err != nil {
				return first, seen, err
			}
		}
	}
}

// cause is an error of the pipe; its end is none.
func cause(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return &readError{err}
}
