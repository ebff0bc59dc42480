package mirror

import (
	"bytes"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watchDir tells of every change to the entry called name in dir, coalesced. Without inotify (too many watches, no
// such directory) it never tells anything: the caller looks now and then anyway. stop ends it.
func watchDir(dir, name string) (events <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return c, func() {}
	}
	file := os.NewFile(uintptr(fd), "inotify")
	const mask = unix.IN_CLOSE_WRITE | unix.IN_MODIFY | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_CREATE | unix.IN_ATTRIB
	if _, err := unix.InotifyAddWatch(fd, dir, mask); err != nil {
		file.Close()
		return c, func() {}
	}
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := file.Read(buf)
			if err != nil {
				return
			}
			if !mentions(buf[:n], name) {
				continue
			}
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}()
	return c, func() { file.Close() }
}

// mentions reports whether one of the events is about name, or whether events were lost. See inotify(7).
func mentions(buf []byte, name string) bool {
	for len(buf) >= unix.SizeofInotifyEvent {
		event := (*unix.InotifyEvent)(unsafe.Pointer(&buf[0]))
		end := min(unix.SizeofInotifyEvent+int(event.Len), len(buf))
		got, _, _ := bytes.Cut(buf[unix.SizeofInotifyEvent:end], []byte{0})
		if string(got) == name || event.Mask&unix.IN_Q_OVERFLOW != 0 {
			return true
		}
		buf = buf[end:]
	}
	return false
}
