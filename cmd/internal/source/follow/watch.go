package follow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// dirEvents are the changes of a directory that may give a name another file or another mode.
const dirEvents = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_ATTRIB |
	unix.IN_MOVE_SELF | unix.IN_DELETE_SELF | unix.IN_ONLYDIR

// A part is one element of a pattern's path.
type part struct {
	text string
	glob bool
}

func (p part) match(name string) bool {
	if !p.glob {
		return p.text == name
	}
	ok, _ := filepath.Match(p.text, name)
	return ok
}

// A watcher is one inotify instance. It rings a bell for each file that was written to, and for each name that the
// patterns care about. Events are hints only: the follower looks for itself, and looks now and then without any.
type watcher struct {
	in *os.File

	mu     sync.Mutex // guards fd against use after close, and the maps
	fd     int
	closed bool
	files  map[int32]*file
	dirs   map[int32][]part // the names that matter in a directory
	blind  bool             // a directory that matters can't be watched
}

func newWatcher() (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("start inotify: %w", err)
	}
	return &watcher{in: os.NewFile(uintptr(fd), "inotify"), fd: fd, files: map[int32]*file{},
		dirs: map[int32][]part{}}, nil
}

// close ends run.
func (w *watcher) close() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		w.in.Close()
	}
}

// addFile watches what g has open, whatever its names are by now. It reports whether that works.
func (w *watcher) addFile(g *file) bool {
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return true // this is the end: nobody will miss it
	}
	wd, err := unix.InotifyAddWatch(w.fd, fdPath(g.fd), unix.IN_MODIFY)
	if err != nil {
		return false
	}
	g.wd = int32(wd)
	w.files[g.wd] = g
	return true
}

func (w *watcher) removeFile(g *file) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed && w.files[g.wd] == g {
		delete(w.files, g.wd)
		_, _ = unix.InotifyRmWatch(w.fd, uint32(g.wd)) // fails if the file is gone, and the watch with it
	}
}

// setDirs watches these directories and no others, and reports whether there was a new one among them.
func (w *watcher) setDirs(want map[string][]part) (added bool) {
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.blind = false
	dirs := make(map[int32][]part, len(want))
	for dir, parts := range want {
		wd, err := unix.InotifyAddWatch(w.fd, dir, dirEvents)
		if err != nil {
			w.blind = true // gone again, or no right to read it: the slow look must do
			continue
		}
		// One directory may have several paths.
		dirs[int32(wd)] = append(dirs[int32(wd)], parts...)
		if _, ok := w.dirs[int32(wd)]; !ok {
			added = true
		}
	}
	for wd := range w.dirs {
		if _, ok := dirs[wd]; !ok {
			_, _ = unix.InotifyRmWatch(w.fd, uint32(wd))
		}
	}
	w.dirs = dirs
	return added
}

// partly reports whether there are directories that matter and are not watched.
func (w *watcher) partly() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.blind
}

// run reads events until close.
func (w *watcher) run(wrote func(*file), names, lost func()) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.in.Read(buf)
		if err != nil {
			if errors.Is(err, fs.ErrClosed) {
				return nil
			}
			return fmt.Errorf("read inotify events: %w", err)
		}
		for ev := buf[:n]; len(ev) >= unix.SizeofInotifyEvent; {
			wd := int32(binary.NativeEndian.Uint32(ev))
			mask := binary.NativeEndian.Uint32(ev[4:])
			end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(ev[12:]))
			if end > len(ev) {
				break
			}
			name := strings.TrimRight(string(ev[unix.SizeofInotifyEvent:end]), "\x00")
			ev = ev[end:]
			w.mu.Lock()
			g, parts := w.files[wd], w.dirs[wd]
			w.mu.Unlock()
			switch {
			case mask&unix.IN_Q_OVERFLOW != 0:
				lost()
			case g != nil:
				wrote(g)
			case parts == nil || mask&unix.IN_IGNORED != 0:
			case mask&(unix.IN_MOVE_SELF|unix.IN_DELETE_SELF) != 0, matchAny(parts, name):
				names()
			}
		}
	}
}

func matchAny(parts []part, name string) bool {
	for _, p := range parts {
		if p.match(name) {
			return true
		}
	}
	return false
}
