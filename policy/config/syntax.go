package config

import (
	"fmt"
	"strings"
)

// Two of the parser's messages that need more than words.
const (
	unclosedQuote = "found unexpected end of stream"
	missingColon  = "could not find expected ':'"
)

// spaces is the answer to tabs.
const spaces = "indent with spaces: YAML allows no tabs there"

// explain words a syntax error of the YAML parser for the person who wrote the line. column is where the parser gave up.
func explain(told, line string, column int) (msg, hint string) {
	here := after(line, column-1)
	switch told {
	case "did not find expected alphabetic or numeric character":
		return "a value that begins with * or & has another meaning in YAML", "put it in quotes: '*.log'"
	case "found character that cannot start any token":
		if strings.HasPrefix(here, "\t") {
			return "a tab can't stand here", spaces
		}
		return fmt.Sprintf("a value can't begin with %q", quoteFirst(here, 1)), "put it in single quotes"
	case "found a tab character that violates indentation",
		"found a tab character where an indentation space is expected":
		return "a tab can't stand here", spaces
	case "mapping values are not allowed in this context":
		return "a second ': ' makes no sense here",
			"put a text that holds ': ' in single quotes, and give all keys of one map the same indentation"
	case "found unknown escape character", "did not find expected hexdecimal number",
		"found invalid Unicode character escape code":
		escape := after(line, column-2)
		if !strings.HasPrefix(escape, `\`) {
			escape = here
		}
		return fmt.Sprintf("%s is no escape of a text in double quotes", quoteFirst(escape, 2)),
			`put patterns in single quotes, where \ stands for itself`
	case unclosedQuote:
		return "the quote that opens here is never closed",
			"in single quotes write '' for one ', in double quotes \\\" for one \""
	case missingColon:
		return "a key must be followed by ': '", "write key: value, and indent the rest of a long value"
	case "did not find expected key":
		return "this does not belong here: the map goes on with another key or ends",
			"put a pattern that begins with [ { or a quote in single quotes as a whole, and check the indentation"
	case "did not find expected '-' indicator":
		return "this does not belong here: the list goes on with '- ' or ends", "check the indentation"
	case "did not find expected ',' or ']'":
		return "the list in [ ] misses a comma or its end",
			"close it with ], and put a pattern that begins with [ in single quotes"
	case "did not find expected ',' or '}'":
		return "the map in { } misses a comma or its end",
			"close it with }, and put a pattern that begins with { in single quotes"
	case "did not find expected node content":
		return "a value is missing here", `close what [ or { opened, and put an IPv6 address in quotes: "::1"`
	case "block sequence entries are not allowed in this context":
		return "a list item can't begin here", "begin each '- ' on a line of its own, below its key"
	case "mapping keys are not allowed in this context":
		return "a key can't begin here", "put a text that begins with ? in single quotes"
	case "did not find expected <document start>":
		return "the document has ended above", "one file holds one document: remove the line --- or ..."
	}
	switch {
	case strings.HasPrefix(told, "exceeded max depth"):
		return "lists and maps are nested too deep", "put a pattern that begins with [ or { in single quotes"
	case strings.HasPrefix(told, "unknown anchor"):
		name := strings.TrimSuffix(strings.TrimPrefix(told, "unknown anchor '"), "' referenced")
		return fmt.Sprintf("no anchor %q stands above", "&"+name), "put a text that begins with * in quotes: '*.log'"
	case strings.Contains(told, "tag"):
		return "a value that begins with ! has another meaning in YAML", "put it in single quotes"
	}
	return fmt.Sprintf("the file is no YAML: %s", told), ""
}

// after is line without its first n characters.
func after(line string, n int) string {
	for i := range line {
		if n <= 0 {
			return line[i:]
		}
		n--
	}
	return ""
}

// quoteFirst is the first n characters of s, fit for a message.
func quoteFirst(s string, n int) string {
	r := []rune(s)
	return printable(string(r[:min(n, len(r))]))
}
