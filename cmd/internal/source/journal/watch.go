package journal

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// roots are where journald keeps its files: volatile and persistent, in directories named after the machine.
var roots = []string{"/run/log/journal", "/var/log/journal"}

// A watcher knows which journal files there are. It is told by inotify when one comes or goes; nobody is woken when an
// entry is written, journalctl is.
type watcher struct {
	roots []string
	moved chan struct{} // rung when files came or went

	in *os.File // nil without inotify

	mu     sync.Mutex
	fd     int
	closed bool
	there  bool // there are journal files, or it can't be told
}

// watchEvents are the changes that files coming and going make. A file's own changes are none of them.
const watchEvents = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_MOVE_SELF |
	unix.IN_DELETE_SELF | unix.IN_ONLYDIR

// newWatcher watches these directories. Without inotify it finds out by looking.
func newWatcher(roots []string) *watcher {
	w := &watcher{roots: roots, moved: make(chan struct{}, 1)}
	if fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err == nil {
		w.fd, w.in = fd, os.NewFile(uintptr(fd), "inotify")
		go w.run()
	}
	return w
}

func (w *watcher) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.in != nil && !w.closed {
		w.closed = true
		w.in.Close()
	}
}

// run reads events until close.
func (w *watcher) run() {
	buf := make([]byte, 16<<10)
	for {
		n, err := w.in.Read(buf)
		if err != nil {
			return
		}
		for ev := buf[:n]; len(ev) >= unix.SizeofInotifyEvent; {
			mask := binary.NativeEndian.Uint32(ev[4:])
			end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(ev[12:]))
			if end > len(ev) {
				break
			}
			name := strings.TrimRight(string(ev[unix.SizeofInotifyEvent:end]), "\x00")
			ev = ev[end:]
			if mask&unix.IN_IGNORED != 0 || mask&unix.IN_Q_OVERFLOW == 0 && !w.matters(name) {
				continue
			}
			select {
			case w.moved <- struct{}{}:
			default:
			}
		}
	}
}

// matters reports whether a name that came or went may be a journal file or a directory that leads to one.
func (w *watcher) matters(name string) bool {
	if name == "" || isJournal(name) || isMachine(name) {
		return true
	}
	for _, root := range w.roots {
		for part := range strings.SplitSeq(root, "/") {
			if part == name {
				return true
			}
		}
	}
	return false
}

// isJournal: a file in use, a rotated one, one put aside as damaged.
func isJournal(name string) bool {
	return strings.HasSuffix(name, ".journal") || strings.HasSuffix(name, ".journal~")
}

// isMachine: the name of a machine's directory is its id, perhaps with a namespace.
func isMachine(name string) bool {
	name, _, _ = strings.Cut(name, ".")
	return len(name) == 32 && strings.Trim(name, "0123456789abcdef") == ""
}

// look finds out which directories there are, watches them, and looks whether they hold a journal.
func (w *watcher) look() {
	there := false
	for _, root := range w.roots {
		// A root that is not there comes into the nearest directory above it that is.
		for dir := root; ; dir = filepath.Dir(dir) {
			if w.watch(dir) || dir == "/" || dir == "." {
				break
			}
		}
		machines, err := os.ReadDir(root)
		there = there || os.IsPermission(err)
		for _, m := range machines {
			there = there || isJournal(m.Name())
			if !isMachine(m.Name()) {
				continue
			}
			dir := filepath.Join(root, m.Name())
			w.watch(dir)
			files, err := os.ReadDir(dir)
			there = there || os.IsPermission(err)
			for _, f := range files {
				there = there || isJournal(f.Name())
			}
		}
	}
	w.mu.Lock()
	w.there = there
	w.mu.Unlock()
}

func (w *watcher) watch(dir string) bool {
	if w.in == nil {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return true
	}
	_, err := unix.InotifyAddWatch(w.fd, dir, watchEvents)
	return err == nil
}

// exists reports whether the last look found a journal, or had no right to see.
func (w *watcher) exists() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.there
}

// each calls f for every journal file there is.
func (w *watcher) each(f func(path string, info os.FileInfo)) {
	add := func(dir string) {
		files, _ := os.ReadDir(dir)
		for _, file := range files {
			if !isJournal(file.Name()) {
				continue
			}
			if info, err := file.Info(); err == nil {
				f(filepath.Join(dir, file.Name()), info)
			}
		}
	}
	for _, root := range w.roots {
		add(root)
		machines, _ := os.ReadDir(root)
		for _, m := range machines {
			if isMachine(m.Name()) {
				add(filepath.Join(root, m.Name()))
			}
		}
	}
}

// grown is a number that changes when something is written to a journal file: journald sets the length anew after
// each entry, and with it the time of change.
func (w *watcher) grown() (sum uint64) {
	w.each(func(_ string, info os.FileInfo) {
		sum += uint64(info.ModTime().UnixNano()) ^ uint64(info.Size())
	})
	return sum
}

// A journalFile is one of a list that tells whether any came, went or was renamed.
type journalFile struct {
	path  string
	inode uint64
}

// files lists the journal files.
func (w *watcher) files() (all []journalFile) {
	w.each(func(path string, info os.FileInfo) {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			all = append(all, journalFile{path, st.Ino})
		}
	})
	return all
}

// wait returns after d, or when files came or went, or with ctx's error.
func (w *watcher) wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.moved:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
