package match

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"regexp/syntax"
	"strings"
	"testing"
	"time"
)

func TestLiterals(t *testing.T) {
	tests := []struct {
		pattern string
		want    []string
	}{
		{`\[<HOST>\]: 535 Incorrect authentication data`, []string{"Incorrect authentication data"}},
		{`^ sshd\[\d+\]: (?:Invalid|Illegal) user .* from <HOST>(?: port \d+)?$`, []string{"Illegal user ", "Invalid user "}},
		{`^ sshd\[\d+\]: Failed (?:password|publickey) for .* from <HOST>$`,
			[]string{"Failed password for ", "Failed publickey for "}},
		{`^ sshd\[\d+\]: Failed (?:password|publickey|none|keyboard-interactive) for .* from <HOST>$`, []string{"]: Failed "}},
		{`^<HOST> \S+ \S+ \[\] "(?:GET|POST) /wp-login\.php`, []string{"wp-login.php"}},
		{`^<HOST> \S+ \S+ \[\] "`, nil}, // "[] \"" straddles the stamp, `] "` is left
		{`<F-A>Bad</F-A> <F-B>Guy</F-B> <HOST>`, []string{"Bad Guy "}},
		{`[Bb]ad guy <HOST>`, []string{"Bad guy ", "bad guy "}},
		{`(?i)authentication failure.*rhost=<HOST>`, []string{"authentication failure"}},
		{`(?i)password for <HOST>`, []string{"word for "}}, // s is also U+017F
		{`(?i)ksks <HOST>`, nil},
		{`x*<HOST>`, nil},
		{`(?:foo|b) <HOST>`, nil},
		{`a{3}<HOST>`, []string{"aaa"}},
		{`(?:abc)+<HOST>`, []string{"abc"}},
		{`(?:abc)?xyz<HOST>`, []string{"xyz"}},
		{"a\uFFFDbcd <HOST>", []string{"bcd "}},
		{`a\x{FFFD}b <HOST>`, nil},
		{`abc[\x{FFFC}\x{FFFD}]d <HOST>`, []string{"abc"}},
		{`(?:abc){0,2}<HOST>`, nil},
		{`msg=audit\(:\d+\): x <HOST>`, []string{"msg=audit("}},
		{`^<3>bcd <HOST>`, []string{"<3>"}}, // never "<3>bcd", which may have a stamp inside
		{`Überfall <HOST>`, []string{"Überfall "}},
	}
	for _, tt := range tests {
		f := compile(t, []string{tt.pattern})
		got := f.Literals()[0]
		if tt.pattern == `^<HOST> \S+ \S+ \[\] "` {
			tt.want = []string{`] "`}
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.pattern, got, tt.want)
		}
	}
}

// naive judges each line alone and tries each pattern, literal or not. Only lines with a literal count for the memory
// of the stamps, which is how Scan is defined.
func naive(jobs []Job, block []byte) []Match {
	s := NewScanner(jobs)
	var out []Match
	for line := range bytes.Lines(block) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		s.begin()
		before := append([]finder(nil), s.finders...)
		candidate := make([]bool, len(s.finders))
		for j, u := range s.unitOf {
			unit := &s.units[u]
			f := &s.finders[unit.finder]
			f.look(line)
			judged := false
			for i, p := range unit.filter.fail {
				candidate[unit.finder] = candidate[unit.finder] || len(p.lits) == 0 || hasAny(line, p.lits)
				if judged {
					continue
				}
				fnd, host, why := p.search(f.text, &s.walker)
				if !fnd.ok || why != "" {
					continue
				}
				judged = true
				dropped := false
				for _, g := range unit.filter.ignore {
					dropped = dropped || s.walker.regexp(&g).Match(f.text)
				}
				if !dropped {
					out = append(out, Match{Job: j, Pattern: i, Host: host, Stamp: f.time(now), Fields: p.named(f.text, fnd), Line: line})
				}
			}
		}
		for i := range s.finders {
			if !candidate[i] {
				s.finders[i].place, s.finders[i].layout, s.finders[i].misses = before[i].place, before[i].layout, before[i].misses
			}
		}
	}
	return out
}

func hasAny(line []byte, lits []literal) bool {
	for _, l := range lits {
		if l.fold && strings.Contains(asciiLower(line), l.text) || !l.fold && bytes.Contains(line, []byte(l.text)) {
			return true
		}
	}
	return false
}

func asciiLower(b []byte) string {
	b = bytes.Clone(b)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] |= 0x20
		}
	}
	return string(b)
}

