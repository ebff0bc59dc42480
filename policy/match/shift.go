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

	// The text at hand.
	spots  []spot // of the stretch that was searched last
	used   int    // how many of them are done with
	done   int    // where the next stretch begins
	second []spot // memory
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

// begin makes ready for a new text.
func (g *shifter) begin() { g.spots, g.used, g.done = g.spots[:0], 0, 0 }

// first is where in b the first line with a needle at pos or behind it has one, len(b) if there is none. pos never goes
// back.
func (g *shifter) first(b []byte, pos int) int {
	for {
		for ; g.used < len(g.spots); g.used++ {
			if at := g.spots[g.used].at; at >= pos {
				return at
			}
		}
		if g.done = max(g.done, pos); g.done >= len(b) {
			return len(b)
		}
		g.stretch(b)
	}
}

// line notes in next all needles between the place that first found and end, which is the end of its line.
func (g *shifter) line(b []byte, end int, next []int) {
	for {
		for ; g.used < len(g.spots); g.used++ {
			p := g.spots[g.used]
			if p.at >= end {
				return
			}
			next[p.needle] = p.at
		}
		if g.done >= end {
			return
		}
		g.stretch(b)
	}
}

// A spot is where a needle is. Those of one stretch are in order of lines.
type spot struct{ at, needle int }

// stretchSize is how much is searched at once.
const stretchSize = 32 << 10

// stretch finds the needles whose windows begin in the next stretch of b. It works at both halves of it in turns: each
// step waits for the one before, and so two ways take hardly longer than one.
func (g *shifter) stretch(b []byte) {
	from, to := g.done, min(g.done+stretchSize, len(b))
	g.spots, g.used, g.done = g.spots[:0], 0, to
	last := g.width - 1
	end := min(to+last, len(b))
	mid := from + (to-from)/2 + last
	g.second = g.second[:0]
	i, j := from+last, mid
	for i < mid && j < end {
		x, y := g.shift[pair(b[i-1:i+1])], g.shift[pair(b[j-1:j+1])]
		if x == 0 {
			g.spots = g.stop(b, i, g.spots)
			x = 1
		}
		if y == 0 {
			g.second = g.stop(b, j, g.second)
			y = 1
		}
		i += int(x)
		j += int(y)
	}
	g.spots = g.rest(b, i, min(mid, end), g.spots)
	g.second = g.rest(b, j, end, g.second)
	g.spots = append(g.spots, g.second...)
}

// rest searches the windows that end from i on and before end.
func (g *shifter) rest(b []byte, i, end int, to []spot) []spot {
	for i < end {
		x := g.shift[pair(b[i-1:i+1])]
		if x == 0 {
			to = g.stop(b, i, to)
			x = 1
		}
		i += int(x)
	}
	return to
}

// stop compares the needles that have a window like the one that ends with b[end].
func (g *shifter) stop(b []byte, end int, to []spot) []spot {
	at := end - g.width + 1
	for _, w := range g.ends[hash(pair(b[end-1:end+1]))] {
		if b[at]|w.fold == w.first && g.needles[w.needle].at(b, at-w.offset) {
			to = append(to, spot{at - w.offset, w.needle})
		}
	}
	return to
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
