package window

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
)

// A key is a policy and a host. An IPv4 host is held as its v4-mapped address, its bits counted from there.
type key struct {
	hi, lo uint64
	policy PolicyID
	bits   uint8
}

// newKey masks the host; it is false for an invalid one.
func newKey(policy PolicyID, host netip.Prefix) (key, bool) {
	if !host.IsValid() {
		return key{}, false
	}
	bits := host.Bits()
	if host.Addr().Is4() {
		bits += 96
	}
	a := host.Addr().As16()
	k := key{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:]), policy, uint8(bits)}
	if bits <= 64 {
		k.lo = 0
		k.hi &^= 1<<(64-bits) - 1
	} else {
		k.lo &^= 1<<(128-bits) - 1
	}
	return k, true
}

// host is the inverse of newKey.
func (k *key) host() netip.Prefix {
	var a [16]byte
	binary.BigEndian.PutUint64(a[:8], k.hi)
	binary.BigEndian.PutUint64(a[8:], k.lo)
	addr, bits := netip.AddrFrom16(a), int(k.bits)
	if addr.Is4In6() && bits >= 96 {
		addr, bits = addr.Unmap(), bits-96
	}
	return netip.PrefixFrom(addr, bits)
}

// hash is seeded, so that nobody can choose addresses that collide.
func (k *key) hash(seed maphash.Seed) uint64 {
	var buf [19]byte
	binary.LittleEndian.PutUint64(buf[0:], k.hi)
	binary.LittleEndian.PutUint64(buf[8:], k.lo)
	binary.LittleEndian.PutUint16(buf[16:], uint16(k.policy))
	buf[18] = k.bits
	return maphash.Bytes(seed, buf[:])
}

// A record is one host of one policy: 48 bytes. Its newest stamp is in it, the older ones are in a block.
type record struct {
	hi, lo uint64
	policy PolicyID
	bits   uint8
	meta   uint8  // the class of the block, and flagStored
	count  uint32 // stamps, the newest included; 0 for a free record
	newest uint32
	block  uint32 // in a free record: the next free one
	links  [2]link
}

const (
	classMask  = 0x1f
	flagStored = 0x80 // the store has this host
)

func (r *record) class() int     { return int(r.meta & classMask) }
func (r *record) setClass(c int) { r.meta = r.meta&^classMask | uint8(c) }
func (r *record) key() key       { return key{r.hi, r.lo, r.policy, r.bits} }
func (r *record) is(k *key) bool {
	return r.hi == k.hi && r.lo == k.lo && r.policy == k.policy && r.bits == k.bits
}
func (r *record) link(l int) *link { return &r.links[l] }
func (r *record) fill(k *key)      { r.hi, r.lo, r.policy, r.bits = k.hi, k.lo, k.policy, k.bits }

// A link is a record's place in a list: the slots of its neighbours, 0 for none.
type link struct{ older, newer uint32 }

// The two lists that every record is in.
const (
	inAll    = iota // of all hosts
	inPolicy        // of its policy's hosts
)

// A list is a chain of records, in the order of the last failure counted.
type list struct {
	oldest, newest uint32
	n              int
}

// recordChunk is how many records are allocated at once. They never move.
const recordChunk = 1024

// maxSlots is the most records: an index entry has 26 bits for a slot, and slot 0 is none.
const maxSlots = 1<<26 - 1

// records are the slabs of records. A slot is a record's number, from 1.
type records struct {
	chunks []*[recordChunk]record
	free   uint32 // the first free record, if there is one
	used   uint32 // the highest slot ever given out
}

func (rs *records) at(slot uint32) *record {
	return &rs.chunks[slot/recordChunk][slot%recordChunk]
}

func (rs *records) alloc() uint32 {
	if slot := rs.free; slot != 0 {
		r := rs.at(slot)
		rs.free = r.block
		*r = record{}
		return slot
	}
	rs.used++
	if int(rs.used/recordChunk) == len(rs.chunks) {
		rs.chunks = append(rs.chunks, new([recordChunk]record))
	}
	return rs.used
}

func (rs *records) release(slot uint32) {
	*rs.at(slot) = record{block: rs.free}
	rs.free = slot
}

// push puts a record at the newest end of a list.
func (rs *records) push(l *list, which int, slot uint32) {
	*rs.at(slot).link(which) = link{older: l.newest}
	if l.newest != 0 {
		rs.at(l.newest).link(which).newer = slot
	} else {
		l.oldest = slot
	}
	l.newest = slot
	l.n++
}

// unlink takes a record out of a list.
func (rs *records) unlink(l *list, which int, slot uint32) {
	at := *rs.at(slot).link(which)
	if at.older != 0 {
		rs.at(at.older).link(which).newer = at.newer
	} else {
		l.oldest = at.newer
	}
	if at.newer != 0 {
		rs.at(at.newer).link(which).older = at.older
	} else {
		l.newest = at.older
	}
	l.n--
}
