package mirror

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// errRaced says that somebody else wrote to the file at the same moment. Our work is not in it and has to be done
	// again on top of theirs.
	errRaced = errors.New("somebody else writes to the file all the time")
	// errUnsynced says that the text is in the file but perhaps not on the disk, and that no second sync of that file
	// could tell: the kernel reports a failed write-back once and forgets it.
	errUnsynced = errors.New("the disk did not take it")
)

// tooLarge is the size of a file that is not read: a blocklist of two million lines fits, a log by mistake does not.
const tooLarge = 256 << 20

// identity tells whether a file is still the one we know, with the bytes we know.
type identity struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
}

func identityOf(info os.FileInfo) identity {
	st := info.Sys().(*syscall.Stat_t)
	return identity{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}
}

func identify(path string) (identity, error) {
	info, err := os.Stat(path)
	if err != nil {
		return identity{}, err
	}
	return identityOf(info), nil
}

// errOdd is a file that can't be a blocklist.
var errOdd = errors.New("not a regular file")

// openFile opens the blocklist for reading. What is no regular file is an errOdd.
func openFile(path string) (*os.File, error) {
	// A FIFO without a writer must not hold us.
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	switch info, err := file.Stat(); {
	case err != nil:
		file.Close()
		return nil, err
	case !info.Mode().IsRegular():
		file.Close()
		return nil, fmt.Errorf("%s: %w", path, errOdd)
	}
	return file, nil
}

// readAll reads an open file from its start, and the identity of just what was read.
func readAll(file *os.File) ([]byte, identity, error) {
	for {
		before, err := file.Stat()
		if err != nil {
			return nil, identity{}, err
		}
		if before.Size() > tooLarge {
			return nil, identity{}, fmt.Errorf("%s is %d MiB large: not read", file.Name(), before.Size()>>20)
		}
		text := make([]byte, before.Size())
		n, err := io.ReadFull(io.NewSectionReader(file, 0, before.Size()), text)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			return nil, identity{}, fmt.Errorf("reading %s: %w", file.Name(), err)
		}
		after, err := file.Stat()
		if err != nil {
			return nil, identity{}, err
		}
		if identityOf(before) == identityOf(after) && int64(n) == before.Size() {
			return text, identityOf(after), nil
		}
	}
}

// readFile reads the whole file at path.
func readFile(path string) ([]byte, identity, error) {
	file, err := openFile(path)
	if err != nil {
		return nil, identity{}, err
	}
	defer file.Close()
	return readAll(file)
}

// lease keeps everybody else from opening the file until release is called, for writing (unix.F_RDLCK) or at all
// (unix.F_WRLCK). It is refused when somebody has it open already, and where leases don't exist. See fcntl(2).
func lease(file *os.File, kind int) (release func(), err error) {
	if _, err := unix.FcntlInt(file.Fd(), unix.F_SETLEASE, kind); err != nil {
		return func() {}, err
	}
	return func() { unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_UNLCK) }, nil
}

// appendFile adds text to the file we know, synced. On an error the file is as it was, but for errUnsynced.
func appendFile(path string, text []byte, known identity) (identity, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if errors.Is(err, os.ErrNotExist) {
		return identity{}, errRaced
	}
	if err != nil {
		return identity{}, err
	}
	defer file.Close()
	if err := appendTo(file, text, known); err != nil {
		return identity{}, err
	}
	if err := file.Sync(); err != nil {
		return identity{}, fmt.Errorf("syncing %s: %w: %w", path, err, errUnsynced)
	}
	info, err := file.Stat()
	if err != nil {
		return identity{}, err
	}
	if info.Size() != known.size+int64(len(text)) {
		return identity{}, nil // somebody added to it since: it has to be read again
	}
	return identityOf(info), nil
}

// appendTo writes text behind what is known, or nothing at all.
func appendTo(file *os.File, text []byte, known identity) error {
	// An editor that writes in place would otherwise mix its text with ours when it begins between our look and our
	// write. The lease is refused when somebody only reads the file, so it can't be all that we rely on.
	release, _ := lease(file, unix.F_WRLCK)
	defer release()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if identityOf(info) != known {
		return errRaced
	}
	n, err := file.Write(text)
	end, seekErr := file.Seek(0, io.SeekCurrent)
	if err == nil && (seekErr != nil || end == known.size+int64(len(text))) {
		return seekErr
	}
	if seekErr == nil {
		// Half a line would be read as garbage, or as a shorter address. Nor may ours stand inside a text that somebody
		// began to write between the two. What came behind ours stays, in that case with ours.
		if info, statErr := file.Stat(); statErr == nil && info.Size() == end {
			seekErr = file.Truncate(end - int64(n))
		}
	}
	if err == nil {
		err = errRaced
	} else {
		err = fmt.Errorf("appending to %s: %w", file.Name(), err)
	}
	return errors.Join(err, seekErr)
}

// hidden is the name that the file's next version has until it is whole, and its last one until it goes. There is one
// writer at a time (the state's lock), and what a crash leaves there the next write removes.
func hidden(path string) string {
	return filepath.Join(filepath.Dir(path), hiddenName(filepath.Base(path)))
}

func hiddenName(base string) string { return "." + base + ".new" }

