package mirror

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"banset/cmd/internal/quietfs"
)

// A watcher tells of changes to the blocklist, under all names that lead to it, and whether somebody else read it.
// Without inotify (too many watches, a network file system) it tells of nothing: the caller looks now and then anyway,
// and takes it that everybody reads all the time.
type watcher struct {
	changed chan struct{} // coalesced

	mu    sync.Mutex
	file  *os.File // nil: none, or closed
	fd    int
	names map[int32]map[string]bool // by watch: the blocklist's names, and false for its hidden one
	blind bool                      // not all is watched
	quiet bool                      // others may change the file without an event
	read  time.Time                 // when somebody last read the file as we know it; zero: nobody did
	dirty bool                      // somebody changed the file: what is read since is not what we know
	anew  time.Time                 // when somebody last read it since that change; zero: nobody did
	own   []byte                    // what was done to the file during a read of our own; nil: there is none
}

const (
	// reading are the events of somebody who looks at the file.
	reading = unix.IN_OPEN | unix.IN_ACCESS | unix.IN_CLOSE_NOWRITE
	writing = unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_CREATE | unix.IN_ATTRIB
)

func newWatcher() *watcher {
	w := &watcher{changed: make(chan struct{}, 1), names: make(map[int32]map[string]bool)}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return w
	}
	file := os.NewFile(uintptr(fd), "inotify")
	conn, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return w
	}
	w.file, w.fd = file, fd
	go conn.Read(func(uintptr) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.take()
		return w.file == nil // else: again, when there is something
	})
	return w
}

func (w *watcher) close() {
	w.mu.Lock()
	file := w.file
	w.file = nil
	w.mu.Unlock()
	if file != nil {
		file.Close() // waits for the callback that is reading it
	}
}

// follow watches the blocklist at paths. It may be called again and again: a directory that was made anew is watched
// anew.
func (w *watcher) follow(paths ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.blind, w.quiet = w.file == nil, false
	for _, path := range paths {
		if w.file == nil {
			return
		}
		dir, base := filepath.Split(path)
		wd, err := unix.InotifyAddWatch(w.fd, filepath.Clean(dir), reading|writing)
		if err != nil {
			w.blind = true
			continue
		}
		w.quiet = w.quiet || quiet(dir)
		if w.names[int32(wd)] == nil {
			w.names[int32(wd)] = make(map[string]bool)
		}
		w.names[int32(wd)][base] = true
		w.names[int32(wd)][hiddenName(base)] = false
	}
}

// quiet reports whether a directory's files may change without an event.
func quiet(dir string) bool {
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return true
	}
	defer d.Close()
	return quietfs.Is(d)
}

// partly reports whether the file may change without an event.
func (w *watcher) partly() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.blind || w.quiet
}

// wasRead returns when anybody else last may have read the file as we know it, since the last call; false when nobody
// did.
func (w *watcher) wasRead() (at time.Time, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.take()
	at = w.read
	if w.blind {
		at = time.Now()
	}
	w.read = time.Time{}
	return at, !at.IsZero()
}

// ourRead runs f, which opens the file once, reads it and closes it, and does not take that for somebody else's reading.
func (w *watcher) ourRead(f func()) {
	w.mu.Lock()
	w.take()
	read, anew := w.read, w.anew
	w.own = []byte{}
	w.mu.Unlock()
	f()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.take()
	if own := string(w.own); own == "oac" || own == "oc" {
		w.read, w.anew = read, anew
	}
	w.own = nil
}

// ourWrite runs f, which writes to the file or replaces it, and does not take that for somebody else's change.
func (w *watcher) ourWrite(f func()) {
	w.mu.Lock()
	w.take()
	before := w.dirty
	w.mu.Unlock()
	f()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.take()
	w.dirty = before
}

// known says that we know the file as it stands. Whoever read it since it changed has read what we know now.
func (w *watcher) known() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.take()
	w.dirty, w.read, w.anew = false, w.anew, time.Time{}
}

// take takes in the events that are there. w.mu is held.
func (w *watcher) take() {
	buf := make([]byte, 16<<10)
	for w.file != nil {
		n, err := unix.Read(w.fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		for events := buf[:n]; len(events) >= unix.SizeofInotifyEvent; {
			event := (*unix.InotifyEvent)(unsafe.Pointer(&events[0]))
			end := min(unix.SizeofInotifyEvent+int(event.Len), len(events))
			name, _, _ := bytes.Cut(events[unix.SizeofInotifyEvent:end], []byte{0})
			w.hear(event, string(name))
			events = events[end:]
		}
	}
}

// hear takes in one event. See inotify(7).
func (w *watcher) hear(event *unix.InotifyEvent, name string) {
	if event.Mask&unix.IN_Q_OVERFLOW != 0 {
		w.read = time.Now()
		w.tell()
		return
	}
	if event.Mask&unix.IN_IGNORED != 0 { // the directory is gone
		delete(w.names, event.Wd)
		w.tell()
		return
	}
	itself, ours := w.names[event.Wd][name]
	if !ours {
		return
	}
	if event.Mask&reading == 0 {
		// What happens under the hidden name matters too: somebody may still write to the file's last version.
		w.tell()
	}
	if !itself {
		return
	}
	if event.Mask&(writing&^unix.IN_ATTRIB) != 0 {
		w.dirty = true
	}
	if event.Mask&unix.IN_ACCESS != 0 {
		if w.dirty {
			w.anew = time.Now()
		} else {
			w.read = time.Now()
		}
	}
	if w.own == nil {
		return
	}
	letter := byte('w')
	switch {
	case event.Mask&unix.IN_ACCESS != 0:
		letter = 'a'
	case event.Mask&unix.IN_OPEN != 0:
		letter = 'o'
	case event.Mask&unix.IN_CLOSE_NOWRITE != 0:
		letter = 'c'
	}
	if n := len(w.own); letter == 'a' && n > 0 && w.own[n-1] == 'a' || n > 8 {
		return // a large file takes several reads
	}
	w.own = append(w.own, letter)
}

func (w *watcher) tell() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}
