package blocklist

import "hash/maphash"

// none32 is no item.
const none32 = ^uint32(0)

// A table finds the item of a host: open addressing. A place holds the item's number plus one, and above it half of
// the hash, so that an item is looked at only when it is most likely the right one. A removed item, its size 0, stays
// until its host comes again or the table is made anew.
type table struct {
	seed   maphash.Seed
	places []uint64
	used   int
}

// init makes room for n hosts.
func (t *table) init(n int) {
	size := 16
	for size*2 < n*3 {
		size *= 2
	}
	if t.places == nil {
		t.seed = maphash.MakeSeed()
	}
	t.places, t.used = make([]uint64, size), 0
}

// find returns the place of a host, where it is or where it would be, and the upper half of its hash.
func (t *table) find(items []item, k *key) (place int, tag uint64) {
	mask := len(t.places) - 1
	hash := k.hash(t.seed)
	tag = hash &^ (1<<32 - 1)
	for p := int(hash) & mask; ; p = (p + 1) & mask {
		e := t.places[p]
		if e == 0 || e&^(1<<32-1) == tag && items[uint32(e)-1].key == *k {
			return p, tag
		}
	}
}

// at is the item at a place, or none32.
func (t *table) at(place int) uint32 { return uint32(t.places[place]) - 1 }

// set puts an item at the place that find returned for its host, with the tag.
func (t *table) set(items []item, place int, tag uint64, i uint32) {
	if t.places[place] == 0 {
		t.used++
	}
	t.places[place] = tag | uint64(i+1)
	if t.used*4 <= len(t.places)*3 {
		return
	}
	old := t.places
	t.init(len(old)) // at least twice the hosts there are
	for _, e := range old {
		if e == 0 || items[uint32(e)-1].size == 0 {
			continue
		}
		place, _ := t.find(items, &items[uint32(e)-1].key)
		t.places[place] = e
		t.used++
	}
}
