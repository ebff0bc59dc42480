package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"banset/cmd/internal/source"
	"banset/test/journaltest"
)

// A reading is a source that runs, and what came of it.
type reading struct {
	t     testing.TB
	src   source.Source
	end   func() error
	mu    sync.Mutex
	lines []string
	live  []bool
	next  source.Position
	more  chan struct{}
}

func run(t testing.TB, src source.Source) *reading {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &reading{t: t, src: src, more: make(chan struct{}, 1)}
	ended := make(chan error, 1)
	go func() {
		ended <- src.Run(ctx, func(_ context.Context, c source.Chunk) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			for line := range strings.Lines(string(c.Lines)) {
				r.lines = append(r.lines, strings.TrimSuffix(line, "\n"))
				r.live = append(r.live, c.Live)
			}
			r.next = c.Next
			select {
			case r.more <- struct{}{}:
			default:
			}
			return nil
		})
	}()
	r.end = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { r.end() })
	return r
}

const deadline = 30 * time.Second

// await waits for lines that end so, and wants no others.
func (r *reading) await(want ...string) {
	r.t.Helper()
	timeout := time.After(deadline)
	for {
		r.mu.Lock()
		lines := slices.Clone(r.lines)
		r.mu.Unlock()
		if len(lines) >= len(want) {
			for i, line := range lines {
				if i >= len(want) || !strings.HasSuffix(line, want[i]) {
					r.t.Fatalf("line %d of %d is %.99q, want %d lines: %.99q", i, len(lines), line, len(want), want)
				}
			}
			return
		}
		select {
		case <-r.more:
		case <-timeout:
			r.t.Fatalf("%d lines %.99q, want %.99q; %+v", len(lines), lines, want, r.src.Status())
		}
	}
}

// state waits for a state.
func (r *reading) state(want source.State) source.Status {
	r.t.Helper()
	for range 6000 {
		if s := r.src.Status()[0]; s.State == want {
			return s
		}
		time.Sleep(5 * time.Millisecond) // nobody is told of a change of status
	}
	r.t.Fatalf("the state is %+v, want %s", r.src.Status(), want)
	return source.Status{}
}

func numbers(from, to int) (all []string) {
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprintf("line %d", i))
	}
	return all
}

// children tells of the journalctls that a source starts.
func children(j *Journal) <-chan *child {
	c := make(chan *child, 1000)
	j.began = func(child *child) { c <- child }
	return c
}

func follower(t testing.TB, all <-chan *child) *child {
	t.Helper()
	for {
		select {
		case c := <-all:
			if c.follow {
				return c
			}
		case <-time.After(deadline):
			t.Fatal("no journalctl follows")
		}
	}
}

// A journalctl that hears nothing any more, for whatever reason, is found out and another one takes its place.
func TestDeaf(t *testing.T) {
	t.Parallel()
	r := journaltest.NewRemote(t)
	old := time.Now().Add(-time.Hour)
	r.EntryAt(old, entryOf("line 0")...)
	r.Settle()
	j := openRemote(r, Options{Look: time.Second})
	all := children(j)
	got := run(t, j)
	first := follower(t, all)
	got.await("line 0")
	if err := first.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	r.EntryAt(old.Add(time.Second), entryOf("line 1")...)
	got.await("line 0", "line 1")
	follower(t, all) // the deafness is counted before
	if s := j0(got); s.Deaf != 1 || s.DeafAt.IsZero() || s.Lines != 2 {
		t.Errorf("%+v, want 2 lines and found deaf once", s)
	}
	r.EntryAt(old.Add(2*time.Second), entryOf("line 2")...)
	got.await("line 0", "line 1", "line 2")
	if err := got.end(); err != nil {
		t.Error(err)
	}
	if err := first.cmd.Process.Signal(syscall.Signal(0)); err == nil {
		t.Error("the deaf journalctl is still there")
	}
}

