package match

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// planned is a scanner that has chosen how to look for its literals in text like block's, in the way that is wanted.
func planned(jobs []Job, block []byte, grouped bool) *Scanner {
	s := NewScanner(jobs)
	s.sieve.unlooked = planAgain // it shall not choose for itself
	s.sieve.plan(block)
	if grouped && len(s.sieve.needles) > 0 {
		s.sieve.alone = nil
		all := make([]int, len(s.sieve.needles))
		for i := range all {
			all[i] = i
		}
		s.sieve.group = newShifter(s.sieve.needles, all, frequency)
	}
	return s
}

// Whichever way the literals are looked for, the hits are the same.
func TestSieveAgrees(t *testing.T) {
	hits, groups := 0, 0
	for seed := range uint64(250) {
		m := maker{rand.New(rand.NewPCG(seed, 6))}
		var patterns []string
		for range 1 + m.IntN(6) {
			patterns = append(patterns, m.pattern(m.IntN(3))+m.pick("", "Invalid ", "user x ", "(?i:denied)", "failed[ab]", "e:")+"<HOST>"+m.pattern(m.IntN(3)))
		}
		filter, problems := Compile(patterns, nil)
		if problems != nil {
			continue
		}
		var block []byte
		for _, p := range patterns {
			block = append(block, m.block(p)...)
		}
		jobs := []Job{{Filter: filter, Zone: time.UTC}}
		want := naive(jobs, block)
		for _, grouped := range []bool{false, true} {
			var got []Match
			s := planned(jobs, block, grouped)
			s.Scan(block, now, func(m Match) { got = append(got, m) })
			if s.sieve.group != nil {
				groups++
			}
			same := slices.EqualFunc(got, want, func(a, b Match) bool {
				return a.Pattern == b.Pattern && a.Host == b.Host && a.Stamp.Equal(b.Stamp) && bytes.Equal(a.Line, b.Line)
			})
			if !same {
				t.Fatalf("%q, grouped %v, on %q: got %d hits %+v, want %d %+v", patterns, grouped, block, len(got), got, len(want), want)
			}
			hits += len(got)
		}
	}
	if hits < 400 || groups < 150 {
		t.Errorf("%d hits, %d groups: the test compares too little", hits, groups)
	}
}

// oddText is n bytes of few kinds, so that literals of the same kinds are often in it.
func oddText(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = "abABc \xff\x80"[r.IntN(8)]
	}
	return b
}

// A shifter finds each place where a needle is.
func TestShifterFindsAll(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 7))
	text := func(n int) []byte { return oddText(r, n) }
	found := 0
	for range 3000 {
		var needles []needle
		var which []int
		for i := range 1 + r.IntN(5) {
			l := literal{string(text(minLiteral + r.IntN(6))), r.IntN(3) == 0}
			if l.fold {
				l.text = string(bytes.ToLower([]byte(l.text)))
			}
			needles = append(needles, newNeedle(l))
			which = append(which, i)
		}
		g := newShifter(needles, which, frequency)
		var b []byte
		for range 8 {
			b = append(append(b, text(r.IntN(40))...), '\n')
		}
		g.begin()
		next := slices.Repeat([]int{-1}, len(needles))
		for pos := 0; pos < len(b); {
			first := g.first(b, pos)
			for pos <= first && pos < len(b) {
				end := pos + bytes.IndexByte(b[pos:], '\n')
				if pos <= first && first < end {
					g.line(b, end, next)
				}
				for i := range needles {
					got, want := next[i] >= pos, needles[i].index(b[pos:end]) >= 0
					if got != want || got && !needles[i].at(b, next[i]) {
						t.Fatalf("%q fold %v in %q of %q: found at %d", needles[i].text, needles[i].fold, b[pos:end], b, next[i])
					}
					if want {
						found++
					}
				}
				pos = end + 1
			}
		}
	}
	if found < 500 {
		t.Errorf("only %d places: the test compares too little", found)
	}
}

// The choice follows the text: what is rare in it is looked for, and many needles are looked for in one pass.
func TestSievePlans(t *testing.T) {
	quiet := bytes.Repeat([]byte("Nov 23 20:33:48 mx1 program[15092]: nothing of interest happened here at all\n"), 1000)
	var patterns []string
	for _, who := range []string{"alpha", "bravo", "charlie", "delta", "echo"} {
		for _, what := range []string{"quarrel", "mistake", "trouble", "blunder"} {
			patterns = append(patterns, who+" "+what+" <HOST>")
		}
	}
	filter := compile(t, patterns)
	s := NewScanner([]Job{{Filter: filter}})
	s.Scan(quiet, now, func(Match) { t.Error("a hit") })
	if s.sieve.group == nil || len(s.sieve.alone) > 8 {
		t.Errorf("%d of %d needles alone", len(s.sieve.alone), len(s.sieve.needles))
	}
	few := NewScanner([]Job{{Filter: compile(t, []string{`Zulu quirk <HOST>`, `Xray yacht <HOST>`})}})
	few.Scan(quiet, now, func(Match) { t.Error("a hit") })
	if few.sieve.group != nil {
		t.Error("two needles of rare bytes are looked for in a group")
	}
}

// A block that is planned for costs no memory beyond the plan.
func TestSieveAllocatesNothing(t *testing.T) {
	countable(t)
	block := bytes.Repeat([]byte("Nov 23 20:33:48 mx1 program[15092]: Invalid user, Failed password, error: PAM: all nearly\n"), 200)
	filter := compile(t, []string{`^ mx2 .*Invalid user <HOST>`, `^ mx2 .*Failed password <HOST>`, `^ mx2 error: PAM: <HOST>`})
	for _, grouped := range []bool{false, true} {
		s := planned([]Job{{Filter: filter}}, block, grouped)
		yield := func(Match) { t.Error("a hit") }
		if n := testing.AllocsPerRun(20, func() { s.Scan(block, now, yield) }); n != 0 {
			t.Errorf("grouped %v: %v allocations", grouped, n)
		}
	}
}
