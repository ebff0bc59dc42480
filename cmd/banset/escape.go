package main

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// printable makes text fit for a terminal: whatever is not a printable character or a plain space becomes its Go escape
// (\x1b, \n, \u202e). Other text is returned as it is, with its backslashes: patterns, and what is escaped already.
func printable(s string) string { return escape(s, plain) }

// escaped is printable for raw text from a log: a backslash is escaped too, so that an escape can't be forged.
func escaped(s string) string {
	return escape(s, func(r rune) bool { return r != '\\' && plain(r) })
}

func escape(s string, plain func(rune) bool) string {
	clean := true
	for _, r := range s {
		if !plain(r) {
			clean = false
			break
		}
	}
	if clean && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			b.WriteString(`\x` + strconv.FormatUint(0x100|uint64(s[0]), 16)[1:])
		case plain(r):
			b.WriteRune(r)
		default:
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		}
		s = s[n:]
	}
	return b.String()
}

// plain reports whether r may be printed as it is. unicode.IsPrint leaves out the characters that change the
// direction of text, and those without width.
func plain(r rune) bool { return unicode.IsPrint(r) }

// shorten cuts s to at most n characters, the last of which then is an ellipsis. s is printable already.
func shorten(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	r := []rune(s)
	return string(r[:max(0, n-1)]) + "…"
}
