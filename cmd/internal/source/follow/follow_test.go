package follow

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"banset/cmd/internal/source"
)

// deadline is how long a thing may take before it is said not to happen.
const deadline = 20 * time.Second

// A run is a follower at work.
type run struct {
	t    *testing.T
	f    *Follower
	ch   chan source.Chunk
	stop func()
	held []source.Position // after the chunks that were looked at
}

// follow starts a follower that never looks without a notification, unless the options say so.
func follow(t *testing.T, opts Options, patterns ...string) *run {
	t.Helper()
	if opts.Poll == 0 {
		opts.Poll = time.Hour
	}
	return launch(t, New(patterns, opts))
}

func launch(t *testing.T, f *Follower) *run {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &run{t: t, f: f, ch: make(chan source.Chunk, 1<<16), held: slices.Clone(f.opts.From)}
	ended := make(chan error, 1)
	go func() {
		ended <- f.Run(ctx, func(_ context.Context, c source.Chunk) error {
			c.Lines = bytes.Clone(c.Lines)
			r.ch <- c
			return nil
		})
	}()
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(r.stop)
	return r
}

// want waits until exactly text was delivered, and returns the last chunk of it.
func (r *run) want(text string) (last source.Chunk) {
	r.t.Helper()
	var got []byte
	for len(got) < len(text) {
		select {
		case last = <-r.ch:
			got = append(got, last.Lines...)
			r.held = source.Advance(r.held, last)
		case <-time.After(deadline):
			r.t.Fatalf("only %q of %q was delivered", got, text)
		}
	}
	if string(got) != text {
		r.t.Fatalf("delivered %q, want %q", got, text)
	}
	return last
}

// wantNames writes lines to path until they come under these names: a name that changes does so a moment later.
func (r *run) wantNames(path string, names ...string) {
	r.t.Helper()
	var c source.Chunk
	for end := time.Now().Add(deadline); time.Now().Before(end); {
		write(r.t, path, "a line for its names\n")
		if c = r.want("a line for its names\n"); slices.Equal(c.Names, names) {
			return
		}
	}
	r.t.Fatalf("names %q, want %q", c.Names, names)
}

// wantStatus waits until the status, reduced to what can be foreseen, is this.
func (r *run) wantStatus(want ...string) {
	r.t.Helper()
	var got []string
	end := time.Now().Add(deadline)
	for time.Now().Before(end) {
		got = nil
		for _, s := range r.f.Status() {
			got = append(got, strings.TrimSuffix(fmt.Sprintf("%s %s: %s", filepath.Base(s.Name), s.State, s.Error), ": "))
		}
		if slices.Equal(got, want) {
			return
		}
		runtime.Gosched()
	}
	r.t.Fatalf("status %q, want %q", got, want)
}

func write(t testing.TB, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// old makes the file seem last written some time ago.
func old(t testing.TB, path string, ago time.Duration) {
	t.Helper()
	when := time.Now().Add(-ago)
	must(t, os.Chtimes(path, when, when))
}

func TestLifeOfALog(t *testing.T) {
	log := filepath.Join(t.TempDir(), "a.log")
	write(t, log, "one\ntwo\n")
	r := follow(t, Options{}, log)
	if c := r.want("one\ntwo\n"); c.Live {
		t.Error("the backlog is live")
	}
	write(t, log, "three\n")
	c := r.want("three\n")
	if !c.Live {
		t.Error("a line that came while following is not live")
	}
	var st unix.Stat_t
	must(t, unix.Stat(log, &st))
	want := source.Position{Path: log, Dev: st.Dev, Ino: st.Ino, Offset: 14, Head: []byte("one\ntwo\nthree\n"),
		Tail: []byte("one\ntwo\nthree\n"), Mod: st.Mtim.Nano()}
	if d := cmp.Diff(want, c.Next); d != "" {
		t.Error(d)
	}
	must(t, os.Rename(log, log+".1"))
	write(t, log, "four\n")
	r.want("four\n")
	write(t, log+".1", "late\n")
	r.want("late\n")
	write(t, log, "five\n")
	r.want("five\n")
	// copytruncate as a script does it: the copy goes into the file that is still watched for late lines.
	must(t, os.WriteFile(log+".1", []byte("four\nfive\n"), 0o644))
	must(t, os.Truncate(log, 0))
	write(t, log, "six\n")
	r.want("six\n")
	must(t, os.Remove(log))
	write(t, log, "seven\n")
	r.want("seven\n")
	if s := r.f.Status(); s[0].Rotated != 3 || s[0].Lines != 8 || s[0].LastLine.IsZero() {
		t.Errorf("status %+v", s)
	}
	if r.f.tailed.Load() == 0 {
		t.Error("hpcloud/tail has read none of it")
	}
}

func TestComesLate(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "later", "still", "a.log")
	r := follow(t, Options{}, log, filepath.Join(dir, "glob*", "*.log"))
	r.wantStatus("*.log waiting", "a.log waiting")
	must(t, os.MkdirAll(filepath.Dir(log), 0o755))
	write(t, log, "one\n")
	r.want("one\n")
	must(t, os.Mkdir(filepath.Join(dir, "glob1"), 0o755))
	write(t, filepath.Join(dir, "glob1", "b.log"), "b\n")
	r.want("b\n")
	r.wantStatus("b.log following", "a.log following")
	must(t, os.RemoveAll(filepath.Join(dir, "later")))
	r.wantStatus("b.log following", "a.log waiting")
	must(t, os.MkdirAll(filepath.Dir(log), 0o755))
	write(t, log, "two\n")
	r.want("two\n")
}

