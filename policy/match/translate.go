package match

import (
	"fmt"
	"slices"
	"strings"
)

// A translation is a user's pattern with its tags replaced, on its way to regexp.
type translation struct {
	src      string
	out      strings.Builder
	segments []segment
	groups   int // capture groups written so far
	hosts    []hostGroup
	fields   []fieldGroup
	problems []*PatternError

	open []opened // groups and <F-NAME> tags not yet closed
}

// A segment maps output to source: from out on, the text is the source's from src on, or, for a tag, stands for the
// tag at src.
type segment struct {
	out, src int
	tag      bool
}

// An opened is a "(" or a <F-NAME>.
type opened struct {
	at  int
	tag string // "" for "("
}

// source is the offset in the user's pattern of an offset in the output.
func (t *translation) source(out int) int {
	i, _ := slices.BinarySearchFunc(t.segments, out+1, func(s segment, o int) int { return s.out - o })
	if i == 0 {
		return -1
	}
	s := t.segments[i-1]
	if s.tag {
		return s.src
	}
	return s.src + out - s.out
}

func (t *translation) problem(at int, format string, args ...any) {
	t.problems = append(t.problems, &PatternError{Offset: at, Msg: fmt.Sprintf(format, args...)})
}

// copy takes src[from:to] over as it is.
func (t *translation) copy(from, to int) {
	t.segments = append(t.segments, segment{t.out.Len(), from, false})
	t.out.WriteString(t.src[from:to])
}

// write puts text in the place of the tag at from.
func (t *translation) write(from int, text string) {
	t.segments = append(t.segments, segment{t.out.Len(), from, true})
	t.out.WriteString(text)
}

// translate replaces the tags of a pattern and reports what Go's regexp does not have.
func translate(src string) *translation {
	t := &translation{src: src}
	repeated := false // the last thing was a repetition
	fresh := true     // nothing is there that could be repeated
	for i := 0; i < len(src); {
		rest := src[i:]
		wasRepeated, wasFresh := repeated, fresh
		repeated, fresh = false, false
		switch c := src[i]; c {
		case '\\':
			i = t.escape(i)
		case '[':
			i = t.class(i)
		case '(':
			i = t.openGroup(i)
			fresh = true
		case '|':
			fresh = true
			t.copy(i, i+1)
			i++
		case ')':
			if n := len(t.open); n == 0 || t.open[n-1].tag != "" {
				t.problem(i, `a ) was never opened; write \) for a plain one`)
			} else {
				t.open = t.open[:n-1]
			}
			t.copy(i, i+1)
			i++
		case '<':
			i = t.tag(i)
		case '*', '+', '?':
			switch {
			case wasFresh:
				t.problem(i, `%c has nothing to repeat; write \%c for the plain character`, c, c)
			case c == '+' && wasRepeated:
				t.problem(i, "possessive repetition (%s) is not supported; leave the second + out", src[i-1:i+1])
			}
			repeated = !wasRepeated || c != '?'
			t.copy(i, i+1)
			i++
		case '{':
			if strings.HasPrefix(rest, "{,") {
				if n := strings.IndexByte(rest, '}'); n > 2 && allDigits([]byte(rest[2:n])) {
					t.problem(i, "write {0%s in place of %s, which would be plain text", rest[1:n+1], rest[:n+1])
				}
			}
			n := strings.IndexByte(rest, '}')
			repeated = n > 1 && strings.Trim(rest[1:n], "0123456789,") == ""
			if repeated {
				t.copy(i, i+n+1)
				i += n + 1
			} else {
				t.copy(i, i+1)
				i++
			}
		case '\n', '\r':
			t.problem(i, "the pattern has a line break, which no line has; make it two patterns of the list")
			i++
		case '%':
			if name, ok := interpolation(rest); ok {
				t.problem(i, "%s is fail2ban's interpolation, which is not done here; write out what it stands for", name)
				i += len(name)
				continue
			}
			fallthrough
		default:
			t.copy(i, i+1)
			i++
		}
	}
	for _, o := range t.open {
		if o.tag != "" {
			t.problem(o.at, "<%s> is never closed; write </%s> after it", o.tag, o.tag)
		} else {
			t.problem(o.at, `a ( is never closed; write \( for a plain one`)
		}
	}
	slices.SortStableFunc(t.problems, func(a, b *PatternError) int { return a.Offset - b.Offset })
	return t
}

// interpolation recognises %(name)s at the start of s.
func interpolation(s string) (string, bool) {
	n := strings.Index(s, ")s")
	if !strings.HasPrefix(s, "%(") || n < 3 {
		return "", false
	}
	for i := 2; i < n; i++ {
		if !isWord(s[i]) && s[i] != '/' && s[i] != '-' {
			return "", false
		}
	}
	return s[:n+2], true
}

