package follow

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"banset/cmd/internal/source"
	"banset/cmd/internal/source/sourcetest"
)

// fileWays are the ways in which fileLog rotates.
var fileWays = []sourcetest.Way{
	{Name: "rename"},
	{Name: "rename, writer goes on for a while", Late: true},
	{Name: "copytruncate"},
	{Name: "copytruncate, gzip"},
	{Name: "delaycompress gzip"},
	{Name: "compress zstd"},
	{Name: "compress xz"},
	{Name: "dateext"},
	{Name: "now this, now that"},
	{Name: "recreate", Live: true},
	{Name: "symlink", Live: true},
}

// A fileLog is a log file with a program that writes to it and a logrotate.
type fileLog struct {
	t    testing.TB
	path string
	make func(path string, from []source.Position) source.Source

	mu      sync.Mutex
	w, late *os.File // late: where a program that did not reopen yet writes every other line
	writes  int
	n       int
}

func newFileLog(t testing.TB, open func(string, []source.Position) source.Source) *fileLog {
	l := &fileLog{t: t, path: filepath.Join(t.TempDir(), "main.log"), make: open}
	l.w = l.create(l.path)
	t.Cleanup(func() { l.w.Close() })
	return l
}

func (l *fileLog) create(path string) *os.File {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	l.must(err)
	return f
}

func (l *fileLog) must(err error) {
	if err != nil {
		l.t.Error(err)
		panic(err)
	}
}

func (l *fileLog) Open(from []source.Position) source.Source { return l.make(l.path, from) }

func (l *fileLog) Write(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.w
	if l.late != nil {
		if l.writes++; l.writes%2 == 0 {
			w = l.late
		}
		if l.writes > 20 {
			l.late.Close()
			l.late, l.writes = nil, 0
		}
	}
	_, err := w.WriteString(text)
	l.must(err)
}

func (l *fileLog) Rotate(way sourcetest.Way) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	name := way.Name
	if name == "now this, now that" {
		name = []string{"rename", "copytruncate", "delaycompress gzip", "copytruncate, gzip", "copytruncate"}[l.n%5]
	}
	switch name {
	case "rename":
		l.shift(".gz")
		l.rename()
		l.reopen()
	case "rename, writer goes on for a while":
		l.shift("")
		l.rename()
		if l.late != nil {
			l.late.Close()
		}
		l.late, l.writes = l.w, 0
		l.w = l.create(l.path)
	case "copytruncate":
		l.shift(".gz")
		l.copy()
		l.must(os.Truncate(l.path, 0))
	case "copytruncate, gzip":
		l.shift(".gz")
		l.copy()
		l.must(os.Truncate(l.path, 0))
		l.pack(l.path+".1", ".gz")
	case "delaycompress gzip":
		l.shift(".gz")
		if _, err := os.Stat(l.path + ".2"); err == nil {
			l.pack(l.path+".2", ".gz")
		}
		l.rename()
		l.reopen()
	case "compress zstd", "compress xz":
		ext := map[string]string{"compress zstd": ".zst", "compress xz": ".xz"}[name]
		l.shift(ext)
		l.rename()
		l.reopen()
		l.pack(l.path+".1", ext)
	case "dateext":
		l.must(os.Rename(l.path, fmt.Sprintf("%s-20261123%02d", l.path, l.n)))
		l.reopen()
	case "recreate":
		l.must(os.Remove(l.path))
		l.reopen()
	case "symlink":
		l.w.Close()
		to := fmt.Sprintf("%s.of.day.%d", l.path, l.n)
		l.w = l.create(to)
		l.must(os.Symlink(to, l.path+".new"))
		l.must(os.Rename(l.path+".new", l.path))
	default:
		l.t.Fatalf("no way %q", name)
	}
}

func (l *fileLog) rename() { l.must(os.Rename(l.path, l.path+".1")) }

func (l *fileLog) reopen() {
	l.w.Close()
	l.w = l.create(l.path)
}

// shift renames .1 to .2 and so on, with the extension or without.
func (l *fileLog) shift(ext string) {
	for i := 40; i > 0; i-- {
		for _, e := range slices.Compact([]string{"", ext}) {
			err := os.Rename(fmt.Sprintf("%s.%d%s", l.path, i, e), fmt.Sprintf("%s.%d%s", l.path, i+1, e))
			if err != nil && !os.IsNotExist(err) {
				l.must(err)
			}
		}
	}
}

func (l *fileLog) copy() {
	data, err := os.ReadFile(l.path)
	l.must(err)
	l.must(os.WriteFile(l.path+".1", data, 0o644))
}

// pack compresses as gzip(1) does: beside the file, with its times, then it removes the file.
func (l *fileLog) pack(path, ext string) {
	in, err := os.Open(path)
	l.must(err)
	defer in.Close()
	st, err := in.Stat()
	l.must(err)
	out, err := os.Create(path + ext)
	l.must(err)
	var w io.WriteCloser
	switch ext {
	case ".gz":
		w = gzip.NewWriter(out)
	case ".zst":
		w, err = zstd.NewWriter(out)
	case ".xz":
		w, err = xz.WriterConfig{DictCap: 1 << 16}.NewWriter(out)
	}
	l.must(err)
	_, err = io.Copy(w, in)
	l.must(err)
	l.must(w.Close())
	l.must(out.Close())
	l.must(os.Chtimes(path+ext, st.ModTime(), st.ModTime()))
	l.must(os.Remove(path))
}

// TestContract holds the follower to the suite in each of the ways in which it can read.
func TestContract(t *testing.T) {
	for _, mode := range []struct {
		name string
		set  func(*Follower)
	}{
		{"tail and blocks", func(*Follower) {}},
		{"blocks only", func(f *Follower) { f.noTail = true }},
		{"no notifications", func(f *Follower) { f.noEvents = true }},
	} {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			sourcetest.Test(t, sourcetest.Kind{
				New: func(t testing.TB) sourcetest.Log {
					return newFileLog(t, func(path string, from []source.Position) source.Source {
						f := New([]string{path}, Options{From: from, Poll: 5 * time.Millisecond})
						if mode.name != "no notifications" {
							f.opts.Poll = time.Hour // a lost notification shows
						}
						mode.set(f)
						return f
					})
				},
				Ways:  fileWays,
				Bytes: true,
			})
		})
	}
}
