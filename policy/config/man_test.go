package config

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// manual is the page that users read.
const manual = "../../deploy/man/banset.yaml.5"

// sections cuts the page at its headings.
func sections(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	text := make(map[string]string)
	heading := regexp.MustCompile(`(?m)^\.S[hs] (.*)$`)
	at := heading.FindAllStringSubmatchIndex(string(data), -1)
	for i, m := range at {
		end := len(data)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		text[string(data[m[2]:m[3]])] = string(data[m[1]:end])
	}
	return text
}

// allowed are the keys that a map may have, as the message about a wrong one tells.
func allowed(t *testing.T, text string) []string {
	t.Helper()
	_, problems := Load(nil, []File{{"x", []byte(text)}})
	for _, p := range problems {
		if _, keys, ok := strings.Cut(p.Hint, "allowed: "); ok && strings.Contains(p.Msg, "no key") {
			return strings.Split(keys, ", ")
		}
	}
	t.Fatalf("no keys told: %v", problems)
	return nil
}

// TestManualKeys holds the manual to exactly the keys that are read.
func TestManualKeys(t *testing.T) {
	text := sections(t)
	item := regexp.MustCompile(`(?m)^\.It Ic (\w+) :`)
	filter := text["Filters"]
	filter, sample, ok := strings.Cut(filter, ".It Ic samples ")
	if !ok {
		t.Fatal("no samples in the manual")
	}
	for _, tt := range []struct{ name, text, config string }{
		{"top", text["Top level"], "zzzz: 1"},
		{"nftables", text["The kernel's side"], "nftables: {zzzz: 1}"},
		{"metrics", text["Metrics"], "metrics: {zzzz: 1}"},
		{"hook", text["Hooks"], "hooks: {a: {zzzz: 1}}"},
		{"defaults", text["Defaults of policies"], "defaults: {zzzz: 1}"},
		{"policy", text["Policies"], "policies: {a: {zzzz: 1}}"},
		{"filter", filter + "\n.It Ic samples :", "filters: {a: {zzzz: 1}}"},
		{"sample", sample, "filters: {a: {samples: [{zzzz: 1}]}}"},
	} {
		var told []string
		for _, m := range item.FindAllStringSubmatch(tt.text, -1) {
			told = append(told, m[1])
		}
		if want := allowed(t, tt.config); !reflect.DeepEqual(told, want) {
			t.Errorf("%s: the manual has %q, the program %q", tt.name, told, want)
		}
	}
}

// TestManualDefaults holds each default of the manual to the one in force: written out, they change nothing.
func TestManualDefaults(t *testing.T) {
	text := sections(t)
	item := regexp.MustCompile(`(?s)^(\w+) :.*?\nDefault:\n\.Ql ("[^"]*"|\S+)`)
	written := func(section, indent string, least int) string {
		var b strings.Builder
		var found [][]string
		for _, one := range strings.Split(text[section], "\n.It Ic ") {
			if m := item.FindStringSubmatch(one); m != nil {
				found = append(found, m)
			}
		}
		if len(found) < least {
			t.Errorf("%s: %d defaults, want %d", section, len(found), least)
		}
		for _, m := range found {
			fmt.Fprintf(&b, "%s%s: %s\n", indent, m[1], strings.Trim(m[2], `"`))
		}
		return b.String()
	}
	const one = "policies: {a: {failregex: x <HOST>, logpath: /a}}\n"
	const hook = "hooks: {a: {command: [/a]}}\n"
	all := written("Top level", "", 7) + "nftables:\n" + written("The kernel's side", "  ", 7) +
		"metrics:\n" + written("Metrics", "  ", 2) + "hooks:\n  a:\n    command: [/a]\n" + written("Hooks", "    ", 4) +
		"defaults:\n" + written("Defaults of policies", "  ", 3) + one
	got, want := load(t, all), load(t, hook+one)
	got.Hooks[0].Pos = want.Hooks[0].Pos
	got.Policies[0].Pos = want.Policies[0].Pos
	got.Policies[0].Filter = want.Policies[0].Filter
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s\ngives %+v\nwant  %+v", all, got, want)
	}
}

// TestManualExamples holds the examples to being right: the first two alone, the others over other files.
func TestManualExamples(t *testing.T) {
	blocks := regexp.MustCompile(`(?s)\.Bd -literal[^\n]*\n(.*?)\.Ed`).FindAllStringSubmatch(sections(t)["EXAMPLES"], -1)
	if len(blocks) != 4 {
		t.Fatalf("%d examples", len(blocks))
	}
	library := []File{{"library.yaml", []byte("filters: {exim2: {failregex: x <HOST>}, sshd: {failregex: x <HOST>}}")}}
	base := File{"base.yaml", []byte(`policies:
  sshd: {filter: sshd, logpath: /a}
  vsftpd: {filter: sshd, logpath: /a}
`)}
	for i, files := range [][]File{
		{{"1", []byte(blocks[0][1])}},
		{{"2", []byte(blocks[1][1])}},
		{base, {"3", []byte(blocks[2][1])}},
		{base, {"4", []byte(blocks[3][1])}},
	} {
		c, problems := Load(library, files)
		if c != nil {
			problems = append(problems, c.CheckSamples(now)...)
		}
		if len(problems) > 0 {
			t.Errorf("example %d:\n%s", i+1, problems.Format(files...))
		}
	}
}