// Soon after a rotation it is found out whether journalctl still hears, also when it gave something since.
func TestDeafAfterRotation(t *testing.T) {
	t.Parallel()
	r := journaltest.NewRemote(t)
	r.Entry(entryOf("line 0")...)
	r.Settle()
	j := openRemote(r, Options{Look: time.Hour})
	all := children(j)
	got := run(t, j)
	first := follower(t, all)
	r.Entry(entryOf("line 1")...)
	got.await(numbers(0, 2)...) // it has all files open
	r.Rotate()
	r.Entry(entryOf("line 2")...)
	got.await(numbers(0, 3)...)
	if err := first.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	r.Entry(entryOf("line 3")...)
	got.await(numbers(0, 4)...)
}

// What others write makes nobody deaf, and is looked into less and less often.
func TestPatience(t *testing.T) {
	t.Parallel()
	r := journaltest.NewRemote(t)
	r.Entry(entryOf("line 0")...)
	r.Settle()
	j := openRemote(r, Options{Look: 20 * time.Millisecond})
	all := children(j)
	got := run(t, j)
	got.await("line 0")
	stop := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			select {
			case <-tick.C:
				r.Entry("MESSAGE=other", "SYSLOG_IDENTIFIER=other")
			case <-stop:
				return
			}
		}
	})
	var began []time.Time
	for range 5 {
		began = append(began, follower(t, all).began)
	}
	close(stop)
	others.Wait()
	if last := began[4].Sub(began[3]); last < 8*20*time.Millisecond {
		t.Errorf("asked again after %v: %v", last, began)
	}
	r.Entry(entryOf("line 1")...)
	got.await("line 0", "line 1")
	if s := got.state(source.Following); s.Deaf != 0 {
		t.Errorf("%+v: nobody was deaf", s)
	}
}

// A journalctl that is killed costs nothing, however often.
func TestKilled(t *testing.T) {
	t.Parallel()
	r := journaltest.NewRemote(t)
	j := openRemote(r, Options{})
	all := children(j)
	got := run(t, j)
	const lines = 3000
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, line := range numbers(0, lines) {
			r.Entry(entryOf(line)...)
		}
	})
	stop := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		for {
			select {
			case c := <-all:
				time.Sleep(7 * time.Millisecond) // to be killed at work
				_ = c.cmd.Process.Kill()         // gone already is fine
			case <-stop:
				return
			}
		}
	})
	wg.Wait()
	time.Sleep(50 * time.Millisecond) // some more of them
	close(stop)
	killer.Wait()
	got.await(numbers(0, lines)...)
}

// When the entry that was read last is gone, the next one is the next one.
func TestVacuumed(t *testing.T) {
	t.Parallel()
	r := journaltest.NewRemote(t)
	var held []source.Position
	for i := range 9 {
		got := run(t, openRemote(r, Options{From: held}))
		r.Entry(entryOf(fmt.Sprintf("line %d", i))...)
		got.await(fmt.Sprintf("line %d", i))
		got.end()
		held = []source.Position{got.next}
		if i%3 == 2 {
			r.Entry(entryOf(fmt.Sprintf("gone %d", i))...)
			r.Rotate()
			r.Vacuum(0)
		}
	}
	got := run(t, openRemote(r, Options{From: held}))
	r.Entry(entryOf("last")...)
	got.await("last")
}

// journald gives all entries other numbers when it moves them from /run to /var.
func TestPersist(t *testing.T) {
	t.Parallel()
	d := journaltest.NewJournald(t, false)
	send := func(from, to int) {
		for _, line := range numbers(from, to) {
			d.Send("MESSAGE="+line, "SYSLOG_IDENTIFIER=sshd")
		}
	}
	whole := run(t, openJournald(d, Options{}))
	part := run(t, openJournald(d, Options{}))
	send(0, 10)
	whole.await(numbers(0, 10)...)
	part.await(numbers(0, 10)...)
	part.end()
	send(10, 20)
	d.Persist()
	send(20, 30)
	whole.await(numbers(0, 30)...)
	rest := run(t, openJournald(d, Options{From: []source.Position{part.next}}))
	rest.await(numbers(10, 30)...)
	if files, _ := filepath.Glob(filepath.Join(d.Roots[1], "*/system.journal")); len(files) == 0 {
		t.Error("nothing was moved")
	}
}

