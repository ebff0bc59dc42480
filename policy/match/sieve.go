package match

import (
	"bytes"
	"cmp"
	"slices"
)

// A sieve finds the lines that have a needle. It looks for each needle by its anchor, which is the fastest way for a few, or
// for many of them in one pass, and chooses by what the log's own text makes cheap.
type sieve struct {
	needles []needle
	next    []int // where each needle is next in the block; before the current line: not looked for yet, or not there

	alone    []int    // needles that are looked for one by one
	group    *shifter // finds all others; nil: there are none
	unlooked int      // bytes that may still pass before the text is looked at anew
}

const (
	planFrom   = 64 << 10 // bytes of a block: it isn't worth while for less
	planAgain  = 64 << 20 // bytes between two looks
	sampleSize = 16 << 10 // bytes that are looked at
)

// What a search costs, in hundredths of a nanosecond, measured on amd64. It is only compared with itself.
const (
	costByte  = 3    // of a block, to look there for an anchor
	costStop  = 1000 // for an anchor that is compared
	costProbe = 250  // of a shifter
	costEnd   = 1500
)

// begin makes ready for a new block.
func (s *sieve) begin(block []byte) {
	if s.unlooked -= len(block); len(s.needles) > 0 && len(block) >= planFrom && s.unlooked < 0 {
		s.unlooked = planAgain
		s.plan(block)
	}
	if len(s.alone) == 0 && s.group == nil {
		for i := range s.needles {
			s.alone = append(s.alone, i)
		}
	}
	for i := range s.next {
		s.next[i] = -1
	}
	if s.group != nil {
		s.group.begin()
	}
}

// plan chooses how to look for the needles in text that is like block's.
func (s *sieve) plan(block []byte) {
	sample := block[len(block)/2:]
	if from := len(block) - sampleSize; from < len(block)/2 {
		sample = block[max(0, from):]
	}
	sample = sample[:min(len(sample), sampleSize)]
	var count [256]int
	for _, c := range sample {
		count[c]++
	}
	frequency := func(c byte) int { return count[c] }
	cost := make([]int, len(s.needles))
	total := 0
	for i := range s.needles {
		n := &s.needles[i]
		cost[i] = costByte*len(sample) + costStop*n.aim(frequency, sample)
		total += cost[i]
	}
	all := make([]int, len(s.needles))
	for i := range all {
		all[i] = i
	}
	s.alone, s.group = all, nil
	// The needles that are cheap alone, or too short for long steps, are taken out of the group one by one.
	for _, order := range [...]func(a, b int) int{
		func(a, b int) int { return cmp.Compare(cost[a], cost[b]) },
		func(a, b int) int { return cmp.Compare(len(s.needles[a].text), len(s.needles[b].text)) },
	} {
		order := slices.SortedStableFunc(slices.Values(all), order)
		sum := 0
		for n := 0; n < min(len(order)-1, 8) && sum < total; n++ {
			g := newShifter(s.needles, order[n:], frequency)
			looks, stops := g.probes(sample)
			if c := sum + costProbe*looks + costEnd*stops; c < total {
				total, s.alone, s.group = c, order[:n], g
			}
			sum += cost[order[n]]
		}
	}
}

// first is where in block the first needle at pos or behind it is, len(block) if there is none. It may be up to the
// length of a needle off, within the line.
func (s *sieve) first(block []byte, pos int) int {
	first := len(block)
	for _, i := range s.alone {
		n := s.next[i]
		if n < pos {
			n = len(block)
			if at := s.needles[i].index(block[pos:]); at >= 0 {
				n = pos + at
			}
			s.next[i] = n
		}
		first = min(first, n)
	}
	if s.group != nil {
		first = min(first, s.group.first(block, pos))
	}
	return first
}

// line notes all needles of the line that ends at end, after first has found one in it.
func (s *sieve) line(block []byte, end int) {
	if s.group != nil {
		s.group.line(block, end, s.next)
	}
}

// all looks for all needles in one line.
func (s *sieve) all(line []byte) {
	for i := range s.needles {
		s.next[i] = len(line)
		if at := s.needles[i].index(line); at >= 0 {
			s.next[i] = at
		}
	}
}

// has reports whether one of these needles is in the line from from to to. None at all means "not known".
func (s *sieve) has(needles []int, from, to int) bool {
	for _, i := range needles {
		if from <= s.next[i] && s.next[i] < to {
			return true
		}
	}
	return len(needles) == 0
}

// lineAt is the beginning of the line that has first, at pos or behind it.
func lineAt(block []byte, pos, first int) int {
	before := block[pos:first]
	// In a flood it is the next line: to look forwards for an end is many times faster than backwards.
	if len(before) < 512 && bytes.IndexByte(before, '\n') < 0 {
		return pos
	}
	return pos + bytes.LastIndexByte(before, '\n') + 1
}
