package match

import (
	"regexp/syntax"
	"unicode"
)

// A program is a pattern made ready to be walked: tried by backtracking, in the order of preference that regexp has, so
// that the first way through is regexp's match. It is for lines of plain ASCII, where a character is a byte. What a
// walk can't settle soon, regexp settles.
type program struct {
	insts    []inst
	start    *byteSet // what a match begins with
	anchored bool     // a match begins where the text does
	saves    int      // slots of captures
}

type opcode uint8

const (
	opLit    opcode = iota // text
	opSet                  // one byte of set
	opRun                  // min to max bytes of set, as many as there are
	opSplit                // goes on at x, or else at y
	opJump                 // goes on at x
	opSave                 // notes the place in slot x
	opHost                 // an address of that kind
	opBegin                // the text's beginning
	opEnd                  // the text's end
	opWord                 // a word's edge
	opNoWord               // no word's edge
	opFail                 // matches nothing
	opMatch                // the end of the pattern
)

// An inst is one step. It is followed by the next one, but for opSplit, opJump, opFail and opMatch.
type inst struct {
	op       opcode
	fixed    bool // opRun: to give back bytes never helps
	any      bool // opRun: of whatever bytes, without a limit
	host     hostGroup
	x, y     int
	min, max int // max -1: no limit
	text     string
	set      *byteSet
	first    *byteSet // opRun, opHost: what can follow it; opSplit: what the way at x begins with
	other    *byteSet // opSplit: what the way at y begins with
}

// A byteSet is a set of ASCII characters, and perhaps the end of the text.
type byteSet struct {
	has [128]bool
	end bool
}

// next reports whether what is at pos, a byte or the end, is in the set.
func (s *byteSet) next(text []byte, pos int) bool {
	if pos < len(text) {
		return s.has[text[pos]&127]
	}
	return s.end
}

const (
	maxInsts  = 1000 // of a program: a pattern that needs more is left to regexp
	maxCopies = 32   // of what is repeated a limited number of times
)

// newProgram makes a program of a parsed pattern, or returns nil if it has something that a program has not: a
// repetition of what can be empty, or very many repetitions.
func newProgram(tree *syntax.Regexp, hosts []hostGroup, fields []fieldGroup) *program {
	b := &builder{p: new(program), slots: make(map[int]bool), hosts: make(map[int]hostGroup), sets: make(map[byteSet]*byteSet)}
	for _, h := range hosts {
		b.hosts[h.group] = h
		b.slots[h.group] = true
	}
	for _, f := range fields {
		b.slots[f.group] = true
	}
	b.p.saves = 2 * (tree.MaxCap() + 1)
	b.add(tree)
	b.emit(inst{op: opMatch})
	if b.failed {
		return nil
	}
	b.finish()
	return b.p
}

type builder struct {
	p      *program
	slots  map[int]bool // groups whose places are wanted
	hosts  map[int]hostGroup
	sets   map[byteSet]*byteSet
	failed bool
}

func (b *builder) emit(in inst) int {
	if len(b.p.insts) >= maxInsts {
		b.failed = true
		return 0
	}
	b.p.insts = append(b.p.insts, in)
	return len(b.p.insts) - 1
}

// intern makes equal sets one.
func (b *builder) intern(s byteSet) *byteSet {
	if known := b.sets[s]; known != nil {
		return known
	}
	b.sets[s] = &s
	return &s
}

func (b *builder) here() int { return len(b.p.insts) }

func (b *builder) add(re *syntax.Regexp) {
	if b.failed {
		return
	}
	switch re.Op {
	case syntax.OpEmptyMatch:
	case syntax.OpLiteral:
		b.literal(re)
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		set, _ := single(re)
		b.emit(inst{op: opSet, set: b.intern(set)})
	case syntax.OpBeginText, syntax.OpBeginLine: // the same, where a text has one line
		b.emit(inst{op: opBegin})
	case syntax.OpEndText, syntax.OpEndLine:
		b.emit(inst{op: opEnd})
	case syntax.OpWordBoundary:
		b.emit(inst{op: opWord})
	case syntax.OpNoWordBoundary:
		b.emit(inst{op: opNoWord})
	case syntax.OpCapture:
		if !b.slots[re.Cap] {
			b.add(re.Sub[0])
			return
		}
		b.emit(inst{op: opSave, x: 2 * re.Cap})
		if host, ok := b.hosts[re.Cap]; ok {
			b.emit(inst{op: opHost, host: host})
		} else {
			b.add(re.Sub[0])
		}
		b.emit(inst{op: opSave, x: 2*re.Cap + 1})
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			b.add(sub)
		}
	case syntax.OpAlternate:
		b.alternate(re.Sub)
	case syntax.OpStar:
		b.repeat(re, 0, -1)
	case syntax.OpPlus:
		b.repeat(re, 1, -1)
	case syntax.OpQuest:
		b.repeat(re, 0, 1)
	case syntax.OpRepeat:
		b.repeat(re, re.Min, re.Max)
	case syntax.OpNoMatch:
		b.emit(inst{op: opFail})
	default:
		b.failed = true
	}
}

