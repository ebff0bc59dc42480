package follow

import (
	"bytes"
	"strings"
	"testing"

	"banset/cmd/internal/source"
)

// plainLines is the oracle: what is to be delivered of a whole content, the slow way.
func plainLines(content []byte, final bool) (want []byte, cut uint64) {
	for line := range bytes.Lines(content) {
		body, ended := bytes.CutSuffix(line, newline)
		if !ended && !final && len(body) <= source.MaxLine {
			break
		}
		if len(body) > source.MaxLine {
			body = body[:source.MaxLine]
			cut++
		}
		want = append(want, bytes.TrimRight(body, "\r")...)
		want = append(want, '\n')
	}
	return want, cut
}

// inPieces delivers content as it would be if it grew by pieces of these sizes, again and again.
func inPieces(content []byte, sizes []byte, final bool) (got []byte, cut uint64) {
	var m mark
	have, i := 0, 0
	for {
		size := len(content)
		if len(sizes) > 0 {
			size = int(sizes[i%len(sizes)])<<9 + 1
			i++
		}
		if len(content) > 4<<10 {
			size += 3 << 10 // each piece is looked at with what came before it: single bytes would take for ever
		}
		have = min(have+size, len(content))
		last := final && have == len(content)
		for m.off < int64(have) {
			raw := bytes.Clone(content[m.off:have])
			used, inside := span(raw, m.inside(), last)
			if used == 0 {
				break
			}
			skip := m.inside()
			m.advance(raw[:used])
			if m.inside() != inside {
				panic("the fingerprint does not tell what span said")
			}
			lines, n := shape(raw[:used], skip)
			got, cut = append(got, lines...), cut+n
		}
		if have == len(content) {
			return got, cut
		}
	}
}

func FuzzLines(f *testing.F) {
	long := strings.Repeat("x", source.MaxLine)
	for _, s := range []string{"", "\n", "a\nb", "a\r\nb\r\n", "\r\r\n\r", long, long + "\n", long + "y", long + "y\nz\n",
		"a\n" + long + "\r\nb", long + long + "\n" + long + "\r\r\n", "a\x00\xff\n"} {
		for _, sizes := range []string{"", "\x00", "\x05\xff\x00", "\xff"} {
			f.Add([]byte(s), []byte(sizes), true)
			f.Add([]byte(s), []byte(sizes), false)
		}
	}
	f.Fuzz(func(t *testing.T, content, sizes []byte, final bool) {
		// The fuzzer does not make long lines by itself.
		content = bytes.ReplaceAll(content, []byte("LONG"), bytes.Repeat([]byte("l"), 40<<10))
		want, wantCut := plainLines(content, final)
		got, cut := inPieces(content, sizes, final)
		if !bytes.Equal(got, want) || cut != wantCut {
			t.Errorf("%d bytes and %d cut, want %d and %d", len(got), cut, len(want), wantCut)
		}
	})
}

func FuzzMark(f *testing.F) {
	f.Add([]byte("one\ntwo\n"), uint16(4))
	f.Add(bytes.Repeat([]byte("0123456789"), 20), uint16(100))
	f.Fuzz(func(t *testing.T, content []byte, at uint16) {
		off := min(int(at), len(content))
		var m mark
		for i := 0; i < off; { // in steps of growing size
			n := min(off-i, 1+i/2)
			m.advance(content[i : i+n])
			i += n
		}
		size := int64(len(content))
		if !m.holds(bytes.NewReader(content), size) {
			t.Error("the file does not hold its own mark")
		}
		r := bytes.NewReader(content)
		if !m.holdsStream(r) || r.Len() != len(content)-off {
			t.Errorf("the stream does not hold its own mark, or is left %d bytes before the end", r.Len())
		}
		for _, i := range []int{0, off - 1} {
			if i < 0 || i >= off {
				continue
			}
			other := bytes.Clone(content)
			other[i] ^= 1
			if m.holds(bytes.NewReader(other), size) || m.holdsStream(bytes.NewReader(other)) {
				t.Errorf("a file that differs at %d holds the mark at %d", i, off)
			}
		}
		if off > 0 && (m.holds(bytes.NewReader(content[:off-1]), int64(off-1)) || m.holdsStream(bytes.NewReader(content[:off-1]))) {
			t.Error("a shorter file holds the mark")
		}
	})
}