// A journal that is not there is waited for, as is its directory.
func TestLate(t *testing.T) {
	t.Parallel()
	r := journaltest.NewRemote(t)
	dir := filepath.Join(t.TempDir(), "log", "journal")
	j := New(match, Options{Directory: dir, Look: time.Hour})
	got := run(t, j)
	if s := got.state(source.Waiting); s.Name != "journal: SYSLOG_IDENTIFIER=sshd" {
		t.Errorf("%+v", s)
	}
	r.Entry(entryOf("line 0")...)
	r.Rotate()
	machine := filepath.Join(dir, journaltest.Machine)
	for _, d := range []string{filepath.Dir(dir), dir, machine} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	files, _ := filepath.Glob(filepath.Join(r.Dir, "system@*.journal"))
	if err := os.Rename(files[0], filepath.Join(machine, "system.journal")); err != nil {
		t.Fatal(err)
	}
	got.await("line 0")
	got.state(source.Following)
}

// The clock was years ahead when the last entry was written, and the whole journal was removed since.
func TestFromTheFuture(t *testing.T) {
	t.Parallel()
	r := journaltest.NewRemote(t)
	at := time.Now().AddDate(5, 0, 0)
	r.EntryAt(at, entryOf("line 0")...)
	got := run(t, openRemote(r, Options{}))
	got.await("line 0")
	got.end()
	other := journaltest.NewRemote(t)
	other.Boot = "00000000000000000000000000000001"
	rest := run(t, openRemote(other, Options{From: []source.Position{got.next}}))
	other.Entry(entryOf("line 1")...)
	rest.await("line 1")
	other.Entry(entryOf("line 2")...)
	rest.await("line 1", "line 2")
	again := run(t, openRemote(other, Options{From: []source.Position{rest.next}}))
	other.Entry(entryOf("line 3")...)
	again.await("line 3")
}

// A cursor that journalctl can't read is gone past by time.
func TestBrokenCursor(t *testing.T) {
	t.Parallel()
	r := journaltest.NewRemote(t)
	at := time.Now().Add(-time.Minute)
	for i, line := range numbers(0, 3) {
		r.EntryAt(at.Add(time.Duration(i)*time.Second), entryOf(line)...)
	}
	got := run(t, openRemote(r, Options{From: []source.Position{
		{Path: "journal", Cursor: "nonsense", Mod: at.Add(time.Second).UnixNano()},
	}}))
	got.await("line 2")
}

func TestSince(t *testing.T) {
	t.Parallel()
	r := journaltest.NewRemote(t)
	at := time.Now().Add(-time.Hour)
	for i, line := range numbers(0, 10) {
		r.EntryAt(at.Add(time.Duration(i)*time.Minute), entryOf(line)...)
	}
	r.Settle()
	got := run(t, openRemote(r, Options{Since: at.Add(5 * time.Minute)}))
	got.await(numbers(5, 10)...)
	if slices.Contains(got.live, true) {
		t.Error("what was there before is live")
	}
}

func TestToEnd(t *testing.T) {
	t.Parallel()
	r := journaltest.NewRemote(t)
	for _, line := range numbers(0, 5) {
		r.Entry(entryOf(line)...)
	}
	r.Rotate()
	var lines int
	count := func(_ context.Context, c source.Chunk) error {
		lines += strings.Count(string(c.Lines), "\n")
		return nil
	}
	if err := openRemote(r, Options{ToEnd: true}).Run(t.Context(), count); err != nil || lines != 5 {
		t.Errorf("%d lines, %v", lines, err)
	}
	if err := New(match, Options{ToEnd: true, Directory: t.TempDir()}).Run(t.Context(), count); err != nil || lines != 5 {
		t.Errorf("%d lines, %v", lines, err)
	}
}

