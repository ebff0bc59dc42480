package blocklist

import "hash/maphash"

// none32 is no item.
const none32 = ^uint32(0)

// A table finds the item of a host: open addressing over the items' numbers plus one. A removed item stays in it, its
// size 0, until its host comes again or the table is made anew.
type table struct {
	seed   maphash.Seed
	places []uint32
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
	t.places, t.used = make([]uint32, size), 0
}

// find returns the place of a host: where it is, or where it would be.
func (t *table) find(items []item, k *key) int {
	mask := len(t.places) - 1
	for p := int(k.hash(t.seed)) & mask; ; p = (p + 1) & mask {
		if i := t.places[p]; i == 0 || items[i-1].key == *k {
			return p
		}
	}
}

// at is the item at a place, or none32.
func (t *table) at(place int) uint32 { return t.places[place] - 1 }

// set puts an item at the place that find returned for its host.
func (t *table) set(items []item, place int, i uint32) {
	if t.places[place] == 0 {
		t.used++
	}
	t.places[place] = i + 1
	if t.used*4 <= len(t.places)*3 {
		return
	}
	old := t.places
	t.init(len(old)) // at least twice the hosts there are
	for _, i := range old {
		if i != 0 && items[i-1].size > 0 {
			t.places[t.find(items, &items[i-1].key)] = i
			t.used++
		}
	}
}