// agreeOn holds Scan to naive.
func agreeOn(t *testing.T, patterns, ignore []string, block []byte) (hits int) {
	t.Helper()
	filter, problems := Compile(patterns, ignore)
	if problems != nil {
		return 0
	}
	other, _ := Compile(patterns[len(patterns)-1:], nil)
	jobs := []Job{{Filter: filter, Zone: time.UTC}, {Filter: other, Zone: time.UTC}, {Filter: filter, Zone: time.UTC}}
	var got []Match
	NewScanner(jobs).Scan(block, now, func(m Match) { got = append(got, m) })
	want := naive(jobs, block)
	if len(got) != len(want) {
		t.Fatalf("%q, ignore %q, literals %q on %q: got %d hits, want %d", patterns, ignore, filter.Literals(), block, len(got), len(want))
	}
	for i := range got {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Fatalf("%q on %q: got %+v, want %+v", patterns, block, got[i], want[i])
		}
	}
	return len(got)
}

// A maker makes patterns, and lines that they match.
type maker struct{ *rand.Rand }

func (m maker) pick(s ...string) string { return s[m.IntN(len(s))] }

// pattern is a random expression.
func (m maker) pattern(depth int) string {
	if depth == 0 {
		return m.pick("abc", "Invalid user ", "d", " ", `\[`, `\]: `, `\[\] "`, ">", "<34>", "<", ": ", `\d+`, `\S+`, ".*", "[ab]", "[^x]", "k",
			`\(:\d+\)`, `audit\(`, "12", "34> x", `^`, `$`, `\b`, "(?i)Fail", "Ü", "\uFFFD", "", `\x{e9}`, "(?s).", `[\x{FFFD}z]`)
	}
	a, b := m.pattern(depth-1), m.pattern(depth-1)
	switch m.IntN(13) {
	case 8:
		return "(?:" + a + "){0,2}" + b
	case 0:
		return "(?:" + a + "|" + b + ")"
	case 1:
		return "(?:" + a + ")?" + b
	case 2:
		return "(?:" + a + "){2}" + b
	case 3:
		return "(?:" + a + ")+" + b
	case 4:
		return "(?i:" + a + ")" + b
	case 5:
		return "<F-X>" + a + "</F-X>" + b
	case 6:
		return "(?:" + a + "){1,3}?" + b
	case 7:
		return "(?:" + a + ")*" + b
	}
	return a + b
}

// sample is a text that matches, most of the time.
func (m maker) sample(b *strings.Builder, re *syntax.Regexp, isHost map[int]bool) {
	repeat := func(least, most int) {
		for range least + m.IntN(most-least+1) {
			m.sample(b, re.Sub[0], isHost)
		}
	}
	switch re.Op {
	case syntax.OpLiteral:
		for _, r := range re.Rune {
			if re.Flags&syntax.FoldCase != 0 && m.IntN(2) == 0 {
				r = []rune(strings.ToUpper(string(r)))[0]
			}
			if r == '\uFFFD' && m.IntN(2) == 0 {
				b.WriteByte(0xff)
				continue
			}
			b.WriteRune(r)
		}
	case syntax.OpCharClass:
		i := m.IntN(len(re.Rune)/2) * 2
		b.WriteRune(re.Rune[i] + rune(m.IntN(int(min(re.Rune[i+1]-re.Rune[i], 50))+1)))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteString(m.pick("x", "[", ">", " ", "7", "\xff"))
	case syntax.OpCapture:
		if isHost[re.Cap] {
			b.WriteString(m.pick("192.0.2.1", "192.0.2.77", "[198.51.100.7]", "2001:db8::1", "999.1.1.1", "192.0.2.1.2"))
			return
		}
		m.sample(b, re.Sub[0], isHost)
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			m.sample(b, sub, isHost)
		}
	case syntax.OpAlternate:
		m.sample(b, re.Sub[m.IntN(len(re.Sub))], isHost)
	case syntax.OpQuest:
		repeat(0, 1)
	case syntax.OpStar:
		repeat(0, 3)
	case syntax.OpPlus:
		repeat(1, 3)
	case syntax.OpRepeat:
		repeat(re.Min, max(re.Min, re.Max))
	}
}

var someStamps = []string{"2016-04-15 00:21:45", "Nov  5 18:12:45", "10/Oct/2000:13:55:36 -0700", "1700000000.5",
	"Fri Sep 25 12:11:22 2015"}

// line makes a line of which a pattern would see text: with a stamp at a place where it is cut out, or none.
func (m maker) line(text string) string {
	stamp := m.pick(someStamps...)
	var places []int
	for i := 1; i <= len(text); i++ {
		if text[i-1] == '[' || text[i-1] == '>' || strings.HasSuffix(text[:i], "audit(") {
			places = append(places, i)
		}
	}
	switch {
	case m.IntN(4) == 0:
		return text
	case len(places) > 0 && m.IntN(3) > 0:
		at := places[m.IntN(len(places))]
		return text[:at] + stamp + text[at:]
	case m.IntN(4) == 0:
		return "<34>" + m.pick("", "1 ") + stamp + text
	}
	return stamp + text
}

