package follow

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"

	"banset/cmd/internal/source"
)

// TestBeginsAlike: a generation that came and went while nobody looked is no copy of the log of today because that has
// but the beginning of a first line yet, or a first line like all others.
func TestBeginsAlike(t *testing.T) {
	for _, first := range []string{"2026-11-23 23:4", "\n", "began\n"} {
		t.Run(first, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "a.log")
			write(t, log, "zero\n")
			r := follow(t, Options{}, log)
			r.want("zero\n")
			r.stop()
			missed := first + "2026-11-23 23:48 one\n"
			must(t, os.Rename(log, log+".2"))
			write(t, log+".1", missed)
			write(t, log, first)
			r = follow(t, Options{From: r.held}, log)
			if first[len(first)-1] == '\n' {
				missed += first
			}
			r.want(missed)

			// The same while we run: the new log is opened when the one before it has been rotated already.
			r.stop()
			must(t, os.Rename(log, log+".3"))
			r = follow(t, Options{From: r.held}, log)
			r.wantStatus("a.log waiting")
			write(t, filepath.Join(filepath.Dir(log), "next"), first+"three\n")
			write(t, log+".0", first+"two\n")
			must(t, os.Rename(filepath.Join(filepath.Dir(log), "next"), log))
			r.want(first + "two\n" + first + "three\n")
		})
	}
}

// TestInodeOfAnother: while a log has still to find the rest of a file that is gone, another log's file may have been
// given its inode, and has a position of its own.
func TestInodeOfAnother(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.log"), filepath.Join(dir, "b.log")
	write(t, a, "a one\na two\n")
	r := follow(t, Options{}, a)
	r.want("a one\na two\n")
	r.stop()
	held := r.held
	write(t, a+".1", "a one\na two\na three\n") // as a copy: with an inode of its own
	must(t, os.Remove(a))
	write(t, a, "a four\n")
	write(t, b, "b one\n")
	r = follow(t, Options{}, b)
	c := r.want("b one\n")
	r.stop()
	var st unix.Stat_t
	must(t, unix.Stat(b, &st))
	held[0].Ino = st.Ino // whether or not the file system gave it out again
	held = source.Advance(held, c)
	if len(held) != 2 {
		t.Fatalf("held %+v, want a position in each log", held)
	}
	r = follow(t, Options{From: held}, a)
	r.want("a three\na four\n")
	r.stop()
	write(t, b, "b two\n")
	r = follow(t, Options{From: held}, b)
	r.want("b two\n")
}

// TestCompressedUnseen: generations that were read by a life before are compressed while this one runs, and one more is
// missed meanwhile: that one alone is read.
func TestCompressedUnseen(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "a.log")
	write(t, log+".2", "one\n")
	write(t, log+".1", "two\n")
	write(t, log, "three\n")
	old(t, log+".2", 200*time.Millisecond) // the clock of files is coarse
	old(t, log+".1", 100*time.Millisecond)
	r := follow(t, Options{Since: time.Unix(1, 0)}, log)
	r.want("one\ntwo\nthree\n")
	r.stop()
	r = follow(t, Options{From: r.held[len(r.held)-1:]}, log) // the others are done with after a while
	write(t, log, "four\n")
	r.want("four\n")
	for i := 2; i > 0; i-- {
		pack(t, fmt.Sprintf("%s.%d", log, i), fmt.Sprintf("%s.%d.gz", log, i+2))
	}
	write(t, log+".1", "five\n")
	pack(t, log, log+".2.gz")
	next := filepath.Join(dir, "next")
	write(t, next, "six\n")
	must(t, os.Rename(next, log))
	r.want("five\nsix\n")
}

// pack compresses a file, as the name of the result says, like gzip does: the result has its time, and it goes.
func pack(t testing.TB, from, to string) {
	t.Helper()
	st, err := os.Stat(from)
	must(t, err)
	text, err := os.ReadFile(from)
	must(t, err)
	f, err := os.Create(to)
	must(t, err)
	var w io.WriteCloser
	switch filepath.Ext(to) {
	case ".gz":
		w = gzip.NewWriter(f)
	case ".zst":
		w, err = zstd.NewWriter(f)
	case ".xz":
		w, err = xz.NewWriter(f)
	}
	must(t, err)
	_, err = w.Write(text)
	must(t, errors.Join(err, w.Close(), f.Close(), os.Chtimes(to, st.ModTime(), st.ModTime()), os.Remove(from)))
}

// TestLateThenCompressed: a file that was empty when it was rotated is known by the lines that came to it afterwards.
func TestLateThenCompressed(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "a.log")
	write(t, log, "one\n")
	r := follow(t, Options{}, log)
	r.want("one\n")
	must(t, os.Rename(log, log+"-20260101"))
	r.wantStatus("a.log waiting")
	w, err := os.Create(log)
	must(t, err)
	defer w.Close()
	r.wantStatus("a.log following")
	must(t, os.Rename(log, log+"-20260102"))
	write(t, log, "two\n")
	r.want("two\n")
	_, err = w.WriteString("late\n")
	must(t, err)
	r.want("late\n")
	pack(t, log+"-20260102", log+"-20260102.gz")
	pack(t, log, log+"-20260103.gz")
	write(t, log+"-20260104", "three\n")
	next := filepath.Join(dir, "next")
	write(t, next, "four\n")
	must(t, os.Rename(next, log))
	r.want("three\nfour\n")
}

// TestHeldByAnother: what stands under the log's name when it is to be resumed has the inode of the file that was being
// read, which was compressed and deleted since. The rest of that one is read from where it is now.
func TestHeldByAnother(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "a.log")
	write(t, log, "three\n")
	var st unix.Stat_t
	must(t, unix.Stat(log, &st))
	write(t, log+".1", "one\ntwo\n")
	pack(t, log+".1", log+".1.gz")
	old := source.Position{Path: log, Dev: st.Dev, Ino: st.Ino, Offset: 4, Head: []byte("one\n"), Tail: []byte("one\n"), Mod: 1}
	c := New([]string{log}, Options{From: []source.Position{old}}).newChain(log, nil)
	p := c.plan()
	if o := p.places[0]; len(p.held) > 0 || len(p.places) != 1 || o.at.off != 4 {
		t.Errorf("%+v", p)
	}
	for _, o := range p.places {
		o.close()
	}
	old.Head, old.Tail = []byte("thre"), []byte("thre")
	c = New([]string{log}, Options{From: []source.Position{old}}).newChain(log, nil)
	if p := c.plan(); len(p.held) != 1 || len(p.places) != 0 {
		t.Errorf("%+v", p)
	}
}

// TestRemembersEnds: a file's end is kept once, however often it is told, and those of more files than are watched for late
// lines: all of them may have been compressed since the last look.
func TestRemembersEnds(t *testing.T) {
	c := &chain{}
	for i := range uint64(40) {
		m := mark{off: 6, head: fmt.Appendf(nil, "%05d\n", i)}
		c.remember(fileID{1, i}, m)
		m.off, m.tail = 12, m.head
		c.remember(fileID{1, i}, m)
	}
	c.remember(fileID{1, 39}, mark{off: 2, head: []byte("x\n")}) // truncated, and written to again
	if len(c.past) != 41 || c.past[0].id != (fileID{1, 0}) || c.past[0].off != 12 {
		t.Errorf("%d ends, the first %+v", len(c.past), c.past[0])
	}
}
