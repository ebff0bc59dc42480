// Package state keeps what the daemon must not forget in one bbolt file: failure counts, ladder histories, positions
// in logs. Everything that belongs together is written in one transaction, so after a crash the file holds what one
// Commit left, whole.
//
// The file may be damaged by a disk, a person or a program. bbolt trusts its file: a bad page makes it panic, loop or
// fault. So Open first reads every page itself (check.go) and hands bbolt only a file that is sound and holds what
// the last Commit wrote. Anything else is moved aside, never deleted, and a new file is begun.
package state

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// Schema is the version of what the buckets hold. A file with a higher one was written by a newer banset.
const Schema = 1

// A Bucket is one kind of thing in the file. What its keys and values mean is their writer's business.
type Bucket string

const (
	Windows   Bucket = "windows"   // failures of a host that a policy remembers
	Ladder    Bucket = "ladder"    // where a host stands on a policy's ladder
	Positions Bucket = "positions" // where reading of a log resumes
	Skews     Bucket = "skews"     // how far a log's time stamps are off
	Lines     Bucket = "lines"     // what was last known of the blocklist's lines
	Meta      Bucket = "meta"      // single values of the daemon as a whole
)

// buckets are those that Commit takes.
var buckets = []Bucket{Windows, Ladder, Positions, Skews, Lines, Meta}

// schemaBucket belongs to this package: the schema's version and the sum of every other bucket.
const (
	schemaBucket = "schema"
	versionKey   = "version"
	sumKey       = "sum " // and a bucket's name
)

// MaxKey is the longest key that Commit takes, in bytes.
const MaxKey = bolt.MaxKeySize

// A Change puts or deletes one key. Commit reads Key and Value only until it returns.
type Change struct {
	Bucket Bucket
	Key    []byte // 1 to MaxKey bytes
	Value  []byte // nil: delete, and a key that is not there is no error
}

// Options of Open. The zero value is what the daemon uses.
type Options struct {
	// ReadOnly is for a command that only looks, while no daemon runs: nothing is made, moved or written.
	ReadOnly bool
	// Now gives the date in the name of a file that is moved aside; nil: time.Now.
	Now func() time.Time
}

var (
	// ErrInUse is what Open and Commit return when another process has the file. The error names that process.
	ErrInUse = errors.New("in use")
	// ErrBroken is a file that holds no sound state. Open returns it for a read-only store only, or when the file
	// can't be moved aside. From the other calls it means that the file broke under the store, which is then of no
	// more use: Close it and Open the path again.
	ErrBroken = errors.New("broken")
	// ErrNewer is a sound file with a higher Schema than ours; returned as ErrBroken is.
	ErrNewer = errors.New("written by a newer banset")
	// ErrClosed is returned by every call after Close.
	ErrClosed = errors.New("state is closed")
)

var errReadOnly = errors.New("opened read-only")

// A Store is an open state file, locked against every other process. It is safe for concurrent use.
type Store struct {
	path     string
	now      func() time.Time
	readOnly bool

	mu     sync.RWMutex // held for writing by whatever changes the fields below, or writes
	db     *bolt.DB
	file   *os.File // db's own descriptor; the lock is on it
	notice string
	// compactAfter is when Commit may try to compact again, after it could not.
	compactAfter time.Time
	dead         atomic.Pointer[error] // why the file can't be used any more
}

// Open opens the state at path, and makes file and directory (0750) if there are none. It returns at once with
// ErrInUse if another process has the file. A broken file, or a newer one, is moved aside beside itself and a fresh
// one is begun: Notice tells. Other errors wrap the system's own and say what to do.
func Open(path string, o Options) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	s := &Store{path: path, now: o.Now, readOnly: o.ReadOnly}
	if s.now == nil {
		s.now = time.Now
	}
	if !o.ReadOnly {
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return nil, advise("make the directory of state", path, err)
		}
	}
	// The lock is on a file, the rename is of a name: a link to another place would part the two.
	if p, err := filepath.EvalSymlinks(path); err == nil {
		s.path = p
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	return s, nil
}