// createFile puts text where no file is, whole or not at all. errRaced when there is one now.
func createFile(path string, text []byte) (identity, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return identity{}, err
	}
	next, err := prepare(path, written(text))
	if err != nil {
		return identity{}, err
	}
	defer next.Close()
	err = unix.Renameat2(unix.AT_FDCWD, hidden(path), unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) {
		err = os.Link(hidden(path), path) // a file system without; the hidden name goes with the next write
	}
	if err != nil {
		os.Remove(hidden(path))
		if errors.Is(err, os.ErrExist) {
			return identity{}, errRaced
		}
		return identity{}, fmt.Errorf("renaming %s: %w", hidden(path), err)
	}
	return finish(path, next, int64(len(text)))
}

// replaceFile puts next, which prepare wrote, in the place of the file, whole or not at all: an exchange of the two
// names, sync of the directory. old and known are what was read; errRaced when that is no longer what stands there.
//
// left is a file that had the name and has it no more, open at a place behind what we know of it: somebody who opened
// it before may write to it yet. It may be there with an error, too, and is nil when there is none.
func replaceFile(path string, next *os.File, old digest, known identity) (id identity, left *os.File, err error) {
	defer func() {
		os.Remove(hidden(path))
		if left != next {
			next.Close()
		}
	}()
	size, err := next.Seek(0, io.SeekEnd)
	if err != nil {
		return identity{}, nil, err
	}
	now, err := identify(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && now != known {
		return identity{}, nil, errRaced
	}
	if err != nil {
		return identity{}, nil, err
	}
	exchange := func() error {
		return unix.Renameat2(unix.AT_FDCWD, hidden(path), unix.AT_FDCWD, path, unix.RENAME_EXCHANGE)
	}
	switch err := exchange(); {
	case errors.Is(err, unix.EINVAL): // a file system without
		if err := os.Rename(hidden(path), path); err != nil {
			return identity{}, nil, err
		}
		id, err := finish(path, next, size)
		return id, nil, err
	case errors.Is(err, os.ErrNotExist):
		return identity{}, nil, errRaced
	case err != nil:
		return identity{}, nil, fmt.Errorf("renaming %s: %w", hidden(path), err)
	}
	// Between the look and the exchange somebody may have written to the file, or put another one in its place.
	was, err := os.Open(hidden(path))
	if err != nil {
		return identity{}, nil, errors.Join(errRaced, err, exchange())
	}
	after, err := readPieces(was, nil)
	if err != nil || after != old {
		was.Close()
		return identity{}, next, errors.Join(errRaced, err, exchange())
	}
	if _, err := was.Seek(old.size, io.SeekStart); err != nil {
		was.Close()
		return identity{}, nil, err
	}
	id, err = finish(path, next, size)
	return id, was, err
}

// written is a way to fill a file with a text.
func written(text []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	}
}

// prepare has the hidden file written by fill, synced, with the look of the file it will replace.
func prepare(path string, fill func(io.Writer) error) (next *os.File, err error) {
	name := hidden(path)
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if next, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			next.Close()
			os.Remove(name)
		}
	}()
	mode := os.FileMode(0o640)
	info, err := os.Stat(path)
	switch {
	case err == nil:
		mode = info.Mode().Perm()
	case os.Geteuid() == 0:
		// The first one is the directory's owner's: a daemon that runs as that user must be able to go on with it.
		if info, err = os.Stat(filepath.Dir(path)); err != nil {
			return nil, err
		}
	}
	if info != nil {
		st := info.Sys().(*syscall.Stat_t)
		if int(st.Uid) != os.Geteuid() || int(st.Gid) != os.Getegid() {
			// Without the right to give files away, or with an owner that our user namespace has no number for, the new
			// one is ours: better than none.
			err := next.Chown(int(st.Uid), int(st.Gid))
			if err != nil && !errors.Is(err, os.ErrPermission) && !errors.Is(err, unix.EINVAL) {
				return nil, err
			}
		}
	}
	if err := next.Chmod(mode); err != nil {
		return nil, err
	}
	if err := fill(next); err != nil {
		return nil, fmt.Errorf("writing %s: %w", name, err)
	}
	if err := next.Sync(); err != nil {
		return nil, fmt.Errorf("syncing %s: %w", name, err)
	}
	return next, nil
}

// finish makes the new name last, and returns the identity of what we wrote; the zero one when somebody wrote to it
// since.
func finish(path string, next *os.File, size int64) (identity, error) {
	if err := syncDir(filepath.Dir(path)); err != nil {
		return identity{}, fmt.Errorf("%w: %w", err, errUnsynced)
	}
	info, err := next.Stat()
	if err != nil || info.Size() != size {
		return identity{}, err
	}
	return identityOf(info), nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	return nil
}

// keepBeside renames an odd file so that a person can look at it, and returns its new name.
func keepBeside(path string) (string, error) {
	for i := 0; ; i++ {
		name := oddName(path, i)
		err := unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, name, unix.RENAME_NOREPLACE)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if errors.Is(err, unix.EINVAL) {
			err = os.Rename(path, name)
		}
		if err != nil {
			return "", fmt.Errorf("setting %s aside: %w", path, err)
		}
		return name, nil
	}
}

// oddName is the i-th name, from 0, for an odd file that is kept.
func oddName(path string, i int) string {
	name := path + ".odd-" + time.Now().UTC().Format("20060102T150405Z")
	if i > 0 {
		name += fmt.Sprintf("-%d", i)
	}
	return name
}
