package mirror

import (
	"bytes"
	"errors"
	"hash/maphash"
	"io"
	"os"
)

// A digest tells whether a text is the one that we read: its length and a hash that nobody else knows the seed of.
type digest struct {
	size int64
	sum  uint64
}

var digestSeed = maphash.MakeSeed()

func digestOf(text []byte) digest { return digest{int64(len(text)), maphash.Bytes(digestSeed, text)} }

// readPieces reads a file from its start and hands it over in pieces of whole lines; only the last may have no end. f
// may be nil. A piece is valid until f returns.
func readPieces(file *os.File, f func([]byte) error) (digest, error) {
	var d digest
	var h maphash.Hash
	h.SetSeed(digestSeed)
	buf := make([]byte, 0, pieceSize)
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, make([]byte, len(buf))...)[:len(buf)] // a line longer than that
		}
		n, err := file.ReadAt(buf[len(buf):cap(buf)], d.size)
		if err != nil && !errors.Is(err, io.EOF) {
			return digest{}, err
		}
		h.Write(buf[len(buf) : len(buf)+n])
		buf, d.size = buf[:len(buf)+n], d.size+int64(n)
		whole := bytes.LastIndexByte(buf, '\n') + 1
		if n == 0 {
			whole = len(buf)
		}
		if f != nil && whole > 0 {
			if err := f(buf[:whole]); err != nil {
				return digest{}, err
			}
		}
		if n == 0 {
			d.sum = h.Sum64()
			return d, nil
		}
		buf = buf[:copy(buf, buf[whole:])]
	}
}
