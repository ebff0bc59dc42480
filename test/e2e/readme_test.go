package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banset/nft/nfttest"
)

// screen is the README's first block of console text.
func screen(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```console\n")
	block, _, found := strings.Cut(rest, "```\n")
	if !found {
		t.Fatal("the README has no block of console text")
	}
	return block
}

// normal makes the README's output and today's comparable: times, and what is left of a ban.
func normal(s string) string {
	for _, r := range []struct{ re, to string }{
		{`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}`, "ARRIVED"},
		{`\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ`, "TIME"},
		{`expires 36[45]d[0-9dhms]*`, "expires LEFT"},
		{`\((now|\d+s ago)\)`, "(now)"},
		{`in (1y|36[45]d\w*)`, "in A YEAR"},
		{` +`, " "},
	} {
		s = regexp.MustCompile(r.re).ReplaceAllString(s, r.to)
	}
	return s
}

// TestReadme runs the commands of the README's first screen and compares what they print.
func TestReadme(t *testing.T) {
	h := newHost(t)
	h.configure("")
	h.start()
	h.fail(attacker, 10)
	h.logged("[exim2-repeater] Ban " + attacker)
	h.banset("verify")
	var got bytes.Buffer
	for line := range strings.Lines(screen(t)) {
		command, ok := strings.CutPrefix(line, "# ")
		if !ok {
			continue
		}
		if got.Len() > 0 {
			got.WriteString("\n")
		}
		got.WriteString(line)
		switch args := strings.Fields(command); args[0] {
		case "banset":
			if args[1] != "run" {
				got.WriteString(h.banset(args[1:]...))
				continue
			}
			lines := strings.SplitAfter(h.logText(), "\n")
			for i, line := range lines {
				if strings.Contains(line, "] Ban ") {
					got.WriteString(lines[i-1] + line)
				}
			}
		case "nft":
			got.WriteString(nfttest.Run(t, args[0], args[1:]...))
		case "grep":
			for line := range strings.Lines(h.readFile("data/" + filepath.Base(args[2]))) {
				if strings.Contains(line, args[1]) {
					got.WriteString(line)
				}
			}
		default:
			t.Fatalf("the README has a command that this test does not know: %s", command)
		}
	}
	if diff := cmp.Diff(normal(got.String()), normal(screen(t))); diff != "" {
		t.Errorf("the README's screen is not what the commands print (-is +README):\n%s\nas it is:\n%s", diff, got.String())
	}
}

// TestReadmeLinks holds the README's links to what is there.
func TestReadmeLinks(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	links := regexp.MustCompile(`\]\(([^)#]+)\)`).FindAllStringSubmatch(string(text), -1)
	if len(links) < 10 {
		t.Errorf("only %d links found", len(links))
	}
	for _, m := range links {
		if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
			t.Errorf("README: %v", err)
		}
	}
}
