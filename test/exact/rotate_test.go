package exact

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"
)

// Every way to rotate. The writer holds still meanwhile, so that nothing is lost that no reader could have seen: lines
// between copytruncate's copy and its truncation, and lines in a file that was deleted before they were committed.

// renamed: the file gets another name, and a new one is made at the next line.
func renamed(l *logfile) {
	l.turned["rename"]++
	l.close()
	l.must(os.Rename(l.path, l.makeRoom()))
	l.compressOlder()
}

// created: the new file is there at once, empty.
func created(l *logfile) {
	l.turned["create"]++
	l.close()
	l.must(os.Rename(l.path, l.makeRoom()))
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	l.must(err)
	l.file = f
	l.compressOlder()
}

// writtenOn: the file gets another name, and some part of the program goes on writing to it for a while.
func writtenOn(l *logfile) {
	l.turned["rename, written on"]++
	l.must(os.Rename(l.path, l.makeRoom()))
	l.late, l.file = l.file, nil
	l.compressOlder()
}

// compressedAtOnce: the file gets another name and is compressed then and there.
func compressedAtOnce(l *logfile) {
	l.turned["compress at once"]++
	l.close()
	to := l.makeRoom()
	l.must(os.Rename(l.path, to))
	l.compress(to)
}

// copyTruncated: the file stays, its content goes.
func copyTruncated(l *logfile) {
	l.turned["copytruncate"]++
	to := l.makeRoom()
	src, err := os.Open(l.path)
	l.must(err)
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	l.must(err)
	_, err = io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, 8<<10))
	l.must(err)
	l.must(dst.Close())
	l.must(os.Truncate(l.path, 0))
	l.compressOlder()
}

// deleted: the file goes, and another one takes its name, and often its inode. What no reader had committed would be
// gone for good, so the writer waits until all of them have.
func deleted(l *logfile) {
	l.turned["delete"]++
	l.awaitCommit()
	l.close()
	l.must(os.Remove(l.path))
}

// awaitCommit waits until all readers have committed all that was written to the file.
func (l *logfile) awaitCommit() {
	var st unix.Stat_t
	l.must(unix.Stat(l.path, &st))
	began := time.Now()
	asked := false
	for _, d := range l.readers {
		for !d.committed(st.Ino, st.Size) {
			if waited := time.Since(began); waited > patience {
				l.must(fmt.Errorf("%s never committed all of it:\n%s", d.name, d.stuck()))
			} else if waited > patience/6 && !asked {
				asked = true
				l.mercy.Add(1)
				defer l.mercy.Add(-1)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// makeRoom shifts the older generations by one and returns the name for the youngest.
func (l *logfile) makeRoom() string {
	if l.dated {
		l.today++
		l.expire(l.generations())
		return l.path + "-" + time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, l.today).Format("20060102")
	}
	l.expire(l.generations())
	for i := kept; i > 0; i-- {
		for _, ext := range []string{"", ".gz", ".zst", ".xz"} {
			from := fmt.Sprintf("%s.%d%s", l.path, i, ext)
			if _, err := os.Lstat(from); err == nil {
				l.must(os.Rename(from, fmt.Sprintf("%s.%d%s", l.path, i+1, ext)))
			}
		}
	}
	return l.path + ".1"
}

// generations are the rotated files, the oldest first.
func (l *logfile) generations() []string {
	sep := map[bool]string{true: "-", false: "."}[l.dated]
	all, err := filepath.Glob(l.path + sep + "*")
	l.must(err)
	number := func(name string) (n int) {
		fmt.Sscanf(strings.TrimPrefix(name, l.path+sep), "%d", &n)
		return n
	}
	slices.SortFunc(all, func(a, b string) int {
		if l.dated {
			return number(a) - number(b)
		}
		return number(b) - number(a)
	})
	return all
}

func (l *logfile) expire(all []string) {
	for len(all) >= kept {
		l.must(os.Remove(all[0]))
		all = all[1:]
	}
}

// compressOlder compresses all generations but the youngest, as logrotate's delaycompress does.
func (l *logfile) compressOlder() {
	all := l.generations()
	for _, name := range all[:max(0, len(all)-1)] {
		switch filepath.Ext(name) {
		case ".gz", ".zst", ".xz":
		default:
			l.compress(name)
		}
	}
}

// compress does as gzip does: the compressed file beside the plain one, its time, and then the plain one goes.
func (l *logfile) compress(name string) {
	ext := []string{".gz", ".zst", ".xz"}[l.rng.IntN(3)]
	src, err := os.Open(name)
	l.must(err)
	defer src.Close()
	info, err := src.Stat()
	l.must(err)
	dst, err := os.OpenFile(name+ext, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	l.must(err)
	l.must(pack(dst, src, ext))
	l.must(dst.Close())
	l.must(os.Chtimes(name+ext, info.ModTime(), info.ModTime()))
	l.must(os.Remove(name))
}

func pack(dst io.Writer, src io.Reader, ext string) error {
	var w io.WriteCloser
	var err error
	switch ext {
	case ".gz":
		w = gzip.NewWriter(dst)
	case ".zst":
		w, err = zstd.NewWriter(dst)
	case ".xz":
		w, err = xz.NewWriter(dst)
	}
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, src); err != nil {
		return err
	}
	return w.Close()
}
