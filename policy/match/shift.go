package match

import (
	"encoding/binary"
	"math"
	"slices"
)

// A shifter looks for several needles in one pass, however many there are (Wu and Manber's way): of each needle it
// knows a window, all of the same width, and goes over the text in steps as wide as the pair of bytes at hand allows.
type shifter struct {
	needles []needle
	width   int
	shift   [pairs]uint8  // how far a window's end can be from a pair, at least; 0: one may end with it
	ends    [256][]window // by a hash of the pair that a window ends with
}

// pairs is how many pairs of bytes are told apart: all of ASCII.
const pairs = 1 << 15

// pair is the number of the two bytes that b begins with.
func pair(b []byte) uint16 { return binary.LittleEndian.Uint16(b) & (pairs - 1) }

// A window is a part of a needle.
type window struct {
	needle int
	offset int   // in the needle
	first  uint8 // the byte that it begins with, as small letters if the needle folds
	fold   uint8 // 0x20 then
}

// hash is where in shifter.ends the windows are that end with a pair.
func hash(p uint16) uint8 { return uint8(p ^ p>>8*31) }

// maxWidth is the width of windows at the most: it must fit a shift.
const maxWidth = 32

// newShifter makes a shifter for those of needles that which says. frequency tells how often a byte is in the text: the
// windows are chosen to have rare ones.
func newShifter(needles []needle, which []int, frequency func(byte) int) *shifter {
	g := &shifter{needles: needles, width: maxWidth}
	for _, i := range which {
		g.width = min(g.width, len(needles[i].text))
	}
	for i := range g.shift {
		g.shift[i] = uint8(g.width - 1)
	}
	for _, i := range which {
		g.add(i, frequency)
	}
	return g
}

func (g *shifter) add(i int, frequency func(byte) int) {
	n := &g.needles[i]
	best, least := 0, math.Inf(1)
	for offset := 0; offset+g.width <= len(n.text); offset++ {
		sum := 0.0
		for j := 1; j < g.width; j++ { // a pair costs more the nearer to the window's beginning it is
			a, b := n.text[offset+j-1], n.text[offset+j]
			weight := j
			if j == g.width-1 {
				weight *= 4 // the search stops there
			}
			sum += float64(1+frequency(a)) * float64(1+frequency(b)) * float64(weight)
		}
		if sum < least {
			best, least = offset, sum
		}
	}
	for j := 1; j < g.width; j++ {
		for _, a := range n.cases(best + j - 1) {
			for _, b := range n.cases(best + j) {
				p := pair([]byte{a, b})
				g.shift[p] = min(g.shift[p], uint8(g.width-1-j))
				if j == g.width-1 {
					g.end(p, n, window{needle: i, offset: best})
				}
			}
		}
	}
}

// end notes that windows of n end with p.
func (g *shifter) end(p uint16, n *needle, w window) {
	w.first = n.text[w.offset]
	if n.fold && isLetter(w.first) {
		w.fold = 0x20
	}
	if list := &g.ends[hash(p)]; !slices.Contains(*list, w) {
		*list = append(*list, w)
	}
}

// cases are the bytes that stand for the one at i.
func (n *needle) cases(i int) []byte {
	if c := n.text[i]; n.fold && isLetter(c) {
		return []byte{c, c ^ 0x20}
	}
	return n.text[i : i+1]
}

// find looks for the first window in b that begins at from or later and is a needle's, and notes in next where the needles
// are whose windows it is. It returns where the window begins, or -1.
func (g *shifter) find(b []byte, from int, next []int) int {
	for end := from + g.width - 1; end < len(b); {
		p := pair(b[end-1 : end+1])
		if skip := g.shift[p]; skip > 0 {
			end += int(skip)
			continue
		}
		at, found := end-g.width+1, false
		for _, w := range g.ends[hash(p)] {
			if b[at]|w.fold == w.first && g.needles[w.needle].at(b, at-w.offset) {
				next[w.needle] = at - w.offset
				found = true
			}
		}
		if found {
			return at
		}
		end++
	}
	return -1
}

// probes is how often find looks into a text, and how often it stops to compare.
func (g *shifter) probes(b []byte) (looks, stops int) {
	for end := g.width - 1; end < len(b); {
		looks++
		skip := int(g.shift[pair(b[end-1:end+1])])
		if skip == 0 {
			stops++
			skip = 1
		}
		end += skip
	}
	return looks, stops
}
