package follow

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"banset/cmd/internal/source"
)

// TestTailLines pins what is relied on of hpcloud/tail.
func TestTailLines(t *testing.T) {
	log := filepath.Join(t.TempDir(), "a.log")
	write(t, log, "zero\none\r\n\n\x00\xff\nhalf")
	f, _, err := openFile(log)
	must(t, err)
	defer f.Close()
	read := func(off int64, limit int) string {
		t.Helper()
		tail, err := newTailer(f, off)
		must(t, err)
		raw, err := tail.read(limit, nil)
		must(t, err)
		return string(raw)
	}
	const rest = "one\r\n\n\x00\xff\nhalf\n" // the last '\n' is not in the file
	if got := read(5, 1000); got != rest {
		t.Errorf("read %q, want %q", got, rest)
	}
	// It reads the file that is open, not what has its name.
	must(t, os.Rename(log, log+".1"))
	write(t, log, "another\n")
	if got := read(5, 1000); got != rest {
		t.Errorf("after a rename: read %q", got)
	}
	must(t, os.Remove(log+".1"))
	if got := read(5, 1000); got != rest {
		t.Errorf("after it was removed: read %q", got)
	}
	// It stops early, and leaves no goroutine blocked on a line that nobody takes.
	before := runtime.NumGoroutine()
	for range 100 {
		if got := read(0, 3); got != "zero\n" {
			t.Fatalf("read %q", got)
		}
	}
	// One that is not read leaves neither, and reads nothing.
	for range 100 {
		tail, err := newTailer(f, 0)
		must(t, err)
		tail.close()
		if line, ok := <-tail.tail.Lines; ok {
			t.Fatalf("it read %q", line.Text)
		}
	}
	for end := time.Now().Add(deadline); runtime.NumGoroutine() > before && time.Now().Before(end); {
		runtime.Gosched()
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines, %d before", n, before)
	}
	// What is written while it waits is read.
	log += ".2"
	write(t, log, "first\n")
	g, _, err := openFile(log)
	must(t, err)
	defer g.Close()
	tail, err := newTailer(g, int64(len("first\n")))
	must(t, err)
	write(t, log, "second\nthird\n")
	if raw, err := tail.read(1000, nil); err != nil || string(raw) != "second\nthird\n" {
		t.Errorf("after it waited: read %q, %v", raw, err)
	}
}

// TestChangedUnderARead truncates and rewrites a file between the look at it and the read, which no test of the whole
// hits reliably.
func TestChangedUnderARead(t *testing.T) {
	const was = "one\ntwo\n"
	for _, tt := range []struct{ name, now, want string }{
		{"not changed", was + "three\n", "three\n"},
		{"not changed, half a line more", was + "three\nfo", "three\n"},
		{"other before the place", "ONE\nTWO\nthree\n", ""},
		{"shorter", "one\n", ""},
		{"shorter by a byte", "one\ntwo", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, how := range []string{"tail", "blocks"} {
				log := filepath.Join(t.TempDir(), "a.log")
				write(t, log, tt.now)
				fd, st, err := openFile(log)
				must(t, err)
				defer fd.Close()
				f := New([]string{log}, Options{})
				c := f.newChain(log, nil)
				var got bytes.Buffer
				c.h = func(_ context.Context, ch source.Chunk) error { got.Write(ch.Lines); return nil }
				g := &file{id: idOfStat(&st), chain: c, fd: fd}
				defer f.unhold(g)
				g.advance([]byte(was))
				if how == "tail" {
					_, err = c.readTail(t.Context(), g)
				} else {
					_, err = c.readBlock(t.Context(), g, 100, true)
				}
				if got.String() != tt.want {
					t.Errorf("%s: delivered %q, want %q", how, got.String(), tt.want)
				}
				if changed := tt.want == ""; err != nil && !errors.Is(err, errChanged) || changed && how == "blocks" && err == nil {
					t.Errorf("%s: %v", how, err)
				}
				if want := int64(len(was) + len(tt.want)); g.off != want {
					t.Errorf("%s: at %d, want %d", how, g.off, want)
				}
			}
		})
	}
}

// TestEndlessLine has a line without end in pieces of the size that tail would read, and looks at what is kept of it.
func TestEndlessLine(t *testing.T) {
	log := filepath.Join(t.TempDir(), "a.log")
	write(t, log, "first\n")
	r := follow(t, Options{}, log)
	r.want("first\n")
	piece := strings.Repeat("e", trickle/2)
	for range 3 * source.MaxLine / len(piece) {
		write(t, log, piece)
	}
	r.want(strings.Repeat("e", source.MaxLine) + "\n")
	for range 64 {
		write(t, log, strings.Repeat(piece, 16))
	}
	write(t, log, "\nlast\n")
	r.want("last\n")
	if s := r.f.Status(); s[0].Cut != 1 || s[0].Lines != 3 {
		t.Errorf("status %+v", s)
	}
}