// literal adds a text; where case does not matter, a set for each letter.
func (b *builder) literal(re *syntax.Regexp) {
	if re.Flags&syntax.FoldCase != 0 {
		for _, r := range re.Rune {
			b.emit(inst{op: opSet, set: b.intern(folded(r))})
		}
		return
	}
	for _, r := range re.Rune {
		if r >= 128 {
			b.emit(inst{op: opFail}) // no line of ASCII has it
			return
		}
	}
	b.emit(inst{op: opLit, text: string(re.Rune)})
}

// folded is what of ASCII is the same as r but for case.
func folded(r rune) (s byteSet) {
	for o := r; ; {
		if o < 128 {
			s.has[o] = true
		}
		if o = unicode.SimpleFold(o); o == r {
			return s
		}
	}
}

// single is the set of an expression that matches one character.
func single(re *syntax.Regexp) (s byteSet, ok bool) {
	switch re.Op {
	case syntax.OpLiteral:
		if len(re.Rune) != 1 {
			return s, false
		}
		if re.Flags&syntax.FoldCase != 0 {
			return folded(re.Rune[0]), true
		}
		if re.Rune[0] < 128 {
			s.has[re.Rune[0]] = true
		}
	case syntax.OpCharClass:
		for i := 0; i+1 < len(re.Rune); i += 2 {
			for r := re.Rune[i]; r <= min(re.Rune[i+1], 127); r++ {
				s.has[r] = true
			}
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL: // there is no line end in a line
		for i := range s.has {
			s.has[i] = true
		}
	default:
		return s, false
	}
	return s, true
}

func (b *builder) alternate(subs []*syntax.Regexp) {
	var ends []int
	for i, sub := range subs {
		if i == len(subs)-1 {
			b.add(sub)
			break
		}
		split := b.emit(inst{op: opSplit, x: b.here() + 1})
		b.add(sub)
		ends = append(ends, b.emit(inst{op: opJump}))
		b.p.insts[split].y = b.here()
	}
	for _, end := range ends {
		b.p.insts[end].x = b.here()
	}
}

// repeat adds from least to most of what re repeats; -1 is no limit.
func (b *builder) repeat(re *syntax.Regexp, least, most int) {
	sub, lazy := re.Sub[0], re.Flags&syntax.NonGreedy != 0
	if set, ok := single(sub); ok && !lazy {
		all, _ := single(&syntax.Regexp{Op: syntax.OpAnyChar})
		b.emit(inst{op: opRun, set: b.intern(set), min: least, max: most, any: most < 0 && set == all})
		return
	}
	if max(least, most) > maxCopies || most < 0 && nullable(sub) {
		b.failed = true
		return
	}
	for range least {
		b.add(sub)
	}
	// fork goes on right behind itself first, or last.
	fork := func() int { return b.emit(inst{op: opSplit}) }
	join := func(at, out int) {
		in := &b.p.insts[at]
		in.x, in.y = at+1, out
		if lazy {
			in.x, in.y = in.y, in.x
		}
	}
	if most < 0 {
		at := fork()
		b.add(sub)
		b.emit(inst{op: opJump, x: at})
		join(at, b.here())
		return
	}
	var forks []int
	for range most - least {
		forks = append(forks, fork())
		b.add(sub)
	}
	for _, at := range forks {
		join(at, b.here())
	}
}

// nullable reports whether an expression may match no text at all.
func nullable(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpLiteral, syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL, syntax.OpNoMatch:
		return false
	case syntax.OpCapture, syntax.OpPlus:
		return nullable(re.Sub[0])
	case syntax.OpRepeat:
		return re.Min == 0 || nullable(re.Sub[0])
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			if !nullable(sub) {
				return false
			}
		}
	case syntax.OpAlternate:
		for _, sub := range re.Sub {
			if nullable(sub) {
				return true
			}
		}
		return false
	}
	return true
}

// finish works out what each choice depends on.
func (b *builder) finish() {
	p := b.p
	p.start = b.first(0)
	p.anchored = p.insts[0].op == opBegin
	for i := range p.insts {
		switch in := &p.insts[i]; in.op {
		case opHost:
			in.first = b.first(i + 1)
		case opRun:
			in.first = b.first(i + 1)
			in.fixed = true
			for c, has := range in.set.has {
				in.fixed = in.fixed && !(has && in.first.has[c])
			}
		case opSplit:
			in.first, in.other = b.first(in.x), b.first(in.y)
		}
	}
}

// first is what a match can begin with from an instruction on.
func (b *builder) first(at int) *byteSet {
	var s byteSet
	b.reach(at, &s, make(map[int]bool))
	return b.intern(s)
}

func (b *builder) reach(at int, s *byteSet, seen map[int]bool) {
	for !seen[at] {
		seen[at] = true
		switch in := &b.p.insts[at]; in.op {
		case opLit:
			s.has[in.text[0]] = true
			return
		case opSet, opRun:
			for c, has := range in.set.has {
				s.has[c] = s.has[c] || has
			}
			if in.op == opSet || in.min > 0 {
				return
			}
		case opHost:
			for c := range byte(128) {
				s.has[c] = s.has[c] || c == ':' || allHex([]byte{c})
			}
			return
		case opSplit:
			b.reach(in.y, s, seen)
			at = in.x
			continue
		case opJump:
			at = in.x
			continue
		case opEnd:
			s.end = true
			return
		case opMatch:
			s.end = true
			for c := range s.has {
				s.has[c] = true
			}
			return
		case opFail:
			return
		}
		at++
	}
}
