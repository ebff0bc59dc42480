package state

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// hostKey is a key and value as windows have them: an address, a policy, some times.
func hostKey(b Bucket, n uint64) Change {
	key := binary.BigEndian.AppendUint64(nil, n*0x9e3779b97f4a7c15) // spread, as addresses are
	return Change{b, append(key, " exim2-repeater"...), make([]byte, 40)}
}

// A year of traffic: keys come and go, once a flood of them. The file stays in proportion to what is alive.
func TestYear(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := mustOpen(t, path)
	const (
		perDay  = 500 // new hosts
		alive   = 10  // days until a host is forgotten
		flood   = 20  // the day of the flood
		bigness = 120 // how many times a usual day it is
	)
	days := 365
	if testing.Short() {
		days = 60
	}
	s.db.NoSync = true // the test is of sizes
	rnd := rand.New(rand.NewPCG(8, 9))
	var next uint64
	var born [][]uint64 // by day
	compacted, live := 0, 0
	for day := range days {
		n := perDay
		if day == flood {
			n *= bigness
		}
		var today []uint64
		for range n {
			next++
			today = append(today, next)
		}
		born = append(born, today)
		live += n
		changes := make([]Change, 0, 2*n)
		for _, k := range today {
			changes = append(changes, hostKey(Windows, k))
		}
		if day >= alive {
			for _, k := range born[day-alive] {
				c := hostKey(Windows, k)
				c.Value = nil
				changes = append(changes, c)
			}
			live -= len(born[day-alive])
		}
		// The day comes in four commits, in no order.
		rnd.Shuffle(len(changes), func(i, j int) { changes[i], changes[j] = changes[j], changes[i] })
		for i := range 4 {
			before := s.file
			if err := s.Commit(changes[len(changes)*i/4 : len(changes)*(i+1)/4]); err != nil {
				t.Fatal(err)
			}
			if s.file != before {
				compacted++
				s.db.NoSync = true
			}
		}
		// A key takes 79 bytes with its element; half of the pages may be free, pages half full.
		if limit := int64(live*79*4 + compactAbove + allocSize); s.Size() > limit {
			t.Fatalf("day %d: %d keys in %d bytes", day, live, s.Size())
		}
	}
	if compacted == 0 {
		t.Error("no commit compacted it")
	}
	mustBeSound(t, s)
	count := 0
	if err := s.Each(Windows, func(k, v []byte) error { count++; return nil }); err != nil || count != live {
		t.Errorf("%d keys, not %d (%v)", count, live, err)
	}
	t.Logf("%d keys alive of %d, %d bytes, compacted %d times", live, next, s.Size(), compacted)
}

// A file that became mostly free pages is compacted at the next Open.
func TestCompactAtOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := mustOpen(t, path)
	fill := func(from, to uint64, dead bool) {
		t.Helper()
		var changes []Change
		for n := from; n < to; n++ {
			c := hostKey(Ladder, n)
			if dead {
				c.Value = nil
			}
			changes = append(changes, c)
		}
		if err := s.Commit(changes); err != nil {
			t.Fatal(err)
		}
	}
	fill(0, 100_000, false)
	if done, err := s.Compact(); done || err != nil {
		t.Errorf("compacted a full file: %v", err)
	}
	full := s.Size()
	s.compactAfter = time.Now().Add(time.Hour) // as after a try on a full disk
	fill(1000, 100_000, true)
	if s.Size() < full {
		t.Fatal("it was compacted before")
	}
	s.Close()
	s = mustOpen(t, path)
	if s.Size() > full/8 {
		t.Errorf("of %d bytes %d are left", full, s.Size())
	}
	n := 0
	if err := s.Each(Ladder, func(k, v []byte) error { n++; return nil }); err != nil || n != 1000 {
		t.Errorf("%d keys (%v)", n, err)
	}
	if s.db.NoSync {
		t.Error("the rewritten file is not synced any more")
	}
	fill(0, 10, true) // and it takes commits
}

// What a crash leaves of a rewrite is in nobody's way.
func TestStaleFresh(t *testing.T) {
	for _, with := range []string{"", "half a file"} {
		path := filepath.Join(t.TempDir(), "state.db")
		if err := os.WriteFile(path+freshSuffix, []byte(with), 0o600); err != nil {
			t.Fatal(err)
		}
		s := mustOpen(t, path) // begins with the left-over there
		mustHaveFiles(t, filepath.Dir(path), "state.db")
		s.Close()
		if err := os.WriteFile(path+freshSuffix, []byte(with), 0o600); err != nil {
			t.Fatal(err)
		}
		mustOpen(t, path)
		mustHaveFiles(t, filepath.Dir(path), "state.db")
	}
}

// million makes a file of that many keys.
func million(b *testing.B, keys int) string {
	path := filepath.Join(b.TempDir(), "state.db")
	s := mustOpen(b, path)
	changes := make([]Change, keys)
	for i := range changes {
		changes[i] = hostKey(Windows, uint64(i))
	}
	if err := s.Commit(changes); err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	return path
}

func BenchmarkOpenMillion(b *testing.B) {
	path := million(b, 1_000_000)
	for b.Loop() {
		mustOpen(b, path).Close()
	}
}

func BenchmarkEachMillion(b *testing.B) {
	s := mustOpen(b, million(b, 1_000_000))
	for b.Loop() {
		n := 0
		if err := s.Each(Windows, func(k, v []byte) error { n += len(k) + len(v); return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompactMillion(b *testing.B) {
	s := mustOpen(b, million(b, 1_000_000))
	for b.Loop() {
		s.mu.Lock()
		err := s.rewrite(os.Rename)
		s.mu.Unlock()
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFirstCommitMillion(b *testing.B) {
	for b.Loop() {
		million(b, 1_000_000)
	}
}

// The usual commit of a second beside 300,000 keys, for each way of keeping the list of free pages, which depends on
// how many there are.
func BenchmarkCommit(b *testing.B) {
	for _, free := range []int{0, 10_000} {
		path := million(b, 300_000)
		s := mustOpen(b, path)
		var dead []Change
		_ = s.Each(Windows, func(k, v []byte) error { // runs of keys empty their pages
			if len(dead) < free*25 {
				dead = append(dead, Change{Windows, append([]byte{}, k...), nil})
			}
			return nil
		})
		if err := s.Commit(dead); err != nil {
			b.Fatal(err)
		}
		s.Close()
		for _, kind := range []bolt.FreelistType{bolt.FreelistMapType, bolt.FreelistArrayType} {
			for _, noSync := range []bool{false, true} {
				b.Run(fmt.Sprintf("free=%d/%s/nosync=%v", free, kind, noSync), func(b *testing.B) {
					f, err := openLocked(path, false)
					if err != nil {
						b.Fatal(err)
					}
					db, err := bolt.Open(path, 0o600, &bolt.Options{FreelistType: kind, NoFreelistSync: noSync,
						OpenFile: func(string, int, os.FileMode) (*os.File, error) { return f, nil }})
					if err != nil {
						b.Fatal(err)
					}
					s := &Store{path: path, db: db, file: f, now: time.Now, compactAfter: time.Now().Add(time.Hour)}
					defer s.Close()
					n := uint64(0)
					for b.Loop() {
						var changes []Change
						for range 100 {
							n++
							changes = append(changes, hostKey(Windows, n*7919%300_000))
						}
						if err := s.Commit(changes); err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric(float64(s.db.Stats().FreePageN), "free-pages")
				})
			}
		}
	}
}
