package match

import (
	"strings"
	"testing"
	"time"
)

// A step is a line and what the log's finder makes of it.
type step struct {
	line   string
	year   int // of the stamp that is taken; 0 for none
	layout string
}

const (
	startLine  = "2001-01-01 00:00:00 bad"
	syslogLine = "Nov  5 00:00:00 host bad"
	innerLine  = `192.0.2.1 - user [10/Oct/2002:13:55:36 -0700] "bad`
	plainLine  = "bad"
	// An attacker's text in brackets, with and without the log's own stamp before it.
	forged      = "2001-01-01 00:00:00 bad [1999-01-01 00:00:00]"
	forgedAlone = "bad [1999-01-01 00:00:00]"
	// A Host header as a log's first column, with a date for a name.
	forgedStart = `1998-01-01T00:00:00Z - [10/Oct/2002:13:55:36 -0700] "bad`
)

func TestPin(t *testing.T) {
	const start, inner = "iso at the start of the line", "clf in brackets"
	long := strings.Repeat("x", 5000)
	tests := map[string][]step{
		"nothing seen": {{plainLine, 0, ""}},
		"the start is pinned and a forged stamp in brackets is not looked at": {
			{startLine, 2001, start}, {forged, 2001, start}, {forgedAlone, 0, start}, {innerLine, 0, start},
		},
		"a line with both pins nothing and its start counts": {
			{forged, 2001, ""}, {forged, 2001, ""}, {startLine, 2001, start}, {forgedAlone, 0, start},
		},
		"the layout at the start may change": {
			{startLine, 2001, start}, {syslogLine, 2026, "syslog at the start of the line"}, {startLine, 2001, start},
		},
		"brackets are pinned and a forged start is not taken": {
			{innerLine, 2002, inner}, {forgedStart, 2002, inner},
		},
		"a forged start in a log's first line pins nothing": {
			{forgedStart, 1998, ""}, {innerLine, 2002, inner}, {forgedStart, 2002, inner},
		},
		"the pinned layout wins over others in brackets, whatever stands before it": {
			{innerLine, 2002, inner},
			{`192.0.2.1 - [1999-01-01 00:00:00] [10/Oct/2002:13:55:36 -0700] "bad`, 2002, inner},
			{`192.0.2.1 - ` + long + ` [10/Oct/2002:13:55:36 -0700] "bad`, 2002, inner},
			{`192.0.2.1 - [1999-01-01 00:00:00] ` + long + ` [10/Oct/2002:13:55:36 -0700] "bad`, 2002, inner},
		},
		"a wrong pin on brackets ends with the first line that has only a start": {
			{forgedAlone, 1999, "iso in brackets"}, {forged, 1999, "iso in brackets"},
			{startLine, 2001, start}, {forged, 2001, start},
		},
		"a wrong layout in brackets ends with the first line without it": {
			{"- [1000000000] bad", 2001, "epoch in brackets"}, {innerLine, 2002, inner},
			{`- [1000000000] [10/Oct/2002:13:55:36 -0700] "bad`, 2002, inner},
		},
		"plain lines move nothing": {{innerLine, 2002, inner}, {plainLine, 0, inner}, {plainLine, 0, inner}},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			walk(t, NewScanner([]Job{{Filter: new(Filter), Zone: time.UTC}}), steps)
		})
	}
}

// walk takes a scanner's finder through lines.
func walk(t *testing.T, s *Scanner, steps []step) {
	t.Helper()
	f := &s.finders[0]
	for i, st := range steps {
		f.seen = false
		f.look([]byte(st.line))
		year := 0
		if at := f.time(now); !at.IsZero() {
			year = at.UTC().Year()
		}
		if year != st.year || s.Layout(0) != st.layout {
			t.Errorf("line %d, %.80q: got %d and layout %q, want %d and %q", i, st.line, year, s.Layout(0), st.year, st.layout)
		}
	}
}

// A pin at the start ends when a hundred lines in a row have no stamp there, and not because of forged ones between.
func TestUnpin(t *testing.T) {
	scanner := func() *Scanner {
		s := NewScanner([]Job{{Filter: new(Filter), Zone: time.UTC}})
		walk(t, s, []step{{startLine, 2001, "iso at the start of the line"}})
		return s
	}
	repeat := func(s *Scanner, n int, lines ...string) string {
		for range n {
			for _, l := range lines {
				s.finders[0].seen = false
				s.finders[0].look([]byte(l))
			}
		}
		return s.Layout(0)
	}
	if got := repeat(scanner(), unpinAfter-1, innerLine); got != "iso at the start of the line" {
		t.Errorf("after %d lines: %s", unpinAfter-1, got)
	}
	if got := repeat(scanner(), unpinAfter, innerLine); got != "clf in brackets" {
		t.Errorf("after %d lines: %s", unpinAfter, got)
	}
	s := scanner()
	repeat(s, unpinAfter-1, innerLine)
	repeat(s, 1, startLine)
	if got := repeat(s, unpinAfter-1, innerLine); got != "iso at the start of the line" {
		t.Errorf("a line of the log's own did not interrupt the row: %s", got)
	}
	if got := repeat(scanner(), unpinAfter, innerLine, forgedStart); got != "clf in brackets" {
		t.Errorf("an attacker's lines kept the wrong pin: %s", got)
	}
	if got := repeat(scanner(), 10*unpinAfter, forgedAlone, startLine); got != "iso at the start of the line" {
		t.Errorf("an attacker's lines broke the pin: %s", got)
	}
}

// Lines that no pattern's text is in do not move the memory, so that it is the same however lines are cut into blocks.
func TestPinIsMovedByCandidatesOnly(t *testing.T) {
	s := NewScanner([]Job{{Filter: compile(t, []string{`bad user <HOST>`}), Zone: time.UTC}})
	s.Scan([]byte(startLine+"\n"), now, func(Match) {})
	s.Explain([]byte(startLine), now)
	if got := s.Layout(0); got != "" {
		t.Errorf("pinned %s", got)
	}
	s.Scan([]byte("2001-01-01 00:00:00 bad user 192.0.2.1\n"), now, func(Match) {})
	if got := s.Layout(0); got != "iso at the start of the line" {
		t.Errorf("pinned %q", got)
	}
}

func TestUnstamped(t *testing.T) {
	s := NewScanner([]Job{{Filter: compile(t, []string{`bad user <HOST>`}), Zone: time.UTC}})
	s.Scan([]byte("bad user 192.0.2.1\n2001-01-01 00:00:00 bad user 192.0.2.1\nbad user 999\nbad user 192.0.2.1\n"), now, func(Match) {})
	if got := s.Unstamped(0); got != 2 {
		t.Errorf("got %d", got)
	}
}
