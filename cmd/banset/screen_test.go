package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"banset/cmd/internal/configfile"
	"banset/cmd/internal/control"
	"banset/cmd/internal/source"
	"banset/deploy"
)

// TestScreen holds status to one screen on a usual host: the built-in configuration where Exim, Postfix, Dovecot, sshd
// and nginx log, all of them attacked, with hooks and something wrong.
func TestScreen(t *testing.T) {
	set, err := configfile.Read(filepath.Join("..", "..", "deploy", deploy.ConfigName))
	if err != nil {
		t.Fatal(err)
	}
	c, problems := set.Load()
	if c == nil {
		t.Fatal(problems)
	}
	now := time.Date(2026, 11, 23, 18, 12, 45, 0, time.UTC)
	s := &control.Status{
		Version: "v1.10.100", PID: 4123456, Started: now.Add(-100 * day), Config: "/etc/banset/banset.yaml", ConfigFrom: now.Add(-9 * day),
		Bans: 104312, Kernel: map[string]int{"ban4": 99999, "ban6": 4300, "net4": 13}, Dropped: 1234567890, Hosts: 100000, Healings: 12,
		Problems:  []string{"/var/log/mail.log: open /var/log/mail.log: permission denied"},
		Blocklist: control.BlocklistStatus{Path: "/var/lib/banset/blocklist", Lines: 104312},
		Hooks:     []control.HookStatus{{Name: "a", OK: 104312, Failed: 12, Dropped: 400, Waiting: 1000}},
	}
	there := map[string]bool{"exim": true, "postfix": true, "dovecot": true, "sshd": true, "nginx": true}
	for _, p := range c.Policies {
		ps := control.PolicyStatus{Name: p.Name, Enabled: p.Enabled, Waiting: !there[p.Name]}
		if there[p.Name] {
			ps.Bans, ps.Found, ps.Banned, ps.Last = 20000, 1234567, 54321, now.Add(-time.Minute)
		}
		s.Policies = append(s.Policies, ps)
		if !p.Enabled {
			continue
		}
		for _, path := range p.LogPath {
			if i := slices.IndexFunc(s.Logs, func(l control.LogStatus) bool { return l.Name == path }); i >= 0 {
				s.Logs[i].Policies = append(s.Logs[i].Policies, p.Name)
				continue
			}
			l := control.LogStatus{Status: source.Status{Name: path, State: source.Waiting}, Policies: []string{p.Name}}
			if there[p.Name] {
				l.State, l.Lines, l.LastLine = source.Following, 123456789, now.Add(-time.Second)
			}
			s.Logs = append(s.Logs, l)
		}
	}
	var b strings.Builder
	if err := writeStatus(&b, s, now); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if len(lines) > 24 {
		t.Errorf("%d lines", len(lines))
	}
	for _, line := range lines {
		if n := utf8.RuneCountInString(line); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if !strings.HasPrefix(lines[0], "WRONG: ") {
		t.Errorf("the first line: %s", lines[0])
	}
	if t.Failed() {
		t.Log("\n" + b.String())
	}
}
