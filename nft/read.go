package nft

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Get looks up the element that covers a: the host itself in Ban4, its prefix in Ban6, the range around it in Net4 and
// Net6. An element whose time is over is not there. If the set is missing, the error is ErrMissing.
func (k *Keeper) Get(ctx context.Context, s Set, a netip.Addr) (Element, bool, error) {
	c := Change{Element: Element{Set: s, First: a, Last: a}, Delete: true}
	if err := k.check(&c); err != nil {
		return Element{}, false, err
	}
	if s == Ban6 {
		a = k.network(a)
	}
	e, found, err := k.lookup(ctx, s, a)
	if err == nil && !found {
		err = k.mustHave(ctx, s)
	}
	return e, found, k.fail(fmt.Sprintf("look up %v in set %v", a, s), err)
}

// lookup is Get for what is in the set as a itself. A missing set reads as an empty one.
func (k *Keeper) lookup(ctx context.Context, s Set, a netip.Addr) (Element, bool, error) {
	for try := 1; ; try++ {
		start, err := k.lookupPiece(ctx, s, a, false)
		if err != nil || !start.found || start.end {
			return Element{}, false, err
		}
		e := start.element(s, start.addr)
		if !s.Ranges() {
			return e, true, nil
		}
		e.Last = s.top()
		if a == e.Last {
			return e, true, nil
		}
		end, err := k.lookupPiece(ctx, s, a.Next(), true)
		if err != nil {
			return Element{}, false, err
		}
		if end.found && end.end {
			e.Last = end.addr.Prev()
		}
		if e.Last == a && end.gen == start.gen {
			return e, true, nil
		}
		// When another range begins behind a, the kernel (6.18) told of that one's end.
		next, err := k.lookupPiece(ctx, s, a.Next(), false)
		if err != nil {
			return Element{}, false, err
		}
		if next.found && next.addr == a.Next() {
			e.Last = a
		}
		steady := next.gen == start.gen && (!end.found || end.gen == start.gen)
		if next.found && steady || try == maxReads {
			return e, true, nil
		}
		// Somebody changed something between the questions.
	}
}

// A pieceState is the answer to the question for one piece.
type pieceState struct {
	piece
	found bool
	gen   uint16 // the ruleset's generation
}

// lookupPiece asks for a host, for the beginning of the range that covers a, or for the next end of one from a on.
func (k *Keeper) lookupPiece(ctx context.Context, s Set, a netip.Addr, end bool) (is pieceState, err error) {
	_, err = k.get(ctx, unix.NFT_MSG_GETSETELEM, func(w *wire) {
		w.str(unix.NFTA_SET_ELEM_LIST_TABLE, k.config.Table)
		w.str(unix.NFTA_SET_ELEM_LIST_SET, s.String())
		n := w.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		if end {
			w.endKey(s, a)
		} else {
			e := w.nest(unix.NFTA_LIST_ELEM)
			w.key(s, a)
			w.endNest(e)
		}
		w.endNest(n)
	}, func(p []byte) {
		readPieces(s, body(p), func(q *piece) { is.piece, is.found = *q, true })
		is.comment = slices.Clone(is.comment) // the buffer is used again
		is.gen = generation(p)
	})
	return is, err
}

// maxReads is how often a set is read when a dump was not whole.
const maxReads = 5

// Dump hands each element of the set to f, in no order, each host or range once, until f returns an error, which it
// returns. It keeps no lock and has its own socket: other methods may be called from f. If the set is missing, the
// error is ErrMissing.
//
// The kernel's dump is no snapshot: it misses elements not only while somebody changes the set, but also while the
// kernel itself still sorts a load into a larger table. Dump reads again until it has as many as the kernel counts, or
// where the kernel does not count, until it finds no more; only what others change meanwhile may be missing. The dump
// is quadratic, too: 100,000 hosts take 0.2 to 0.5 s, a million 40 s. Get is the way to be sure of one element.
func (k *Keeper) Dump(ctx context.Context, s Set, f func(Element) error) error {
	if s >= sets {
		return fmt.Errorf("nft: dump: no such set")
	}
	var stopped error // of f: returned as it is
	each := func(e Element) error { stopped = f(e); return stopped }
	sock, err := openSocket(nil)
	if err == nil {
		if s.Ranges() {
			err = k.dumpRanges(ctx, sock, s, each)
		} else {
			err = k.dumpHosts(ctx, sock, s, each)
		}
		sock.close()
	}
	if stopped != nil {
		return stopped
	}
	if isErrno(err, unix.ENOENT) {
		err = fmt.Errorf("%w: %w", ErrMissing, err)
	}
	return k.fail(fmt.Sprintf("dump set %v", s), err)
}

func (k *Keeper) dumpHosts(ctx context.Context, sock *socket, s Set, f func(Element) error) error {
	seen := make(map[key]struct{})
	for range maxReads {
		before := len(seen)
		if _, err := k.dump(ctx, sock, s, func(p *piece) error {
			e := p.element(s, p.addr)
			id := keyOf(&e)
			if _, twice := seen[id]; twice || p.end {
				return nil
			}
			seen[id] = struct{}{}
			return f(e)
		}); err != nil {
			return err
		}
		t, err := k.readSet(ctx, s)
		if err != nil {
			return err
		}
		if t.hasCount && len(seen) >= int(t.count) || len(seen) == before {
			break
		}
	}
	return nil
}

