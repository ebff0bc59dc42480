package follow

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"banset/cmd/internal/source"
)

// A file is one inode that is read, once, whatever names it has. Its place belongs to the goroutine of its chain.
type file struct {
	id    fileID
	chain *chain
	fd    *os.File // closed under Follower.mu
	wd    int32    // its inotify watch

	mark
	packed   string    // compressed as this says; read as a stream
	stream   *unpacked // nil until it is begun
	start    int64     // where its end was when it was opened: before it is backlog
	scanned  int64     // no line ends between off and here
	burst    int64     // the end of the burst that is being read
	fresh    bool      // nothing read yet, and it is to be seen whether generations before it were missed
	revived  bool      // was given up, and then written to
	exact    bool      // resumed in: a program may have it open still
	stored   string    // the log that the store has its position under; "" for none
	nameless bool      // nothing leads to it any more, since grew or longer
	read     time.Time // when it was last read from
	grew     time.Time // when that last gave anything
	next     *tailer   // to read on from off, if that is where it is; nil: none

	// For Status and the slow look.
	seenSize, seenMod, seenOff, backlog atomic.Int64

	// Under Follower.mu.
	paths   map[string]bool // the configured paths that lead to it now
	names   []string        // those, and those it had when it was last followed by them; replaced, never changed
	leaving []string        // names that it loses once it is read to its end
	over    bool            // read to its end and closed; known only so that its names do not bring it back

	unwatched bool // no notification can be relied on
}

// fdPath names what f has open, renamed or unlinked as it may be.
func fdPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// A notFileError says what stands in the place of a log.
type notFileError struct{ what string }

func (e notFileError) Error() string { return "is a " + e.what + ", not a regular file" }

func fileType(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "device"
}

// openFile opens the regular file at path. It never waits for another process and never touches anything else that
// may stand there.
func openFile(path string) (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, st, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, st, notFileError{fileType(st.Mode)}
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, st, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = notFileError{fileType(st.Mode)} // exchanged since we looked
	}
	if err == nil {
		err = unix.SetNonblock(fd, false)
	}
	if err != nil {
		unix.Close(fd)
		return nil, st, fmt.Errorf("open %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), st, nil
}

func (g *file) stat() (st unix.Stat_t, err error) {
	if err = unix.Fstat(int(g.fd.Fd()), &st); err != nil {
		return st, fmt.Errorf("stat %s: %w", g.fd.Name(), err)
	}
	return st, nil
}

// position is where reading g goes on, for a store.
func (g *file) position() source.Position {
	return source.Position{
		Path: g.chain.path(), Dev: g.id.dev, Ino: g.id.ino, Offset: g.off,
		Head: slices.Clone(g.head), Tail: slices.Clone(g.tail), Mod: g.mod,
	}
}

// rewind makes g, which was truncated, a new file.
func (g *file) rewind() {
	g.mark = mark{mod: g.mod}
	g.start, g.scanned, g.fresh = 0, 0, true
	g.noteOff()
}

func (g *file) noteOff() {
	g.seenOff.Store(g.off)
	g.backlog.Store(max(0, g.start-g.off))
}

// missing reports whether err says that there is nothing at a path, as opposed to something we can't get at.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}
