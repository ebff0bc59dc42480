package config

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A Problem is one thing that is wrong at one place of a configuration file, in words for the person who wrote it.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line"`              // from 1
	Column  int    `json:"column"`            // from 1, in characters
	Msg     string `json:"message"`           // what is wrong; one printable line
	Hint    string `json:"hint,omitempty"`    // what to do; one printable line
	Warning bool   `json:"warning,omitempty"` // the configuration can be used all the same
}

// String is the problem in one printable line: file:line:column: message (hint).
func (p Problem) String() string {
	s := p.head()
	if p.Hint != "" {
		s += " (" + printable(p.Hint) + ")"
	}
	return s
}

func (p Problem) head() string {
	var warning string
	if p.Warning {
		warning = "warning: "
	}
	at := fmt.Sprintf("%d:%d: ", p.Line, p.Column)
	if p.File != "" {
		at = printable(p.File) + ":" + at
	}
	return at + warning + printable(p.Msg)
}

// window is how much of a long source line Format shows, in columns.
const window = 100

// Format shows the problem with the line of source that it is about, a caret below the place, and the hint. source is
// the text of p.File; nil, when it is not at hand, leaves out the line. Everything that can't be printed is escaped.
// The result has no newline at its end.
func (p Problem) Format(source []byte) string {
	var b strings.Builder
	b.WriteString(p.head())
	if line, ok := nthLine(source, p.Line); ok {
		text, caret := excerpt(line, p.Column)
		number := strconv.Itoa(p.Line)
		margin := strings.Repeat(" ", len(number))
		fmt.Fprintf(&b, "\n  %s | %s\n  %s | %s^", number, text, margin, strings.Repeat(" ", caret))
	}
	if p.Hint != "" {
		b.WriteString("\n  " + printable(p.Hint))
	}
	return b.String()
}

// nthLine is line n, from 1, of source, without its end and without a byte order mark.
func nthLine(source []byte, n int) (string, bool) {
	if n < 1 || len(source) == 0 {
		return "", false
	}
	text := bytes.TrimPrefix(source, []byte(bom))
	for ; n > 1; n-- {
		end := bytes.IndexByte(text, '\n')
		if end < 0 {
			return "", false
		}
		text = text[end+1:]
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return string(bytes.TrimSuffix(line, []byte("\r"))), true
}

// excerpt is the part of a source line around a column, made printable, and the column of the caret below it, from 0.
func excerpt(line string, column int) (text string, caret int) {
	// A column is a character of the source; what it is shown as may be longer. Only what can be in the window is
	// made printable: a line may be as long as the file.
	column = max(column, 1)
	back, at := 0, 0 // byte offsets: where to begin, where the column is
	for n := 1; n < column && at < len(line); n++ {
		_, size := utf8.DecodeRuneInString(line[at:])
		at += size
	}
	before := 0
	short := len(line) <= window && len(printable(line)) <= window
	for back = at; back > 0 && (short || before < window/2); {
		r, size := utf8.DecodeLastRuneInString(line[:back])
		before += len([]rune(shownRune(r, line[back-size:back])))
		back -= size
	}
	var b strings.Builder
	width := 0
	if back > 0 {
		b.WriteString("...")
		width = 3
	}
	for i := back; i < len(line); {
		if i == at {
			caret = width
		}
		if width >= window && i > at && !short {
			b.WriteString("...")
			break
		}
		r, size := utf8.DecodeRuneInString(line[i:])
		s := shownRune(r, line[i:i+size])
		b.WriteString(s)
		width += len([]rune(s))
		i += size
	}
	if at >= len(line) {
		caret = width
	}
	return b.String(), caret
}

// shownRune is how a character of a source line is shown: a tab as one space, so that the caret stands right.
func shownRune(r rune, raw string) string {
	switch {
	case r == '\t':
		return " "
	case r == utf8.RuneError && len(raw) == 1:
		return fmt.Sprintf(`\x%02x`, raw[0])
	case strconv.IsPrint(r):
		return raw
	}
	quoted := strconv.QuoteRune(r)
	return quoted[1 : len(quoted)-1]
}

// printable escapes what does not belong on a terminal.
func printable(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		b.WriteString(shownRune(r, s[i:i+size]))
		i += size
	}
	return b.String()
}

// Problems are all that was found, in order of file, line and column.
type Problems []Problem

// Error is one line a problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Err is ps when one of them is more than a warning, and nil otherwise.
func (ps Problems) Err() error {
	if slices.ContainsFunc(ps, func(p Problem) bool { return !p.Warning }) {
		return ps
	}
	return nil
}

// Format shows all problems, each as [Problem.Format] does, with its line from files. An empty line stands between two.
func (ps Problems) Format(files ...File) string {
	sources := make(map[string][]byte, len(files))
	for _, f := range files {
		sources[f.Name] = f.Data
	}
	texts := make([]string, len(ps))
	for i, p := range ps {
		texts[i] = p.Format(sources[p.File])
	}
	return strings.Join(texts, "\n\n")
}

// maxProblems bounds the list: beyond it nobody reads, and a broken file of a megabyte has one on each line.
const maxProblems = 1000

// A list gathers problems.
type list struct {
	problems Problems
	errors   int  // how many of them are more than a warning
	left     int  // how many there were beyond maxProblems
	serious  bool // one of those is more than a warning
}

func (l *list) add(p Problem) {
	if len(l.problems) >= maxProblems {
		l.left++
		if !p.Warning {
			l.serious = true
			l.errors++
		}
		return
	}
	p.Msg, p.Hint = printable(p.Msg), printable(p.Hint)
	l.problems = append(l.problems, p)
	if !p.Warning {
		l.errors++
	}
}

func (l *list) fail(at Pos, hint, format string, args ...any) {
	l.add(Problem{at.File, at.Line, at.Column, fmt.Sprintf(format, args...), hint, false})
}

func (l *list) warn(at Pos, hint, format string, args ...any) {
	l.add(Problem{at.File, at.Line, at.Column, fmt.Sprintf(format, args...), hint, true})
}

// sorted ends the gathering.
func (l *list) sorted() Problems {
	slices.SortStableFunc(l.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	l.problems = slices.Compact(l.problems) // an alias shows one mistake in many places
	if l.left > 0 {
		last := l.problems[len(l.problems)-1]
		last.Msg, last.Hint, last.Warning = fmt.Sprintf("%d more problems are not shown", l.left), "", !l.serious
		l.problems = append(l.problems, last)
		l.left = 0
	}
	return l.problems
}
