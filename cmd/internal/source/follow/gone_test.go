package follow

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"banset/cmd/internal/source"
)

// TestDeletedFileWasTheNewest: a file that was read to its end and then deleted is a place, too: its older generations
// were read before it, also those of which no position tells.
func TestDeletedFileWasTheNewest(t *testing.T) {
	log, began := filepath.Join(t.TempDir(), "a.log"), time.Now().Add(-time.Hour)
	generation := func(name, text string, minute int) {
		t.Helper()
		write(t, name, text)
		at := began.Add(time.Duration(minute) * time.Minute)
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	position := func(name string) source.Position {
		t.Helper()
		fd, st, err := openFile(name)
		if err != nil {
			t.Fatal(err)
		}
		defer fd.Close()
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var m mark
		m.advance(text)
		return source.Position{Path: log, Dev: st.Dev, Ino: st.Ino, Offset: m.off, Head: m.head, Tail: m.tail, Mod: st.Mtim.Nano()}
	}
	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	generation(log+".2", "one\n", 1)
	generation(log+".1", "two\n", 2)
	generation(log, "three\n", 3)
	from := []source.Position{position(log + ".2"), position(log)}
	rename(log, filepath.Join(t.TempDir(), "gone")) // where its inode is not used again
	generation(log, "four\n", 4)
	r := follow(t, Options{From: from}, log)
	r.want("four\n")
	r.stop()

	// What came after it is still to be read.
	rename(log+".2", log+".3")
	rename(log+".1", log+".2")
	rename(log, log+".1")
	generation(log, "five\n", 5)
	r = follow(t, Options{From: from}, log)
	r.want("four\nfive\n")
	r.stop()
}
