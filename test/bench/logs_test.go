package main

import (
	"io"
	"strings"
	"testing"
	"time"

	"banset/deploy"
	"banset/policy/config"
	"banset/policy/match"
)

// TestForms: a log is the same each time, one line in a hundred is a failure, and shipped filters find every one.
func TestForms(t *testing.T) {
	now := time.Date(2026, 11, 23, 18, 0, 0, 0, time.UTC)
	var library []config.File
	for _, f := range deploy.Filters() {
		library = append(library, config.File{Name: f.Name, Data: f.Data})
	}
	c, problems := config.Load(library, nil)
	if c == nil {
		t.Fatal(problems)
	}
	for _, l := range []struct {
		name    string
		form    form
		filters []string
		some    []string // that failures hold, in each form of one
		share   float64
	}{
		{"exim", eximForm, []string{"exim2"}, []string{": 535 Incorrect"}, 0.01},
		{"exim, anchored", eximForm, []string{"exim"}, []string{": 535 Incorrect"}, 0.01},
		{"auth", authForm, []string{"sshd"}, []string{"Failed password", "Invalid user", "authenticating user"}, 0.01},
		{"mixed", mixedForm, []string{"sshd", "postfix", "dovecot", "vsftpd"}, []string{"Failed password", "Invalid user", "authenticating user",
			"SASL LOGIN", "auth failed", "FAIL LOGIN"}, 0.01},
		{"attack", attackForm, []string{"sshd"}, []string{"sshd["}, 1},
	} {
		t.Run(l.name, func(t *testing.T) {
			const lines = 20_000
			var text, again strings.Builder
			if err := l.form.writeTo(&text, lines, now); err != nil {
				t.Fatal(err)
			}
			if err := l.form.writeTo(&again, lines, now); err != nil || again.String() != text.String() {
				t.Error("it is another log the second time")
			}
			var jobs []match.Job
			for _, name := range l.filters {
				jobs = append(jobs, match.Job{Policy: name, Filter: c.Filters[name].Filter, Zone: time.UTC})
			}
			found, first := 0, time.Time{}
			match.NewScanner(jobs).Scan([]byte(text.String()), now, func(m match.Match) {
				if found++; first.IsZero() {
					first = m.Stamp
				}
				if age := now.Sub(m.Stamp); age < 0 || age > 24*time.Hour {
					t.Errorf("a failure at %v", m.Stamp)
				}
			})
			want := 0
			for line := range strings.Lines(text.String()) {
				for _, s := range l.some {
					if strings.Contains(line, s) {
						want++
						break
					}
				}
			}
			if found != want {
				t.Errorf("%d failures found of %d", found, want)
			}
			if share := float64(want) / lines; share < l.share*0.8 || share > l.share*1.2 {
				t.Errorf("a share of %v are failures, want %v", share, l.share)
			}
		})
	}
}

// A log covers the last day and goes forward, however many lines it has.
func TestStamps(t *testing.T) {
	end := time.Date(2026, 11, 23, 18, 0, 0, 0, time.UTC)
	for _, n := range []int{1, 1000, 1_000_000} {
		var first, last time.Time
		f := form(func(g *writer) string {
			if first.IsZero() {
				first = g.at
			}
			if g.at.Before(last) {
				t.Fatalf("%d lines: %v after %v", n, g.at, last)
			}
			last = g.at
			return ""
		})
		if err := f.writeTo(io.Discard, n, end); err != nil {
			t.Fatal(err)
		}
		if age := end.Sub(first); age > 24*time.Hour+time.Second || n > 1 && age < 23*time.Hour || end.Sub(last) != time.Second {
			t.Errorf("%d lines: from %v to %v", n, first, last)
		}
	}
}

// The attackers are different hosts, a million of them, and none is one of those that do nothing wrong.
func TestAttacker(t *testing.T) {
	if got := attacker(0).String(); got != "198.18.0.0" {
		t.Errorf("the first is %s", got)
	}
	if got := attacker(999_999).String(); got != "198.33.66.63" {
		t.Errorf("the millionth is %s", got)
	}
}
