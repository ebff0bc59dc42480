package ledger

import (
	"net/netip"
	"slices"

	"banset/policy"
	"banset/policy/hosts"
)

// work is what one copy has yet to be told. Whether a host waits, or a mirror is busy with it, is in its record; the
// lists only say where to look, and what waits no more stays in its list until that is worked off.
type work struct {
	queue   []uint32 // slots, the longest waiting first
	taken   []uint32
	waiting int  // hosts that wait
	sorted  bool // queue was put into the order of the hosts
}

func bit(c Copy) uint8 { return 1 << c }

// pending reports whether a copy has yet to be told of a host.
func (r *record) pending(c Copy) bool { return (r.waiting|r.taken)&bit(c) != 0 }

// Mark makes a host wait for a copy again: what the copy holds of it is unknown or wrong.
func (l *Ledger) Mark(c Copy, host netip.Prefix) {
	key := hosts.KeyOf(host, 0)
	slot := l.records.Find(key)
	if slot == 0 {
		slot = l.records.Insert(key)
	}
	l.mark(c, slot)
}

// MarkAll is Mark for every ban.
func (l *Ledger) MarkAll(c Copy) {
	for slot := range l.slots() {
		l.mark(c, slot)
	}
}

func (l *Ledger) mark(c Copy, slot uint32) {
	r, w := l.records.At(slot), &l.work[c]
	if r.waiting&bit(c) != 0 {
		return
	}
	r.waiting |= bit(c)
	if w.waiting++; len(w.queue) > 64 && len(w.queue) > 2*w.waiting {
		w.queue = l.tidy(c, w.queue)
	}
	w.queue = append(w.queue, slot)
}

// tidy drops from a queue what waits no more, or stands in it twice.
func (l *Ledger) tidy(c Copy, queue []uint32) []uint32 {
	kept := queue[:0]
	for _, slot := range queue {
		if r := l.records.At(slot); r.waiting&bit(c) != 0 {
			r.waiting &^= bit(c) // so that it is kept once
			kept = append(kept, slot)
		}
	}
	for _, slot := range kept {
		l.records.At(slot).waiting |= bit(c)
	}
	return kept
}

func (l *Ledger) markAll(slot uint32) {
	for c := range copies {
		l.mark(c, slot)
	}
}

// unmark says that a host does not wait for a copy.
func (l *Ledger) unmark(c Copy, r *record) {
	if r.waiting&bit(c) == 0 {
		return
	}
	r.waiting &^= bit(c)
	w := &l.work[c]
	if w.waiting--; w.waiting == 0 {
		w.queue, w.sorted = nil, false // a flood makes it long once
	}
}

// release lets a record go that nobody needs.
func (l *Ledger) release(slot uint32) {
	if r := l.records.At(slot); !r.stands && r.waiting|r.taken == 0 {
		l.records.Remove(slot)
	}
}

// Settle drops what waits for a host: the copy is known to hold what the book says.
func (l *Ledger) Settle(c Copy, host netip.Prefix) {
	if slot := l.records.Find(hosts.KeyOf(host, 0)); slot != 0 {
		l.settle(c, slot)
	}
}

func (l *Ledger) settle(c Copy, slot uint32) {
	r := l.records.At(slot)
	if c == File && (r.pending(File) || r.stands && !r.filed) {
		l.mark(State, slot)
	}
	l.unmark(c, r)
	if c == File {
		r.toldFile()
	}
	l.release(slot)
}

// toldFile takes note that the file was told of a host.
func (r *record) toldFile() {
	r.filed = r.stands
	if !r.stands && !r.pending(File) {
		r.at, r.until = 0, 0 // the file has no line of that ban any more
	}
}

// Pending is how many hosts a copy has yet to be told of, those that a mirror is busy with included.
func (l *Ledger) Pending(c Copy) int { return l.work[c].waiting + len(l.work[c].taken) }

// Waiting is how many hosts wait for a copy's mirror to come.
func (l *Ledger) Waiting(c Copy) int { return l.work[c].waiting }

