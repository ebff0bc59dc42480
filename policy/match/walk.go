package match

import (
	"bytes"
	"encoding/binary"
	"regexp"
)

// A walker is the memory of walks. It belongs to one goroutine.
type walker struct {
	saves []int // the places of captures, as regexp has them; -1 where none
	stack []branch

	// Few patterns ever need regexp, and to compile one takes longer than all else that a pattern needs.
	compiled map[string]*regexp.Regexp
}

// regexp is a pattern as regexp has it.
func (w *walker) regexp(p *pattern) *regexp.Regexp {
	re := w.compiled[p.expr]
	if re == nil {
		if w.compiled == nil {
			w.compiled = make(map[string]*regexp.Regexp)
		}
		re = regexp.MustCompile(p.expr) // it was parsed before, and what can be parsed can be compiled
		w.compiled[p.expr] = re
	}
	return re
}

// A branch is what to go back to when a way leads nowhere. There are four kinds:
//   - at is an instruction and lo is hi: go on there, at lo.
//   - at is a run and lo is below hi: it has ended at hi and may end earlier, down to lo.
//   - at is negative: slot -1-at gets its old place lo back.
//   - at is the number of instructions: all there is from here on is to be unsure.
type branch struct{ at, lo, hi int32 }

// A verdict is how a walk ended.
type verdict uint8

const (
	missed  verdict = iota
	matched         // walker.saves tell where
	unsure          // regexp has to say
)

// patience is how many steps a walk may take for each byte of the text, before regexp, which has no bad cases, takes
// over.
const patience = 16

// walk looks for the first match of a program in text, which must be ASCII without a line end.
func (p *program) walk(text []byte, w *walker) verdict {
	if cap(w.saves) < p.saves {
		w.saves = make([]int, p.saves)
	}
	w.saves = w.saves[:p.saves]
	budget := patience * (len(text) + 16)
	if p.anchored {
		v, _ := p.from(0, text, w, budget)
		return v
	}
	lead := ""
	if p.insts[0].op == opLit {
		lead = p.insts[0].text
	}
	for pos := 0; pos <= len(text); pos++ {
		if lead != "" {
			n := bytes.IndexByte(text[pos:], lead[0])
			if n < 0 {
				return missed
			}
			pos += n
		} else {
			for pos < len(text) && !p.start.has[text[pos]&127] {
				pos++
			}
			if pos == len(text) && !p.start.end {
				return missed
			}
		}
		var v verdict
		if v, budget = p.from(pos, text, w, budget-1); v != missed {
			return v
		}
	}
	return missed
}

// from looks for a match that begins at pos.
func (p *program) from(pos int, text []byte, w *walker, budget int) (verdict, int) {
	for i := range w.saves {
		w.saves[i] = -1
	}
	w.stack = w.stack[:0]
	at := 0
	for budget > 0 {
		in := &p.insts[at]
		ok := true
		switch in.op {
		case opLit:
			n := len(in.text)
			if ok = len(text)-pos >= n && string(text[pos:pos+n]) == in.text; ok {
				pos += n
				at++
			}
		case opSet:
			if ok = pos < len(text) && in.set.has[text[pos]&127]; ok {
				pos++
				at++
			}
		case opRun:
			end := len(text)
			if !in.any {
				if in.max >= 0 {
					end = min(end, pos+in.max)
				}
				n := pos
				for n < end && in.set.has[text[n]&127] {
					n++
				}
				end = n
				budget -= (end - pos) / 8
			}
			if end-pos < in.min {
				ok = false
				break
			}
			if !in.fixed && end-pos > in.min {
				w.stack = append(w.stack, branch{int32(at), int32(pos + in.min), int32(end)})
			}
			if ok = in.first.next(text, end); ok {
				pos = end
				at++
			}
		case opSplit:
			switch x, y := in.first.next(text, pos), in.other.next(text, pos); {
			case x && y:
				w.stack = append(w.stack, branch{int32(in.y), int32(pos), int32(pos)})
				at = in.x
			case x:
				at = in.x
			case y:
				at = in.y
			default:
				ok = false
			}
		case opJump:
			at = in.x
		case opSave:
			if old := w.saves[in.x]; len(w.stack) > 0 {
				w.stack = append(w.stack, branch{-1 - int32(in.x), int32(old), 0})
			}
			w.saves[in.x] = pos
			at++
		case opHost:
			end, v, sooner := in.host.walk(text, pos)
			switch v {
			case unsure:
				return unsure, budget
			case missed:
				ok = false
			default:
				if sooner && in.first.has[':'] {
					w.stack = append(w.stack, branch{int32(len(p.insts)), 0, 0})
				}
				pos = end
				at++
			}
		case opBegin:
			ok = pos == 0
			at++
		case opEnd:
			ok = pos == len(text)
			at++
		case opWord, opNoWord:
			ok = edge(text, pos) == (in.op == opWord)
			at++
		case opMatch:
			return matched, budget
		default:
			ok = false
		}
		if ok {
			continue
		}
		for ok = false; !ok; {
			budget--
			n := len(w.stack) - 1
			if n < 0 {
				return missed, budget
			}
			s := &w.stack[n]
			switch {
			case s.at < 0:
				w.saves[-1-s.at] = int(s.lo)
				w.stack = w.stack[:n]
			case int(s.at) == len(p.insts):
				return unsure, budget
			case s.lo == s.hi:
				at, pos, ok = int(s.at), int(s.lo), true
				w.stack = w.stack[:n]
			default: // a run gives back up to where what follows it may begin
				at = int(s.at) + 1
				first := p.insts[s.at].first
				q := int(s.hi) - 1
				for q >= int(s.lo) && !first.has[text[q]&127] {
					q--
				}
				budget -= (int(s.hi) - q) / 8
				if q < int(s.lo) {
					w.stack = w.stack[:n]
					break
				}
				pos, ok = q, true
				if s.hi = int32(q); s.hi == s.lo {
					w.stack = w.stack[:n]
				}
			}
		}
	}
	return unsure, 0
}

