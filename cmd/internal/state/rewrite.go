package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// freshSuffix is the name under which a new file is written before it takes the state's own. What a crash leaves of it
// is overwritten or removed by the next Open.
const freshSuffix = ".new"

const (
	// compactAbove: a file smaller than this is not worth rewriting, in bytes.
	compactAbove = 4 << 20
	// compactPause is how long Commit waits after it could not compact: the disk may be full for long.
	compactPause = time.Hour
	// compactTx bounds one transaction of a copy, in bytes of keys and values: its pages are in memory until its end.
	compactTx = 8 << 20
)

// worth reports whether a file of size bytes, used of them in use, should be rewritten: more than half of it is free.
func worth(size, used int64) bool { return size > compactAbove && used < size/2 }

// tidy finishes Open: it removes what a crash left and rewrites a file that is mostly free pages. That neither works
// on a full disk must not keep the daemon from starting; Compact tells, when called.
func (s *Store) tidy(r report) {
	_ = os.Remove(s.path + freshSuffix)
	// Random deletions also leave pages that are nearly empty but not free. A quarter full is well below what any
	// usual order of insertions leaves (half), so a rewritten file is not rewritten each time.
	if worth(r.size, r.used) || worth(r.size, 2*r.full) {
		_ = s.rewrite(os.Rename)
	}
}

// Compact rewrites the file when more than half of it is free pages, which bbolt reuses but never gives back, and
// reports whether it did. Open and Commit do the same by themselves; this is for who wants to know that it worked. A
// crash at any moment leaves the old file or the new one, whole. It blocks other calls: about a second per million keys.
func (s *Store) Compact() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	done, err := s.compact()
	if err != nil {
		return false, s.wrap("compact", err)
	}
	return done, nil
}

func (s *Store) compact() (bool, error) {
	if err := s.usable(); err != nil {
		return false, err
	}
	if s.readOnly {
		return false, errReadOnly
	}
	if err := s.attached(); err != nil {
		return false, err
	}
	var size int64
	broke, err := guard(nil, func() error {
		return s.db.View(func(tx *bolt.Tx) error { size = tx.Size(); return nil })
	})
	if broke {
		s.dead.Store(&err)
	}
	if err != nil {
		return false, err
	}
	stats := s.db.Stats()
	free := int64(stats.FreePageN+stats.PendingPageN) * int64(s.db.Info().PageSize)
	if !worth(size, size-free) {
		return false, nil
	}
	return true, s.rewrite(os.Rename)
}

// begin makes a fresh, empty state; EEXIST means that another process was faster.
func (s *Store) begin() error {
	f, db, err := createFresh(s.path + freshSuffix)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket([]byte(schemaBucket))
		if err != nil {
			return err
		}
		return b.Put([]byte(versionKey), strconv.AppendInt(nil, Schema, 10))
	})
	return s.adopt(f, db, err, renameNew)
}

// rewrite copies what is live into a fresh file and puts it in the old one's place with rename. s.mu is held.
func (s *Store) rewrite(rename func(from, to string) error) error {
	f, db, err := createFresh(s.path + freshSuffix)
	if err != nil {
		return err
	}
	db.NoSync = true
	broke, err := guard(nil, func() error { return bolt.Compact(db, s.db, compactTx) })
	if broke {
		s.dead.Store(&err)
	}
	db.NoSync = false
	if err == nil {
		err = db.Sync()
	}
	if err == nil {
		// The old file goes away for good: nothing but the new one's own pages says that the copy is whole.
		_, err = checkFile(f)
	}
	return s.adopt(f, db, err, rename)
}

// adopt puts a fresh file, synced and locked, in the state's place, unless err says that it did not become one. The
// new file is locked before it has the name, the old one until after: nobody can come between.
func (s *Store) adopt(f *os.File, db *bolt.DB, err error, rename func(from, to string) error) error {
	if err == nil {
		err = rename(f.Name(), s.path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return errors.Join(err, db.Close())
	}
	old := s.db
	s.db, s.file = db, f
	err = syncDir(s.path)
	if old != nil {
		err = errors.Join(err, old.Close())
	}
	return err
}

// createFresh makes an empty, locked bbolt file at path, or takes over what a crash left there.
func createFresh(path string) (*os.File, *bolt.DB, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, nil, err
	}
	if err := lock(f, path, unix.LOCK_EX); err != nil {
		f.Close()
		return nil, nil, err
	}
	err = f.Truncate(0)
	if err == nil {
		err = likeDir(f)
	}
	if err != nil {
		unlockClose(f)
		return nil, nil, err
	}
	db, err := openBolt(f, false)
	if err != nil {
		_ = os.Remove(path)
		unlockClose(f)
		return nil, nil, err
	}
	return f, db, nil
}

// likeDir gives a file that root made the owner of its directory: a daemon that runs as that user must be able to open
// what a command of root's began.
func likeDir(f *os.File) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(filepath.Dir(f.Name()))
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	err = f.Chown(int(st.Uid), int(st.Gid))
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EINVAL) {
		return nil // root of a user namespace that has no number for that owner
	}
	return err
}

// attached makes sure that the path still names the open file. Otherwise every commit would go to a file that nobody
// finds again: a removed file is written anew from the open one, another file in its place is moved aside first,
// unless another process has it. s.mu is held.
func (s *Store) attached() error {
	same, err := isAt(s.file, s.path)
	if err != nil || same {
		return nil // the open file still takes our commits, whatever keeps us from looking
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o750); err != nil {
		return err
	}
	notice := fmt.Sprintf("STATE REMOVED: %s was deleted while in use; it has been written anew.", s.path)
	other, err := openLocked(s.path, false)
	switch {
	case err == nil:
		aside, err := moveAside(s.path, s.now())
		unlockClose(other)
		if err != nil {
			return err
		}
		notice = fmt.Sprintf("STATE REPLACED: another file was put at %s while in use. It is kept as %s, and "+
			"the state has been written anew.", s.path, aside)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := s.rewrite(renameNew); err != nil {
		return fmt.Errorf("write it anew: %w", err)
	}
	s.notice = notice
	return nil
}