// Holds reports whether a copy holds what the book says of a host, as far as its mirror knows.
func (l *Ledger) Holds(c Copy, host netip.Prefix) bool {
	slot := l.records.Find(hosts.KeyOf(host, 0))
	return slot == 0 || !l.records.At(slot).pending(c)
}

// GoneAround reports whether p lies within a prefix that the book no longer has and that a copy still has to be told of.
func (l *Ledger) GoneAround(c Copy, p netip.Prefix) bool {
	for _, slot := range l.work[c].queue {
		if r := l.records.At(slot); r.waiting&bit(c) != 0 && !r.stands {
			if host := l.host(slot); host.Bits() <= p.Bits() && host.Contains(p.Addr()) {
				return true
			}
		}
	}
	return false
}

// Fresh takes those bans that wait for the file and have no line there yet: an append does for them. It is ended by
// Done like Work.
func (l *Ledger) Fresh() []policy.Ban {
	bans, _ := l.take(File, l.work[File].waiting, func(r *record) bool { return r.stands && !r.filed })
	slices.Reverse(bans)
	return bans
}

// Work takes what waits for a copy, at most limit hosts (0: all), those that wait longest, and returns the most recent
// bans first. Of more than limit that wait for the state neighbours are taken together, since it keeps them together. Hosts that the book no longer has come in gone. The mirror says with [Ledger.Done] how it went, before it
// comes again.
func (l *Ledger) Work(c Copy, limit int) (bans []policy.Ban, gone []netip.Prefix) {
	n := l.work[c].waiting
	if limit > 0 && n > limit {
		n = limit
		if c == State {
			l.sortQueue(c)
		}
	}
	return l.take(c, n, func(*record) bool { return true })
}

// sortQueue puts a long queue into the order of the hosts' addresses, as far as their first 38 bits tell it.
func (l *Ledger) sortQueue(c Copy) {
	w := &l.work[c]
	if w.sorted {
		return
	}
	w.sorted = true
	order := make([]uint64, len(w.queue))
	for i, slot := range w.queue {
		order[i] = l.records.Key(slot).First()&^(1<<26-1) | uint64(slot) // a slot has 26 bits
	}
	slices.Sort(order)
	for i, x := range order {
		w.queue[i] = uint32(x & (1<<26 - 1))
	}
}

// take takes up to n of the hosts that wait for a copy and that are wanted.
func (l *Ledger) take(c Copy, n int, wanted func(*record) bool) (bans []policy.Ban, gone []netip.Prefix) {
	w := &l.work[c]
	queue := w.queue
	bans = make([]policy.Ban, 0, min(n, w.waiting))
	var left []uint32 // waits, and was not wanted
	i := 0
	for ; i < len(queue) && n > 0; i++ {
		slot := queue[i]
		r := l.records.At(slot)
		if r.waiting&bit(c) == 0 {
			continue
		}
		n--
		if !wanted(r) {
			left = append(left, slot)
			continue
		}
		l.unmark(c, r)
		if r.taken&bit(c) == 0 {
			r.taken |= bit(c)
			w.taken = append(w.taken, slot)
		}
		if r.stands {
			bans = append(bans, l.ban(slot))
		} else {
			gone = append(gone, l.host(slot))
		}
	}
	if w.waiting > 0 {
		if w.queue = queue[i:]; len(left) > 0 { // else nothing is copied: a million are taken piece by piece
			w.queue = append(left, queue[i:]...)
		}
	}
	slices.SortFunc(bans, latestFirst)
	return bans, gone
}

// Done ends what Work took: it is in the copy, or, when ok is false, it waits again.
func (l *Ledger) Done(c Copy, ok bool) {
	w := &l.work[c]
	taken := w.taken
	w.taken = nil
	for _, slot := range taken {
		r := l.records.At(slot)
		r.taken &^= bit(c)
		switch {
		case !ok:
			l.mark(c, slot)
		case c == File:
			l.mark(State, slot) // the state says which bans the file is known to hold
			r.toldFile()
		}
		l.release(slot)
	}
}