func TestNotAFile(t *testing.T) {
	log := filepath.Join(t.TempDir(), "a.log")
	must(t, os.Mkdir(log, 0o755))
	r := follow(t, Options{}, log)
	r.wantStatus("a.log unreadable: is a directory, not a regular file")
	must(t, os.Remove(log))
	must(t, unix.Mkfifo(log, 0o644))
	r.wantStatus("a.log unreadable: is a fifo, not a regular file")
	must(t, os.Remove(log))
	must(t, os.Symlink("/dev/null", log))
	r.wantStatus("a.log unreadable: is a device, not a regular file")
	must(t, os.Remove(log))
	must(t, os.Symlink(log, log))
	r.wantStatus("a.log unreadable: stat: too many levels of symbolic links")
	must(t, os.Remove(log))
	r.wantStatus("a.log waiting")
	write(t, log, "one\n")
	r.want("one\n")
	r.wantStatus("a.log following")
}

func TestManyNamesOneFile(t *testing.T) {
	dir := t.TempDir()
	log, link, hard, other := filepath.Join(dir, "a.log"), filepath.Join(dir, "link"), filepath.Join(dir, "hard"),
		filepath.Join(dir, "b.log")
	write(t, log, "one\n")
	write(t, other, "")
	must(t, os.Symlink("a.log", link))
	must(t, os.Link(log, hard))
	r := follow(t, Options{}, log, link, hard, log, filepath.Join(dir, "*.log"))
	if c := r.want("one\n"); !slices.Equal(c.Names, []string{log, hard, link}) {
		t.Errorf("names %q", c.Names)
	}
	// The link moves to another file, the file stays under its other names.
	must(t, os.Symlink("b.log", link+".new"))
	must(t, os.Rename(link+".new", link))
	r.wantNames(other, other, link)
	r.wantNames(log, log, hard)
	r.wantStatus("a.log following", "b.log following")
}

func TestGlobMatchesRotations(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "a.log")
	write(t, log+".2", "oldest\n")
	write(t, log+".1", "older\n")
	write(t, log, "new\n")
	write(t, filepath.Join(dir, "a.log.3.gz"), "no log at all")
	r := follow(t, Options{}, log+"*")
	r.want("oldest\nolder\nnew\n")
	// rename
	must(t, os.Rename(log+".2", log+".3"))
	must(t, os.Rename(log+".1", log+".2"))
	must(t, os.Rename(log, log+".1"))
	write(t, log, "newer\n")
	r.want("newer\n")
	r.wantNames(log+".1", log, log+".1")
	// copytruncate: the copy has a name of ours, and is none.
	must(t, os.Rename(log+".1", log+".4"))
	data, err := os.ReadFile(log)
	must(t, err)
	must(t, os.WriteFile(log+".1", data, 0o644))
	must(t, os.Truncate(log, 0))
	write(t, log, "newest\n")
	r.want("newest\n")
	r.wantStatus("a.log following")
	r.stop()
	// All of it again after a stop: nothing.
	r = follow(t, Options{From: r.held}, log+"*")
	write(t, log, "end\n")
	r.want("end\n")
}

func TestGlobComesAndGoes(t *testing.T) {
	dir := t.TempDir()
	r := follow(t, Options{Grace: time.Millisecond, Poll: 5 * time.Millisecond}, filepath.Join(dir, "*.log"))
	r.wantStatus("*.log waiting")
	for i := range 5 {
		log := filepath.Join(dir, fmt.Sprintf("%d.log", i))
		write(t, log, "here\nhalf")
		r.want("here\n")
		must(t, os.Remove(log))
		r.want("half\n") // nobody will finish it
		r.wantStatus("*.log waiting")
	}
	// The positions of what is gone are given back with the next lines.
	write(t, filepath.Join(dir, "x.log"), "x\n")
	r.want("x\n")
	write(t, filepath.Join(dir, "x.log"), "y\n")
	r.want("y\n")
}

