package follow

import (
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// unpackers are the kinds of compressed siblings.
var unpackers = map[string]func(io.Reader) (io.ReadCloser, error){
	".gz": func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) },
	".zst": func(r io.Reader) (io.ReadCloser, error) {
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	},
	".xz": func(r io.Reader) (io.ReadCloser, error) {
		d, err := xz.NewReader(r)
		return io.NopCloser(d), err
	},
	".bz2": func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(bzip2.NewReader(r)), nil },
}

// cutPacked parts a name from the extension that says how the file is compressed.
func cutPacked(name string) (plain, packed string) {
	ext := filepath.Ext(name)
	if _, ok := unpackers[ext]; ok {
		return strings.TrimSuffix(name, ext), ext
	}
	return name, ""
}

// An unpacked is the content of a compressed file. Closing it leaves the file open.
type unpacked struct {
	io.ReadCloser
	in *counted
}

type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// errDamaged is a decompressor's panic.
var errDamaged = errors.New("damaged beyond what its decompressor expects")

// Read is the decompressor's, and takes its panics for errors: what stands in a rotated file is input.
func (u *unpacked) Read(p []byte) (n int, err error) {
	defer func() {
		if recover() != nil {
			n, err = 0, errDamaged
		}
	}()
	return u.ReadCloser.Read(p)
}

// unpack reads f, compressed as packed says, from its beginning.
func unpack(f *os.File, packed string) (u *unpacked, err error) {
	defer func() {
		if recover() != nil {
			u, err = nil, errDamaged
		}
	}()
	in := &counted{r: io.NewSectionReader(f, 0, 1<<62)}
	r, err := unpackers[packed](in)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return &unpacked{ReadCloser: r, in: in}, nil
}
