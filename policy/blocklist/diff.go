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
		for i := range new.items {
			it := &new.items[i]
			if it.kind == 0 || it.size == 0 || it.flags&shared != 0 && new.lookup(&it.key) != uint32(i) {
				continue
			}
			j := old.lookup(&it.key)
			switch {
			case j == none32:
				if !yield(Change{What: Added, New: new.entry(uint32(i))}) {
					return
				}
			case old.items[j].until != it.until:
				if !yield(Change{What: Moved, Old: old.entry(j), New: new.entry(uint32(i))}) {
					return
				}
			}
		}
		for i := range old.items {
			it := &old.items[i]
			if it.kind == 0 || it.size == 0 || it.flags&shared != 0 && old.lookup(&it.key) != uint32(i) {
				continue
			}
			if new.lookup(&it.key) == none32 && !yield(Change{What: Removed, Old: old.entry(uint32(i))}) {
				return
			}
		}
	}
}
