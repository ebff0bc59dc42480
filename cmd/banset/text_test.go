package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestEscaped(t *testing.T) {
	for _, c := range []struct{ in, printable, escaped string }{
		{"plain text, 100 % – naïve ☃", "plain text, 100 % – naïve ☃", "plain text, 100 % – naïve ☃"},
		{"\x1b[31mred", `\x1b[31mred`, `\x1b[31mred`},
		{`\x1b`, `\x1b`, `\\x1b`},
		{"a\nb\rc\td\x00", `a\nb\rc\td\x00`, `a\nb\rc\td\x00`},
		{"\x9b31m \xff", `\x9b31m \xff`, `\x9b31m \xff`},
		{"\u009b31m", `\u009b31m`, `\u009b31m`},
		{"\u202egpj.exe\u200b\ufeff", `\u202egpj.exe\u200b\ufeff`, `\u202egpj.exe\u200b\ufeff`},
		{"\u00a0\u2028", `\u00a0\u2028`, `\u00a0\u2028`},
		{"\ufffd\xef\xbf", "\ufffd" + `\xef\xbf`, "\ufffd" + `\xef\xbf`},
		{"\U000e0041", `\U000e0041`, `\U000e0041`},
	} {
		if got := printable(c.in); got != c.printable {
			t.Errorf("printable(%q) = %q, want %q", c.in, got, c.printable)
		}
		if got := escaped(c.in); got != c.escaped {
			t.Errorf("escaped(%q) = %q, want %q", c.in, got, c.escaped)
		}
	}
}

// FuzzEscaped: nothing that a terminal could act on gets through, and different texts stay different.
func FuzzEscaped(f *testing.F) {
	f.Add("\x1b]0;x\a", `\x1b]0;x\a`)
	f.Add("\xff", "\u00ff")
	f.Fuzz(func(t *testing.T, a, b string) {
		ea, eb := escaped(a), escaped(b)
		for _, r := range ea {
			if !plain(r) {
				t.Fatalf("escaped(%q) = %q has %q", a, ea, r)
			}
		}
		if (a == b) != (ea == eb) {
			t.Errorf("%q and %q are escaped as %q and %q", a, b, ea, eb)
		}
		if printable(ea) != ea || printable(printable(a)) != printable(a) {
			t.Errorf("%q: printable text is changed", a)
		}
	})
}

// FuzzPrintJSON: the output is JSON of the same value, and has no character that a terminal could act on.
func FuzzPrintJSON(f *testing.F) {
	f.Add("\u009b31m \u202e\U000e0041\x00\x7f <&>\\")
	f.Fuzz(func(t *testing.T, s string) {
		var out bytes.Buffer
		a := &app{stdout: &out}
		if err := a.printJSON([]string{s}); err != nil {
			t.Fatal(err)
		}
		for _, r := range out.String() {
			if r != '\n' && !plain(r) {
				t.Fatalf("%q: the output has %q", s, r)
			}
		}
		var got []string
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if want := strings.ToValidUTF8(s, "\ufffd"); utf8.ValidString(s) && got[0] != want {
			t.Errorf("got %q, want %q", got[0], want)
		}
	})
}

func TestTimes(t *testing.T) {
	now := time.Date(2026, 11, 23, 18, 12, 45, 0, time.UTC)
	for _, c := range []struct {
		off  time.Duration
		want string
	}{
		{0, "2026-11-23 18:12:45Z (now)"},
		{-999 * time.Millisecond, "2026-11-23 18:12:44Z (now)"},
		{-time.Second, "2026-11-23 18:12:44Z (1s ago)"},
		{-119 * time.Second, "2026-11-23 18:10:46Z (119s ago)"},
		{-2 * time.Minute, "2026-11-23 18:10:45Z (2m ago)"},
		{-119 * time.Minute, "2026-11-23 16:13:45Z (119m ago)"},
		{-36 * time.Hour, "2026-11-22 06:12:45Z (36h ago)"},
		{48 * time.Hour, "2026-11-25 18:12:45Z (in 2d)"},
		{729 * day, "2028-11-21 18:12:45Z (in 729d)"},
		{3 * 365 * day, "2029-11-22 18:12:45Z (in 3y)"},
	} {
		if got := when(now.Add(c.off), now); got != c.want {
			t.Errorf("when(%v) = %q, want %q", c.off, got, c.want)
		}
	}
	if got := ending(now, now); got != "until 2026-11-23 18:12:45Z (over)" {
		t.Errorf("of a ban that ends now: %q", got)
	}
	if got := until(time.Time{}, now) + when(time.Time{}, now) + ending(time.Time{}, now); got != "forever-forever" {
		t.Errorf("of the zero time: %q", got)
	}
}

func TestSizes(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 12_900_000: "12.3 MiB", 1 << 63: "8.0 EiB",
	} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestPlural(t *testing.T) {
	got := strings.Join([]string{
		plural(0, "ban"), plural(1, "ban"), plural(2, "policy"), plural(1, "policy"), plural(3, "failregex"),
	}, ", ")
	if want := "0 bans, 1 ban, 2 policies, 1 policy, 3 failregexes"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTable(t *testing.T) {
	tab := newTable("NAME", ">N", "LAST")
	tab.row("naïve ☃", "7", "x")
	tab.row("b", "1234", "")
	var out bytes.Buffer
	if err := tab.writeTo(&out); err != nil {
		t.Fatal(err)
	}
	want := "NAME        N  LAST\nnaïve ☃     7  x\nb        1234\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
}
