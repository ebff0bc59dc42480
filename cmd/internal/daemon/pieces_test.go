package daemon

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func piecesOf[T any](values ...T) (p pieces[T]) {
	for _, v := range values {
		p.add(v)
	}
	return p
}

// A list in pieces is a list, whatever is added and taken in whatever order.
func TestPieces(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var p pieces[int]
	var want []int
	for i := range 20_000 {
		if rnd.IntN(3) > 0 || i < 5000 {
			p.add(i)
			want = append(want, i)
		} else {
			n := rnd.IntN(300)
			for v := range p.take(n) {
				if *v != want[0] {
					t.Fatalf("took %d, want %d", *v, want[0])
				}
				want = want[1:]
				n--
			}
			if n > 0 && len(want) > 0 {
				t.Fatalf("%d more were asked for, and %d are there", n, len(want))
			}
		}
		if p.len() != len(want) {
			t.Fatalf("%d values, want %d", p.len(), len(want))
		}
	}
	if got := slices.Concat(p.all...); !slices.Equal(got, want) {
		t.Errorf("%d, want %d", got, want)
	}
	for _, piece := range p.all {
		if cap(piece) > mostInPiece {
			t.Errorf("a piece holds up to %d", cap(piece))
		}
	}
}
