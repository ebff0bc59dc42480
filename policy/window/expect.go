package window

import "net/netip"

// expectAtOnce is how many hosts are fetched together: more than a processor has misses under way, and what they need
// still fits into its first cache.
const expectAtOnce = 32

// Expect has the processor fetch what Add will look at for n failures, of which each is asked for once. Of a million
// hosts hardly one is in its caches; many that are fetched together take little longer than one. It changes nothing.
// For a Book that the caches hold it does not even ask.
func (b *Book) Expect(n int, failure func(i int) (PolicyID, netip.Prefix)) {
	if b.all.n < expectFrom {
		return
	}
	var group [expectAtOnce]uint64
	for i := 0; i < n; {
		known := 0
		for ; i < n && known < len(group); i++ {
			policy, host := failure(i)
			if k, ok := newKey(policy, host); ok {
				group[known] = k.hash(b.seed)
				known++
			}
		}
		b.fetch(group[:known])
	}
}

// expectFrom is how many hosts a Book has that is too large for the caches.
const expectFrom = 50_000

// fetch looks at what the hosts of these hashes have, kind by kind: nothing that is looked at depends on what else of
// its kind is, so all of it is under way at once. The sum keeps the compiler from leaving that out.
func (b *Book) fetch(group []uint64) {
	sum := b.fetched
	for _, hash := range group {
		if s := b.index.shard(hash); s.n > 0 {
			sum += s.places[s.home(hash)]
		}
	}
	var slots [expectAtOnce]uint32
	for i, hash := range group {
		if slots[i] = b.likely(hash); slots[i] != 0 {
			sum += b.records.at(slots[i]).count
		}
	}
	for _, slot := range slots[:len(group)] {
		if slot == 0 {
			continue
		}
		r := b.records.at(slot)
		if stamps := b.stamps.block(r.class(), r.block); len(stamps) > 0 {
			sum += stamps[0]
		}
		for l := range r.links {
			sum += b.records.at(r.links[l].older).count + b.records.at(r.links[l].newer).count
		}
	}
	b.fetched = sum
}

// likely is the slot of the first entry that has the tag of a hash, or 0.
func (b *Book) likely(hash uint64) uint32 {
	s := b.index.shard(hash)
	if s.n == 0 {
		return 0
	}
	for i := s.home(hash); s.places[i] != 0; i = s.next(i) {
		if e := s.places[i]; e&tagMask == uint32(hash&tagMask) {
			return e >> tagBits
		}
	}
	return 0
}
