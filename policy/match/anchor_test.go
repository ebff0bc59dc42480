package match

import (
	"bytes"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// naiveIndex is anchor.index by looking at one place after the other.
func (a *anchor) naiveIndex(b []byte) int {
	for i := 0; i+a.gap < len(b); i++ {
		if a.has(b, i) {
			return i
		}
	}
	return -1
}

// Whatever the processor, an anchor is found where it is first: at each place of a text and of a vector, also before its
// end, and never outside of it.
func TestAnchorIndex(t *testing.T) {
	if !wide {
		t.Log("this processor has no AVX2: what is for it is not tested")
	}
	r := rand.New(rand.NewPCG(1, 9))
	letters := []byte("aAbB\x00\xff@`[{ xxxxxxxx")
	found := 0
	for range 20_000 {
		a := anchor{gap: 1 + r.IntN(maxLiteral-1), rare: r.IntN(2)}
		for k := range a.want {
			c := letters[r.IntN(10)]
			if a.want[k] = c; isLetter(c) && r.IntN(2) == 0 {
				a.want[k], a.fold[k] = c|0x20, 0x20
			}
		}
		// What surrounds the text is full of anchors.
		around := bytes.Repeat([]byte{a.want[0], a.want[1]}, 200)
		n := r.IntN(200)
		b := around[100 : 100+n : 100+n]
		for i := range b {
			b[i] = letters[r.IntN(len(letters))]
		}
		for from := 0; from <= n; from += 1 + r.IntN(40) {
			want := a.naiveIndex(b[from:])
			if got := a.index(b[from:]); got != want {
				t.Fatalf("%+v in %q: at %d, want %d", a, b[from:], got, want)
			}
			if got := a.indexByte(b[from:]); got != want {
				t.Fatalf("%+v in %q: byte by byte at %d, want %d", a, b[from:], got, want)
			}
			if want >= 0 {
				found++
			}
		}
	}
	if found < 10_000 {
		t.Errorf("found %d: the test compares too little", found)
	}
}

// An anchor at any place of a long text is found there.
func TestAnchorAtEachPlace(t *testing.T) {
	for gap := 1; gap < maxLiteral; gap += 5 {
		a := anchor{gap: gap, want: [2]byte{'q', 'z'}, fold: [2]byte{0x20, 0}}
		for i := range 300 - gap {
			b := bytes.Repeat([]byte("q"), 300)
			b[i+gap] = 'z'
			b[i] = "qQ"[i%2]
			if got := a.index(b); got != i {
				t.Fatalf("gap %d: at %d, want %d", gap, got, i)
			}
			if got := a.indexByte(b); got != i {
				t.Fatalf("gap %d: byte by byte at %d, want %d", gap, got, i)
			}
		}
	}
}

// A needle is found wherever it is, whichever anchor it has.
func TestNeedleIndex(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 9))
	text := func(n int) []byte { return oddText(r, n) }
	found := 0
	for range 10_000 {
		l := literal{string(text(minLiteral + r.IntN(3))), r.IntN(3) == 0}
		if l.fold {
			l.text = strings.ToLower(l.text)
			if !isASCII(l.text) {
				continue
			}
		}
		n, b := newNeedle(l), text(r.IntN(300))
		if r.IntN(2) == 0 {
			n.aim(func(c byte) int { return int(c) }, b)
		}
		want := -1
		for i := 0; i+len(l.text) <= len(b) && want < 0; i++ {
			if at := string(b[i : i+len(l.text)]); at == l.text || l.fold && strings.EqualFold(at, l.text) {
				want = i
			}
		}
		if got := n.index(b); got != want {
			t.Fatalf("%q, fold %v, anchor %+v at %d, in %q: at %d, want %d", l.text, l.fold, n.anchor, n.offset, b, got, want)
		}
		if want >= 0 {
			found++
		}
	}
	if found < 1000 {
		t.Errorf("found %d: the test compares too little", found)
	}
}

func isASCII(s string) bool { return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0 }

// BenchmarkAnchor is what the constants of sieve.go are of: a pass over text without a stop, and a stop.
func BenchmarkAnchor(b *testing.B) {
	text := bytes.Repeat([]byte("Nov 23 20:33:48 mx1 program[15092]: nothing of interest\n"), (256<<10)/56)
	for _, c := range []struct {
		name string
		a    anchor
		find func(*anchor, []byte) int
	}{
		{"pass", anchor{gap: 3, want: [2]byte{'Q', 'z'}}, (*anchor).index},
		{"pass, byte by byte", anchor{gap: 3, want: [2]byte{'Q', 'z'}}, (*anchor).indexByte},
		{"stop", anchor{gap: 1, want: [2]byte{'N', 'o'}}, (*anchor).index},
		{"stop, byte by byte", anchor{gap: 1, want: [2]byte{'N', 'o'}}, (*anchor).indexByte},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			stops := 0
			for b.Loop() {
				stops = 0
				for pos := 0; ; stops++ {
					at := c.find(&c.a, text[pos:])
					if at < 0 {
						break
					}
					pos += at + 1
				}
			}
			b.ReportMetric(float64(stops), "stops")
		})
	}
}

// BenchmarkShifter is the third of them: what a shifter takes for each look.
func BenchmarkShifter(b *testing.B) {
	text := bytes.Repeat([]byte("Nov 23 20:33:48 mx1 program[15092]: nothing of interest\n"), (256<<10)/56)
	needles := []needle{newNeedle(literal{"alpha quarrel bravo", false}), newNeedle(literal{"charlie trouble delta", false})}
	g := newShifter(needles, []int{0, 1}, frequency)
	looks, stops := g.probes(text)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		g.begin()
		g.first(text, 0)
	}
	b.ReportMetric(float64(looks), "looks")
	b.ReportMetric(float64(stops), "stops")
}

// Where one case of the byte that is looked for is everywhere and the other nowhere, the portable search still ends soon
// after what it finds: the page behind that can't be read.
func TestFoldedSearchStopsSoon(t *testing.T) {
	page := os.Getpagesize()
	block, err := unix.Mmap(-1, 0, 3*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(block)
	for _, text := range []string{"qx padding\n", "QX padding\n", "Qx padding\n", "zqqQX\n"} {
		if err := unix.Mprotect(block[page:], unix.PROT_READ|unix.PROT_WRITE); err != nil {
			t.Fatal(err)
		}
		for i := range block {
			block[i] = text[i%len(text)]
		}
		if err := unix.Mprotect(block[page:], unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
		n := newNeedle(literal{"qx", true})
		found := 0
		for pos := 0; pos < page-2*foldWindow; found++ {
			at, ok := stops(func() int { return n.anchor.indexByte(block[pos:]) })
			if !ok {
				t.Fatalf("%q: a search from %d went on to %d", text, pos, page)
			}
			if !strings.EqualFold(string(block[pos+at:pos+at+2]), "qx") {
				t.Fatalf("%q: found %q", text, block[pos+at:pos+at+2])
			}
			pos += at + 1
		}
		if want := (page - 2*foldWindow) / len(text); found < want {
			t.Errorf("%q: found %d, want %d", text, found, want)
		}
	}
}

// stops reports whether f reads nothing that can't be read.
func stops(f func() int) (at int, ok bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return f(), true
}
