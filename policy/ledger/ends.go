package ledger

import "banset/policy"

// The heap of the bans that end: ends[0] is the slot of the one that ends first, and ends[i] ends no earlier than
// ends[(i-1)/2]. Each record knows its place, so a ban that is moved or lifted leaves nothing behind.

// setEnd puts a ban into the heap, or moves it there, or takes it out when it never ends.
func (l *Ledger) setEnd(slot uint32) {
	r := l.records.At(slot)
	if r.until == policy.Never {
		l.dropEnd(slot)
		return
	}
	if r.end == 0 {
		l.ends = append(l.ends, slot)
		r.end = uint32(len(l.ends))
	}
	l.sift(int(r.end - 1))
}

// dropEnd takes a ban out of the heap, if it is there.
func (l *Ledger) dropEnd(slot uint32) {
	r := l.records.At(slot)
	if r.end == 0 {
		return
	}
	i, last := int(r.end-1), len(l.ends)-1
	r.end = 0
	moved := l.ends[last]
	l.ends = l.ends[:last]
	if i < last {
		l.place(i, moved)
		l.sift(i)
	}
}

func (l *Ledger) place(i int, slot uint32) {
	l.ends[i] = slot
	l.records.At(slot).end = uint32(i + 1)
}

// sift moves the ban at i to where it belongs.
func (l *Ledger) sift(i int) {
	slot := l.ends[i]
	until := func(i int) int64 { return l.records.At(l.ends[i]).until }
	mine := until(i)
	for i > 0 && until((i-1)/2) > mine {
		l.place(i, l.ends[(i-1)/2])
		i = (i - 1) / 2
	}
	for {
		child := 2*i + 1
		if child+1 < len(l.ends) && until(child+1) < until(child) {
			child++
		}
		if child >= len(l.ends) || until(child) >= mine {
			break
		}
		l.place(i, l.ends[child])
		i = child
	}
	l.place(i, slot)
}
