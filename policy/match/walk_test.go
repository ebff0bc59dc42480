package match

import (
	"math/rand/v2"
	"regexp"
	"regexp/syntax"
	"strings"
	"testing"
)

// re is the pattern as regexp has it.
func (p *pattern) re() *regexp.Regexp { return new(walker).regexp(p) }

// walkAgrees holds a program to regexp on a text, and says how the walk ended.
func walkAgrees(t *testing.T, p *pattern, re *regexp.Regexp, text []byte) verdict {
	t.Helper()
	if p.program == nil || !plain(text) {
		return unsure
	}
	var w walker
	v := p.program.walk(text, &w)
	want := re.FindSubmatchIndex(text)
	if v == unsure {
		return v
	}
	if (want != nil) != (v == matched) {
		t.Fatalf("%s on %q: got verdict %d, regexp finds %v", p.src, text, v, want)
	}
	if v == missed {
		return v
	}
	for _, group := range p.wanted() {
		for i := 2 * group; i < 2*group+2; i++ {
			if w.saves[i] != want[i] {
				t.Fatalf("%s on %q: got %v, regexp finds %v", p.src, text, w.saves, want)
			}
		}
	}
	return v
}

// wanted are the groups that a match's result depends on.
func (p *pattern) wanted() []int {
	var all []int
	for _, h := range p.hosts {
		all = append(all, h.group)
	}
	for _, f := range p.fields {
		all = append(all, f.group)
	}
	return all
}

// A walk and regexp agree on random patterns, and on texts that match them, or nearly.
func TestWalkRandom(t *testing.T) {
	var ended [unsure + 1]int
	for seed := range uint64(1200) {
		walkRandom(t, seed, &ended)
	}
	t.Logf("missed, matched, unsure: %v", ended)
	if ended[matched] < 800 || ended[missed] < 800 || ended[unsure] > ended[matched] {
		t.Errorf("missed, matched, unsure: %v: the test compares too little", ended)
	}
}

func walkRandom(t *testing.T, seed uint64, ended *[unsure + 1]int) {
	m := maker{rand.New(rand.NewPCG(seed, 3))}
	src := m.pattern(m.IntN(5)) + m.pick("", " ", "from ", `\[`, ".*", `\S+`) + m.pick("<HOST>", "<HOST>", "<IP4>", "<IP6>", "<SUBNET>") +
		m.pick("", `\]`, `(?::\d+)?`, ":", "$", " ", ".*") + m.pattern(m.IntN(3))
	p, problems := compilePattern(src, false)
	if problems != nil {
		return
	}
	tree, _ := syntax.Parse(translate(src).out.String(), syntax.Perl)
	isHost := map[int]bool{}
	for _, h := range p.hosts {
		isHost[h.group] = true
	}
	re := p.re()
	for range 12 {
		var b strings.Builder
		m.sample(&b, tree, isHost)
		text := m.mangle(m.pick("", "", "x ") + b.String() + m.pick("", "", " y", ":5"))
		v := walkAgrees(t, &p, re, []byte(text))
		if p.program != nil && plain([]byte(text)) {
			ended[v]++
		}
	}
}

// mangle changes a text a little.
func (m maker) mangle(text string) string {
	for range m.IntN(3) {
		at := m.IntN(len(text) + 1)
		switch m.IntN(3) {
		case 0:
			text = text[:at] + m.pick(":", "1", ".", "::", "]", " ", "a", "/", "x", "192.0.2.1", "2001:db8::7", "%eth0") + text[at:]
		case 1:
			text = text[:at] + text[min(len(text), at+1+m.IntN(3)):]
		default:
			text = text[:at] + text[at/2:]
		}
	}
	return text
}

// Addresses in all their forms: what the walk is sure of is what regexp says.
func TestWalkHosts(t *testing.T) {
	parts := []string{"192.0.2.1", "1", "2001", "db8", "a", "ffff", "12345", ":", ":", "::", ".", "/64", "%eth0", " ", "]", "[", "g", "_", "-", "1.2.3", "::ffff:"}
	var patterns []*pattern
	var res []*regexp.Regexp
	for _, tag := range []string{"<HOST>", "<IP4>", "<IP6>", "<SUBNET>"} {
		for _, src := range []string{"X", "^X", ".*X", "X$", "^.* X(?::[0-9]+)?$", "gX", `\[X\]`, "X:", "(?:X|g<IP4>)"} {
			p, problems := compilePattern(strings.ReplaceAll(src, "X", tag), false)
			if problems != nil {
				t.Fatal(src, problems)
			}
			patterns = append(patterns, &p)
			res = append(res, p.re())
		}
	}
	r := rand.New(rand.NewPCG(1, 4))
	var ended [unsure + 1]int
	for range 1500 {
		text := ""
		for range 1 + r.IntN(12) {
			text += parts[r.IntN(len(parts))]
		}
		for i, p := range patterns {
			ended[walkAgrees(t, p, res[i], []byte(text))]++
		}
	}
	if ended[matched] < 1000 || ended[missed] < 1000 {
		t.Errorf("missed, matched, unsure: %v: the test compares too little", ended)
	}
}

