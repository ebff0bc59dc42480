package match

import (
	"errors"
	"regexp/syntax"
	"slices"
	"strings"
)

// A pattern is one compiled failregex or ignoreregex.
type pattern struct {
	src    string
	hosts  []hostGroup
	fields []fieldGroup
	lits   []literal // one of them is in each line that matches; none: not known

	program *program // nil: regexp alone can do it
	expr    string   // what regexp is to compile, when it has to
}

// A hostGroup is a capture group that stands for a host tag.
type hostGroup struct {
	group int
	kind  hostKind
	glued bool // a letter of the pattern stands right before it
}

// A fieldGroup is a capture group with a name.
type fieldGroup struct {
	group int
	name  string
}

// Compile compiles a filter. All problems are returned at once; the filter is nil if there is any.
//
// A pattern is a regular expression of Go's regexp package, with tags: <HOST> or <ADDR> is an address, <IP4> and <IP6>
// one of that family, <SUBNET> or <CIDR> an address that may have a prefix length, each with or without [brackets];
// <F-NAME>regex</F-NAME> is a group called name. Each way through a failregex must pass exactly one host tag, so an
// alternation has one in each branch. An ignoreregex may have any number, each of which matches any address. No pattern
// may match an empty line.
func Compile(failregex, ignoreregex []string) (*Filter, []*PatternError) {
	f := new(Filter)
	var problems []*PatternError
	for i, src := range failregex {
		p, errs := compilePattern(src, false)
		for _, e := range errs {
			e.Index = i
		}
		problems = append(problems, errs...)
		f.fail = append(f.fail, p)
	}
	for i, src := range ignoreregex {
		p, errs := compilePattern(src, true)
		for _, e := range errs {
			e.Ignore, e.Index = true, i
		}
		problems = append(problems, errs...)
		f.ignore = append(f.ignore, p)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return f, nil
}

// compilePattern compiles one pattern. The problems have their Offset and Msg set.
func compilePattern(src string, ignore bool) (pattern, []*PatternError) {
	if src == "" {
		return pattern{}, []*PatternError{{Offset: 0, Msg: "the pattern is empty and would match every line"}}
	}
	t := translate(src)
	if len(t.problems) > 0 {
		return pattern{}, t.problems
	}
	tree, err := syntax.Parse(t.out.String(), syntax.Perl)
	if err != nil {
		return pattern{}, []*PatternError{t.syntaxError(err)}
	}
	p := pattern{src: src, hosts: t.hosts, fields: t.fields}
	if !ignore {
		if e := checkHosts(src, tree, t.hosts); e != nil {
			return pattern{}, []*PatternError{e}
		}
	}
	if matchesNothing(tree) {
		return pattern{}, []*PatternError{{Offset: -1, Msg: "the pattern matches the empty line, and so every line: " +
			"some part of it must not be optional"}}
	}
	p.lits = required(tree)
	p.expr = t.out.String()
	p.program = newProgram(tree, p.hosts, p.fields)
	return p, nil
}

// matchesNothing reports whether an expression matches the empty line.
func matchesNothing(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpEmptyMatch, syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText,
		syntax.OpNoWordBoundary, syntax.OpStar, syntax.OpQuest:
		return true
	case syntax.OpCapture, syntax.OpPlus:
		return matchesNothing(re.Sub[0])
	case syntax.OpRepeat:
		return re.Min == 0 || matchesNothing(re.Sub[0])
	case syntax.OpConcat:
		return !slices.ContainsFunc(re.Sub, func(sub *syntax.Regexp) bool { return !matchesNothing(sub) })
	case syntax.OpAlternate:
		return slices.ContainsFunc(re.Sub, matchesNothing)
	}
	return false
}

// syntaxError turns an error of regexp/syntax into one about the user's own text.
func (t *translation) syntaxError(err error) *PatternError {
	e := &PatternError{Offset: -1, Msg: err.Error()}
	var se *syntax.Error
	if !errors.As(err, &se) {
		return e
	}
	if out := t.out.String(); se.Expr != "" && strings.Count(out, se.Expr) == 1 {
		e.Offset = t.source(strings.Index(out, se.Expr))
	}
	e.Msg = "regular expression: " + se.Code.String()
	if hint := syntaxHints[se.Code]; hint != "" {
		e.Msg = "regular expression: " + hint
	}
	if se.Expr != "" && len(se.Expr) < len(t.out.String()) && !strings.ContainsAny(se.Expr, "\n") {
		e.Msg += ": " + se.Expr
	}
	return e
}

