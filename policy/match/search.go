package match

import "bytes"

// A needle is a literal made ready to be looked for.
type needle struct {
	text   []byte
	fold   bool
	anchor int     // index of the byte of text that is looked for
	either [2]byte // and its two cases, if fold
}

func newNeedle(l literal) needle {
	n := needle{text: []byte(l.text), fold: l.fold}
	n.aim(frequency)
	return n
}

// aim makes the byte the anchor that is the rarest. It returns how often a search will stop there.
func (n *needle) aim(frequency func(byte) int) (stops int) {
	cost := func(c byte) int {
		if n.fold && isLetter(c) {
			return frequency(c) + frequency(c^0x20)
		}
		return frequency(c)
	}
	n.anchor = 0
	for i, c := range n.text {
		if cost(c) < cost(n.text[n.anchor]) {
			n.anchor = i
		}
	}
	c := n.text[n.anchor]
	n.either = [2]byte{c, c}
	if n.fold && isLetter(c) {
		n.either[1] = c ^ 0x20
	}
	return cost(c)
}

// index is where the needle is first in b, or -1.
func (n *needle) index(b []byte) int {
	if n.fold {
		at, _ := n.indexFold(b)
		return at
	}
	c := n.text[n.anchor]
	for i := n.anchor; i < len(b); i++ {
		next := bytes.IndexByte(b[i:], c)
		if next < 0 {
			break
		}
		i += next
		if from := i - n.anchor; len(b)-from >= len(n.text) && string(b[from:from+len(n.text)]) == string(n.text) {
			return from
		}
	}
	return -1
}

// foldWindow is how far ahead both cases of an anchor are looked for at once: a case that never occurs must not cost
// a search to the end of the block for each occurrence of the other.
const foldWindow = 512

// indexFold is index for a needle that folds. seen is how much of b was looked at, hardly more than up to the needle:
// so that searching on from each of many finds takes linear time.
func (n *needle) indexFold(b []byte) (at, seen int) {
	for from := n.anchor; from < len(b); {
		end := min(from+foldWindow, len(b))
		next := [2]int{-1, -1} // where each case of the anchor is next, end for nowhere
		for {
			for i, c := range n.either {
				if next[i] < from {
					next[i] = end
					if p := bytes.IndexByte(b[from:end], c); p >= 0 {
						next[i] = from + p
					}
				}
			}
			at := min(next[0], next[1])
			if at == end {
				break
			}
			if start := at - n.anchor; start+len(n.text) <= len(b) && n.equal(b[start:]) {
				return start, end
			}
			from = at + 1
		}
		from = end
	}
	return -1, len(b)
}

// at reports whether b has the needle at from.
func (n *needle) at(b []byte, from int) bool {
	if from < 0 || len(b)-from < len(n.text) {
		return false
	}
	if n.fold {
		return n.equal(b[from:])
	}
	return string(b[from:from+len(n.text)]) == string(n.text)
}

// equal reports whether b begins with the needle, whatever the case of its ASCII letters.
func (n *needle) equal(b []byte) bool {
	for i, c := range n.text {
		if b[i] != c && (!isLetter(c) || b[i]|0x20 != c) {
			return false
		}
	}
	return true
}
