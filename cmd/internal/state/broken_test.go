package state

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
)

// sample makes a file of some pages with two commits in it and returns its bytes and what the two left.
func sample(t testing.TB, keys int) (data []byte, before, after world) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	s := mustOpen(t, path)
	before = world{}
	var changes []Change
	for i := range keys {
		changes = append(changes, put(Windows, fmt.Sprintf("198.51.100.%d exim2", i), strings.Repeat("w", 40)))
	}
	// A value of several pages, and enough free pages for the list of them to mean something.
	changes = append(changes, put(Positions, "log", strings.Repeat("p", 9000)), put(Meta, "a", "1"))
	for _, c := range [][]Change{changes, {del(Windows, "198.51.100.3 exim2"), put(Meta, "a", "2")}} {
		if err := s.Commit(c); err != nil {
			t.Fatal(err)
		}
		before.apply(c)
	}
	after = before.clone()
	last := []Change{put(Ladder, "198.51.100.7", "2"), del(Windows, "198.51.100.5 exim2")}
	if err := s.Commit(last); err != nil {
		t.Fatal(err)
	}
	after.apply(last)
	s.Close()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data, before, after
}

// What a broken file can be, and that in each case it is kept, told of, and a working store comes of it.
func TestMovedAside(t *testing.T) {
	good, _, _ := sample(t, 300)
	page := func(n int) []byte { return append([]byte{}, good[n*4096:(n+1)*4096]...) }
	foreign := func(fill func(tx *bolt.Tx) error) []byte {
		path := filepath.Join(t.TempDir(), "foreign.db")
		db, err := bolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Update(fill); err != nil {
			t.Fatal(err)
		}
		db.Close()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	schema := func(version string) []byte {
		return foreign(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucket([]byte(schemaBucket))
			if err != nil {
				return err
			}
			return b.Put([]byte(versionKey), []byte(version))
		})
	}
	// bbolt would give a page that is in use to the next commit.
	freeAndUsed := append([]byte{}, good...)
	meta := freeAndUsed[pageHeader:]
	if other := freeAndUsed[4096+pageHeader:]; order.Uint64(other[48:]) > order.Uint64(meta[48:]) {
		meta = other
	}
	list := freeAndUsed[order.Uint64(meta[32:])*4096:]
	if order.Uint16(list[8:]) != flagFreelist || order.Uint16(list[10:]) == 0 {
		t.Fatal("the sample has no free pages")
	}
	copy(list[pageHeader:], meta[16:24])

	random := make([]byte, 100_000)
	for i, rnd := 0, rand.New(rand.NewPCG(3, 4)); i < len(random); i++ {
		random[i] = byte(rnd.Uint32())
	}
	tests := []struct {
		name   string
		data   []byte
		notice string
	}{
		{"empty", nil, "the file is empty"},
		{"one byte", []byte{0}, "it is only 1 bytes long"},
		{"text", []byte("this is no state\n"), "it is only 17 bytes long"},
		{"zeros", make([]byte, 1<<16), "it is no bbolt file"},
		{"random", random, "it is no bbolt file"},
		{"half", good[:len(good)/2], "pages of 4096 bytes but is"},
		{"a page less", good[:len(good)/4096*4096-4096], ""}, // may be spare
		{"metas of another file", append(append(page(0), page(1)...), random...), "page"},
		{"a page in use is free", freeAndUsed, "is used twice"},
		{"both metas damaged", append(append(make([]byte, 8192), page(2)...), page(3)...), "it is no bbolt file"},
		{"bbolt, not ours", foreign(func(tx *bolt.Tx) error {
			_, err := tx.CreateBucket([]byte("things"))
			return err
		}), "it is no state of banset"},
		{"bbolt with buckets in buckets", foreign(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucket([]byte("things"))
			if err == nil {
				_, err = b.CreateBucket([]byte("more"))
			}
			return err
		}), `bucket "things" has a bucket inside`},
		{"newer", schema("2"), "written by a newer banset: it has schema 2, this one knows 1"},
		{"no version", schema("one"), "schema version"},
		{"version 0", schema("0"), "schema version"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			if err := os.WriteFile(path, tt.data, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := Open(path, Options{Now: at("2026-11-23T18:12:05Z")})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if tt.notice == "" && s.Notice() == "" {
				return
			}
			aside := path + ".broken-2026-11-23T181205.000Z"
			if n := s.Notice(); !strings.Contains(n, tt.notice) || !strings.Contains(n, aside) {
				t.Errorf("the notice is %q", n)
			}
			kept, err := os.ReadFile(aside)
			if err != nil || !bytes.Equal(kept, tt.data) {
				t.Errorf("what is kept is not what was there (%v)", err)
			}
			mustHold(t, s, world{})
			if err := s.Commit([]Change{put(Windows, "a", "1")}); err != nil {
				t.Fatal(err)
			}
			mustHold(t, s, world{Windows: {"a": "1"}})
			s.Close()
			again := mustOpen(t, path)
			mustHold(t, again, world{Windows: {"a": "1"}})
			if again.Notice() != "" {
				t.Errorf("the fresh file gives notice: %s", again.Notice())
			}
		})
	}
}

