package follow

import (
	"bytes"
	"errors"
	"io"
)

// A head is how a compressed sibling begins. To look at one costs a decompressor, some megabytes for a few bytes, and at
// a start, or when a log is rotated, the same ones are looked at again and again.
type head struct {
	size, change int64 // of the file that begins like that
	text         []byte
}

// maxHeads bounds how many are kept for a log.
const maxHeads = 256

// beginning is the first bytes of s, which is compressed: printLen or all there are. nil: it is empty, or can't be read.
// moved: it is no longer where it was listed.
func (c *chain) beginning(s sibling) (text []byte, moved bool) {
	if h, ok := c.heads[s.id]; ok && h.size == s.size && h.change == s.change {
		return h.text, false
	}
	o, moved := openSibling(s)
	if o == nil {
		return nil, moved
	}
	defer o.close()
	var buf [printLen]byte
	n, err := fill(o.stream, buf[:])
	text = bytes.Clone(buf[:n])
	if (err == nil || errors.Is(err, io.EOF)) && o.size == s.size {
		if len(c.heads) >= maxHeads {
			clear(c.heads)
		}
		c.heads[s.id] = head{s.size, s.change, text}
	}
	return text, false
}

// mayHold reports whether m may be a place in s, as far as s's beginning tells.
func (c *chain) mayHold(s sibling, m mark) (may, moved bool) {
	if s.packed == "" || len(m.head) == 0 {
		return true, false
	}
	text, moved := c.beginning(s)
	return bytes.HasPrefix(text, m.head), moved
}
