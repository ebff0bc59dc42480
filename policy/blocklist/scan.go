package blocklist

import (
	"bytes"
	"time"
)

// A Scanner reads a blocklist in pieces and keeps nothing of it, for who needs each line once. It belongs to one
// goroutine.
type Scanner struct {
	opts     Options
	names    names
	line     int
	problems []Problem
	bad      int
}

// NewScanner begins with line 1.
func NewScanner(opts Options) *Scanner {
	if opts.Location == nil {
		opts.Location = time.UTC
	}
	return &Scanner{opts: opts, names: make(names)}
}

// Scan reads the next lines, whole ones, and hands each that bans a host to f, also those of a host that came before.
// The Entry is valid until f returns.
func (s *Scanner) Scan(text []byte, f func(*Entry)) {
	var e Entry
	for len(text) > 0 {
		end := bytes.IndexByte(text, '\n') + 1
		if end == 0 {
			end = len(text)
		}
		s.line++
		var l line
		l.read(text[:end], &s.opts)
		text = text[end:]
		if l.problem != none {
			if s.bad++; len(s.problems) < MaxProblems {
				s.problems = append(s.problems, l.tell(s.line))
			}
		}
		if l.kind != 0 {
			e = s.names.entry(&l, l.kind, l.until)
			e.Line = s.line
			f(&e)
		}
	}
}

// Problems returns the first problems of what was read, at most MaxProblems, and how many there are.
func (s *Scanner) Problems() (first []Problem, total int) { return s.problems, s.bad }