// Everything in an entry may be an attacker's.
func TestHostile(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 3<<20)
	r := journaltest.NewRemote(t)
	for _, e := range [][]string{
		{"MESSAGE=first\n2026-11-23T20:33:58+00:00 mx1 sshd[1]: Failed password for root from 192.0.2.7 port 22 ssh2", "_PID=42"},
		{"MESSAGE=tab\tnul\x00esc\x1b[31m del\x7f high\xff\xfe", "_PID=42"},
		{"MESSAGE=" + long, "_PID=42", "OTHER=" + long},
		{"MESSAGE=\xff" + long, "_PID=42"},
		{"MESSAGE=" + strings.Repeat("\n", 70_000) + "x", "_PID=42"},
		{"_PID=42"}, // no message
		{"MESSAGE=", "_PID=42"},
		{"MESSAGE=ends\r\n", "_PID=1\n2"},
		{"MESSAGE=one", "_HOSTNAME=a b\nc", "_PID=42"},
		{"MESSAGE=pid", "SYSLOG_PID=77"},
		{"MESSAGE=last", "_PID=42"},
	} {
		if !strings.HasPrefix(e[min(1, len(e)-1)], "_HOSTNAME") {
			e = append(e, "_HOSTNAME=mx1")
		}
		r.Entry(append(e, "SYSLOG_IDENTIFIER=sshd")...)
	}
	r.Settle()
	got := run(t, openRemote(r, Options{}))
	text := func(s string) string { return " mx1 sshd[42]: " + s }
	cut := source.MaxLine - len("2026-11-23T20:33:58.108212+00:00") - len(text(""))
	got.await(
		text("first#0122026-11-23T20:33:58+00:00 mx1 sshd[1]: Failed password for root from 192.0.2.7 port 22 ssh2"),
		text("tab#011nul#000esc#033[31m del#177 high\xff\xfe"),
		text(long[:cut]),
		text("\xff"+long[:cut-1]),
		text(strings.Repeat("#012", cut/4)+"#012"[:cut%4]),
		text(""),
		" mx1 sshd: ends",
		" a_b_c sshd[42]: one",
		" mx1 sshd[77]: pid",
		text("last"),
	)
	for i, line := range got.lines {
		if len(line) > source.MaxLine {
			t.Errorf("line %d has %d bytes", i, len(line))
		}
	}
	if s := j0(got); s.Cut != 3 {
		t.Errorf("%d cut, want 3", s.Cut)
	}
}

func j0(r *reading) source.Status { return r.src.Status()[0] }

// What keeps journalctl from reading is told, and ends.
func TestTrouble(t *testing.T) {
	t.Parallel()
	r := journaltest.NewRemote(t)
	r.Entry(entryOf("line 0")...)
	program := filepath.Join(t.TempDir(), "journalctl")
	got := run(t, openRemote(r, Options{Journalctl: program}))
	if s := got.state(source.Unreadable); !strings.Contains(s.Error, "no such file") {
		t.Errorf("%+v", s)
	}
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho its trouble >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 6000 {
		if s := j0(got); s.Error == "journalctl: its trouble" {
			break
		}
		time.Sleep(5 * time.Millisecond) // nobody is told of a change of status
	}
	if s := j0(got); s.State != source.Unreadable || s.Error != "journalctl: its trouble" {
		t.Errorf("%+v", s)
	}
	if err := os.WriteFile(program+".new", []byte("#!/bin/sh\nexec journalctl \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(program+".new", program); err != nil {
		t.Fatal(err)
	}
	got.await("line 0")
	if s := got.state(source.Following); s.Error != "" {
		t.Errorf("%+v", s)
	}
}

// No journalctl is left behind, whoever ends.
func TestLeavesNobody(t *testing.T) {
	t.Parallel()
	r := journaltest.NewRemote(t)
	r.Entry(entryOf("line 0")...)
	j := openRemote(r, Options{})
	all := children(j)
	broken := errors.New("broken")
	if err := j.Run(t.Context(), func(context.Context, source.Chunk) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("Run: %v", err)
	}
	j2 := openRemote(r, Options{})
	all2 := children(j2)
	got := run(t, j2)
	last := follower(t, all2)
	got.await("line 0")
	got.end()
	for _, c := range []*child{<-all, last} {
		if c.cmd.ProcessState == nil {
			t.Error("a journalctl was not waited for")
		}
	}
}
