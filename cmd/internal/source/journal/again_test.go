package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"banset/cmd/internal/source"
	"banset/test/journaltest"
)

// A rotation while journalctl opens the files, which takes it the longer the more there are, hides none of them.
func TestRotatedWhileOpened(t *testing.T) {
	t.Parallel()
	const files, each = 60, 4
	r := journaltest.NewRemote(t)
	all := numbers(0, files*each)
	for i, line := range all {
		r.Entry(entryOf(line)...)
		if i%each == each-1 {
			r.Rotate()
		}
	}
	next, _ := filepath.Glob(filepath.Join(r.Dir, "system@*.journal")) // in order
	dir := t.TempDir()
	current := filepath.Join(dir, "system.journal")
	var got []string
	var held []source.Position
	read := func() {
		handler := func(_ context.Context, c source.Chunk) error {
			for line := range strings.Lines(string(c.Lines)) {
				_, text, _ := strings.Cut(strings.TrimSpace(line), "sshd[42]: ")
				got = append(got, text)
			}
			held = []source.Position{c.Next}
			return nil
		}
		if err := New(match, Options{Directory: dir, From: held, ToEnd: true}).Run(t.Context(), handler); err != nil {
			t.Error(err)
		}
	}
	rotated := make(chan struct{})
	go func() {
		defer close(rotated)
		for i, file := range next {
			old := filepath.Join(dir, filepath.Base(next[max(i-1, 0)]))
			_ = os.Rename(current, old) // there is none at first
			if err := os.Rename(file, current); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Duration(i%7) * time.Millisecond) // to meet journalctl everywhere
		}
	}()
	for running := true; running; read() {
		select {
		case <-rotated:
			running = false
		default:
		}
	}
	if !slices.Equal(got, all) {
		t.Errorf("read %d lines of %d, or in another order:\n%q", len(got), len(all), got)
	}
}

// A writer that loses its processor while it links an entry's message leaves the file in a state in which journalctl gives
// the entry without it.
func TestMessageBeingLinked(t *testing.T) {
	t.Parallel()
	for _, live := range []bool{false, true} {
		r := journaltest.NewRemote(t)
		r.Entry(entryOf("line 0")...)
		r.Settle()
		j := openRemote(r, Options{Look: time.Hour})
		link, n, last := make(chan func(), 1), 0, 2 // the second journalctl finds it whole
		if live {
			last = 3
		}
		all := make(chan *child, 1000)
		j.began = func(c *child) {
			if n++; n == last {
				(<-link)()
			}
			all <- c
		}
		write := func() {
			r.Entry(entryOf("line 1")...)
			r.Entry(entryOf("line 2")...)
			r.Settle()
			link <- unlinked(t, r.Path(), "MESSAGE=line 1")
		}
		if !live {
			write()
			run(t, j).await(numbers(0, 3)...)
			continue
		}
		got := run(t, j)
		first := follower(t, all)
		got.await("line 0")
		for _, s := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
			if err := first.cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			if s == syscall.SIGSTOP {
				write()
			}
		}
		got.await(numbers(0, 3)...)
	}
}

// unlinked makes a field's data object one that is just being linked to its first entry, until link is called. See
// systemd's journal file format: an object's type and size, and the count of entries of a data object.
func unlinked(t *testing.T, path, field string) (link func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(text, []byte(field))
	for _, header := range []int{64, 72} {
		object := text[at-header:]
		if object[0] == 1 && binary.LittleEndian.Uint64(object[8:]) == uint64(header+len(field)) {
			count := object[56:64]
			if binary.LittleEndian.Uint64(count) != 1 {
				break
			}
			set := func(n byte) {
				if _, err := f.WriteAt([]byte{n}, int64(at-header+56)); err != nil {
					t.Error(err)
				}
			}
			set(0)
			return func() { set(1); f.Close() }
		}
	}
	t.Fatalf("%q is in no data object of one entry", field)
	return nil
}