// open finds or makes the file. It goes round again when the file was moved aside, or when another process put a file
// there between two of our steps; that one will hold its lock, so a few rounds are plenty.
func (s *Store) open() error {
	for range 10 {
		f, err := openLocked(s.path, s.readOnly)
		switch {
		case errors.Is(err, errMoved):
			continue
		case errors.Is(err, unix.ENOENT) && !s.readOnly:
			err := s.begin()
			if err == nil {
				return nil
			}
			// Another process was faster (EEXIST), or tidied our unfinished file away.
			if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOENT) || errors.Is(err, errMoved) {
				continue
			}
			return advise("begin state", s.path, err)
		case err != nil:
			return advise("open state", s.path, err)
		}

		r, err := checkFile(f)
		if err == nil {
			s.db, err = openBolt(f, s.readOnly)
		}
		if err == nil {
			s.file = f
			if !s.readOnly {
				s.tidy(r)
			}
			return nil
		}
		if s.readOnly || !(errors.Is(err, ErrBroken) || errors.Is(err, ErrNewer)) {
			unlockClose(f)
			return advise("open state", s.path, err)
		}
		aside, moveErr := moveAside(s.path, s.now())
		unlockClose(f)
		if moveErr != nil {
			return advise("move aside the unusable state", s.path, errors.Join(moveErr, err))
		}
		s.notice = asideNotice(s.path, aside, err)
	}
	return fmt.Errorf("open state %s: other processes keep replacing it: stop them", s.path)
}

// Notice is empty, or tells loudly what happened to the file that was at the path, and where it is now.
func (s *Store) Notice() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.notice
}

// unloadAfter is after how many keys what was read is let go: some megabytes.
const unloadAfter = 1 << 15

// Each calls fn for every key of b, in bytewise order, and stops with fn's first error. k and v are the file's own
// memory: they must not be changed, and not be used after fn returns. fn must not call the store.
func (s *Store) Each(b Bucket, fn func(k, v []byte) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(); err != nil {
		return s.wrap("read", err)
	}
	inside, n := false, 0
	broke, err := guard(&inside, func() error {
		return s.db.View(func(tx *bolt.Tx) error {
			bucket := tx.Bucket([]byte(b))
			if bucket == nil {
				return nil
			}
			defer unload(tx)
			return bucket.ForEach(func(k, v []byte) error {
				inside = true
				err := fn(k, v)
				inside = false
				if n++; n%unloadAfter == 0 {
					unload(tx) // what was read of a large file need not stay in memory
				}
				return err
			})
		})
	})
	if broke {
		s.dead.Store(&err)
		return s.wrap("read", err)
	}
	return err
}

// unload takes the file's pages out of this process's memory, where bbolt reads them through a mapping: a state of a
// million hosts would count as ours whole. They stay in the system's cache, and come back one by one when they are
// read. Nothing changes for whoever reads meanwhile.
func unload(tx *bolt.Tx) {
	// The mapping holds all pages that the transaction knows, and does not move while there is one. If it does not
	// work, there is nothing to be done.
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, tx.DB().Info().Data, uintptr(tx.Size()), unix.MADV_DONTNEED)
}

// Commit makes all changes, in their order, or none, in one transaction, and returns when they are on the disk. It sorts
// changes by their keys: those of one key keep their order. On an error the caller may try the same changes again later: each says what a key shall hold, not how it differs. A
// commit after which the file is mostly free pages also does what Compact does.
func (s *Store) Commit(changes []Change) error {
	for i := range changes {
		c := &changes[i]
		if !slices.Contains(buckets, c.Bucket) {
			return fmt.Errorf("commit state: change %d: no bucket %q", i, c.Bucket)
		}
		if len(c.Key) == 0 || len(c.Key) > MaxKey {
			return fmt.Errorf("commit state: change %d: a key of %d bytes; 1 to %d are allowed", i, len(c.Key), MaxKey)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.commit(changes); err != nil {
		return s.wrap("commit", err)
	}
	return nil
}

func (s *Store) commit(changes []Change) error {
	if err := s.usable(); err != nil {
		return err
	}
	if s.readOnly {
		return errReadOnly
	}
	if err := s.attached(); err != nil || len(changes) == 0 {
		return err
	}
	broke, err := guard(nil, func() error {
		if err := s.db.Update(func(tx *bolt.Tx) error { return apply(tx, changes) }); err != nil {
			return err
		}
		return s.db.View(func(tx *bolt.Tx) error { unload(tx); return nil })
	})
	if broke {
		s.dead.Store(&err)
	}
	if err != nil {
		return err
	}
	if now := s.now(); !now.Before(s.compactAfter) {
		// The commit is made, whatever becomes of this.
		if _, err := s.compact(); err != nil {
			s.compactAfter = now.Add(compactPause)
		}
	}
	return nil
}

// apply makes the changes in tx and keeps the sums of their buckets in step.
func apply(tx *bolt.Tx, changes []Change) error {
	// In the order of the keys bbolt works through its pages once; a stable sort keeps the order of one key's changes.
	slices.SortStableFunc(changes, compareChanges)
	schema := tx.Bucket([]byte(schemaBucket))
	for len(changes) > 0 {
		name := changes[0].Bucket
		b, err := tx.CreateBucketIfNotExists([]byte(name))
		if err != nil {
			return err
		}
		sumName := []byte(sumKey + name)
		total, err := parseSum(schema.Get(sumName))
		if err != nil {
			return err
		}
		n := 0
		for ; n < len(changes) && changes[n].Bucket == name; n++ {
			c := &changes[n]
			if old := b.Get(c.Key); old != nil {
				total.remove(c.Key, old)
			}
			if c.Value == nil {
				err = b.Delete(c.Key)
			} else {
				total.add(c.Key, c.Value)
				err = b.Put(c.Key, c.Value)
			}
			if err != nil {
				return err
			}
		}
		if err := schema.Put(sumName, total.bytes()); err != nil {
			return err
		}
		changes = changes[n:]
	}
	return nil
}

func compareChanges(a, b Change) int {
	return cmp.Or(cmp.Compare(a.Bucket, b.Bucket), bytes.Compare(a.Key, b.Key))
}

// Size is the size of the file in bytes, free pages included; 0 after Close.
func (s *Store) Size() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.file == nil {
		return 0
	}
	fi, err := s.file.Stat()
	if err != nil {
		return 0
	}
	return fi.Size()
}

// Close gives the file free for others. A second call does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	f, db := s.file, s.db
	s.db, s.file = nil, nil
	if s.dead.Load() != nil {
		// bbolt's own locks may still be held by the call that broke off: leave it alone.
		unlockClose(f)
		return nil
	}
	if err := db.Close(); err != nil {
		return s.wrap("close", err)
	}
	return nil
}

