package match

import "bytes"

// An anchor is two bytes at a distance. A needle is looked for by those two of it that are together the rarest: one byte
// alone, though rare, may be in every other line, and each stop there costs as much as a line to pass.
type anchor struct {
	gap  int     // from the first to the second
	want [2]byte // as small letters where case does not matter
	fold [2]byte // 0x20 there
	rare int     // which of the two is the rarer
}

// has reports whether the anchor is at i, i+gap being in b.
func (a *anchor) has(b []byte, i int) bool {
	return b[i]|a.fold[0] == a.want[0] && b[i+a.gap]|a.fold[1] == a.want[1]
}

// index is the first place in b where the anchor is, or -1.
func (a *anchor) index(b []byte) int {
	n := len(b) - a.gap // places
	if !wide || n < 32 {
		return a.indexByte(b)
	}
	most := n &^ 31
	if at := indexAVX2(&b[0], most, a.gap, a.want[0], a.want[1], a.fold[0], a.fold[1]); at >= 0 {
		return at
	}
	if most < n { // the last 32: some of them once more
		if at := indexAVX2(&b[n-32], 32, a.gap, a.want[0], a.want[1], a.fold[0], a.fold[1]); at >= 0 {
			return n - 32 + at
		}
	}
	return -1
}

// foldWindow is how far ahead both cases of a byte are looked for at once: a case that never occurs must not cost a
// search to the end of the block for each occurrence of the other.
const foldWindow = 512

// indexByte is index on any processor: it looks for the rarer of the two bytes.
func (a *anchor) indexByte(b []byte) int {
	off := a.rare * a.gap
	c, fold := a.want[a.rare], a.fold[a.rare]
	for from, end := off, len(b)-a.gap+off; from < end; {
		window := b[from:end]
		if fold != 0 {
			window = window[:min(len(window), foldWindow)]
		}
		next := bytes.IndexByte(window, c)
		if fold != 0 {
			if next >= 0 {
				window = window[:next]
			}
			if other := bytes.IndexByte(window, c^fold); other >= 0 {
				next = other
			}
		}
		if next < 0 {
			from += len(window)
			continue
		}
		if i := from + next - off; a.has(b, i) {
			return i
		}
		from += next + 1
	}
	return -1
}

// count is how often the anchor is in b, if that is less than most.
func (a *anchor) count(b []byte, most int) (n int) {
	for pos := 0; n < most; n++ {
		at := a.index(b[pos:])
		if at < 0 {
			break
		}
		pos += at + 1
	}
	return n
}