func TestRotatedFileIsDone(t *testing.T) {
	log := filepath.Join(t.TempDir(), "a.log")
	write(t, log, "one\nhalf")
	r := follow(t, Options{Grace: 20 * time.Millisecond}, log)
	first := r.want("one\n")
	must(t, os.Rename(log, log+".1"))
	write(t, log, "two\n")
	r.want("two\n")
	c := r.want("half\n") // once the grace is over
	if c.Next.Ino != first.Next.Ino || c.Next.Offset != 8 {
		t.Errorf("position %+v", c.Next)
	}
	if len(r.held) != 2 {
		t.Errorf("%d positions held, want those of both files", len(r.held))
	}
	for end := time.Now().Add(deadline); len(r.held) > 1 && time.Now().Before(end); { // with one of the next chunks
		write(t, log, "three\n")
		r.want("three\n")
	}
	if len(r.held) > 1 || r.held[0].Ino == first.Next.Ino {
		t.Error("the rotated file is not done")
	}
}

func TestTruncatedAndGrown(t *testing.T) {
	for _, way := range []string{"shorter", "longer", "running"} {
		t.Run(way, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "a.log")
			write(t, log, "one\ntwo\nthree\n")
			r := follow(t, Options{}, log)
			r.want("one\ntwo\nthree\n")
			if way != "running" {
				r.stop()
			}
			text := "ONE\nTWO\nTHREE\nFOUR\n"
			if way == "shorter" {
				text = "ONE\n"
			}
			must(t, os.WriteFile(log, []byte(text), 0o644)) // truncates, and writes more than there was
			if way != "running" {
				r = follow(t, Options{From: r.held}, log)
			}
			r.want(text)
		})
	}
}

// TestInodeReused resumes in a file that has the inode of the one that was read, and is another.
func TestInodeReused(t *testing.T) {
	log := filepath.Join(t.TempDir(), "a.log")
	write(t, log, "one\ntwo\n")
	r := follow(t, Options{}, log)
	r.want("one\ntwo\n")
	r.stop()
	must(t, os.Remove(log))
	write(t, log, "ONE\nTWO\nTHREE\n")
	var st unix.Stat_t
	must(t, unix.Stat(log, &st))
	from := slices.Clone(r.held)
	from[0].Ino = st.Ino // whether or not the file system gave it out again
	r = follow(t, Options{From: from}, log)
	r.want("ONE\nTWO\nTHREE\n")
	if len(r.held) != 1 {
		t.Errorf("%d positions held, want 1", len(r.held))
	}
}

func TestFirstStartReadsRotatedSiblings(t *testing.T) {
	dir := t.TempDir()
	l := &fileLog{t: t, path: filepath.Join(dir, "a.log")}
	log := l.path
	for i, ext := range []string{"", "", ".gz", ".zst", ".xz", ".gz"} {
		name := log
		if i > 0 {
			name = fmt.Sprintf("%s.%d", log, i)
		}
		write(t, name, fmt.Sprintf("generation %d\n", i))
		old(t, name, time.Duration(i)*24*time.Hour)
		if ext != "" {
			l.pack(name, ext)
		}
	}
	write(t, log+".old.notes", "none of ours\n")
	write(t, filepath.Join(dir, "a.logger"), "none of ours\n")
	r := follow(t, Options{Since: time.Now().Add(-100 * time.Hour)}, log)
	want := "generation 4\ngeneration 3\ngeneration 2\ngeneration 1\ngeneration 0\n"
	if c := r.want(want); c.Live {
		t.Error("live")
	}
	r.stop()
	// With a position the siblings are known to be read.
	r = follow(t, Options{From: r.held, Since: time.Now().Add(-100 * time.Hour)}, log)
	write(t, log, "end\n")
	r.want("end\n")
}

func TestDamagedSibling(t *testing.T) {
	dir := t.TempDir()
	l := &fileLog{t: t, path: filepath.Join(dir, "a.log")}
	write(t, l.path+".1", strings.Repeat("a line of many\n", 10000))
	l.pack(l.path+".1", ".gz")
	st, err := os.Stat(l.path + ".1.gz")
	must(t, err)
	must(t, os.Truncate(l.path+".1.gz", st.Size()/2))
	must(t, os.WriteFile(l.path+".2.gz", []byte("junk"), 0o644))
	write(t, l.path, "end\n")
	r := follow(t, Options{Since: time.Now().Add(-time.Hour)}, l.path)
	var got strings.Builder
	for !strings.HasSuffix(got.String(), "end\n") {
		select {
		case c := <-r.ch:
			got.Write(c.Lines)
		case <-time.After(deadline):
			t.Fatal("the log is not read after its damaged sibling")
		}
	}
	if n := strings.Count(got.String(), "a line of many\n"); n < 1000 || n*15+4 != got.Len() {
		t.Errorf("%d whole lines in %d bytes", n, got.Len())
	}
}

