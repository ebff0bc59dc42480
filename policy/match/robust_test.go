package match

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// countable says that allocations can be counted: under the race detector sync.Pool, where regexp keeps its machines,
// drops things at random.
func countable(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool forget, so regexp allocates")
	}
}

// Lines that miss cost no memory, whichever step they miss at.
func TestMissesAllocateNothing(t *testing.T) {
	countable(t)
	tests := map[string]struct{ patterns, lines []string }{
		"no literal": {[]string{`\[<HOST>\]: 535 Incorrect`}, []string{"2016-04-15 00:21:45 Completed", "", "x"}},
		"literal, no match": {[]string{`^ \[<HOST>\]: 535 Incorrect`},
			[]string{"2016-04-15 00:21:45 535 Incorrect", "Nov  5 18:12:45 535 Incorrect", "a [1700000000] 535 Incorrect"}},
		"no literal in the pattern": {[]string{`^ \S+ <HOST>$`, `<HOST>x`}, []string{"2016-04-15 00:21:45 a b", "x [10/Oct/2000:13:55:36 -0700]", ""}},
		"case":                      {[]string{`(?i)bad user <HOST>`}, []string{"BAD USER", "Bad User x", "good"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := NewScanner([]Job{{Filter: compile(t, tt.patterns), Zone: time.UTC}, {Filter: compile(t, tt.patterns[:1])}})
			block := []byte(strings.Repeat(strings.Join(tt.lines, "\n")+"\n", 50))
			yield := func(Match) { t.Error("a hit") }
			if n := testing.AllocsPerRun(50, func() { s.Scan(block, now, yield) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

func TestHitsAllocateLittle(t *testing.T) {
	countable(t)
	s := NewScanner([]Job{{Filter: compile(t, []string{`failed from <HOST>`}), Zone: time.UTC}})
	block := []byte("2016-04-15 00:21:45 failed from 192.0.2.1\n")
	if n := testing.AllocsPerRun(50, func() { s.Scan(block, now, func(Match) {}) }); n > 2 {
		t.Errorf("%v allocations: the match's indices and the address's text are two", n)
	}
}

// Bytes that are no text, and lines as long as a source hands over.
func TestOddLines(t *testing.T) {
	f := compile(t, []string{`failed for <F-USER>.*</F-USER> from <HOST>$`})
	long := strings.Repeat("\x00\xff[", 21000)
	for _, user := range []string{"", "\x00", "\xff\xfe", "\xed\xa0\x80", "\r", long, strings.Repeat("[2016-04-15 00:21:45", 3000), "ü\u2028"} {
		line := "2016-04-15 00:21:45 failed for " + user + " from 192.0.2.1"
		hits := scan(t, f, "\x00\n\xff\n"+line+"\n\n")
		if len(hits) != 1 || hits[0].Host.String() != "192.0.2.1/32" || string(hits[0].Line) != line || hits[0].Stamp.IsZero() {
			t.Errorf("user %.20q: got %d hits", user, len(hits))
			continue
		}
		for _, field := range hits[0].Fields {
			if len(field.Value) > MaxField || !strings.HasPrefix(user, field.Value) {
				t.Errorf("user %.20q: field %.20q", user, field.Value)
			}
		}
	}
}

// Throughput here must not depend on a line's length: linear time, whatever an attacker puts into it.
func BenchmarkHostile(b *testing.B) {
	f := compile(b, []string{`failed for .* from <HOST>(?: port \d+)?$`, `failed for .*\[<HOST>\].*end$`})
	for _, text := range []string{"a", " from ", "1.", "::", "2001:db8::", "[", "192.0.2.1 from ", "[2016-04-15 00:21:45 "} {
		for _, n := range []int{4 << 10, 64 << 10} {
			line := []byte("2016-04-15 00:21:45 failed for " + strings.Repeat(text, n/len(text)) + "x\n")
			b.Run(fmt.Sprintf("%q/%d", text, n), func(b *testing.B) {
				s := NewScanner([]Job{{Filter: f, Zone: time.UTC}})
				b.SetBytes(int64(len(line)))
				for b.Loop() {
					s.Scan(line, now, func(Match) {})
				}
			})
		}
	}
}
