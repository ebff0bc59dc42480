package mirror

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// settle is how long a file must have been left alone to be taken for whole.
	settle = 20 * time.Millisecond
	// settleOpen is the same for a file that somebody still has open for writing, or may have: an editor that writes in
	// place and takes its time.
	settleOpen = 2 * time.Second
	// settleMost bounds the waiting: a program that adds a line a second for ever is read while it does.
	settleMost = 10 * time.Second
	// settleMissing is how long a file must have been missing: some editors move the old one away before they write
	// the new one.
	settleMissing = 250 * time.Millisecond
)

// readSettled reads a file that a person may be writing in place, when they are done: a half-written file is not
// taken for what the person wants.
func (f *File) readSettled(ctx context.Context) (text []byte, id identity, err error) {
	began := time.Now()
	seen, since := identity{}, began
	for {
		now, err := identify(f.path)
		if err != nil {
			return nil, identity{}, err
		}
		if now != seen {
			seen, since = now, time.Now()
		}
		wait := settle
		if beingWritten(f.path) {
			wait = settleOpen
		}
		if left := min(wait-time.Since(since), settleMost-time.Since(began)); left > 0 && seen.size <= tooLarge {
			if err := sleep(ctx, min(left, settle)); err != nil {
				return nil, identity{}, err
			}
			continue
		}
		f.watch.ourRead(func() { text, id, err = readFile(f.path) })
		if err != nil || id == seen || time.Since(began) >= settleMost {
			return text, id, err
		}
	}
}

// beingWritten reports whether somebody has the file open for writing.
func beingWritten(path string) bool {
	file, err := openFile(path)
	if err != nil {
		return false
	}
	defer file.Close()
	release, err := lease(file, unix.F_RDLCK)
	release()
	return errors.Is(err, unix.EAGAIN)
}

// stillMissing reports whether there is no file, now and for a moment.
func (f *File) stillMissing(ctx context.Context) (bool, error) {
	for began := time.Now(); ; {
		if _, err := os.Lstat(f.path); !errors.Is(err, os.ErrNotExist) {
			return false, nil
		}
		left := settleMissing - time.Since(began)
		if left <= 0 {
			return true, nil
		}
		if err := sleep(ctx, min(left, settle)); err != nil {
			return false, err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
