package follow

import (
	"bytes"
	"io"

	"banset/cmd/internal/source"
)

// printLen is how much of a file's beginning, and of what was read last, tells it from another one.
const printLen = 64

// A fileID is what a file keeps through a rename.
type fileID struct{ dev, ino uint64 }

func idOf(p source.Position) fileID { return fileID{p.Dev, p.Ino} }

// A mark is a place in a file and the fingerprint of what lies before it.
type mark struct {
	off        int64
	head, tail []byte
	mod        int64 // the file's modification time at the last read, in nanoseconds
}

// markOf reads a position that was stored; one that makes no sense gives a mark that no file holds, or the beginning.
func markOf(p source.Position) mark {
	off := max(0, p.Offset)
	n := int(min(off, printLen))
	head, tail := p.Head[:min(len(p.Head), n)], p.Tail[max(0, len(p.Tail)-n):]
	return mark{off: off, head: bytes.Clone(head), tail: bytes.Clone(tail), mod: p.Mod}
}

// advance moves the place over raw, the bytes that follow it.
func (m *mark) advance(raw []byte) {
	if n := printLen - len(m.head); n > 0 && int64(len(m.head)) == m.off {
		m.head = append(m.head, raw[:min(n, len(raw))]...)
	}
	if len(raw) >= printLen {
		m.tail = append(m.tail[:0], raw[len(raw)-printLen:]...)
	} else {
		m.tail = append(m.tail, raw...)
		if over := len(m.tail) - printLen; over > 0 {
			m.tail = m.tail[:copy(m.tail, m.tail[over:])]
		}
	}
	m.off += int64(len(raw))
}

// inside reports whether the place is within a line whose head was handed over already. The fingerprint tells, so
// nothing else need be stored for it.
func (m *mark) inside() bool { return len(m.tail) > 0 && m.tail[len(m.tail)-1] != '\n' }

// holds reports whether r, size bytes long, is the file that m is a place in: not another one with a re-used inode, not
// truncated, not truncated and grown again.
func (m *mark) holds(r io.ReaderAt, size int64) bool {
	if size < m.off {
		return false
	}
	var buf [printLen]byte
	return sameAt(r, 0, m.head, buf[:]) && sameAt(r, m.off-int64(len(m.tail)), m.tail, buf[:])
}

// tells reports whether what lies before the place is enough to know a copy by: empty lines alone are not.
func (m *mark) tells() bool { return len(bytes.Trim(m.head, "\r\n")) > 0 }

// holdsStream is holds for content that can only be read once. It leaves r at the place.
func (m *mark) holdsStream(r io.Reader) bool {
	var buf [printLen]byte
	head := buf[:len(m.head)]
	if _, err := io.ReadFull(r, head); err != nil || !bytes.Equal(head, m.head) {
		return false
	}
	gap := m.off - int64(len(m.head)) - int64(len(m.tail))
	if gap < 0 {
		// Head and tail overlap: what of the tail lies behind the head is still to be read.
		part := m.tail[min(int64(len(m.tail)), -gap):]
		got := make([]byte, len(part))
		_, err := io.ReadFull(r, got)
		return err == nil && bytes.Equal(got, part)
	}
	if _, err := io.CopyN(io.Discard, r, gap); err != nil {
		return false
	}
	tail := buf[:len(m.tail)]
	_, err := io.ReadFull(r, tail)
	return err == nil && bytes.Equal(tail, m.tail)
}

func sameAt(r io.ReaderAt, off int64, want, buf []byte) bool {
	if len(want) == 0 {
		return true
	}
	if off < 0 || len(want) > len(buf) {
		return false
	}
	n, _ := r.ReadAt(buf[:len(want)], off)
	return bytes.Equal(buf[:n], want)
}
