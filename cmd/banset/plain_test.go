package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banset/cmd/internal/source"
)

func logFile(t *testing.T, text []byte) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "a.log")
	if err := os.WriteFile(name, text, 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// ways are the ways to read a plain log, the last of which tries both.
var ways = map[string]func(*plainLog){
	"mapped":           func(l *plainLog) { l.way = l.mapped },
	"copied":           func(l *plainLog) { l.way = l.copied },
	"copied from disk": func(l *plainLog) { l.way = l.copied; forget(l.f) },
	"waited for":       func(l *plainLog) { l.way, l.waits = l.copied, true },
	"tried":            func(l *plainLog) {},
}

// forget takes a file out of memory, where it is on a disk.
func forget(f *os.File) {
	_ = f.Sync() // a file system in memory has nothing to do
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// openPlain is a plainLog of a file, whatever its size.
func openPlain(t *testing.T, f *os.File, way string, done func(int), yield func([]byte) error) *plainLog {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	l := &plainLog{f: f, size: info.Size(), cut: cutter{yield: yield}, buf: make([]byte, blockSize), done: done}
	ways[way](l)
	return l
}

// Whichever way a log is read, it has the same lines.
func TestPlain(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	lines := func(n int) []byte {
		var b bytes.Buffer
		for b.Len() < n {
			b.WriteString(strings.Repeat("x", r.IntN(200)))
			b.WriteString([]string{"\n", "\n", "\r\n"}[r.IntN(3)])
		}
		return b.Bytes()
	}
	long := append(bytes.Repeat([]byte("y"), source.MaxLine+5), '\n')
	for name, text := range map[string][]byte{
		"small":             []byte("a\nb"),
		"large":             lines(4 * tryWindow),
		"no end":            append(lines(3*tryWindow), "the last"...),
		"a long line":       append(append(lines(3*tryWindow-100), long...), lines(1<<20)...),
		"nothing but line":  bytes.Repeat([]byte("z"), 7<<20),
		"a very long first": append(bytes.Repeat([]byte("z"), 2*blockSize), lines(blockSize)...),
	} {
		for way := range ways {
			if way == "tried" && len(text) < 3*tryWindow {
				continue // it is copied
			}
			t.Run(name+" "+way, func(t *testing.T) {
				var got, want [][]byte
				take := func(to *[][]byte) func([]byte) error {
					return func(block []byte) error {
						for l := range bytes.Lines(block) {
							*to = append(*to, bytes.Clone(bytes.TrimRight(l, "\r\n")))
						}
						return nil
					}
				}
				done := 0
				sums, err := openPlain(t, logFile(t, text), way, func(n int) { done += n }, take(&got)).read()
				if err != nil || done != len(text) {
					t.Errorf("%d of %d bytes, %v", done, len(text), err)
				}
				wantSums, _ := readBlocks(struct{ io.Reader }{bytes.NewReader(text)}, take(&want))
				if sums != wantSums || len(got) != len(want) {
					t.Fatalf("got %d lines, %+v, want %d, %+v", len(got), sums, len(want), wantSums)
				}
				for i := range got {
					if !bytes.Equal(got[i], want[i]) {
						t.Fatalf("line %d: got %.80q, want %.80q", i, got[i], want[i])
					}
				}
			})
		}
	}
}

// A log that grows while it is read is read to its new end; one that is truncated ends with an error, never a crash.
func TestPlainChanges(t *testing.T) {
	text := bytes.Repeat([]byte("0123456789abcde\n"), 4*tryWindow/16)
	for way := range ways {
		f := logFile(t, text)
		lines, first := uint64(0), true
		if _, err := openPlain(t, f, way, func(int) {}, func(block []byte) error {
			if lines += countLines(block); first {
				first = false
				if _, err := f.WriteAt([]byte("one more\nand one\n"), int64(len(text))); err != nil {
					t.Fatal(err)
				}
			}
			return nil
		}).read(); err != nil || lines != uint64(len(text)/16+2) {
			t.Errorf("%s, grown: %d lines, %v", way, lines, err)
		}
		for _, to := range []int64{0, 1, blockSize + 100, 2*tryWindow + 100} {
			f := logFile(t, text)
			sum := 0
			_, err := openPlain(t, f, way, func(int) {}, func(block []byte) error {
				if err := f.Truncate(to); err != nil {
					t.Fatal(err)
				}
				sum += bytes.Count(block, []byte("\x01")) // what is gone is looked at
				return nil
			}).read()
			if !errors.Is(err, errShrank) {
				t.Errorf("%s, truncated to %d: %v", way, to, err)
			}
		}
	}
}

// An error of whoever takes the blocks is not a fault.
func TestMappedError(t *testing.T) {
	stop := fmt.Errorf("enough")
	f := logFile(t, bytes.Repeat([]byte("0123456789abcde\n"), 2*blockSize/16))
	if _, err := openPlain(t, f, "mapped", func(int) {}, func([]byte) error { return stop }).read(); !errors.Is(err, stop) {
		t.Error(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a panic of ours was swallowed")
		}
	}()
	openPlain(t, f, "mapped", func(int) {}, func([]byte) error { panic("ours") }).read()
}

// What is read is a file, and small: nothing is tried.
func TestReadPlain(t *testing.T) {
	for _, text := range []string{"", "a\nb\n"} {
		got, done := "", 0
		sums, err := readPlain(logFile(t, []byte(text)), func(n int) { done += n }, func(block []byte) error { got += string(block); return nil })
		if got != text || done != len(text) || sums.bytes != uint64(done) || err != nil {
			t.Errorf("%q: %q, %d, %+v, %v", text, got, done, sums, err)
		}
	}
}
