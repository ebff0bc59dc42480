package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"banset/cmd/internal/source/journal"
	"banset/policy"
	"banset/policy/config"
	"banset/policy/judge"
	"banset/policy/match"
	"banset/test/journaltest"
)

// A scene is one policy that has a file and a journal.
type scene struct {
	t       *testing.T
	path    string
	journal *journaltest.Remote
	court   *court
	logs    *logs
	sent    int
}

func newScene(t *testing.T) *scene {
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
	s := &scene{t: t, path: path, journal: journaltest.NewRemote(t)}
	s.court = newCourt(judge.New(judge.Settings{
		Policies: []policy.Policy{p.Policy}, IPv6Prefix: 64, MaxHosts: 1000, MaxBans: 1000,
	}), log)
	s.logs = newLogs(s.court, log, []*config.Policy{p}, nil, time.Now().Add(-time.Hour))
	s.logs.journalDir = s.journal.Dir
	s.choice().every = 10 * time.Millisecond
	return s
}

func (s *scene) choice() *choice { return s.logs.choices["sshd"] }

// send writes a failure of another host to file or journal or both.
func (s *scene) send(at time.Time, inFile, inJournal bool) {
	s.t.Helper()
	text := fmt.Sprintf("Failed password for root from 192.0.2.%d port 1024 ssh2", s.sent)
	s.sent++
	if inJournal {
		s.journal.EntryAt(at, "MESSAGE="+text, "SYSLOG_IDENTIFIER=sshd", "_PID=42", "_HOSTNAME=mx1")
	}
	if !inFile {
		return
	}
	f, err := os.OpenFile(s.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	fmt.Fprintf(f, "%s mx1 sshd[42]: %s\n", at.Format("2006-01-02T15:04:05.000000-07:00"), text)
}

// start runs court and logs until the test ends.
func (s *scene) start() {
	s.t.Helper()
	ts := newTasks()
	s.t.Cleanup(ts.stopAll)
	for _, task := range []task{s.court, s.logs} {
		if err := ts.start(s.t.Context(), task); err != nil {
			s.t.Fatal(err)
		}
	}
}

// all waits until every failure that was sent has been counted, once, and want is what is read.
func (s *scene) all(want origin) {
	s.t.Helper()
	var found uint64
	for range 4000 {
		if err := s.court.do(s.t.Context(), func(*judge.Judge) { found = s.court.stat("sshd").found }); err != nil {
			s.t.Fatal(err)
		}
		if found >= uint64(s.sent) && s.choice().is(want) {
			break
		}
		time.Sleep(5 * time.Millisecond) // nobody is told of a count
	}
	if found != uint64(s.sent) || !s.choice().is(want) {
		s.t.Fatalf("%d of %d failures found; reads the journal: %v", found, s.sent, s.choice().is(fromJournal))
	}
}

// TestChangesOver: while the daemon runs, the file goes away and comes back. Each failure is another host's: of one host
// they can't be told apart within two seconds of a change.
func TestChangesOver(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.send(time.Now(), true, true)
	s.start()
	s.send(time.Now(), true, true)
	s.all(fromFile)
	for range 3 {
		if err := os.Remove(s.path); err != nil {
			t.Fatal(err)
		}
		s.send(time.Now(), false, true)
		s.send(time.Now(), false, true)
		s.all(fromJournal)
		s.send(time.Now(), true, true)
		s.send(time.Now(), true, true)
		s.all(fromFile)
		s.send(time.Now(), true, true)
		s.all(fromFile)
	}
}

// TestTurnWithinAChunk: the journal's turn ends while what it brought waits to be judged. It is judged all the same, or it
// would be read and remembered a second time, and the file's next failure of that host would be taken for it.
func TestTurnWithinAChunk(t *testing.T) {
	s := newScene(t)
	j := s.choice().journal
	for range cap(s.court.found) { // so that nothing else finds room
		if err := s.court.send(t.Context(), finding{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	s.send(time.Now(), false, true)
	s.journal.Settle()
	until, end := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- j.read(t.Context(), until, journal.Options{}) }()
	remembered := func() int {
		s.choice().mu.Lock()
		defer s.choice().mu.Unlock()
		return len(s.choice().twins)
	}
	for remembered() == 0 {
		time.Sleep(time.Millisecond) // nobody is told
	}
	end()
	select {
	case err := <-done:
		t.Fatalf("what was read is not judged: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	for range cap(s.court.found) {
		<-s.court.found
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if f := <-s.court.found; f.hits.len() != 1 || j.position.Cursor != f.next.Cursor {
		t.Errorf("%d failures are judged, up to %q of %q", f.hits.len(), f.next.Cursor, j.position.Cursor)
	}
	if n := remembered(); n != 1 {
		t.Errorf("%d failures are remembered", n)
	}
}

// TestSilentFile: a file that was not written to for ten minutes while the journal went on is left for the journal, and
// taken again when it is written to. A start finds it out at once, a running daemon in its time.
func TestSilentFile(t *testing.T) {
	for _, c := range []struct {
		name          string
		file, journal time.Duration // how long ago each was last written to
		running       bool          // the journal goes on when the daemon runs already, and ten minutes are a second
		want          origin
	}{
		{"the journal went on", 11 * time.Minute, 9 * time.Minute, false, fromJournal},
		{"the journal is as silent", 11 * time.Minute, 11*time.Minute - staleAfter/2, false, fromFile},
		{"not for ten minutes yet", 9 * time.Minute, time.Minute, false, fromFile},
		{"while it runs", 11 * time.Minute, 9 * time.Minute, true, fromJournal},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			wrote := time.Now().Add(-c.file)
			s.send(wrote, true, true)
			if err := os.Chtimes(s.path, wrote, wrote); err != nil {
				t.Fatal(err)
			}
			if c.running {
				s.choice().silentIn = time.Second
				s.start()
				s.all(fromFile)
			}
			s.send(time.Now().Add(-c.journal), false, true)
			if c.want == fromFile {
				s.sent-- // the file's word is what counts
			}
			if !c.running {
				s.journal.Settle()
				s.start()
			}
			s.all(c.want)
			s.send(time.Now(), true, true)
			s.all(fromFile)
		})
	}
}