// Files moved aside never overwrite each other, and only the newest stay.
func TestMovedAsideBounded(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.db")
	for _, keep := range []string{"state.db.broken-by-me", "state.db.broken-2026", "other"} {
		if err := os.WriteFile(filepath.Join(dir, keep), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range keepAside + 3 {
		if err := os.WriteFile(path, []byte("broken "+strconv.Itoa(i)), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(path, Options{Now: at("2026-11-23T18:12:05Z")}) // all in one moment
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
	mustHaveFiles(t, dir, "other", "state.db", "state.db.broken-2026",
		"state.db.broken-2026-11-23T181205.003Z", "state.db.broken-2026-11-23T181205.004Z",
		"state.db.broken-2026-11-23T181205.005Z", "state.db.broken-2026-11-23T181205.006Z",
		"state.db.broken-2026-11-23T181205.007Z", "state.db.broken-by-me")
	data, err := os.ReadFile(filepath.Join(dir, "state.db.broken-2026-11-23T181205.007Z"))
	if err != nil || string(data) != "broken 7" {
		t.Errorf("the newest is %q, %v", data, err)
	}
}

// outcome opens data as a state: it must be moved aside, or hold exactly what one of the last two commits left
// (the last but one when the damage is in the newest meta page, which looks as if it had not been written).
func outcome(t testing.TB, path string, data []byte, allowed ...world) error {
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	got, err := contents(s)
	if err != nil {
		return err
	}
	if s.Notice() != "" {
		allowed = []world{{}}
	}
	for _, want := range allowed {
		if cmp.Equal(want, got) {
			return s.Commit([]Change{put(Windows, "x", "y")})
		}
	}
	return errors.New("wrong data was taken for good")
}

// Every single byte of a file is damaged in turn, but of the zeros, mostly padding, one in 16. What check lets pass must
// be what was committed.
func TestEveryByte(t *testing.T) {
	data, before, after := sample(t, 120)
	path := filepath.Join(t.TempDir(), "state.db")
	passed, tried := 0, 0
	for i := range data {
		if data[i] == 0 && i%16 != 0 {
			continue
		}
		tried++
		x := []byte{0x01, 0x80, 0xff}[i%3]
		data[i] ^= x
		if _, err := check(bytes.NewReader(data), int64(len(data))); err == nil {
			passed++
			// Most bytes that pass are of free pages: some of those opened are enough.
			if i < 2*4096 && data[i]^x != 0 || i%512 == 0 {
				if err := outcome(t, path, data, before, after); err != nil {
					t.Errorf("byte %d: %v", i, err)
				}
			}
		}
		data[i] ^= x
	}
	if passed == 0 || passed > tried*9/10 {
		t.Errorf("of %d damages %d passed", tried, passed)
	}
}

// Damage of any kind never crashes, and never passes for something that was not committed.
func FuzzOpen(f *testing.F) {
	data, before, after := sample(f, 120)
	f.Add(uint32(0), uint16(4), []byte("x"), uint32(0))
	f.Add(uint32(4096*3+8), uint16(2), []byte{1, 0}, uint32(0))
	f.Add(uint32(4096*2), uint16(4096), []byte{}, uint32(0))
	f.Add(uint32(0), uint16(0), []byte{}, uint32(4096*5))
	f.Fuzz(func(t *testing.T, off uint32, from uint16, over []byte, cut uint32) {
		d := append([]byte{}, data...)
		at := int(off) % len(d)
		copy(d[at:], over)
		if len(over) == 0 { // copies a page over another place: sound parts in the wrong order
			copy(d[at/4096*4096:], data[int(from)%(len(d)/4096)*4096:][:4096])
		}
		if cut != 0 {
			d = d[:int(cut)%len(d)]
		}
		if err := outcome(t, filepath.Join(t.TempDir(), "state.db"), d, before, after); err != nil {
			t.Error(err)
		}
	})
}

// A file that is cut while it is open faults in bbolt's mapping. That must end neither the process nor in a deadlock.
func TestCutWhileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := mustOpen(t, path)
	var changes []Change
	for i := range 20_000 {
		changes = append(changes, put(Windows, fmt.Sprint("key ", i), "some value of some length"))
	}
	if err := s.Commit(changes); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Each(Windows, func(k, v []byte) error { _ = string(v); return nil }); !errors.Is(err, ErrBroken) {
		t.Fatalf("Each over no file: %v", err)
	}
	if err := s.Commit(changes[:1]); !errors.Is(err, ErrBroken) {
		t.Errorf("Commit into no file: %v", err)
	}
	if _, err := s.Compact(); !errors.Is(err, ErrBroken) {
		t.Errorf("Compact of no file: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	again := mustOpen(t, path) // and the lock is free
	if !strings.Contains(again.Notice(), "the file is empty") {
		t.Errorf("notice: %q", again.Notice())
	}
}

// The same in the middle of a commit.
func TestCutBeforeCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := mustOpen(t, path)
	if err := s.Commit([]Change{put(Windows, "a", strings.Repeat("x", 100_000))}); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit([]Change{del(Windows, "a")}); !errors.Is(err, ErrBroken) {
		t.Errorf("Commit into no file: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	mustOpen(t, path)
}
