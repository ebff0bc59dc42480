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

// required is a set of texts of which at least one is, as it stands, in each raw line that re matches; nil when there
// is no such set worth having. The line that re sees has its time stamp cut out, so no text may straddle a place where
// a stamp could have been.
func required(re *syntax.Regexp) []string {
	best := analyse(re).best()
	if len(best) == 0 {
		return nil
	}
	return best
}

// A language is what is known about the texts that an expression matches.
type language struct {
	exact  []string // all texts there are; nil: too many or not known. Each may be "".
	within []string // one of these is in each text; nil: none is known
}

// nothing is the language of an expression that takes no room, like ^ or \b.
var nothing = language{exact: []string{""}}

// best is the more telling of the two.
func (l language) best() []string { return better(l.within, pieces(l.exact)) }

// analyse works a language out bottom up. Its cost is linear in the expression: all sets are capped.
func analyse(re *syntax.Regexp) language {
	switch re.Op {
	case syntax.OpEmptyMatch, syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText,
		syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return nothing
	case syntax.OpLiteral:
		return literal(re)
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
		if re.Min == 0 {
			return language{}
		}
		l := analyse(re.Sub[0])
		if re.Min == re.Max && re.Min <= 16 {
			return concat(slices.Repeat(re.Sub[:1], re.Min))
		}
		return language{within: l.best()}
	}
	return language{}
}

// literal is the language of a text. Where case does not matter, only what has no case is sure; and U+FFFD also
// stands for each byte that is not UTF-8.
func literal(re *syntax.Regexp) language {
	var b strings.Builder
	var parts []string
	whole := true
	for _, r := range re.Rune {
		if r == utf8.RuneError || re.Flags&syntax.FoldCase != 0 && unicode.SimpleFold(r) != r {
			parts = append(parts, b.String())
			b.Reset()
			whole = false
			continue
		}
		b.WriteRune(r)
	}
	if whole {
		return language{exact: []string{b.String()}}
	}
	parts = append(parts, b.String())
	var best []string
	for _, p := range parts {
		best = better(best, pieces([]string{p}))
	}
	return language{within: best}
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

// concat joins neighbours whose texts are all known, as far as they stay few.
func concat(subs []*syntax.Regexp) language {
	run, whole := []string{""}, true
	var best []string
	for _, sub := range subs {
		l := analyse(sub)
		best = better(best, l.within)
		if l.exact != nil {
			if joined := product(run, l.exact); joined != nil {
				run = joined
				continue
			}
		}
		whole = false
		best = better(best, pieces(run))
		run = []string{""}
		if l.exact != nil {
			run = l.exact
		}
	}
	if whole {
		return language{exact: run, within: best}
	}
	return language{within: better(best, pieces(run))}
}

// product is each of a followed by each of b, or nil when that is too many.
func product(a, b []string) []string {
	if len(a)*len(b) > maxExact {
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
	var exact, within []string
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
	if !allExact || len(exact) > maxExact {
		exact = nil
	} else {
		exact = unique(exact)
	}
	if !all {
		return language{exact: exact}
	}
	return language{exact: exact, within: reduce(within)}
}

// pieces makes literals of texts that are all there are: of each the most telling part that no cut can part. It is
// nil when one of them has no part that is long enough.
func pieces(exact []string) []string {
	var out []string
	for _, s := range exact {
		best := ""
		for _, part := range uncut(s) {
			if part = rarest(part); weight(part) > weight(best) {
				best = part
			}
		}
		if len(best) < minLiteral {
			return nil
		}
		out = append(out, best)
	}
	return reduce(out)
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

// rarest cuts a text that is too long down to the part that is most telling.
func rarest(s string) string {
	if len(s) <= maxLiteral {
		return s
	}
	best := s[:maxLiteral]
	for i := 1; i+maxLiteral <= len(s); i++ {
		if part := s[i : i+maxLiteral]; weight(part) > weight(best) {
			best = part
		}
	}
	return best
}

// weight tells how telling a literal is: its length, where digits and spaces, which each line has, count less.
func weight(s string) int {
	w := 0
	for i := range len(s) {
		switch c := s[i]; {
		case isDigit(c), c == ' ', c == ':', c == '.':
			w += 2
		default:
			w += 4
		}
	}
	return w
}

// better is the more telling of two sets: first by its least telling member, then by the number of members. nil is
// worse than any.
func better(a, b []string) []string {
	if len(a) == 0 || len(a) > maxLiterals {
		a = nil
	}
	if len(b) == 0 || len(b) > maxLiterals {
		b = nil
	}
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case setWeight(b) > setWeight(a):
		return b
	}
	return a
}

// setWeight is the weight of the least member, capped where more says nothing, less something for each further member,
// which costs a search of its own.
func setWeight(set []string) int {
	w := 64
	for _, s := range set {
		w = min(w, weight(s))
	}
	return w - 6*(len(set)-1)
}

// reduce drops each text that has another one inside, which is then enough to look for, and sorts.
func reduce(set []string) []string {
	set = unique(set)
	var out []string
	for _, s := range set {
		if !slices.ContainsFunc(set, func(o string) bool { return o != s && strings.Contains(s, o) }) {
			out = append(out, s)
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
