package match

import (
	"math"
	"slices"
)

// A needle is a literal made ready to be looked for.
type needle struct {
	text   []byte
	fold   bool
	anchor anchor
	offset int // of the anchor in text
}

func newNeedle(l literal) needle {
	n := needle{text: []byte(l.text), fold: l.fold}
	n.aim(frequency, nil)
	return n
}

// fewRarest is how many bytes of a needle are tried as anchors, two by two.
const fewRarest = 4

// aim chooses the anchor. frequency tells how often a byte is in the text, and sample is a part of it. It returns how often a
// search in the sample would stop.
func (n *needle) aim(frequency func(byte) int, sample []byte) (stops int) {
	often := func(i int) int {
		c := n.text[i]
		if n.fold && isLetter(c) {
			return frequency(c) + frequency(c^0x20)
		}
		return frequency(c)
	}
	rarest := make([]int, len(n.text))
	for i := range rarest {
		rarest[i] = i
	}
	slices.SortStableFunc(rarest, func(i, j int) int { return often(i) - often(j) })
	rarest = rarest[:min(len(rarest), fewRarest)]
	stops = math.MaxInt
	for second := 1; second < len(rarest); second++ {
		for _, i := range rarest[:second] {
			a := n.anchorOf(i, rarest[second])
			if k := a.count(sample, stops); k < stops {
				n.anchor, n.offset, stops = a, min(i, rarest[second]), k
			}
		}
	}
	if !wide {
		return often(rarest[0])
	}
	return stops
}

// anchorOf is the anchor of two bytes of the needle, the rarer one first.
func (n *needle) anchorOf(i, j int) (a anchor) {
	if i > j {
		i, j, a.rare = j, i, 1
	}
	a.gap = j - i
	for k, c := range [2]byte{n.text[i], n.text[j]} {
		a.want[k] = c
		if n.fold && isLetter(c) {
			a.fold[k] = 0x20
		}
	}
	return a
}

// index is where the needle is first in b, or -1.
func (n *needle) index(b []byte) int {
	for pos := 0; len(b)-pos >= len(n.text); {
		at := n.anchor.index(b[pos+n.offset:])
		if at < 0 {
			break
		}
		if pos += at; n.at(b, pos) {
			return pos
		}
		pos++
	}
	return -1
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