// syntaxHints say in plain words what regexp/syntax says in its own.
var syntaxHints = map[syntax.ErrorCode]string{
	syntax.ErrInvalidCharRange:      `a range in [...] ends before it begins; put a plain "-" last`,
	syntax.ErrInvalidEscape:         `no such escape; a backslash before a letter is only for the known classes`,
	syntax.ErrInvalidNamedCapture:   `a group's name is missing or malformed; write (?P<name>...)`,
	syntax.ErrInvalidPerlOp:         `no such group; plain groups are (...) and (?:...)`,
	syntax.ErrInvalidRepeatOp:       `a repetition repeats a repetition; put the inner one in (?:...)`,
	syntax.ErrInvalidRepeatSize:     `a repetition count is too large (1000 is the most) or upside down`,
	syntax.ErrMissingRepeatArgument: `a repetition has nothing to repeat; write \* \+ or \? for the plain character`,
	syntax.ErrMissingBracket:        `a [ is never closed; write \[ for a plain one`,
	syntax.ErrMissingParen:          `a ( is never closed; write \( for a plain one`,
	syntax.ErrUnexpectedParen:       `a ) was never opened; write \) for a plain one`,
	syntax.ErrTrailingBackslash:     `the pattern ends in a backslash; write \\ for a plain one`,
	syntax.ErrInvalidUTF8:           `the pattern is not valid UTF-8`,
	syntax.ErrLarge:                 `the pattern is too large; repeat less`,
	syntax.ErrNestingDepth:          `the pattern is nested too deeply`,
}

// checkHosts holds a failregex to exactly one host tag on each way through it.
func checkHosts(src string, tree *syntax.Regexp, hosts []hostGroup) *PatternError {
	isHost := make(map[int]bool, len(hosts))
	for _, h := range hosts {
		isHost[h.group] = true
	}
	switch least, most := hostsIn(tree, isHost); {
	case most == 0:
		msg := "the pattern has no host tag: write <HOST> where the line has the address"
		for _, old := range []string{"(?P<host>", "(?<host>"} {
			if i := strings.Index(src, old); i >= 0 {
				return &PatternError{Offset: i, Msg: msg + ", in place of the group " + old + "...)"}
			}
		}
		if i := strings.Index(strings.ToUpper(src), "<HOST>"); i >= 0 && len(strings.ToUpper(src)) == len(src) {
			return &PatternError{Offset: i, Msg: msg + "; the tag is in capitals"}
		}
		return &PatternError{Offset: -1, Msg: msg}
	case least == 0:
		return &PatternError{Offset: -1, Msg: "the pattern can match without its host tag: " +
			"each branch of an alternation needs one, and it can't be optional"}
	case most > 1:
		return &PatternError{Offset: -1, Msg: "the pattern can match with two host tags, and which one failed is open: " +
			"write \\S+ for the address that does not matter"}
	}
	return nil
}

// hostsIn is how many host groups a match passes, at the least and at the most; 2 stands for more.
func hostsIn(re *syntax.Regexp, isHost map[int]bool) (least, most int) {
	switch re.Op {
	case syntax.OpCapture:
		if isHost[re.Cap] {
			return 1, 1
		}
		return hostsIn(re.Sub[0], isHost)
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			l, m := hostsIn(sub, isHost)
			least, most = min(least+l, 2), min(most+m, 2)
		}
	case syntax.OpAlternate:
		least = 2
		for _, sub := range re.Sub {
			l, m := hostsIn(sub, isHost)
			least, most = min(least, l), max(most, m)
		}
	case syntax.OpQuest:
		_, most = hostsIn(re.Sub[0], isHost)
	case syntax.OpStar:
		_, m := hostsIn(re.Sub[0], isHost)
		most = min(2*m, 2)
	case syntax.OpPlus:
		l, m := hostsIn(re.Sub[0], isHost)
		least, most = l, min(2*m, 2)
	case syntax.OpRepeat:
		l, m := hostsIn(re.Sub[0], isHost)
		least, most = min(l*re.Min, 2), min(2*m, 2)
		if re.Max >= 0 {
			most = min(m*re.Max, 2)
		}
	}
	return least, most
}

// Literals are, for each failregex, the texts of which one is in every line that it matches, as they are looked for.
// None (nil) means that the failregex has no text to look for and runs on each line of the log, which is slow. Where the
// failregex does not tell capitals from small letters, the text is in small ones.
func (f *Filter) Literals() [][]string {
	out := make([][]string, len(f.fail))
	for i, p := range f.fail {
		out[i] = p.literals()
	}
	return out
}

func (p *pattern) literals() []string {
	var out []string
	for _, l := range p.lits {
		out = append(out, l.text)
	}
	return out
}
