package match

import (
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	minLiteral  = 3  // bytes: a shorter text is in too many lines to be worth a search
	maxLiteral  = 48 // bytes: a longer text says no more, and bytes.Index is at its best below 64
	maxLiterals = 32 // of one pattern
	maxExact    = 32 // strings of a set while it is worked out
)

// A literal is a text that is looked for in raw lines before any pattern runs.
type literal struct {
	text string
	fold bool // ASCII letters of text are small and stand for both cases
}

// required is a set of literals of which at least one is in each raw line that re matches; nil when there is no such
// set worth having. The line that re sees has its time stamp cut out, so no literal may straddle a place where a stamp
// could have been.
func required(re *syntax.Regexp) []literal { return analyse(re).best() }

// A language is what is known about the texts that an expression matches.
type language struct {
	exact  []string  // all texts there are; nil: too many or not known. Each may be "".
	within []literal // one of these is in each text; nil: none is known
}

// nothing is the language of an expression that takes no room, like ^ or \b.
var nothing = language{exact: []string{""}}

// best is the more telling of the two.
func (l language) best() []literal { return better(l.within, pieces(l.exact)) }

// analyse works a language out bottom up. All sets are capped.
func analyse(re *syntax.Regexp) language {
	switch re.Op {
	case syntax.OpEmptyMatch, syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText,
		syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return nothing
	case syntax.OpLiteral:
		return text(re)
	case syntax.OpCharClass:
		return class(re)
	case syntax.OpCapture:
		return analyse(re.Sub[0])
	case syntax.OpConcat:
		return concat(re.Sub)
	case syntax.OpAlternate:
		return alternate(re.Sub)
	case syntax.OpQuest:
		if l := analyse(re.Sub[0]); l.exact != nil && len(l.exact) < maxExact {
			return language{exact: unique(append([]string{""}, l.exact...))}
		}
	case syntax.OpPlus:
		return language{within: analyse(re.Sub[0]).best()}
	case syntax.OpRepeat:
		switch {
		case re.Min == 0:
			return language{}
		case re.Min == re.Max && re.Min <= 4:
			return concat(slices.Repeat(re.Sub[:1], re.Min))
		}
		return language{within: analyse(re.Sub[0]).best()}
	}
	return language{}
}

// text is the language of a literal text. U+FFFD in it also stands for each byte that is not UTF-8, so it is never
// looked for. Where case does not matter, a single letter is a choice, and a longer text is looked for so, but for
// letters that are the same as some beyond ASCII: k and s.
func text(re *syntax.Regexp) language {
	fold := re.Flags&syntax.FoldCase != 0
	if fold && len(re.Rune) == 1 && re.Rune[0] != utf8.RuneError {
		r := re.Rune[0]
		out := []string{string(r)}
		for o := unicode.SimpleFold(r); o != r; o = unicode.SimpleFold(o) {
			out = append(out, string(o))
		}
		return language{exact: unique(out)}
	}
	var parts []string
	var b strings.Builder
	for _, r := range re.Rune {
		switch {
		case r == utf8.RuneError, fold && !foldsInASCII(r):
			parts = append(parts, b.String())
			b.Reset()
		case fold:
			b.WriteRune(unicode.ToLower(r))
		default:
			b.WriteRune(r)
		}
	}
	parts = append(parts, b.String())
	if len(parts) == 1 && !fold {
		return language{exact: parts}
	}
	var best []literal
	for _, p := range parts {
		best = better(best, piece(p, fold))
	}
	return language{within: best}
}

// foldsInASCII reports whether r has no other case, or is an ASCII letter whose only other case is one too.
func foldsInASCII(r rune) bool {
	o := unicode.SimpleFold(r)
	return o == r || r < utf8.RuneSelf && o < utf8.RuneSelf && unicode.SimpleFold(o) == r
}

// class is the language of a small set of characters.
func class(re *syntax.Regexp) language {
	var out []string
	for i := 0; i+1 < len(re.Rune); i += 2 {
		if re.Rune[i+1]-re.Rune[i] >= 4 {
			return language{}
		}
		for r := re.Rune[i]; r <= re.Rune[i+1]; r++ {
			if r == utf8.RuneError || len(out) == 4 {
				return language{}
			}
			out = append(out, string(r))
		}
	}
	return language{exact: out}
}

// concat joins neighbours whose texts are all known, as far as they stay few. tail is what has been joined since the
// last choice: one short text may be better than many long ones.
func concat(subs []*syntax.Regexp) language {
	run, tail, whole := []string{""}, []string{""}, true
	var best []literal
	for _, sub := range subs {
		l := analyse(sub)
		best = better(best, l.within)
		if len(l.exact) != 1 {
			best = better(better(best, pieces(run)), pieces(tail))
			tail = []string{""}
		} else {
			tail = product(tail, l.exact)
		}
		joined := product(run, l.exact)
		if joined != nil {
			run = joined
			continue
		}
		whole = false
		best = better(best, pieces(run))
		run = []string{""}
		if l.exact != nil {
			run = l.exact
		}
	}
	best = better(best, pieces(tail))
	if whole {
		return language{exact: run, within: best}
	}
	return language{within: better(best, pieces(run))}
}

