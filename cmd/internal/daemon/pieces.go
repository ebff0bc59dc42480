package daemon

import "iter"

// pieces is a list that grows without moving what it holds. A burst brings thousands of things with pointers in them:
// to move them again and again costs a page fault for each page, and holds up a garbage collector that wants to look.
// The zero value is empty.
type pieces[T any] struct {
	all [][]T
	n   int
}

// mostInPiece keeps a piece below what the allocator takes for a large object: 32 KB.
const mostInPiece = 128

func (p *pieces[T]) len() int { return p.n }

func (p *pieces[T]) add(v T) {
	last := len(p.all) - 1
	if last < 0 || len(p.all[last]) == cap(p.all[last]) {
		size := 1 // most chunks bring one or none
		if last >= 0 {
			size = min(2*max(cap(p.all[last]), 1), mostInPiece)
		}
		p.all = append(p.all, make([]T, 0, size))
		last++
	}
	p.all[last] = append(p.all[last], v)
	p.n++
}

// take takes up to most of the first values out, one at a time.
func (p *pieces[T]) take(most int) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for ; most > 0 && p.n > 0; most-- {
			first := p.all[0]
			p.n--
			if p.all[0] = first[1:]; len(first) == 1 {
				p.all = p.all[1:]
			}
			if !yield(&first[0]) {
				return
			}
		}
	}
}