// usable reports why the store can't be used, if so. s.mu is held.
func (s *Store) usable() error {
	if s.db == nil {
		return ErrClosed
	}
	if dead := s.dead.Load(); dead != nil {
		return *dead
	}
	return nil
}

func (s *Store) wrap(doing string, err error) error {
	if errors.Is(err, ErrClosed) {
		return err
	}
	return advise(doing+" state", s.path, err)
}

// openBolt opens the checked and locked file f with bbolt. It then belongs to the DB, which closes it, lock and all.
// After an ErrBroken the lock still holds; after another error f is closed.
func openBolt(f *os.File, readOnly bool) (*bolt.DB, error) {
	var db *bolt.DB
	_, err := guard(nil, func() (err error) {
		db, err = bolt.Open(f.Name(), 0o600, &bolt.Options{
			Timeout:      time.Second, // never reached: the lock is ours already
			ReadOnly:     readOnly,
			FreelistType: bolt.FreelistMapType,
			OpenFile:     func(string, int, os.FileMode) (*os.File, error) { return f, nil },
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	db.AllocSize = allocSize
	return db, nil
}

// allocSize is by how much the file grows at a time once it is larger than that. bbolt's own 16 MiB would make most
// state files mostly air.
const allocSize = 1 << 20

// guard runs fn. A panic of bbolt, or a fault in its mapped file (it was truncated, or the disk can't be read), becomes
// an ErrBroken, with broke set. A panic of the caller's own code, while *inside, goes on.
func guard(inside *bool, fn func() error) (broke bool, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		// Only a fault at an address that is not nil's has this method (runtime/debug.SetPanicOnFault).
		_, fault := p.(interface{ Addr() uintptr })
		switch {
		case fault:
			broke, err = true, brokenf("its pages can't be read: it was cut, or the disk fails")
		case inside != nil && *inside:
			panic(p)
		default:
			broke, err = true, brokenf("%v", p)
		}
	}()
	return false, fn()
}

// version reads the schema's version out of its bucket's value.
func version(v []byte) (int, error) {
	n, err := strconv.Atoi(string(v))
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%w: schema version %q", ErrBroken, v)
	}
	return n, nil
}

// A sum stands for all keys and values of a bucket, in any order, and is kept up change by change.
type sum struct{ count, hash uint64 }

func (s *sum) add(k, v []byte)    { s.count++; s.hash += hash(k, v) }
func (s *sum) remove(k, v []byte) { s.count--; s.hash -= hash(k, v) }

func (s sum) bytes() []byte {
	b := binary.BigEndian.AppendUint64(nil, s.count)
	return binary.BigEndian.AppendUint64(b, s.hash)
}

// parseSum reads what bytes wrote; nothing is the sum of an empty bucket.
func parseSum(b []byte) (sum, error) {
	switch len(b) {
	case 0:
		return sum{}, nil
	case 16:
		return sum{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}, nil
	}
	return sum{}, fmt.Errorf("%w: a sum of %d bytes", ErrBroken, len(b))
}
