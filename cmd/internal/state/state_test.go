package state

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
)

// A world is what a store should hold: by bucket, by key.
type world map[Bucket]map[string]string

func (w world) apply(changes []Change) {
	for _, c := range changes {
		if w[c.Bucket] == nil {
			w[c.Bucket] = map[string]string{}
		}
		if c.Value == nil {
			delete(w[c.Bucket], string(c.Key))
		} else {
			w[c.Bucket][string(c.Key)] = string(c.Value)
		}
		if len(w[c.Bucket]) == 0 {
			delete(w, c.Bucket)
		}
	}
}

func (w world) clone() world {
	c := world{}
	for b, m := range w {
		c[b] = map[string]string{}
		for k, v := range m {
			c[b][k] = v
		}
	}
	return c
}

// contents reads all of s, and checks that Each keeps to the order it promises.
func contents(s *Store) (world, error) {
	w := world{}
	for _, b := range buckets {
		var last []byte
		err := s.Each(b, func(k, v []byte) error {
			if last != nil && bytes.Compare(last, k) >= 0 {
				return fmt.Errorf("%q came after %q", k, last)
			}
			last = bytes.Clone(k)
			if w[b] == nil {
				w[b] = map[string]string{}
			}
			w[b][string(k)] = string(v)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return w, nil
}

func mustHold(t *testing.T, s *Store, want world) {
	t.Helper()
	got, err := contents(s)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("the store holds something else (-want +got):\n%.2000s", d)
	}
}

func mustOpen(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(b Bucket, k, v string) Change { return Change{b, []byte(k), []byte(v)} }
func del(b Bucket, k string) Change    { return Change{b, []byte(k), nil} }

func TestCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := mustOpen(t, path)
	want := world{}
	for _, changes := range [][]Change{
		nil,
		{put(Windows, "b", "1"), put(Windows, "a", "2"), put(Ladder, "a", "3")},
		{put(Windows, "a", "first"), del(Windows, "a"), put(Windows, "a", "last")}, // in their order
		{put(Meta, "x", "1"), del(Meta, "x")},
		{put(Skews, "no value", "")}, // is there, and empty
		{del(Windows, "b"), del(Lines, "never was")},
		{put(Positions, strings.Repeat("k", MaxKey), strings.Repeat("v", 1<<20))},
	} {
		if err := s.Commit(changes); err != nil {
			t.Fatal(err)
		}
		want.apply(changes)
		mustHold(t, s, want)
	}
	for _, bad := range []Change{
		put("nosuch", "k", "v"),
		put(schemaBucket, versionKey, "9"),
		put(Windows, "", "v"),
		put(Windows, strings.Repeat("k", MaxKey+1), "v"),
	} {
		if err := s.Commit([]Change{put(Windows, "with it", "v"), bad}); err == nil {
			t.Errorf("took a change of %.20q in %q", bad.Key, bad.Bucket)
		}
		mustHold(t, s, want)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error("second Close:", err)
	}
	if err := s.Commit(nil); !errors.Is(err, ErrClosed) {
		t.Error("Commit after Close:", err)
	}
	if err := s.Each(Windows, nil); !errors.Is(err, ErrClosed) {
		t.Error("Each after Close:", err)
	}
	if _, err := s.Compact(); !errors.Is(err, ErrClosed) {
		t.Error("Compact after Close:", err)
	}
	s = mustOpen(t, path)
	mustHold(t, s, want)
	if s.Notice() != "" {
		t.Error("a sound file gives notice:", s.Notice())
	}
}

func TestEachStops(t *testing.T) {
	s := mustOpen(t, filepath.Join(t.TempDir(), "state.db"))
	if err := s.Commit([]Change{put(Windows, "a", "1"), put(Windows, "b", "2")}); err != nil {
		t.Fatal(err)
	}
	stop, calls := errors.New("stop"), 0
	if err := s.Each(Windows, func(k, v []byte) error { calls++; return stop }); err != stop || calls != 1 {
		t.Fatalf("got %v after %d calls", err, calls)
	}
	func() {
		defer func() {
			if p := recover(); p != "mine" {
				t.Errorf("the caller's own panic became %v", p)
			}
		}()
		_ = s.Each(Windows, func(k, v []byte) error { panic("mine") })
	}()
	// Neither leaves anything locked.
	if err := s.Commit([]Change{put(Windows, "c", "3")}); err != nil {
		t.Fatal(err)
	}
}

// Random commits, compactions and reopenings against a model.
func TestModel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := mustOpen(t, path)
	s.db.NoSync = true
	rnd := rand.New(rand.NewPCG(1, 2))
	want := world{}
	for range 600 {
		switch n := rnd.IntN(100); {
		case n < 6:
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = mustOpen(t, path)
			s.db.NoSync = true
			mustHold(t, s, want)
		case n < 9:
			s.mu.Lock()
			err := s.rewrite(os.Rename)
			s.db.NoSync = true
			s.mu.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			mustHold(t, s, want)
		default:
			changes := randomChanges(rnd, rnd.IntN(200))
			if err := s.Commit(changes); err != nil {
				t.Fatal(err)
			}
			want.apply(changes)
		}
	}
	mustHold(t, s, want)
	mustBeSound(t, s)
	if n := len(want[Windows]); n < 100 {
		t.Fatalf("the model has only %d keys: nothing was tested", n)
	}
}

// randomChanges makes n changes: many keys in windows, few elsewhere, deletions, values of all sizes.
func randomChanges(rnd *rand.Rand, n int) []Change {
	var changes []Change
	for range n {
		b, keys := Windows, 3000
		if rnd.IntN(4) == 0 {
			b, keys = buckets[rnd.IntN(len(buckets))], 20
		}
		c := Change{Bucket: b, Key: fmt.Appendf(nil, "key %d", rnd.IntN(keys))}
		if rnd.IntN(3) != 0 {
			c.Value = bytes.Repeat([]byte{byte(rnd.Uint32())}, rnd.IntN(120))
			if rnd.IntN(500) == 0 {
				c.Value = bytes.Repeat(c.Value, 200)
			}
		}
		changes = append(changes, c)
	}
	return changes
}

// mustBeSound has bbolt's own checker, and ours, look at the store's file.
func mustBeSound(t *testing.T, s *Store) {
	t.Helper()
	if _, err := checkFile(s.file); err != nil {
		t.Error("our check:", err)
	}
	err := s.db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			t.Error("bbolt's check:", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "var", "banset")
	mustOpen(t, filepath.Join(dir, "state.db"))
	for path, want := range map[string]fs.FileMode{
		dir:                            fs.ModeDir | 0o750,
		filepath.Join(dir, "state.db"): 0o600,
	} {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode() != want {
			t.Errorf("%s is %v, not %v", path, fi.Mode(), want)
		}
	}
	mustHaveFiles(t, dir, "state.db")
}

// TestOwner: what a command of root's begins, or rewrites, belongs to the user whom the directory was made for.
func TestOwner(t *testing.T) {
	dir := t.TempDir()
	uid := os.Geteuid()
	if os.Chown(dir, 4711, 4711) == nil { // root, and not in a user namespace
		uid = 4711
	}
	path := filepath.Join(dir, "state.db")
	s := mustOpen(t, path)
	check := func(when string) {
		t.Helper()
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := int(fi.Sys().(*syscall.Stat_t).Uid); got != uid {
			t.Errorf("%s it belongs to user %d, not %d", when, got, uid)
		}
	}
	check("begun,")
	if err := s.rewrite(os.Rename); err != nil {
		t.Fatal(err)
	}
	check("rewritten,")
}

func mustHaveFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s holds %q, not %q", dir, got, want)
	}
}

func TestReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	if _, err := Open(path, Options{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening nothing: %v", err)
	}
	s := mustOpen(t, path)
	if err := s.Commit([]Change{put(Ladder, "a", "1")}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	var readers []*Store
	for range 2 { // at the same time
		r, err := Open(path, Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		mustHold(t, r, world{Ladder: {"a": "1"}})
		readers = append(readers, r)
	}
	if err := readers[0].Commit([]Change{del(Ladder, "a")}); err == nil {
		t.Error("a read-only store was written")
	}
	if _, err := readers[0].Compact(); err == nil {
		t.Error("a read-only store was compacted")
	}
	if _, err := Open(path, Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("opened for writing beside readers: %v", err)
	}
	for _, r := range readers {
		r.Close()
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{ReadOnly: true}); !errors.Is(err, ErrBroken) {
		t.Errorf("opening a broken file: %v", err)
	}
	mustHaveFiles(t, filepath.Dir(path), "state.db")
}

func TestSymlink(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real", "s.db"), filepath.Join(dir, "state.db")
	mustOpen(t, real).Close()
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, link)
	s.mu.Lock()
	err := s.rewrite(os.Rename)
	s.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Lstat(link); err != nil || fi.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link became %v, %v", fi, err)
	}
	if _, err := Open(real, Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("the file behind the link is not locked: %v", err)
	}
}

// at is a clock that stands still.
func at(s string) func() time.Time {
	now, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return func() time.Time { return now }
}
