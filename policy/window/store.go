package window

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
)

// The encoding of a host for the store:
//
//	key    the policy's name, a zero byte, the masked address (4 or 16 bytes), its length in bits (1 byte)
//	value  the failures in ascending order: the first second since the epoch, then the distance from each to the
//	       next, each as an unsigned varint
//
// The policy stands in it by name, so that policies can be added, removed and reordered. The version of the encoding
// is the store's to keep.

// Changed calls yield for every host that changed since the last call (or since the start): with a nil value for one
// that is gone, first, then with the encoding of what is kept now. Between two calls a host may be both. The slices
// are valid until yield returns, and yield must not use the Book.
func (b *Book) Changed(yield func(key, value []byte)) {
	for i := range b.gone {
		b.scratch = b.appendKey(b.scratch[:0], &b.gone[i])
		yield(b.scratch, nil)
	}
	// After a flood they would hold as much as the Book itself.
	if b.gone = b.gone[:0]; cap(b.gone) > 1<<12 {
		b.gone = nil
	}
	for _, id := range b.retired {
		b.policies[id] = policyState{}
		b.spare = append(b.spare, id)
	}
	b.retired = b.retired[:0]
	for w, word := range b.dirty {
		for ; word != 0; word &= word - 1 {
			r := b.records.at(uint32(w*64 + bits.TrailingZeros64(word)))
			r.meta |= flagStored
			k := r.key()
			buf := b.appendKey(b.scratch[:0], &k)
			n := len(buf)
			prev := uint32(0)
			for _, s := range b.stamps.block(r.class(), r.block)[:r.count-1] {
				buf = binary.AppendUvarint(buf, uint64(s-prev))
				prev = s
			}
			buf = binary.AppendUvarint(buf, uint64(r.newest-prev))
			b.scratch = buf
			yield(buf[:n:n], buf[n:])
		}
		b.dirty[w] = 0
	}
}

// MarkAll makes the next Changed tell of every host: for a store that was made anew.
func (b *Book) MarkAll() {
	for slot := b.all.oldest; slot != 0; slot = b.records.at(slot).link(inAll).newer {
		b.mark(slot)
	}
}

// Load takes a host from the store, as Changed encoded it. It is for a Book to which nothing was added yet; the order
// of calls does not matter. The next Changed does not tell of it. An error leaves the Book as it was: the record is
// damaged, or its host is known already.
func (b *Book) Load(key, value []byte) error {
	name, host, err := decodeKey(key)
	if err != nil {
		return fmt.Errorf("failures of a host: %w", err)
	}
	stamps, err := decodeStamps(value)
	if err != nil {
		return fmt.Errorf("failures of %v counted by %s: %w", host, name, err)
	}
	id := b.Policy(name)
	k, ok := newKey(id, host)
	if !ok || id == 0 {
		return fmt.Errorf("failures of %v counted by %s: %w", host, name, errors.New("too many policies"))
	}
	h := k.hash(b.seed)
	if b.find(&k, h) != 0 {
		return fmt.Errorf("failures of %v counted by %s: %w", host, name, errors.New("already loaded"))
	}
	if b.all.n >= maxSlots {
		b.evicted++
		return nil
	}
	slot := b.insert(&k, h)
	b.unmark(slot)
	r := b.records.at(slot)
	r.meta |= flagStored
	n := len(stamps) - 1
	copy(b.resize(r, 0, n), stamps[:n])
	r.newest, r.count = stamps[n], uint32(n+1)
	b.loaded = true
	return nil
}

// settle brings the hosts that were loaded into the order of their last failures, and keeps the bounds.
func (b *Book) settle() {
	if !b.loaded {
		return
	}
	b.loaded = false
	order := make([]uint64, 0, b.all.n)
	for slot := b.all.oldest; slot != 0; slot = b.records.at(slot).link(inAll).newer {
		order = append(order, uint64(b.records.at(slot).newest)<<32|uint64(slot))
	}
	slices.Sort(order)
	b.all = list{}
	for i := range b.policies {
		b.policies[i].list = list{}
	}
	for _, o := range order {
		slot := uint32(o)
		b.records.push(&b.all, inAll, slot)
		b.records.push(&b.policies[b.records.at(slot).policy].list, inPolicy, slot)
	}
	for b.all.n > b.maxHosts || b.stamps.words > b.maxWords && b.all.n > 1 {
		b.evict()
	}
}

func (b *Book) mark(slot uint32) {
	for int(slot/64) >= len(b.dirty) {
		b.dirty = append(b.dirty, 0)
	}
	b.dirty[slot/64] |= 1 << (slot % 64)
}

func (b *Book) unmark(slot uint32) {
	if int(slot/64) < len(b.dirty) {
		b.dirty[slot/64] &^= 1 << (slot % 64)
	}
}

func (b *Book) appendKey(dst []byte, k *key) []byte {
	dst = append(dst, b.policies[k.policy].name...)
	dst = append(dst, 0)
	host := k.host()
	if host.Addr().Is4() {
		a := host.Addr().As4()
		dst = append(dst, a[:]...)
	} else {
		a := host.Addr().As16()
		dst = append(dst, a[:]...)
	}
	return append(dst, byte(host.Bits()))
}

var errDamaged = errors.New("damaged record")

func decodeKey(key []byte) (name string, host netip.Prefix, err error) {
	// The name has no zero byte, so the first one ends it.
	name, rest, ok := strings.Cut(string(key), "\x00")
	if !ok || name == "" || len(rest) != 5 && len(rest) != 17 {
		return "", host, errDamaged
	}
	addr, _ := netip.AddrFromSlice([]byte(rest[:len(rest)-1]))
	host = netip.PrefixFrom(addr, int(rest[len(rest)-1]))
	if !host.IsValid() || host.Masked() != host || addr.Is4In6() && host.Bits() >= 96 {
		return "", host, errDamaged
	}
	return name, host, nil
}

func decodeStamps(value []byte) ([]uint32, error) {
	var stamps []uint32
	var at uint64
	for len(value) > 0 {
		d, n := binary.Uvarint(value)
		if n <= 0 || d > math.MaxUint32 || at+d > math.MaxUint32 || len(stamps) == MaxFailures {
			return nil, errDamaged
		}
		at += d
		stamps = append(stamps, uint32(at))
		value = value[n:]
	}
	if len(stamps) == 0 {
		return nil, errDamaged
	}
	return stamps, nil
}
