package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banset/test/journaltest"
)

// TestLookAtJournal asks a real journal.
func TestLookAtJournal(t *testing.T) {
	r := journaltest.NewRemote(t)
	r.Entry("MESSAGE=Failed password for root from 192.0.2.1 port 22 ssh2", "SYSLOG_IDENTIFIER=sshd", "_PID=7")
	r.Settle()
	journalctl := filepath.Join(t.TempDir(), "journalctl")
	script := "#!/bin/sh\nexec journalctl --directory='" + r.Dir + "' \"$@\"\n"
	if err := os.WriteFile(journalctl, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		program, match, state string
		files                 int
	}{
		{journalctl, "SYSLOG_IDENTIFIER=sshd", "there", 1},
		{journalctl, "_PID=7 + SYSLOG_IDENTIFIER=none", "there", 1},
		{journalctl, "SYSLOG_IDENTIFIER=none", "waits for a first line", 0},
		{"/nonexistent/journalctl", "SYSLOG_IDENTIFIER=sshd", "can't be read: ", 0},
	} {
		l := lookAtJournal(test.program, strings.Fields(test.match))
		if !strings.HasPrefix(l.State, test.state) || l.Files != test.files || l.Name != "journal: "+test.match {
			t.Errorf("%s %s: %+v", test.program, test.match, l)
		}
	}
	short := func(logs ...checkLog) string {
		var b strings.Builder
		report := &checkReport{Policies: []checkPolicy{{Name: "sshd", Enabled: true, Logs: logs}}}
		report.writeShort(&b)
		return b.String()
	}
	file, fileGone := checkLog{Name: "/var/log/auth.log", Files: 1}, checkLog{Name: "/var/log/auth.log"}
	inJournal := lookAtJournal(journalctl, []string{"SYSLOG_IDENTIFIER=sshd"})
	for want, got := range map[string]string{
		"sshd: on (/var/log/auth.log)\n": short(file, inJournal),
		"sshd: on (journal)\n":           short(fileGone, inJournal),
		"waiting for a log: sshd\n":      short(fileGone),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
