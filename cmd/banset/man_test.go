package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// The manual has every command and every flag that the program has, and no others.
func TestManual(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "man", "banset.8"))
	if err != nil {
		t.Fatal(err)
	}
	var commands, flags, options []string
	for _, m := range regexp.MustCompile(`(?m)^\.Cm ([a-z]+)`).FindAllStringSubmatch(string(text), -1) {
		commands = append(commands, m[1])
	}
	for _, m := range regexp.MustCompile(`Fl -([a-z]+)|, -(help)\b`).FindAllStringSubmatch(string(text), -1) {
		flags = append(flags, m[1]+m[2])
	}
	for _, m := range regexp.MustCompile(`(?m)^\.It Cm ([a-z]+)`).FindAllStringSubmatch(string(text), -1) {
		options = append(options, m[1])
	}
	a := &app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, now: time.Now}
	root := a.root()
	wantFlags := []string{"help"}
	add := func(f *pflag.Flag) {
		if !f.Hidden {
			wantFlags = append(wantFlags, f.Name)
		}
	}
	root.PersistentFlags().VisitAll(add)
	for _, c := range root.Commands() {
		if c.Hidden {
			continue
		}
		if !slices.Contains(commands, c.Name()) {
			t.Errorf("the synopsis lacks %s", c.Name())
		}
		if !slices.Contains(options, c.Name()) {
			t.Errorf("the description lacks %s", c.Name())
		}
		c.Flags().VisitAll(add)
	}
	for _, name := range options {
		if c, _, err := root.Find([]string{name}); err != nil || c == root {
			t.Errorf("there is no command %s", name)
		}
	}
	slices.Sort(wantFlags)
	slices.Sort(flags)
	if got, want := slices.Compact(flags), slices.Compact(wantFlags); !slices.Equal(got, want) {
		t.Errorf("the flags are %v, want %v", got, want)
	}
}

// Every command line of the manuals and of the README is one that the program takes.
func TestManualCommands(t *testing.T) {
	found := 0
	for _, name := range []string{"deploy/man/banset.8", "deploy/man/banset.yaml.5", "deploy/man/banset-filters.5", "README.md"} {
		text, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		lines := regexp.MustCompile(`(?m)^(?:    |[$#] +|\.Dl [$#] )banset ([a-z]+.*)$|(?:^|[^.])\x60banset ([a-z][^\x60\n]*)\x60|^\.Ql banset ([a-z].*?)(?: [.,])?$`).FindAllStringSubmatch(string(text), -1)
		for _, m := range lines {
			line := m[1] + m[2] + m[3]
			// Quotes and file patterns are the shell's; a word each is all that counts here.
			line = regexp.MustCompile(`'[^']*'`).ReplaceAllString(line, "x")
			args := strings.Fields(strings.NewReplacer(`\(aq`, "", `\-`, "-").Replace(line))
			found++
			a := &app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, now: time.Now}
			root := a.root()
			c, rest, err := root.Find(args)
			if err != nil || c == root {
				t.Errorf("%s: banset %s: there is no such command: %v", name, line, err)
				continue
			}
			if err := c.ParseFlags(rest); err != nil {
				t.Errorf("%s: banset %s: %v", name, line, err)
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d command lines were looked at", found)
	}
}
