package state

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// errMoved says that the name stands for another file than the one just locked: try again.
var errMoved = errors.New("the file was replaced meanwhile")

// A reader, or a daemon that is just stopping, holds the lock for a moment only: worth lockTries times lockPause.
const (
	lockTries = 10
	lockPause = 20 * time.Millisecond
)

// openLocked opens the file at path and locks it: against everybody, or for a read-only store against writers.
func openLocked(path string, readOnly bool) (*os.File, error) {
	// Before the open, because opening a device or a pipe has effects of its own.
	if fi, err := os.Stat(path); err != nil {
		return nil, err
	} else if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is no regular file but %s", fs.ErrInvalid, kind(fi.Mode()))
	}
	flag, how := os.O_RDWR, unix.LOCK_EX
	if readOnly {
		flag, how = os.O_RDONLY, unix.LOCK_SH
	}
	f, err := os.OpenFile(path, flag|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := lock(f, path, how); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeNamedPipe != 0:
		return "a pipe"
	}
	return "a device"
}

// lock locks f, which was opened as path, and makes sure that path still is f: a lock on a file that was renamed away
// between open and lock keeps nobody out. On an error the caller closes f.
func lock(f *os.File, path string, how int) error {
	for try := 0; ; try++ {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			break
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("lock: %w", err)
		}
		if try == lockTries {
			return fmt.Errorf("%w by %s", ErrInUse, holder(f))
		}
		time.Sleep(lockPause)
	}
	same, err := isAt(f, path)
	if err == nil && !same {
		err = errMoved
	}
	return err
}

// isAt reports whether path names the open file f.
func isAt(f *os.File, path string) (bool, error) {
	own, err := f.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return os.SameFile(own, there), nil
}

// unlockClose closes f. The unlocking is not left to close: bbolt's mapping keeps the open file, and with it the lock,
// alive beyond it.
func unlockClose(f *os.File) {
	_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
	_ = f.Close()
}

// holder says who has locked the file f, for people: "PID 815 (banset)".
func holder(f *os.File) string {
	const unknown = "another process"
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return unknown
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return unknown
	}
	pid := lockPID(locks, uint64(st.Dev), st.Ino)
	if pid == 0 {
		return unknown
	}
	comm, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "comm"))
	if err != nil {
		return "PID " + strconv.Itoa(pid)
	}
	// A process chooses its own name: it could hold anything.
	name := strings.Trim(strconv.QuoteToASCII(strings.TrimSpace(string(comm))), `"`)
	return fmt.Sprintf("PID %d (%s)", pid, name)
}

// lockPID finds in /proc/locks who holds a flock on the file; 0 if nobody whom we can see. Lines read
//
//	1: FLOCK  ADVISORY  WRITE 815 fe:00:9977964 0 EOF
//
// with "->" before FLOCK for one who only waits, and the PID of a process outside our namespace missing or 0. On some
// file systems (btrfs, overlayfs) the device is not the one that stat tells; a lone lock with the inode's number is
// then taken for it.
func lockPID(locks []byte, dev, ino uint64) int {
	lone, others := 0, 0
	for sc := bufio.NewScanner(bytes.NewReader(locks)); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) < 6 || f[1] != "FLOCK" {
			continue
		}
		pid, err := strconv.Atoi(f[4])
		id := strings.Split(f[5], ":")
		if err != nil || pid <= 0 || len(id) != 3 || id[2] != strconv.FormatUint(ino, 10) {
			continue
		}
		major, err1 := strconv.ParseUint(id[0], 16, 32)
		minor, err2 := strconv.ParseUint(id[1], 16, 32)
		if err1 == nil && err2 == nil && unix.Mkdev(uint32(major), uint32(minor)) == dev {
			return pid
		}
		lone, others = pid, others+1
	}
	if others == 1 {
		return lone
	}
	return 0
}

// advise wraps err with what was being done to path and, where there is something to do about it, what.
func advise(doing, path string, err error) error {
	if e, ok := err.(*fs.PathError); ok {
		err = e.Err // the path is told already
	}
	advice := ""
	switch {
	case errors.Is(err, unix.EROFS):
		advice = ": make the file system writable, or set state to a path on another one"
	case errors.Is(err, fs.ErrPermission):
		advice = ": run as root, or as the user whom " + filepath.Dir(path) + " belongs to"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		advice = ": free some space there"
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, fs.ErrInvalid):
		advice = ": set state to another path"
	}
	return fmt.Errorf("%s %s: %w%s", doing, path, err, advice)
}
