package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

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

// What is mapped gives the same lines as what is read.
func TestMapped(t *testing.T) {
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
		"empty":             nil,
		"small":             []byte("a\nb"),
		"large":             lines(3 << 20),
		"no end":            append(lines(2<<20), "the last"...),
		"a long line":       append(append(lines(1<<20), long...), lines(1<<20)...),
		"nothing but line":  bytes.Repeat([]byte("z"), 2<<20),
		"a very long first": append(bytes.Repeat([]byte("z"), 2*blockSize), lines(blockSize)...),
	} {
		t.Run(name, func(t *testing.T) {
			var got, want [][]byte
			take := func(to *[][]byte) func([]byte) error {
				return func(block []byte) error {
					for l := range bytes.Lines(block) {
						*to = append(*to, bytes.Clone(l))
					}
					return nil
				}
			}
			done := 0
			sums, err := readMapped(logFile(t, text), func(n int) { done += n }, take(&got))
			if err != nil || done != len(text) {
				t.Errorf("%d of %d bytes, %v", done, len(text), err)
			}
			wantSums, _ := readBlocks(bytes.NewReader(text), take(&want))
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

// A log that grows while it is read is read to its new end; one that is truncated ends with an error, never a crash.
func TestMappedChanges(t *testing.T) {
	text := bytes.Repeat([]byte("0123456789abcde\n"), 4*blockSize/16)
	f := logFile(t, text)
	lines, first := uint64(0), true
	if _, err := readMapped(f, func(int) {}, func(block []byte) error {
		if lines += countLines(block); first {
			first = false
			if _, err := f.WriteAt([]byte("one more\nand one\n"), int64(len(text))); err != nil {
				t.Fatal(err)
			}
		}
		return nil
	}); err != nil || lines != uint64(len(text)/16+2) {
		t.Errorf("grown: %d lines, %v", lines, err)
	}
	for _, to := range []int64{0, 1, blockSize + 100} {
		f := logFile(t, text)
		sum := 0
		_, err := readMapped(f, func(int) {}, func(block []byte) error {
			if err := f.Truncate(to); err != nil {
				t.Fatal(err)
			}
			sum += bytes.Count(block, []byte("\x01")) // what is gone is looked at
			return nil
		})
		if !errors.Is(err, errShrank) {
			t.Errorf("truncated to %d: %v", to, err)
		}
	}
}

// An error of whoever takes the blocks is not a fault.
func TestMappedError(t *testing.T) {
	stop := fmt.Errorf("enough")
	f := logFile(t, bytes.Repeat([]byte("0123456789abcde\n"), 2*blockSize/16))
	if _, err := readMapped(f, func(int) {}, func([]byte) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a panic of ours was swallowed")
		}
	}()
	readMapped(f, func(int) {}, func([]byte) error { panic("ours") })
}
