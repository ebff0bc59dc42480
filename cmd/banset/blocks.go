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
// is valid until yield returns, and must not be changed.
func readBlocks(r io.Reader, yield func([]byte) error) (blockSums, error) {
	c := &cutter{yield: yield}
	var err error
	if w, ok := r.(io.WriterTo); ok { // a decompressor, whose memory need not be copied
		_, err = w.WriteTo(c)
	} else {
		buf := make([]byte, blockSize)
		for err == nil {
			var n int
			n, err = r.Read(buf)
			if _, refused := c.Write(buf[:n]); refused != nil {
				err = refused
			}
		}
		if err == io.EOF {
			err = nil
		}
	}
	if err == nil {
		err = c.end()
	}
	return c.sums, err
}

// A cutter cuts a text that is written to it into blocks of whole lines. Whole lines are handed over where they lie.
type cutter struct {
	yield    func([]byte) error
	part     []byte // the beginning of a line, up to longest
	skipping bool   // the rest of a line whose head was handed over
	scratch  []byte
	sums     blockSums
}

// longest is a line that is not too long, with its end.
const longest = source.MaxLine + len("\r\n")

func (c *cutter) Write(p []byte) (n int, err error) {
	n = len(p)
	c.sums.bytes += uint64(n)
	for len(p) > 0 && err == nil {
		switch {
		case c.skipping:
			end := bytes.IndexByte(p, '\n') + 1
			if c.skipping = end == 0; c.skipping {
				return n, nil
			}
			p = p[end:]
		case len(c.part) > 0:
			some := p[:min(len(p), longest-len(c.part))]
			end := bytes.IndexByte(some, '\n') + 1
			if end > 0 {
				some = some[:end]
			}
			p = p[len(some):]
			c.part = append(c.part, some...)
			if c.skipping = end == 0 && len(c.part) == longest; c.skipping {
				c.part[source.MaxLine] = '\n'
				c.part = c.part[:source.MaxLine+1]
				c.sums.cut++
			}
			if c.skipping || end > 0 {
				err = c.yield(c.trim(c.part))
				c.part = c.part[:0]
			}
		default:
			if end := bytes.LastIndexByte(p, '\n') + 1; end > 0 {
				err = c.yield(c.trim(p[:end]))
				p = p[end:]
			}
			some := p[:min(len(p), longest-1)]
			c.part = append(c.part, some...)
			p = p[len(some):]
		}
	}
	return n, err
}

// end is told that nothing else comes: the last line may have no end.
func (c *cutter) end() error {
	if len(c.part) == 0 {
		return nil
	}
	return c.yield(c.trim(append(c.part, '\n')))
}

// trim cuts the lines of a block that are too long.
func (c *cutter) trim(block []byte) []byte {
	if !needsTrim(block) {
		return block
	}
	out := c.scratch[:0]
	for line := range bytes.Lines(block) {
		line = bytes.TrimSuffix(line[:len(line)-1], []byte("\r"))
		if len(line) > source.MaxLine {
			line = line[:source.MaxLine]
			c.sums.cut++
		}
		out = append(append(out, line...), '\n')
	}
	c.scratch = out
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
		return z, nil
	case bytes.HasPrefix(head, zstdMagic):
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		return z.IOReadCloser(), nil
	case bytes.HasPrefix(head, xzMagic):
		z, err := xz.ReaderConfig{DictCap: 1 << 26}.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("xz: %w", err)
		}
		return whole{io.NopCloser(z)}, nil
	}
	return io.NopCloser(readerFunc(in.Read)), nil // no more at once than a block
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

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
