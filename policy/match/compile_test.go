package match

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden runs each file of an archive through make, which gets the input above the line "=>" and gives what stands
// below it.
func golden(t *testing.T, path string, make func(t *testing.T, input string) string) {
	t.Helper()
	a, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Files) == 0 {
		t.Fatal("no cases")
	}
	for i, f := range a.Files {
		t.Run(f.Name, func(t *testing.T) {
			input, want, _ := strings.Cut(string(f.Data), "=>\n")
			got := make(t, input)
			if *update {
				a.Files[i].Data = []byte(input + "=>\n" + got)
			} else if got != want {
				t.Errorf("got:\n%swant:\n%s", got, want)
			}
		})
	}
	if *update {
		if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestProblems(t *testing.T) {
	golden(t, "testdata/problems.txtar", func(t *testing.T, input string) string {
		src := strings.TrimSuffix(input, "\n")
		f, problems := Compile([]string{`good <HOST>`, src}, nil)
		if (f == nil) != (len(problems) > 0) {
			t.Error("a filter and problems")
		}
		var b strings.Builder
		for _, p := range problems {
			if p.Index != 1 || p.Ignore || p.Offset >= len(src) || p.Error() != p.Msg {
				t.Errorf("%+v", p)
			}
			if p.Offset >= 0 {
				fmt.Fprintf(&b, "%s^\n", strings.Repeat(" ", p.Offset))
			}
			fmt.Fprintf(&b, "%s\n", p.Msg)
		}
		if problems == nil {
			b.WriteString("fine\n")
		}
		return b.String()
	})
}

// All problems of all patterns are returned, each with its list and index.
func TestProblemsAtOnce(t *testing.T) {
	_, problems := Compile([]string{`<HOST>`, `nothing`, ``, "a\nb <HOST>"}, []string{`x*`, ``, `<HOST>|`, `from <HOST>`, `(`, "\xff"})
	var got []string
	for _, p := range problems {
		got = append(got, fmt.Sprint(p.Ignore, p.Index, p.Offset))
	}
	want := "[false1-1 false20 false31 true0-1 true10 true2-1 true40 true50]"
	if s := strings.ReplaceAll(fmt.Sprint(got), " ", ""); s != strings.ReplaceAll(want, " ", "") {
		t.Errorf("got %s, want %s", s, want)
	}
}

func TestFields(t *testing.T) {
	long := strings.Repeat("ü", 400)
	tests := []struct{ pattern, line, want string }{
		{`user <F-USER>\S*</F-USER> from <HOST>`, "user joe from 192.0.2.1", "[{user joe}]"},
		{`user <F-USER>\S*</F-USER> from <HOST>`, "user  from 192.0.2.1", "[]"},
		{`user (?P<Name>\S*) from <HOST> <F-ALT_USER>x?</F-ALT_USER>(?<b>y)`, "user joe from 192.0.2.1 y", "[{Name joe} {b y}]"},
		{`(?:as <F-USER>\S+</F-USER>|for <F-USER>\S+</F-USER>) <HOST>`, "for joe 192.0.2.1", "[{user joe}]"},
		{`<F-MAIL>(a)<F-B>b</F-B></F-MAIL> <HOST>`, "ab 192.0.2.1", "[{mail ab} {b b}]"},
		{`user <F-USER>.*</F-USER> from <HOST>`, "user " + long + " from 192.0.2.1", "[{user " + strings.Repeat("ü", 256) + "}]"},
		{`<F-USER>.*<HOST></F-USER> (?P<x>end)`, "a 2001:db8::1 end", "[{user a 2001:db8::1} {x end}]"}, // mapped back
		{`<F-USER>.*</F-USER> <HOST>`, "a\xff\x00b 192.0.2.1", "[{user a\xff\x00b}]"},
		{`a<b> \<F-X> (?P<y><)<HOST>`, "a<b> <F-X> <192.0.2.1", "[{y <}]"},
		{`\Q<HOST>(\E <HOST>`, "<HOST>( 192.0.2.1", "[]"},
	}
	for _, tt := range tests {
		hits := scan(t, compile(t, []string{tt.pattern}), tt.line+"\n")
		if len(hits) != 1 || fmt.Sprint(hits[0].Fields) != tt.want {
			t.Errorf("%s on %q: got %v, want %v", tt.pattern, tt.line, hits, tt.want)
		}
	}
}

// FuzzCompile feeds anything: no panic, offsets inside the pattern, and what compiles counts its groups right.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{`from <HOST>`, `<F-USER>(?P<a>\S+)</F-USER> <SUBNET>`, `[[:alpha:]\]<HOST>]`, `\Q<HOST>`, `(?i:x)(?<n>y)<IP4>`,
		`(?P<`, `(?`, `<F-`, `</F-A>`, `{,1}`, `%(a)s`, `\x{41}\pN\p{Greek}<HOST>`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		filter, problems := Compile([]string{src}, []string{src})
		for _, p := range problems {
			if p.Offset < -1 || p.Offset > len(src) || p.Msg == "" {
				t.Errorf("%q: %+v", src, p)
			}
		}
		if filter == nil {
			return
		}
		p := filter.fail[0]
		if n := translate(src).groups; n != p.re().NumSubexp() {
			t.Errorf("%q: counted %d groups, there are %d", src, n, p.re().NumSubexp())
		}
		names := p.re().SubexpNames()
		for _, g := range p.fields {
			if names[g.group] != "" && names[g.group] != g.name {
				t.Errorf("%q: group %d is %q, not %q", src, g.group, names[g.group], g.name)
			}
		}
	})
}
