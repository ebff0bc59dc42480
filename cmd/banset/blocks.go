package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"banset/cmd/internal/source"
)

// blockSize is how much of a log is read and scanned at once: large enough that the scan, not the calls, costs, and small
// enough to stay in a processor's own memory.
const blockSize = 256 << 10

// blockSums are what readBlocks read.
type blockSums struct {
	bytes uint64
	cut   uint64 // lines longer than source.MaxLine, whose heads alone were handed over
}

// readBlocks reads r to its end and hands it over in blocks of whole lines, as a source does: each line ends with "\n",
// or "\r\n", is at most source.MaxLine long without its end, and the last one counts even without its end. A block
// is valid until yield returns.
func readBlocks(r io.Reader, yield func([]byte) error) (sums blockSums, err error) {
	buf := make([]byte, 0, blockSize+1) // and a byte for the last line's end
	skipping := false                   // the rest of a line whose head was handed over
	for {
		n, err := r.Read(buf[len(buf):blockSize])
		last := err == io.EOF
		failed := err != nil && !last
		sums.bytes += uint64(n)
		buf = buf[:len(buf)+n]
		if skipping {
			end := bytes.IndexByte(buf, '\n') + 1
			if end == 0 {
				switch {
				case failed:
					return sums, err
				case last:
					return sums, nil
				}
				buf = buf[:0]
				continue
			}
			skipping = false
			buf = buf[:copy(buf, buf[end:])]
		}
		if last && len(buf) > 0 && buf[len(buf)-1] != '\n' {
			buf = append(buf, '\n')
		}
		end := bytes.LastIndexByte(buf, '\n') + 1
		rest := buf[end:]
		if len(rest) > source.MaxLine+1 { // a "\r" does not count
			end += source.MaxLine
			buf[end] = '\n'
			end++
			rest, skipping = nil, true
			sums.cut++
		}
		if block := trim(buf[:end], &sums.cut); len(block) > 0 {
			if err := yield(block); err != nil {
				return sums, err
			}
		}
		switch {
		case failed:
			return sums, err
		case last:
			return sums, nil
		}
		buf = buf[:copy(buf[:blockSize], rest)]
	}
}

// trim cuts the lines of a block that are too long, in place.
func trim(block []byte, cut *uint64) []byte {
	if !needsTrim(block) {
		return block
	}
	out := block[:0]
	for line := range bytes.Lines(block) {
		line = bytes.TrimSuffix(line[:len(line)-1], []byte("\r"))
		if len(line) > source.MaxLine {
			line = line[:source.MaxLine]
			*cut++
		}
		out = append(append(out, line...), '\n')
	}
	return out
}

// needsTrim finds out without looking at every line: a line that is too long has no '\n' in any window of its length.
func needsTrim(block []byte) bool {
	for len(block) > source.MaxLine+1 {
		end := bytes.LastIndexByte(block[:source.MaxLine+1], '\n')
		if end < 0 {
			return true
		}
		block = block[end+1:]
	}
	return false
}

// countLines counts the lines of a block.
func countLines(block []byte) uint64 { return uint64(bytes.Count(block, []byte{'\n'})) }

// What compressed files begin with.
var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
	xzMagic   = []byte("\xfd7zXZ\x00")
)

const magicSize = 6 // the longest

// isPacked reports whether a log that begins with head is compressed.
func isPacked(head []byte) bool {
	return bytes.HasPrefix(head, gzipMagic) || bytes.HasPrefix(head, zstdMagic) || bytes.HasPrefix(head, xzMagic)
}

// unpacked returns the plain text of a log that may be compressed: told by its first bytes, not by its name.
// Closing it does not close r.
func unpacked(r io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(r, 256<<10)
	head, err := in.Peek(magicSize)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		return whole{z}, nil
	case bytes.HasPrefix(head, zstdMagic):
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		return whole{z.IOReadCloser()}, nil
	case bytes.HasPrefix(head, xzMagic):
		z, err := xz.ReaderConfig{DictCap: 1 << 26}.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("xz: %w", err)
		}
		return whole{io.NopCloser(z)}, nil
	}
	return io.NopCloser(in), nil
}

// A whole reads as much as it is asked for, where a decompressor would give what it has at hand.
type whole struct{ io.ReadCloser }

func (w whole) Read(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = w.ReadCloser.Read(p[n:])
		n += m
	}
	return n, err
}