// block makes a pattern's lines, with others between them.
func (m maker) block(pattern string) []byte {
	t := translate(pattern)
	tree, err := syntax.Parse(t.out.String(), syntax.Perl)
	if err != nil {
		return nil
	}
	isHost := map[int]bool{}
	for _, h := range t.hosts {
		isHost[h.group] = true
	}
	var out []string
	for range 6 {
		var b strings.Builder
		m.sample(&b, tree, isHost)
		line := m.line(m.pick("", "", "x ") + b.String() + m.pick("", "", " y", "\xff"))
		out = append(out, strings.ReplaceAll(line, "\n", " "), m.pick("", "abc", someStamps[0]+" Invalid user ", "[", b.String()))
	}
	return []byte(strings.ReplaceAll(strings.Join(out, "\n"), "\r", " ") + "\n")
}

// random makes a filter and a block from a seed, and compares.
func random(t *testing.T, seed uint64) int {
	m := maker{rand.New(rand.NewPCG(seed, 1))}
	var patterns []string
	for range 1 + m.IntN(3) {
		patterns = append(patterns, m.pattern(m.IntN(4))+m.pick("", " ", "from ", `\[`)+"<HOST>"+m.pattern(m.IntN(3)))
	}
	var ignore []string
	if m.IntN(3) == 0 {
		ignore = append(ignore, m.pattern(1)+m.pick("77", "<HOST>"))
	}
	var block []byte
	for _, p := range patterns {
		block = append(block, m.block(p)...)
	}
	return agreeOn(t, patterns, ignore, block)
}

func TestPrefilterRandom(t *testing.T) {
	hits := 0
	for seed := range uint64(800) {
		hits += random(t, seed)
	}
	if hits < 800 {
		t.Errorf("only %d hits: the test compares nothing", hits)
	}
}

func FuzzPrefilter(f *testing.F) {
	f.Add(`\[<HOST>\]: 535 Incorrect authentication data`, []byte("2016-04-15 00:21:45 [192.0.2.1]: 535 Incorrect authentication data\n\n"), uint64(0))
	f.Add(`^<HOST> \S+ \[\] "(?i:GET|post)`, []byte("192.0.2.1 a [10/Oct/2000:13:55:36 -0700] \"gEt\n"), uint64(1))
	f.Add("(?:a|bc[de]|\uFFFD)+<F-X>fgh</F-X><HOST>", []byte("x\xfffgh192.0.2.1"), uint64(2))
	f.Fuzz(func(t *testing.T, pattern string, block []byte, seed uint64) {
		if len(pattern) > 200 || len(block) > 2000 {
			return
		}
		agreeOn(t, []string{pattern, "x" + pattern}, nil, block)
		m := maker{rand.New(rand.NewPCG(seed, 2))}
		agreeOn(t, []string{pattern}, nil, m.block(pattern))
		random(t, seed)
	})
}

// A block with hits, misses and several jobs gives the same as its lines one by one, and in the order promised.
func TestOrder(t *testing.T) {
	a := compile(t, []string{`bad <HOST>`, `worse <HOST>`}, `bad 192\.0\.2\.9`)
	b := compile(t, []string{`worse <HOST>`})
	jobs := []Job{{Policy: "a", Filter: a}, {Policy: "b", Filter: b}, {Policy: "c", Filter: a}}
	block := "bad 192.0.2.1\n\nworse 192.0.2.2\nnothing\nbad 192.0.2.9 worse 192.0.2.3\nworse 192.0.2.4" // no line end
	var got []string
	NewScanner(jobs).Scan([]byte(block), now, func(m Match) {
		got = append(got, fmt.Sprintf("%s%d %s %q", jobs[m.Job].Policy, m.Pattern, m.Host.Addr(), m.Line))
	})
	want := []string{
		`a0 192.0.2.1 "bad 192.0.2.1"`, `c0 192.0.2.1 "bad 192.0.2.1"`,
		`a1 192.0.2.2 "worse 192.0.2.2"`, `b0 192.0.2.2 "worse 192.0.2.2"`, `c1 192.0.2.2 "worse 192.0.2.2"`,
		`b0 192.0.2.3 "bad 192.0.2.9 worse 192.0.2.3"`,
		`a1 192.0.2.4 "worse 192.0.2.4"`, `b0 192.0.2.4 "worse 192.0.2.4"`, `c1 192.0.2.4 "worse 192.0.2.4"`,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestHostPrefixValid(t *testing.T) {
	for _, m := range scan(t, compile(t, []string{`net <SUBNET>`}), "net 192.0.2.77/24\n") {
		if m.Host != m.Host.Masked() || m.Host != netip.MustParsePrefix("192.0.2.0/24") {
			t.Error(m.Host)
		}
	}
}
