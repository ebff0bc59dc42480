package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// A File is one configuration file, read by the caller.
type File struct {
	Name string // as it stands in problems: its path
	Data []byte
}

// MaxFile is the longest configuration file that is read, in bytes. 50,000 addresses fit into it; a parsed file takes
// a hundred times its size of memory.
const MaxFile = 1 << 20

// bom is the byte order mark that some editors put in front.
const bom = "\ufeff"

// A source is the text of one file, known to be printable UTF-8 with LF or CRLF line ends: the only ones on which
// YAML and every editor agree, so that YAML's line and column numbers are everybody's.
type source struct {
	name  string
	text  string   // without a byte order mark
	lines []string // without their ends
}

// newSource checks the bytes of a file. It returns nil when there is no use in going on.
func newSource(f File, l *list) *source {
	start := Pos{f.Name, 1, 1}
	if len(f.Data) > MaxFile {
		l.fail(start, "is it the right file? a long list of addresses belongs into the blocklist",
			"the file has %d bytes, more than the %d that a configuration may have", len(f.Data), MaxFile)
		return nil
	}
	text := strings.TrimPrefix(string(f.Data), bom)
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		msg, hint := "", ""
		switch {
		case r == utf8.RuneError && size == 1:
			msg, hint = fmt.Sprintf(`the byte \x%02x is no UTF-8`, text[i]), "save the file as UTF-8"
			if strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff") {
				msg = "the file is UTF-16"
			}
		case r == '\r' && !strings.HasPrefix(text[i+1:], "\n"), r == '\u0085', r == '\u2028', r == '\u2029':
			msg = fmt.Sprintf("the character %U is a line end for YAML, but not for most editors", r)
			hint = `end lines with LF or CR LF; in a text write it in double quotes, as "\u2028"`
		case r == '\n' || r == '\t' || r == '\r':
		case r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0xfffe || r == 0xffff || r == 0xfeff:
			msg = fmt.Sprintf("the control character %U may not stand here", r)
			hint = `remove it; in a text write it in double quotes, as "\x1b"`
		}
		if msg != "" {
			line, col := lineColumn(text, i)
			l.fail(Pos{f.Name, line, col}, hint, "%s", msg)
			return nil
		}
		i += size
	}
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimSuffix(lines[i], "\r")
	}
	return &source{f.Name, text, lines}
}

// lineColumn is where byte i of text stands.
func lineColumn(text string, i int) (line, column int) {
	head := text[:i]
	begin := strings.LastIndexByte(head, '\n') + 1
	return strings.Count(head, "\n") + 1, utf8.RuneCountInString(head[begin:]) + 1
}

// parse reads the only YAML document of the file: nil, true when there is none, false when it is no YAML.
func (s *source) parse(l *list) (root *yaml.Node, ok bool) {
	docs, err := parseYAML([]byte(s.text), 2)
	if err != nil {
		s.syntax(err, l)
		return nil, false
	}
	if len(docs) > 1 {
		l.fail(s.clamp(docs[1].Line, docs[1].Column), "one file holds one document: remove the line ---, or make two files",
			"a second YAML document begins here")
		return nil, false
	}
	if len(docs) == 0 || len(docs[0].Content) == 0 {
		return nil, true
	}
	root = docs[0].Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" && root.Value == "" {
		return nil, true // "---" and comments
	}
	return root, true
}

// parseYAML reads at most so many documents. The parser is another's: a panic of it on some odd input is an error here.
func parseYAML(text []byte, most int) (docs []*yaml.Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			docs, err = nil, fmt.Errorf("yaml: the parser failed: %v", r)
		}
	}()
	d := yaml.NewDecoder(bytes.NewReader(text))
	for len(docs) < most {
		var n yaml.Node
		switch err := d.Decode(&n); {
		case errors.Is(err, io.EOF):
			return docs, nil
		case err != nil:
			return nil, err
		}
		docs = append(docs, &n)
	}
	return docs, nil
}

// yamlError is how the parser words a syntax error: with a line, without one, never with a column.
var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// maxCut is the longest file, in bytes, in which the place of a syntax error is looked for: that takes some 20 parses.
const maxCut = 256 << 10

// syntax reports that the text is no YAML. The parser's line is that of the enclosing list or map, sometimes one less,
// and it tells no column. The place is found by cutting: the shortest beginning of the file that gives the same error
// ends where the parser gave up.
func (s *source) syntax(err error, l *list) {
	told := yamlError.FindStringSubmatch(err.Error())
	if told == nil {
		l.fail(Pos{s.name, 1, 1}, "", "the file is no YAML: %q", err)
		return
	}
	if len(s.text) > maxCut {
		line, _ := strconv.Atoi(told[1])
		if strings.HasPrefix(told[2], "did not find expected") {
			line++ // these count from 0
		}
		at := s.clamp(line, 1)
		msg, hint := explain(told[2], s.lines[at.Line-1], at.Column)
		l.fail(at, hint, "near this line: %s", msg)
		return
	}
	text := []byte(s.text)
	same := func(n int) bool {
		_, err := parseYAML(text[:n], 2)
		if err == nil {
			return false
		}
		m := yamlError.FindStringSubmatch(err.Error())
		return m != nil && m[2] == told[2]
	}
	// First whole lines, which are more often right by themselves than parts of lines; then within the line.
	ends := make([]int, 0, len(s.lines))
	for i := range text {
		if text[i] == '\n' {
			ends = append(ends, i+1)
		}
	}
	ends = append(ends, len(text))
	line := search(len(ends)-1, func(i int) bool { return same(ends[i]) })
	begin := 0
	if line > 0 {
		begin = ends[line-1]
	}
	end := begin + search(ends[line]-begin, func(i int) bool { return same(begin + i) })
	row, col := lineColumn(s.text, max(end-1, 0))
	if end == begin { // the line before was at fault, or nothing at all
		row, col = lineColumn(s.text, end)
	}
	at := s.clamp(row, col)
	msg, hint := explain(told[2], s.lines[at.Line-1], at.Column)
	// Of these two the parser tells the right line, and it is the line with the fault.
	switch n, err := strconv.Atoi(told[1]); {
	case err != nil || n == at.Line:
	case told[2] == unclosedQuote, told[2] == missingColon:
		at = s.clamp(n, 1)
		indent := len(s.lines[at.Line-1]) - len(strings.TrimLeft(s.lines[at.Line-1], " "))
		at.Column += indent
	}
	l.fail(at, hint, "%s", msg)
}

// search is the smallest i in [0, n] for which f holds, given that f(n) does: that of sort.Search, but only as right
// as f is monotone.
func search(n int, f func(int) bool) int {
	low, high := 0, n
	for low < high {
		if mid := (low + high) / 2; f(mid) {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low
}

// clamp makes sure that a position lies inside the file: at most one column behind the end of a line of it.
func (s *source) clamp(line, column int) Pos {
	line = min(max(line, 1), len(s.lines))
	column = min(max(column, 1), utf8.RuneCountInString(s.lines[line-1])+1)
	return Pos{s.name, line, column}
}

// at is where a node begins.
func (s *source) at(n *yaml.Node) Pos { return s.clamp(n.Line, n.Column) }
