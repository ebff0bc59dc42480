package daemon

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"banset/policy"
	"banset/policy/config"
	"banset/policy/judge"
	"banset/policy/match"
	"banset/test/journaltest"
)

// TestChangesOver: while the daemon runs, the file goes away and comes back. Each failure is another host's: of one host
// they can't be told apart within two seconds of a change.
func TestChangesOver(t *testing.T) {
	t.Parallel()
	filter, problems := match.Compile([]string{`Failed password for root from <HOST> port`}, nil)
	if problems != nil {
		t.Fatal(problems)
	}
	path := filepath.Join(t.TempDir(), "auth.log")
	p := &config.Policy{
		Policy:  policy.Policy{Name: "sshd", MaxRetry: 100, FindTime: time.Hour, BanTime: []time.Duration{time.Hour}},
		Enabled: true, Filter: filter, LogPath: []string{path}, JournalMatch: []string{"SYSLOG_IDENTIFIER=sshd"},
	}
	log := slog.New(slog.DiscardHandler)
	c := newCourt(judge.New(judge.Settings{
		Policies: []policy.Policy{p.Policy}, IPv6Prefix: 64, MaxHosts: 1000, MaxBans: 1000,
	}), log)
	journal := journaltest.NewRemote(t)
	n, inFile, inJournal := 0, true, true
	send := func() {
		text := fmt.Sprintf("Failed password for root from 192.0.2.%d port 1024 ssh2", n)
		n++
		if inJournal {
			journal.Entry("MESSAGE="+text, "SYSLOG_IDENTIFIER=sshd", "_PID=42", "_HOSTNAME=mx1")
		}
		if !inFile {
			return
		}
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fmt.Fprintf(f, "%s mx1 sshd[42]: %s\n", time.Now().Format("2006-01-02T15:04:05.000000-07:00"), text)
	}
	send()
	l := newLogs(c, log, []*config.Policy{p}, nil, time.Now().Add(-time.Hour))
	l.journalDir = journal.Dir
	l.choices["sshd"].every = 10 * time.Millisecond
	ts := newTasks()
	defer ts.stopAll()
	for _, task := range []task{c, l} {
		if err := ts.start(t.Context(), task); err != nil {
			t.Fatal(err)
		}
	}
	all := func(want origin) {
		t.Helper()
		var found uint64
		for range 4000 {
			if err := c.do(t.Context(), func(*judge.Judge) { found = c.stat("sshd").found }); err != nil {
				t.Fatal(err)
			}
			if found >= uint64(n) && l.choices["sshd"].is(want) {
				break
			}
			time.Sleep(5 * time.Millisecond) // nobody is told of a count
		}
		if found != uint64(n) || !l.choices["sshd"].is(want) {
			t.Fatalf("%d of %d failures found; reads the journal: %v", found, n, l.choices["sshd"].is(fromJournal))
		}
	}
	send()
	all(fromFile)
	for range 3 {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		inFile = false
		send()
		send()
		all(fromJournal)
		inFile = true
		send()
		send()
		all(fromFile)
		send()
		all(fromFile)
	}
}