// The lines that a filter is for are settled by a walk.
func TestWalkSettles(t *testing.T) {
	tests := []struct {
		pattern, text string
		want          verdict
	}{
		{`\[<HOST>\]: 535 Incorrect authentication data`, " login authenticator failed for (User) [192.0.2.1]: 535 Incorrect authentication data", matched},
		{`\[<HOST>\]: 535 Incorrect authentication data`, " login authenticator failed for ([2001:db8::1]) [2001:db8::7]: 535 Incorrect authentication data", matched},
		{`\[<HOST>\]: 535 Incorrect authentication data`, " H=(a) [192.0.2.1]: 535 incorrect", missed},
		{`^ \S+ sshd\[\d+\]: Failed password for (?:invalid user )?(?P<user>.*) from <HOST> port \d+ ssh2$`,
			" mx1 sshd[15101]: Failed password for invalid user x from 203.0.113.9 port 22 ssh2 from 192.0.2.7 port 55731 ssh2", matched},
		{`^ \S+ sshd\[\d+\]: Invalid user (?P<user>.*) from <HOST> port \d+$`, " mx1 sshd[15101]: Invalid user a b from 2001:db8::7 port 4", matched},
		{`^ \S+ sshd\[\d+\]: Invalid user (?P<user>.*) from <HOST> port \d+$`, " mx1 sshd[15101]: Accepted password for x", missed},
		{`^<HOST> \S+ (?P<user>(?:[^"\\]|\\.)*) \[[^\]]*\] "GET [^" ]*/\.env HTTP`, `192.0.2.1 - a"b [] "GET /.env HTTP/1.1`, missed},
		{`^<HOST> \S+ (?P<user>(?:[^"\\]|\\.)*) \[[^\]]*\] "GET [^" ]*/\.env HTTP`, `192.0.2.1 - a\"b [] "GET /.env HTTP/1.1`, matched},
		{`(?i)^user .*? from <HOST>`, "USER a from 192.0.2.1 from 192.0.2.2", matched},
	}
	for _, tt := range tests {
		p, problems := compilePattern(tt.pattern, false)
		if problems != nil {
			t.Fatal(problems)
		}
		if got := walkAgrees(t, &p, p.re(), []byte(tt.text)); got != tt.want {
			t.Errorf("%s on %q: got verdict %d, want %d", tt.pattern, tt.text, got, tt.want)
		}
	}
}

// A text that is made to be walked in many ways is left to regexp soon.
func TestWalkGivesUp(t *testing.T) {
	for _, src := range []string{`^(?:a*)*b <HOST>`, `^.*a.*a.*a.*a.*a <HOST>x`, `(?:a|aa)+ <HOST>`, `a.*b.*c.*d <HOST>`, `[ab]+[ac]+[ad]+ <HOST>`} {
		p, problems := compilePattern(src, false)
		if problems != nil {
			t.Fatal(problems)
		}
		for _, unit := range []string{"a", "abcd", "abcd 192.0.2.1 "} {
			walkAgrees(t, &p, p.re(), []byte(strings.Repeat(unit, 20_000/len(unit))))
		}
	}
}

func TestMatchesNothing(t *testing.T) {
	for seed := range uint64(1200) {
		m := maker{rand.New(rand.NewPCG(seed, 5))}
		src := m.pattern(m.IntN(5))
		tree, err := syntax.Parse(src, syntax.Perl)
		if err != nil {
			continue
		}
		if got, want := matchesNothing(tree), regexp.MustCompile(src).MatchString(""); got != want {
			t.Errorf("%s: got %v, want %v", src, got, want)
		}
	}
}

func FuzzWalk(f *testing.F) {
	f.Add(`\[<HOST>\]: 535`, "[192.0.2.1]: 535", uint64(0))
	f.Add(`(?:a|b[cd]*?)+<F-X>e{2,5}</F-X>\b<HOST>$`, "abce ee2001:db8::1", uint64(1))
	f.Fuzz(func(t *testing.T, src, text string, seed uint64) {
		if len(src) > 200 || len(text) > 1000 {
			return
		}
		if p, problems := compilePattern(src, false); problems == nil {
			walkAgrees(t, &p, p.re(), []byte(text))
		}
		var ended [unsure + 1]int
		walkRandom(t, seed, &ended)
	})
}
