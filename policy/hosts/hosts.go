// Package hosts is a table of hosts for whoever keeps many: a record takes its own size and 30 bytes, and where the
// record has no pointers, the garbage collector does not look into any of them.
package hosts

import (
	"encoding/binary"
	"hash/maphash"
	"iter"
	"net/netip"
)

// A Key is a host or prefix, masked or not, with a kind of the caller's choice: a key of another kind is another key. It
// is comparable.
type Key struct {
	hi, lo uint64
	shape  uint16 // the prefix's length in bits, and ipv4
	kind   uint16
}

const (
	ipv4   = 1 << 8
	noHost = 1<<16 - 1 // an invalid prefix
	free   = 1<<16 - 2 // a record that is not in use; lo is the slot of the next one
)

// KeyOf is the key of a prefix. All invalid ones have the same.
func KeyOf(p netip.Prefix, kind uint16) Key {
	a := p.Addr()
	switch {
	case !p.IsValid():
		return Key{shape: noHost, kind: kind}
	case a.Is4():
		b := a.As4()
		return Key{lo: uint64(binary.BigEndian.Uint32(b[:])), shape: uint16(p.Bits()) | ipv4, kind: kind}
	}
	b := a.As16()
	return Key{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:]), uint16(p.Bits()), kind}
}

// Host is the prefix that KeyOf was given; the zero Prefix for an invalid one.
func (k Key) Host() netip.Prefix {
	switch {
	case k.shape == noHost:
		return netip.Prefix{}
	case k.shape&ipv4 != 0:
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(k.lo))
		return netip.PrefixFrom(netip.AddrFrom4(b), int(k.shape&^ipv4))
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], k.hi)
	binary.BigEndian.PutUint64(b[8:], k.lo)
	return netip.PrefixFrom(netip.AddrFrom16(b), int(k.shape))
}

// First is the first 64 bits of the address; of an IPv4 one they end with zeros.
func (k Key) First() uint64 {
	if k.shape&ipv4 != 0 && k.shape != noHost {
		return k.lo << 32
	}
	return k.hi
}

// Kind is the kind that KeyOf was given.
func (k Key) Kind() uint16 { return k.kind }

// hash is seeded, so that nobody can choose addresses that collide.
func (k Key) hash(seed maphash.Seed) uint64 {
	var buf [20]byte
	binary.LittleEndian.PutUint64(buf[0:], k.hi)
	binary.LittleEndian.PutUint64(buf[8:], k.lo)
	binary.LittleEndian.PutUint16(buf[16:], k.shape)
	binary.LittleEndian.PutUint16(buf[18:], k.kind)
	return maphash.Bytes(seed, buf[:])
}

// A Table holds a V for each key. A record is named by its slot, a number from 1 that it keeps until it is removed, and
// it never moves. The table belongs to one goroutine.
type Table[V any] struct {
	seed   maphash.Seed
	chunks []*[chunkLen]record[V]
	next   uint32 // the first free record, 0 for none
	used   uint32 // the highest slot ever given out
	n      int
	index  [1 << shardBits]shard
}

type record[V any] struct {
	key   Key
	value V
}

// chunkLen is how many records are allocated at once: whole pages of the heap, whatever the size of one.
const chunkLen = 1024

// MaxSlots is the most records that a table takes.
const MaxSlots = 1<<slotBits - 1

// New makes an empty table.
func New[V any]() *Table[V] { return &Table[V]{seed: maphash.MakeSeed()} }

// Len is the number of records.
func (t *Table[V]) Len() int { return t.n }

func (t *Table[V]) record(slot uint32) *record[V] { return &t.chunks[slot/chunkLen][slot%chunkLen] }

// At is the value of a record, to be read and changed in place.
func (t *Table[V]) At(slot uint32) *V { return &t.record(slot).value }

// Key is a record's key.
func (t *Table[V]) Key(slot uint32) Key { return t.record(slot).key }

// Find returns the slot of a key, 0 when the table has none.
func (t *Table[V]) Find(k Key) uint32 {
	hash := k.hash(t.seed)
	s := &t.index[hash>>(64-shardBits)]
	if s.n == 0 {
		return 0
	}
	tag := uint32(hash & tagMask)
	for i := s.home(hash); ; i = s.next(i) {
		e := s.places[i]
		if e == 0 {
			return 0
		}
		if e&tagMask == tag && t.record(e>>tagBits).key == k {
			return e >> tagBits
		}
	}
}

// Insert makes a record for a key that the table does not have, its value zero. The table must have room.
func (t *Table[V]) Insert(k Key) uint32 {
	slot := t.next
	if slot != 0 {
		t.next = uint32(t.record(slot).key.lo)
	} else {
		t.used++
		slot = t.used
		if int(slot/chunkLen) == len(t.chunks) {
			t.chunks = append(t.chunks, new([chunkLen]record[V]))
		}
	}
	*t.record(slot) = record[V]{key: k}
	t.enter(k.hash(t.seed), slot)
	t.n++
	return slot
}

// Remove drops a record; another key may get its slot.
func (t *Table[V]) Remove(slot uint32) {
	t.leave(t.record(slot).key.hash(t.seed), slot)
	*t.record(slot) = record[V]{key: Key{lo: uint64(t.next), shape: free}}
	t.next = slot
	t.n--
}

// Slots yields every record, in no order. The table may change meanwhile: what is inserted then may be yielded or not.
func (t *Table[V]) Slots() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for slot := uint32(1); slot <= t.used; slot++ {
			if t.record(slot).key.shape != free && !yield(slot) {
				return
			}
		}
	}
}
