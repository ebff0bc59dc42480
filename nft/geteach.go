package nft

import (
	"context"
	"fmt"
	"iter"

	"golang.org/x/sys/unix"
)

// GetEach looks up the hosts and ranges that wanted yields, of which only Set and First count, and hands each to f with
// what the set has under just that address, in order, until f returns an error, which it returns. It is Get for many: a
// million hosts take a few seconds, and nothing but the questions on their way is kept. If a set is missing, the error is
// ErrMissing.
func (k *Keeper) GetEach(ctx context.Context, wanted iter.Seq[Element], f func(wanted, is Element, found bool) error) error {
	sock, err := openSocket(nil)
	if err != nil {
		return k.fail("look up elements", err)
	}
	defer sock.close()
	q := questions{k: k, sock: sock}
	var stopped error // of f: returned as it is
	answer := func() error {
		if err := q.ask(ctx); err != nil {
			return err
		}
		for i := range q.asked {
			if stopped = f(q.asked[i].wanted, q.asked[i].is, q.asked[i].found); stopped != nil {
				return stopped
			}
		}
		q.asked = q.asked[:0]
		return nil
	}
	for e := range wanted {
		c := Change{Element: Element{Set: e.Set, First: e.First, Last: e.First}, Delete: true}
		if err := k.check(&c); err != nil {
			return err
		}
		q.asked = append(q.asked, question{wanted: e})
		if len(q.asked) == sock.flight {
			if err = answer(); err != nil {
				break
			}
		}
	}
	if err == nil {
		err = answer()
	}
	if stopped != nil {
		return stopped
	}
	return k.fail("look up elements", err)
}

// A question is one element that is asked for, and the answer.
type question struct {
	wanted, is      Element
	found, answered bool
}

// questions are those of one flight.
type questions struct {
	k     *Keeper
	sock  *socket
	batch batch
	asked []question
	order []int // those that are being asked, message by message
	of    []request

	comment string // of the last answer
}

// A request is a message's part of order that has no answer yet.
type request struct{ next, end int }

// ask answers all of asked.
//
// The kernel answers the elements of one request one by one, and stops at the first that is not there. Mostly all are,
// so a request holds as many as fit; what was behind a missing one is asked for again, each by itself.
func (q *questions) ask(ctx context.Context) error {
	missing := [sets]bool{}
	for each := maxNest; ; each = 1 {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := q.write(each); err != nil {
			return err
		}
		if len(q.of) == 0 {
			break
		}
		if err := q.read(); err != nil {
			return err
		}
	}
	for i := range q.asked {
		a := &q.asked[i]
		s := a.wanted.Set
		if s.Ranges() {
			var err error
			if a.is, a.found, err = q.k.lookup(ctx, s, a.wanted.First); err != nil {
				return err
			}
			a.found = a.found && a.is.First == a.wanted.First
		}
		// A set that is missing reads as an empty one.
		if !a.found && !missing[s] {
			missing[s] = true
			if err := q.k.mustHave(ctx, s); err != nil {
				return fmt.Errorf("set %v: %w", s, err)
			}
		}
	}
	return nil
}

// write sends the hosts that have no answer yet, in requests of at most each bytes or of one host.
func (q *questions) write(each int) error {
	b := &q.batch
	b.reset()
	q.of, q.order = q.of[:0], q.order[:0]
	var l list
	for i := range q.asked {
		a := &q.asked[i]
		if a.answered || a.wanted.Set.Ranges() {
			continue
		}
		if !l.open || l.set != a.wanted.Set || len(b.b)-l.elems >= each {
			l.close()
			l = b.list(q.k.config.Table, a.wanted.Set, unix.NFT_MSG_GETSETELEM, 0)
			l.room()
			q.of = append(q.of, request{len(q.order), len(q.order)})
		}
		b.bare(&a.wanted) // hosts only: its Last does not count
		q.order = append(q.order, i)
		q.of[len(q.of)-1].end++
	}
	l.close()
	if len(q.of) == 0 {
		return nil
	}
	b.number(q.sock.next(b.n), -1)
	if err := q.sock.send(b.b); err != nil {
		return q.sock.reopen(fmt.Errorf("send to nftables: %w", err))
	}
	return nil
}

// read takes the answers to what was just sent: they are all there.
func (q *questions) read() error {
	first := q.sock.seq + 1 - uint32(q.batch.n)
	for {
		p, err := q.sock.receive()
		if err == errNothing {
			break
		}
		if err != nil {
			return q.sock.reopen(fmt.Errorf("%w: %w", errLost, err))
		}
		for h, p := range messages(p) {
			i := h.Seq - first
			if i >= uint32(len(q.of)) || q.of[i].next == q.of[i].end {
				continue
			}
			r := &q.of[i]
			a := &q.asked[q.order[r.next]]
			if h.Type == unix.NLMSG_ERROR {
				if errno := errnoOf(p); errno != unix.ENOENT {
					return ackError(h, p, int(i))
				}
				a.answered, r.next = true, r.end // of the rest nothing is said
				continue
			}
			s := a.wanted.Set
			readPieces(s, body(p), func(piece *piece) {
				if piece.addr == a.wanted.First {
					a.is, a.found, a.answered = piece.elementLike(q.comment, s, piece.addr), true, true
					q.comment = a.is.Comment
				}
			})
			if !a.answered {
				return q.sock.reopen(fmt.Errorf("%w: not what was asked for", errLost))
			}
			r.next++
		}
	}
	for _, r := range q.of {
		if r.next < r.end {
			return q.sock.reopen(errLost)
		}
	}
	return nil
}
