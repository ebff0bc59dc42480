package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"banset/cmd/internal/source"
)

// linesOf is the oracle: the lines of a text as a source delivers them, read the plain way.
func linesOf(text string) (lines []string, cut uint64) {
	if text == "" {
		return nil, 0
	}
	text = strings.TrimSuffix(text, "\n")
	for l := range strings.SplitSeq(text, "\n") {
		l = strings.TrimSuffix(l, "\r")
		if len(l) > source.MaxLine {
			l = l[:source.MaxLine]
			cut++
		}
		lines = append(lines, l)
	}
	return lines, cut
}

// checkBlocks reads text in pieces of at most the given size and compares it with the oracle.
func checkBlocks(t *testing.T, text string, piece int) {
	t.Helper()
	for name, r := range map[string]io.Reader{"read": pieces{strings.NewReader(text), piece}, "written": writerTo{pieces{strings.NewReader(text), piece}}} {
		checkCut(t, name, r, text, piece)
	}
}

func checkCut(t *testing.T, name string, r io.Reader, text string, piece int) {
	t.Helper()
	var got []string
	sums, err := readBlocks(r, func(block []byte) error {
		if len(block) == 0 || block[len(block)-1] != '\n' {
			t.Fatalf("a block of %d bytes does not end with a line", len(block))
		}
		for l := range bytes.Lines(block) {
			got = append(got, strings.TrimSuffix(string(l[:len(l)-1]), "\r"))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want, cut := linesOf(text)
	if len(got) != len(want) || sums.cut != cut || sums.bytes != uint64(len(text)) {
		t.Fatalf("%s in pieces of %d: %d lines, %d cut, %d bytes; want %d, %d, %d", name, piece, len(got), sums.cut, sums.bytes,
			len(want), cut, len(text))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%s in pieces of %d: line %d is %.80q (%d bytes), want %.80q (%d)", name, piece, i, got[i], len(got[i]), want[i], len(want[i]))
		}
	}
}

type pieces struct {
	r    io.Reader
	most int
}

func (p pieces) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), p.most)]) }

// A writerTo writes what it has by itself, as decompressors do, and looks whether anybody changed it.
type writerTo struct{ pieces }

func (r writerTo) WriteTo(w io.Writer) (sum int64, err error) {
	buf := make([]byte, r.most)
	for {
		n, err := r.Read(buf)
		was := string(buf[:n])
		wrote, refused := w.Write(buf[:n])
		sum += int64(wrote)
		switch {
		case string(buf[:n]) != was:
			return sum, errors.New("what was written was changed")
		case refused != nil:
			return sum, refused
		case err == io.EOF:
			return sum, nil
		case err != nil:
			return sum, err
		}
	}
}

func TestReadBlocks(t *testing.T) {
	long := strings.Repeat("x", source.MaxLine)
	for _, text := range []string{
		"", "\n", "a", "a\n", "a\nb", "a\r\nb\r\n", "\n\n", "a\rb\n",
		long + "\n", long + "y\n", long + "\r\n", "a\n" + long + "yz\nb\n", long + "y", long + long + "\nb",
		strings.Repeat(long+"yy\nshort\n", 40),
		strings.Repeat("y", 3*blockSize) + "\nb\n",
		strings.Repeat("y", 3*blockSize),
		strings.Repeat("a line of some length\n", 3*blockSize/22),
	} {
		for _, piece := range []int{4093, source.MaxLine + 1, 2 * blockSize} {
			checkBlocks(t, text, piece)
		}
		if len(text) < 100 {
			checkBlocks(t, text, 1)
		}
	}
}

func FuzzReadBlocks(f *testing.F) {
	f.Add("a\r\nb", uint8(3), uint16(0))
	f.Add("a\nb", uint8(1), uint16(65534))
	f.Fuzz(func(t *testing.T, text string, piece uint8, fill uint16) {
		checkBlocks(t, text, int(piece)+1)
		// The same with a line around the longest that is handed over.
		at := len(text) / 2
		checkBlocks(t, text[:at]+strings.Repeat("x", source.MaxLine-32768+int(fill))+text[at:], 1000*(int(piece)+1))
	})
}

func TestReadBlocksError(t *testing.T) {
	r := io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(io.ErrClosedPipe))
	n := 0
	_, err := readBlocks(r, func(block []byte) error { n += len(block); return nil })
	if err != io.ErrClosedPipe || n != 2 {
		t.Errorf("%d bytes, %v", n, err)
	}
	for _, r := range []io.Reader{strings.NewReader("a\n"), pieces{strings.NewReader("a\n"), 9}} {
		if _, err = readBlocks(r, func([]byte) error { return io.ErrShortBuffer }); err != io.ErrShortBuffer {
			t.Errorf("yield's error becomes %v", err)
		}
	}
}

func TestUnpacked(t *testing.T) {
	const text = "one\ntwo\n"
	packed := map[string][]byte{"plain": []byte(text), "empty": nil, "short": []byte("a\n")}
	pack := func(name string, open func(io.Writer) (io.WriteCloser, error)) {
		var b bytes.Buffer
		w, err := open(&b)
		if err == nil {
			_, err = io.WriteString(w, text)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		packed[name] = b.Bytes()
	}
	pack("gzip", func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })
	pack("zstd", func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) })
	pack("xz", func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) })
	for name, data := range packed {
		want := text
		switch name {
		case "empty", "short":
			want = string(data)
		}
		r, err := unpacked(bytes.NewReader(data))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := io.ReadAll(r)
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if name == "plain" || name == "empty" || name == "short" {
			continue
		}
		// Half a file is an error, not a short log.
		r, err = unpacked(bytes.NewReader(data[:len(data)-3]))
		if err == nil {
			_, err = io.ReadAll(r)
		}
		if err == nil {
			t.Errorf("%s: a file that was cut is read without an error", name)
		}
	}
}