// product is each of a followed by each of b, or nil when that is too many, or one is not known.
func product(a, b []string) []string {
	if n := len(a) * len(b); n == 0 || n > maxExact {
		return nil
	}
	out := make([]string, 0, len(a)*len(b))
	for _, x := range a {
		for _, y := range b {
			out = append(out, x+y)
		}
	}
	return unique(out)
}

// alternate needs something of each branch.
func alternate(subs []*syntax.Regexp) language {
	var exact []string
	var within []literal
	allExact, all := true, true
	for _, sub := range subs {
		l := analyse(sub)
		if allExact = allExact && l.exact != nil; allExact {
			exact = append(exact, l.exact...)
		}
		best := l.best()
		all = all && best != nil
		within = append(within, best...)
	}
	var out language
	if allExact && len(exact) <= maxExact {
		out.exact = unique(exact)
	}
	if all && len(within) <= 4*maxLiterals {
		out.within = reduce(within)
	}
	return out
}

// pieces makes literals of texts that are all there are: of each the most telling part that no cut can part. It is
// nil when one of them has no part that is long enough.
func pieces(exact []string) []literal {
	var out []literal
	for _, s := range exact {
		best := piece(s, false)
		if best == nil {
			return nil
		}
		out = append(out, best...)
	}
	return reduce(out)
}

// piece is the most telling part of one text, as a set of one; nil if it has none that is long enough.
func piece(s string, fold bool) []literal {
	var best literal
	most := 0
	for _, part := range uncut(s) {
		for i := range len(part) {
			l := literal{part[i:min(i+maxLiteral, len(part))], fold}
			w := l.weight()
			if i > 0 && isWord(part[i-1]) && isWord(part[i]) {
				w -= 8 // the rest of a word is harder to recognise for people who read it
			}
			if len(l.text) >= minLiteral && (best.text == "" || w > most) {
				best, most = l, w
			}
		}
	}
	if best.text == "" {
		return nil
	}
	return []literal{best}
}

// uncut splits s at each place where the raw line may have had a time stamp: behind a "[", behind a syslog priority
// <N>, and inside "(:" of audit's parentheses.
func uncut(s string) []string {
	var out []string
	from := 0
	for i := 1; i < len(s); i++ {
		if s[i-1] == '[' || s[i-1] == '>' && mayEndPriority(s[:i-1]) || s[i-1] == '(' && s[i] == ':' {
			out = append(out, s[from:i])
			from = i
		}
	}
	return append(out, s[from:])
}

// mayEndPriority reports whether s may be the whole of the line before the ">" of a priority, or the end of it.
func mayEndPriority(s string) bool {
	digits := strings.TrimPrefix(s, "<")
	return len(digits) <= 3 && (digits == "" || allDigits([]byte(digits)))
}

// frequency is about how many in a thousand bytes of a log are c. The search stops at each first byte of a literal, so
// a literal that begins with a rare one is found many times faster.
func frequency(c byte) int {
	switch {
	case c == ' ':
		return 90
	case c == '0', c == '1', c == '2':
		return 45
	case isDigit(c), c == '.', c == ':':
		return 32
	case 'A' <= c && c <= 'Z':
		return 4
	case 'a' <= c && c <= 'z':
		return [...]int{35, 10, 20, 22, 45, 12, 9, 15, 33, 2, 6, 20, 18, 33, 35, 18, 1, 32, 32, 38, 15, 5, 7, 6, 7, 2}[c-'a']
	}
	switch c {
	case '-':
		return 20
	case '=', '/':
		return 12
	case '[', ']', '_', '"', '(', ')', ',':
		return 8
	}
	return 2
}

// weight tells how telling a literal is and how fast it is found.
func (l literal) weight() int {
	w := 0
	for i := range len(l.text) {
		switch c := l.text[i]; {
		case isDigit(c), c == ' ', c == ':', c == '.':
			w += 2
		default:
			w += 4
		}
	}
	w = min(w, 48)
	if l.fold {
		return w - 20
	}
	return w - frequency(l.text[0])
}

// better is the more telling of two sets. nil is worse than any.
func better(a, b []literal) []literal {
	if len(a) > maxLiterals {
		a = nil
	}
	if len(b) > maxLiterals {
		b = nil
	}
	if len(a) == 0 || len(b) > 0 && setWeight(b) > setWeight(a) {
		return b
	}
	return a
}

// setWeight is the weight of the least member, less something for each further member, which costs a search of its own.
func setWeight(set []literal) int {
	w := set[0].weight()
	for _, l := range set {
		w = min(w, l.weight())
	}
	return w - 12*(len(set)-1)
}

// reduce drops each literal that has another one inside, which is then enough to look for, and sorts.
func reduce(set []literal) []literal {
	slices.SortFunc(set, func(a, b literal) int {
		if c := strings.Compare(a.text, b.text); c != 0 || a.fold == b.fold {
			return c
		}
		if b.fold {
			return -1
		}
		return 1
	})
	set = slices.Compact(set)
	var out []literal
	for _, l := range set {
		if !slices.ContainsFunc(set, func(o literal) bool {
			return o != l && o.fold == l.fold && strings.Contains(l.text, o.text)
		}) {
			out = append(out, l)
		}
	}
	return out
}

// unique sorts and drops doubles. It never turns a set that is there into nil.
func unique(set []string) []string {
	set = slices.Clone(set)
	slices.Sort(set)
	return slices.Compact(set)
}
