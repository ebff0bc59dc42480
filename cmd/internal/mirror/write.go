package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// errRaced says that somebody wrote to the file between our look and our write; nothing was written.
var errRaced = errors.New("somebody else wrote to the file at the same moment")

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

// readFile reads the whole file, and the identity of just what was read.
func readFile(path string) ([]byte, identity, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, identity{}, err
	}
	defer file.Close()
	for {
		before, err := file.Stat()
		if err != nil {
			return nil, identity{}, err
		}
		if !before.Mode().IsRegular() {
			return nil, identity{}, fmt.Errorf("%s is not a regular file", path)
		}
		text := make([]byte, before.Size())
		n, err := io.ReadFull(io.NewSectionReader(file, 0, before.Size()), text)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			return nil, identity{}, fmt.Errorf("reading %s: %w", path, err)
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

// readSettled is readFile for a file that a person may be writing in place: it waits until the file has not changed
// for a moment, so that a half-written file is not taken for what the person wants.
func readSettled(ctx context.Context, path string) ([]byte, identity, error) {
	for {
		text, id, err := readFile(path)
		if err != nil {
			return nil, id, err
		}
		wait := settle
		if len(text) == 0 {
			wait = 5 * settle // an editor that writes in place truncates first
		}
		select {
		case <-ctx.Done():
			return nil, identity{}, ctx.Err()
		case <-time.After(wait):
		}
		if again, err := identify(path); err != nil || again == id {
			return text, id, err
		}
	}
}

const settle = 20 * time.Millisecond

// appendFile adds text to the file we know, synced. On an error the file is as it was.
func appendFile(path string, text []byte, known identity) (identity, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return identity{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return identity{}, err
	}
	if identityOf(info) != known {
		return identity{}, errRaced
	}
	size := info.Size()
	var last [1]byte
	if size > 0 {
		if _, err := file.ReadAt(last[:], size-1); err != nil {
			return identity{}, fmt.Errorf("reading the end of %s: %w", path, err)
		}
		if last[0] != '\n' {
			// A person's last line has no end: ours must not become a part of it.
			text = append([]byte{'\n'}, text...)
		}
	}
	if _, err := file.Write(text); err != nil {
		// Half a line would be read as garbage, or as a shorter address.
		return identity{}, errors.Join(fmt.Errorf("appending to %s: %w", path, err), file.Truncate(size))
	}
	if err := file.Sync(); err != nil {
		return identity{}, fmt.Errorf("syncing %s: %w", path, err)
	}
	if info, err = file.Stat(); err != nil {
		return identity{}, err
	}
	if info.Size() != size+int64(len(text)) {
		return identity{}, nil // somebody wrote at the same time: read it again
	}
	return identityOf(info), nil
}

// replaceFile puts text in the place of the file, whole or not at all: temporary file, sync, rename, sync of the
// directory. It keeps owner and mode. known is what was read; errRaced when that is no longer what stands there. The
// zero identity replaces only a file that is missing.
func replaceFile(path string, text []byte, known identity) (id identity, err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return identity{}, err
	}
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".new-*")
	if err != nil {
		return identity{}, err
	}
	defer func() {
		tmp.Close()
		if err != nil {
			os.Remove(tmp.Name())
		}
	}()
	mode := os.FileMode(0o640)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
		st := info.Sys().(*syscall.Stat_t)
		if int(st.Uid) != os.Geteuid() || int(st.Gid) != os.Getegid() {
			// Without the right to give files away the new one is ours: better than none.
			if err := tmp.Chown(int(st.Uid), int(st.Gid)); err != nil && !errors.Is(err, os.ErrPermission) {
				return identity{}, err
			}
		}
	}
	if err := tmp.Chmod(mode); err != nil {
		return identity{}, err
	}
	if _, err := tmp.Write(text); err != nil {
		return identity{}, fmt.Errorf("writing %s: %w", tmp.Name(), err)
	}
	if err := tmp.Sync(); err != nil {
		return identity{}, fmt.Errorf("syncing %s: %w", tmp.Name(), err)
	}
	if known == (identity{}) {
		// link refuses to replace what came back in the meantime.
		if err := os.Link(tmp.Name(), path); err != nil {
			if errors.Is(err, os.ErrExist) {
				return identity{}, errRaced
			}
			return identity{}, err
		}
		os.Remove(tmp.Name())
	} else {
		if now, err := identify(path); err != nil || now != known {
			return identity{}, errRaced
		}
		if err := os.Rename(tmp.Name(), path); err != nil {
			return identity{}, err
		}
	}
	if err := syncDir(dir); err != nil {
		return identity{}, err
	}
	return identify(path)
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
		name := path + ".odd-" + time.Now().UTC().Format("20060102T150405Z")
		if i > 0 {
			name += fmt.Sprintf("-%d", i)
		}
		if _, err := os.Lstat(name); err == nil {
			continue
		}
		if err := os.Rename(path, name); err != nil {
			return "", err
		}
		return name, nil
	}
}
