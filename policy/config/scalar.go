package config

import (
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// inside is where byte offset of a scalar's value stands in the file: in texts of one line it is the very character,
// elsewhere the beginning of the scalar.
func (s *source) inside(n *yaml.Node, offset int) Pos {
	start := s.at(n)
	line := after(s.lines[start.Line-1], start.Column-1)
	if offset < 0 || offset > len(n.Value) {
		return start
	}
	var at int // byte of line
	switch n.Style {
	case 0:
		if !strings.HasPrefix(line, n.Value) {
			return start
		}
		at = offset
	case yaml.SingleQuotedStyle:
		written := "'" + strings.ReplaceAll(n.Value, "'", "''") + "'"
		if !strings.HasPrefix(line, written) {
			return start
		}
		at = 1 + offset + strings.Count(n.Value[:offset], "'")
	case yaml.DoubleQuotedStyle:
		var ok bool
		if at, ok = doubleQuoted(line, n.Value, offset); !ok {
			return start
		}
	default:
		return start
	}
	return s.clamp(start.Line, start.Column+utf8.RuneCountInString(line[:at]))
}

// doubleQuoted finds the byte of a text in double quotes, on one line, that stands for byte offset of its value.
func doubleQuoted(line, text string, offset int) (at int, ok bool) {
	if !strings.HasPrefix(line, `"`) {
		return 0, false
	}
	at = 1
	for done := 0; done < offset; {
		if at >= len(line) {
			return 0, false
		}
		_, size := utf8.DecodeRuneInString(text[done:])
		if line[at] != '\\' {
			if !strings.HasPrefix(line[at:], text[done:done+size]) {
				return 0, false
			}
			at += size
			done += size
			continue
		}
		if at+1 >= len(line) {
			return 0, false
		}
		length := map[byte]int{'x': 4, 'u': 6, 'U': 10}[line[at+1]]
		if length == 0 {
			length = 2
		}
		at += length
		done += size
	}
	return at, at < len(line)
}

// commented reports whether a comment ends an unquoted scalar: what a person takes for the rest of the text, YAML takes
// for a comment when a space and # stand in it.
func (s *source) commented(n *yaml.Node) bool {
	if n.Style != 0 {
		return false
	}
	if n.LineComment != "" {
		return true
	}
	start := s.at(n)
	rest, ok := strings.CutPrefix(after(s.lines[start.Line-1], start.Column-1), n.Value)
	return ok && strings.HasPrefix(strings.TrimLeft(rest, " \t"), "#") && strings.TrimLeft(rest, " \t") != rest
}