// edge reports whether there is a word's edge at pos.
func edge(text []byte, pos int) bool {
	before := pos > 0 && isWord(text[pos-1])
	after := pos < len(text) && isWord(text[pos])
	return before != after
}

// walk matches a host tag's expression at pos as regexp would at first. It is sure only of what is plainly an address
// or plainly none. sooner says that regexp, if what follows fails there, would try ends before the address's last colons
// too; there are no others.
func (h hostGroup) walk(text []byte, pos int) (end int, v verdict, sooner bool) {
	if pos == len(text) {
		return 0, missed, false
	}
	c := text[pos]
	if c == ':' {
		if pos+1 == len(text) || text[pos+1] != ':' {
			return 0, missed, false
		}
		if !h.glued && pos > 0 && isWord(text[pos-1]) {
			return 0, missed, false
		}
		if h.kind == hostIP4 {
			return 0, unsure, false
		}
		return h.groups(text, pos)
	}
	if !allHex(text[pos:pos+1]) || !h.glued && pos > 0 && isWord(text[pos-1]) {
		return 0, missed, false
	}
	if h.kind != hostIP6 && isDigit(c) {
		n, dots := pos, 0
		for {
			for n < len(text) && isDigit(text[n]) {
				n++
			}
			if n+1 >= len(text) || text[n] != '.' || !isDigit(text[n+1]) {
				break
			}
			n++
			dots++
		}
		switch {
		case dots > 3:
			return 0, unsure, false
		case dots == 3 && (n == len(text) || !isWord(text[n])):
			if h.kind == hostSubnet && n < len(text) && text[n] == '/' {
				return 0, unsure, false
			}
			return n, matched, false
		}
	}
	if h.kind == hostIP4 {
		return 0, missed, false
	}
	n := pos
	for n < len(text) && n-pos <= 4 && allHex(text[n:n+1]) {
		n++
	}
	if n-pos > 4 || n == len(text) || text[n] != ':' {
		return 0, missed, false
	}
	return h.groups(text, pos)
}

// groups matches an IPv6 address at pos, which begins with a group and a colon or with two colons.
func (h hostGroup) groups(text []byte, pos int) (end int, v verdict, sooner bool) {
	groups, gaps, tail, n := 0, 0, 0, pos // tail: groups behind the gap
	for n < len(text) {
		from := n
		for n < len(text) && allHex(text[n:n+1]) {
			n++
		}
		if n > from {
			groups++
			tail += gaps
			if n-from > 4 {
				return 0, unsure, false
			}
		}
		if n == len(text) || text[n] != ':' {
			break
		}
		if n+1 < len(text) && text[n+1] == ':' {
			gaps++
			n += 2
			if n < len(text) && text[n] == ':' {
				return 0, unsure, false
			}
			continue
		}
		if n+1 == len(text) || !allHex(text[n+1:n+2]) {
			break // the colon is not the address's
		}
		n++
	}
	switch {
	case gaps == 0 && groups < 6: // a time of day, or an address and a port
		return 0, missed, false
	case gaps == 0 && groups != 8, gaps == 1 && groups > 7, gaps > 1:
		return 0, unsure, false
	case n < len(text) && (isWord(text[n]) || text[n] == '.' || text[n] == '%'):
		return 0, unsure, false
	case n < len(text) && text[n] == '/' && h.kind == hostSubnet:
		return 0, unsure, false
	}
	return n, matched, tail > 1
}

// plain reports whether text is ASCII without a line end, which programs are for.
func plain(text []byte) bool {
	if bytes.IndexByte(text, '\n') >= 0 {
		return false
	}
	for len(text) >= 8 {
		if binary.LittleEndian.Uint64(text)&0x8080808080808080 != 0 {
			return false
		}
		text = text[8:]
	}
	for _, c := range text {
		if c >= 0x80 {
			return false
		}
	}
	return true
}