// dumpRanges reads all pieces of a set of ranges and puts them together. A dump that was disturbed is read again; when
// all are, each range that one of them told of is looked up.
func (k *Keeper) dumpRanges(ctx context.Context, sock *socket, s Set, f func(Element) error) error {
	var pieces []piece
	steady := false
	for read := 0; read < maxReads && !steady; read++ {
		from := len(pieces)
		var err error
		steady, err = k.dump(ctx, sock, s, func(q *piece) error {
			q.comment = slices.Clone(q.comment)
			pieces = append(pieces, *q)
			return nil
		})
		if err != nil {
			return err
		}
		if steady {
			pieces = slices.Delete(pieces, 0, from)
		}
	}
	ranges, _ := join(s, pieces)
	for _, e := range ranges {
		if !steady {
			is, found, err := k.lookup(ctx, s, e.First)
			if err != nil {
				return err
			}
			if !found || is.First != e.First {
				continue
			}
			e = is
		}
		if err := f(e); err != nil {
			return err
		}
	}
	return nil
}

// dump hands the pieces of a set to f. It reports whether nobody changed the ruleset meanwhile.
func (k *Keeper) dump(ctx context.Context, sock *socket, s Set, f func(*piece) error) (steady bool, err error) {
	var w wire
	m := w.nft(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP)
	w.str(unix.NFTA_SET_ELEM_LIST_TABLE, k.config.Table)
	w.str(unix.NFTA_SET_ELEM_LIST_SET, s.String())
	w.end(m)
	gen, first := uint16(0), true
	steady = true
	err = sock.ask(ctx, &w, true, func(h header, p []byte) error {
		if g := generation(p); first {
			gen, first = g, false
		} else if g != gen {
			steady = false
		}
		if h.Flags&unix.NLM_F_DUMP_INTR != 0 {
			steady = false
		}
		var err error
		readPieces(s, body(p), func(q *piece) {
			if err == nil {
				err = f(q)
			}
		})
		return err
	})
	return steady, err
}

// join makes ranges of their pieces. A range without an end goes up to the next one, or to the top; open lists the
// indices of those.
func join(s Set, pieces []piece) (ranges []Element, open []int) {
	// Of two pieces at one address the end comes first: it belongs to the range before.
	slices.SortStableFunc(pieces, func(x, y piece) int {
		return cmp.Or(x.addr.Compare(y.addr), ordinal(x)-ordinal(y))
	})
	inside := false
	finish := func(last netip.Addr) {
		ranges[len(ranges)-1].Last = last
		inside = false
	}
	for i := range pieces {
		p := &pieces[i]
		if n := len(ranges); n > 0 && !p.end && ranges[n-1].First == p.addr {
			continue // told twice
		}
		if inside {
			if !p.end {
				open = append(open, len(ranges)-1)
			}
			finish(p.addr.Prev())
		}
		if !p.end {
			ranges = append(ranges, p.element(s, p.addr))
			inside = true
		}
	}
	if inside {
		open = append(open, len(ranges)-1)
		finish(s.top())
	}
	return ranges, open
}

func ordinal(p piece) int {
	if p.end {
		return 0
	}
	return 1
}

// Count is the number of elements in the set. Where the kernel does not count itself, it costs a dump; see
// [Keeper.Counted], also for what else may be among them. If the set is missing, the error is ErrMissing.
func (k *Keeper) Count(ctx context.Context, s Set) (int, error) {
	n, known, err := k.Counted(ctx, s)
	if err != nil || known {
		return n, err
	}
	err = k.Dump(ctx, s, func(Element) error { n++; return nil })
	return n, err
}

// Counted is the number of elements in the set as the kernel itself counts them, however many there are. Those whose
// time is over are among them until it frees them, at most a minute later. known is false where it does not count: on
// Linux 6.12 and before. If the set is missing, the error is ErrMissing.
func (k *Keeper) Counted(ctx context.Context, s Set) (n int, known bool, err error) {
	if s >= sets {
		return 0, false, fmt.Errorf("nft: count: no such set")
	}
	t, err := k.readSet(ctx, s)
	if err == nil && !t.found {
		err = ErrMissing
	}
	n = int(t.count)
	if err == nil && t.hasCount && s.Ranges() {
		// The kernel has two elements for a range and tells half of them, rounded down: the range that goes up to the
		// top has only one.
		var open bool
		if _, open, err = k.lookup(ctx, s, s.top()); open {
			n++
		}
	}
	return n, t.hasCount, k.fail(fmt.Sprintf("count set %v", s), err)
}

// Dropped is how many packets and bytes the rules have dropped or rejected since they were made.
func (k *Keeper) Dropped(ctx context.Context) (packets, bytes uint64, err error) {
	rules, err := k.readRules(ctx, k.config.Hook)
	for _, r := range rules {
		packets, bytes = packets+r.packets, bytes+r.bytes
	}
	return packets, bytes, k.fail("read the counters", err)
}
