package blocklist

import "iter"

// A Change is a host that two versions of the file don't agree on.
type Change struct {
	What     What
	Old, New Entry // the one that there is not is zero
}

// What became of a host.
type What uint8

const (
	Added   What = iota + 1
	Removed      // all its lines
	Moved        // its end is another one
)

// Diff yields how new differs from old: what was added or moved in the order of new, then what was removed in the
// order of old. Lines that name the same hosts with the same ends are no difference, whatever else they say. Both
// must have been parsed with the same Options, and must not be edited meanwhile.
func Diff(old, new *File) iter.Seq[Change] {
	return func(yield func(Change) bool) {
		old.number()
		new.number()
		next := uint32(0)
		for i := range uint32(len(new.items)) {
			if !new.counts(i) {
				continue
			}
			it := &new.items[i]
			j := old.lookupNear(&it.key, &next)
			switch {
			case j == none32:
				if !yield(Change{What: Added, New: new.entry(i)}) {
					return
				}
			case old.items[j].until != it.until:
				if !yield(Change{What: Moved, Old: old.entry(j), New: new.entry(i)}) {
					return
				}
			}
		}
		next = 0
		for i := range uint32(len(old.items)) {
			if !old.counts(i) || new.lookupNear(&old.items[i].key, &next) != none32 {
				continue
			}
			if !yield(Change{What: Removed, Old: old.entry(i)}) {
				return
			}
		}
	}
}

// lookupNear is lookup, which first looks at the item next and leaves there the one behind what it found: two
// versions of a file have most of their hosts in the same order.
func (f *File) lookupNear(k *key, next *uint32) uint32 {
	i := *next
	if int(i) >= len(f.items) || f.items[i].key != *k || f.items[i].flags&shared != 0 || !f.counts(i) {
		if i = f.lookup(k); i == none32 {
			return i
		}
	}
	*next = i + 1
	return i
}