// TestRenamedOddly finds the file of a position under a name that no rotation gives.
func TestRenamedOddly(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "a.log")
	write(t, log, "one\n")
	r := follow(t, Options{}, log)
	r.want("one\n")
	r.stop()
	write(t, log, "two\n")
	must(t, os.Rename(log, filepath.Join(dir, "moved away")))
	write(t, log, "three\n")
	r = follow(t, Options{From: r.held}, log)
	r.want("two\nthree\n")
}

// TestOtherConfiguration resumes a file that is now found under another name.
func TestOtherConfiguration(t *testing.T) {
	dir := t.TempDir()
	log, link := filepath.Join(dir, "a.log"), filepath.Join(dir, "link.log")
	write(t, log, "one\n")
	must(t, os.Symlink(log, link))
	r := follow(t, Options{}, log)
	r.want("one\n")
	r.stop()
	write(t, log, "two\n")
	r = follow(t, Options{From: r.held}, link)
	c := r.want("two\n")
	if !slices.Equal(c.Names, []string{link}) || len(r.held) != 1 {
		t.Errorf("names %q, held %v", c.Names, r.held)
	}
}

// TestRotatedBehindALink resumes a link whose target is rotated beside itself, in another directory.
func TestRotatedBehindALink(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "real"), 0o755))
	log, link := filepath.Join(dir, "real", "a.log"), filepath.Join(dir, "link.log")
	write(t, log, "one\n")
	must(t, os.Symlink(log, link))
	r := follow(t, Options{}, link)
	r.want("one\n")
	r.stop()
	write(t, log, "two\n")
	must(t, os.Rename(log, log+".1"))
	write(t, log, "three\n")
	r = follow(t, Options{From: r.held}, link)
	r.want("two\nthree\n")
	must(t, os.Rename(log, log+".2"))
	write(t, log, "four\n")
	r.want("four\n")
}

func TestManyFiles(t *testing.T) {
	const n = 300
	dir := t.TempDir()
	for i := range n {
		write(t, filepath.Join(dir, fmt.Sprintf("%d.log", i)), "backlog\n")
	}
	r := follow(t, Options{}, filepath.Join(dir, "*.log"))
	r.want(strings.Repeat("backlog\n", n))
	for i := range n {
		write(t, filepath.Join(dir, fmt.Sprintf("%d.log", i)), "live\n")
	}
	r.want(strings.Repeat("live\n", n))
	if s := r.f.Status(); len(s) != n {
		t.Errorf("%d logs in the status, want %d", len(s), n)
	}
}

// TestLeavesNothing counts goroutines and descriptors.
func TestLeavesNothing(t *testing.T) {
	fds := func() int {
		d, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(d)
	}
	dir := t.TempDir()
	once := func() {
		log := filepath.Join(dir, "a.log")
		r := follow(t, Options{}, log, filepath.Join(dir, "*.log*"))
		write(t, log, "one\n")
		r.want("one\n")
		must(t, os.Rename(log, log+".1"))
		write(t, log, "two\n")
		r.want("two\n")
		must(t, os.Remove(log))
		must(t, os.Remove(log+".1"))
		r.stop()
	}
	once() // the poller's own descriptors
	files, routines := fds(), runtime.NumGoroutine()
	for range 20 {
		once()
	}
	end := time.Now().Add(deadline)
	for (fds() > files || runtime.NumGoroutine() > routines) && time.Now().Before(end) {
		runtime.Gosched()
	}
	if fds() > files || runtime.NumGoroutine() > routines {
		t.Errorf("%d descriptors and %d goroutines, %d and %d before", fds(), runtime.NumGoroutine(), files, routines)
	}
}

func TestStatusBeforeRun(t *testing.T) {
	f := New([]string{"/nowhere/a.log", "/nowhere/*.log"}, Options{})
	want := []source.Status{{Name: "/nowhere/*.log", State: source.Waiting}, {Name: "/nowhere/a.log", State: source.Waiting}}
	if d := cmp.Diff(want, f.Status()); d != "" {
		t.Error(d)
	}
}

// TestHole truncates a log whose writer does not append but goes on where it was.
func TestHole(t *testing.T) {
	log := filepath.Join(t.TempDir(), "a.log")
	w, err := os.Create(log)
	must(t, err)
	defer w.Close()
	many := strings.Repeat("one of many lines\n", 10000)
	_, err = w.WriteString(many)
	must(t, err)
	r := follow(t, Options{}, log)
	r.want(many)
	must(t, os.Truncate(log, 0))
	_, err = w.WriteString("after\n")
	must(t, err)
	r.want("after\n")
	r.stop()
	_, err = w.WriteString("end\n")
	must(t, err)
	r = follow(t, Options{From: r.held}, log)
	r.want("end\n")
}
