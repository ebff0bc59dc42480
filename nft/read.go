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
		var t setState
		if t, err = k.readSet(ctx, s); err == nil && !t.found {
			err = ErrMissing
		}
	}
	return e, found, k.fail(fmt.Sprintf("look up %v in set %v", a, s), err)
}

// lookup is Get for what is in the set as a itself. A missing set reads as an empty one.
func (k *Keeper) lookup(ctx context.Context, s Set, a netip.Addr) (Element, bool, error) {
	var is piece
	found := false
	ask := func(end bool, key netip.Addr) error {
		found = false
		_, err := k.get(ctx, unix.NFT_MSG_GETSETELEM, func(w *wire) {
			w.str(unix.NFTA_SET_ELEM_LIST_TABLE, k.config.Table)
			w.str(unix.NFTA_SET_ELEM_LIST_SET, s.String())
			n := w.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
			if end {
				w.endKey(s, key)
			} else {
				e := w.nest(unix.NFTA_LIST_ELEM)
				w.key(s, key)
				w.endNest(e)
			}
			w.endNest(n)
		}, func(p []byte) {
			readPieces(s, p, func(q *piece) { is, found = *q, true })
			is.comment = slices.Clone(is.comment) // the buffer is used again
		})
		return err
	}
	if err := ask(false, a); err != nil || !found || is.end {
		return Element{}, false, err
	}
	e := is.element(s, is.addr)
	if !s.Ranges() {
		return e, true, nil
	}
	e.Last = s.top()
	if a == e.Last {
		return e, true, nil
	}
	if err := ask(true, a.Next()); err != nil {
		return Element{}, false, err
	}
	if found && is.end {
		e.Last = is.addr.Prev()
	}
	return e, true, nil
}

// maxReads is how often ranges are read again when somebody changes them meanwhile.
const maxReads = 4

// Dump hands each element of the set to f, in no order, each host or range once, until f returns an error, which it
// returns. It keeps no lock and has its own socket: other methods may be called from f. If the set is missing, the
// error is ErrMissing.
//
// The kernel's dump is no snapshot, and quadratic: what changes meanwhile may be missing, and 100,000 hosts take some
// 0.2 s, a million 40 s. Get is the way to be sure of one element.
func (k *Keeper) Dump(ctx context.Context, s Set, f func(Element) error) error {
	if s >= sets {
		return fmt.Errorf("nft: dump: no such set")
	}
	doing := fmt.Sprintf("dump set %v", s)
	sock, err := openSocket(nil)
	if err != nil {
		return k.fail(doing, err)
	}
	defer sock.close()
	// Nothing may wrap an error of f.
	var stopped error
	if s.Ranges() {
		var ranges []Element
		ranges, err = k.dumpRanges(ctx, sock, s)
		for i := 0; i < len(ranges) && err == nil; i++ {
			if stopped = f(ranges[i]); stopped != nil {
				return stopped
			}
		}
	} else {
		seen := make(map[key]struct{})
		err = k.dump(ctx, sock, s, func(p *piece) error {
			e := p.element(s, p.addr)
			id := keyOf(&e)
			if _, twice := seen[id]; twice || p.end {
				return nil
			}
			seen[id] = struct{}{}
			stopped = f(e)
			return stopped
		})
		if stopped != nil {
			return stopped
		}
	}
	if isErrno(err, unix.ENOENT) {
		err = fmt.Errorf("%w: %w", ErrMissing, err)
	}
	return k.fail(doing, err)
}

// dump hands the pieces of a set to f.
func (k *Keeper) dump(ctx context.Context, sock *socket, s Set, f func(*piece) error) error {
	var w wire
	m := w.nft(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP)
	w.str(unix.NFTA_SET_ELEM_LIST_TABLE, k.config.Table)
	w.str(unix.NFTA_SET_ELEM_LIST_SET, s.String())
	w.end(m)
	return sock.ask(ctx, &w, true, func(_ header, p []byte) error {
		var err error
		readPieces(s, body(p), func(q *piece) {
			if err == nil {
				err = f(q)
			}
		})
		return err
	})
}

// dumpRanges reads all pieces of a set of ranges and puts them together, again if they changed meanwhile.
func (k *Keeper) dumpRanges(ctx context.Context, sock *socket, s Set) ([]Element, error) {
	var pieces []piece
	for range maxReads {
		pieces = pieces[:0]
		gen, changed := uint16(0), false
		var w wire
		m := w.nft(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP)
		w.str(unix.NFTA_SET_ELEM_LIST_TABLE, k.config.Table)
		w.str(unix.NFTA_SET_ELEM_LIST_SET, s.String())
		w.end(m)
		first := true
		err := sock.ask(ctx, &w, true, func(h header, p []byte) error {
			g := generation(p)
			changed = changed || !first && g != gen || h.Flags&unix.NLM_F_DUMP_INTR != 0
			gen, first = g, false
			readPieces(s, body(p), func(q *piece) {
				q.comment = slices.Clone(q.comment)
				pieces = append(pieces, *q)
			})
			return nil
		})
		if err != nil {
			return nil, err
		}
		if !changed {
			break
		}
	}
	ranges, _ := join(s, pieces)
	return ranges, nil
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

// Count is the number of elements in the set. Where the kernel itself counts hosts, those whose time is over are among
// them until it frees them, at most a minute later; otherwise it costs a dump. If the set is missing, the error is
// ErrMissing.
func (k *Keeper) Count(ctx context.Context, s Set) (int, error) {
	if s >= sets {
		return 0, fmt.Errorf("nft: count: no such set")
	}
	if !s.Ranges() {
		t, err := k.readSet(ctx, s)
		if err == nil && !t.found {
			err = ErrMissing
		}
		if err != nil || t.hasCount {
			return int(t.count), k.fail(fmt.Sprintf("count set %v", s), err)
		}
	}
	n := 0
	err := k.Dump(ctx, s, func(Element) error { n++; return nil })
	return n, err
}

// Dropped is how many packets and bytes the rules have dropped or rejected since they were made.
func (k *Keeper) Dropped(ctx context.Context) (packets, bytes uint64, err error) {
	rules, err := k.readRules(ctx, k.config.Hook)
	for _, r := range rules {
		packets, bytes = packets+r.packets, bytes+r.bytes
	}
	return packets, bytes, k.fail("read the counters", err)
}