// foreignEscapes are those that other engines have and Go's has not, with what to write.
var foreignEscapes = map[byte]string{
	'Z': `\Z is not supported; write $ for the end of the line`,
	'G': `\G is not supported; write ^ for the start of the line`,
	'K': `\K is not supported; leave it out, only <HOST> is taken from the line`,
	'h': `\h is not supported; write [ \t]`,
	'H': `\H is not supported; write [^ \t]`,
	'R': `\R is not supported; a line has no line break`,
	'X': `\X is not supported; write . for one character`,
	'e': `\e is not supported; write \x1b`,
	'N': `\N is not supported; write . for one character`,
	'k': `a reference to an earlier group (\k) is not supported, no linear-time engine has it; write the group's pattern again`,
	'g': `a reference to an earlier group (\g) is not supported, no linear-time engine has it; write the group's pattern again`,
}

// escape takes over the escape sequence at i and returns where it ends.
func (t *translation) escape(i int) int {
	if i+1 == len(t.src) {
		t.problem(i, `the pattern ends in a backslash; write \\ for a plain one`)
		return i + 1
	}
	end := i + 2
	switch c := t.src[i+1]; {
	case c == 'Q':
		end = len(t.src)
		if n := strings.Index(t.src[i:], `\E`); n >= 0 {
			end = i + n + 2
		}
	case '1' <= c && c <= '9':
		t.problem(i, `a reference to an earlier group (\%c) is not supported, no linear-time engine has it; `+
			`write the group's pattern again`, c)
		return end
	case foreignEscapes[c] != "":
		t.problem(i, "%s", foreignEscapes[c])
		return end
	case isLetter(c) && strings.IndexByte("AbBdDsSwWzafnrtvxpPE", c) < 0:
		t.problem(i, `there is no escape \%c; a plain %c needs no backslash`, c, c)
		return end
	case (c == 'x' || c == 'p' || c == 'P') && strings.HasPrefix(t.src[end:], "{"):
		if n := strings.IndexByte(t.src[end:], '}'); n >= 0 {
			end += n + 1
		}
	}
	t.copy(i, end)
	return end
}

// class takes over the [...] at i and returns where it ends.
func (t *translation) class(i int) int {
	j := i + 1
	if strings.HasPrefix(t.src[j:], "^") {
		j++
	}
	known := len(t.problems)
	for first := j; j < len(t.src) && (t.src[j] != ']' || j == first); {
		switch {
		case t.src[j] == '\\':
			j++
		case strings.HasPrefix(t.src[j:], "[:"):
			if n := strings.Index(t.src[j:], ":]"); n > 0 {
				j += n + 1
			}
		case t.src[j] == '<':
			name, _, _, _ := readTag(t.src[j:])
			if _, isHost := hostTags[name]; isHost {
				t.problem(j, `<%s> stands in a [...], which lists single characters; write \[<%s>\] for an address in brackets`,
					name, name)
			}
		}
		j++
	}
	if j >= len(t.src) {
		t.problems = t.problems[:known]
		t.problem(i, `a [ is never closed; write \[ for a plain one`)
		return len(t.src)
	}
	t.copy(i, j+1)
	return j + 1
}

// foreignGroups are the groups that other engines have and Go's has not. Longer ones come before their beginnings.
var foreignGroups = []struct{ open, msg string }{
	{"(?=", "lookahead (?=...) is not supported; write what follows as part of the pattern"},
	{"(?!", "negative lookahead (?!...) is not supported; say what must not match in ignoreregex"},
	{"(?<=", "lookbehind (?<=...) is not supported; write what comes before as part of the pattern"},
	{"(?<!", "negative lookbehind (?<!...) is not supported; say what must not match in ignoreregex"},
	{"(?>", "atomic group (?>...) is not supported and not needed; write (?:...)"},
	{"(?P=", "a reference to an earlier group (?P=...) is not supported, no linear-time engine has it; " +
		"write the group's pattern again"},
	{"(?P>", "recursion (?P>...) is not supported; write the group's pattern again"},
	{"(?(", "a conditional (?(...)...) is not supported; write two patterns"},
	{"(?#", "a comment (?#...) is not supported; put it beside the pattern"},
	{"(?|", "branch reset (?|...) is not supported; write (?:...)"},
	{"(?R", "recursion (?R) is not supported; write the pattern again"},
	{"(?&", "recursion (?&...) is not supported; write the group's pattern again"},
}

// openGroup takes over the opening of the group at i and returns where its content begins.
func (t *translation) openGroup(i int) int {
	rest := t.src[i:]
	t.open = append(t.open, opened{at: i})
	if !strings.HasPrefix(rest, "(?") {
		t.groups++
		t.copy(i, i+1)
		return i + 1
	}
	for _, f := range foreignGroups {
		if strings.HasPrefix(rest, f.open) {
			t.problem(i, "%s", f.msg)
			if f.open == "(?(" {
				t.open = append(t.open, opened{at: i + 2}) // its condition is in parentheses too
			}
			return i + len(f.open)
		}
	}
	for _, open := range []string{"(?P<", "(?<"} {
		if n := strings.IndexByte(rest, '>'); strings.HasPrefix(rest, open) && n > 0 {
			t.groups++
			t.fields = append(t.fields, fieldGroup{t.groups, rest[len(open):n]})
			t.copy(i, i+n+1)
			return i + n + 1
		}
	}
	n := 2
	for n < len(rest) && rest[n] != ':' && rest[n] != ')' && (isLetter(rest[n]) || rest[n] == '-') {
		n++
	}
	t.copy(i, i+n)
	return i + n
}
