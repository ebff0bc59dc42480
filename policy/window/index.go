package window

// The index finds a record by its key: an open-addressing table cut into shards that grow one by one, so that no
// single Add pays for moving all of it. An entry is a slot and six bits of the hash; 0 is an empty place. Places are
// probed one after the other, and a removal moves the followers up, so there are no tombstones.
const (
	shardBits = 10
	tagBits   = 32 - 26
	tagMask   = 1<<tagBits - 1
)

type index [1 << shardBits]shard

type shard struct {
	places []uint32
	n      int
}

func (ix *index) shard(hash uint64) *shard { return &ix[hash>>(64-shardBits)] }

// home is where the search for a hash begins. The table's length need not be a power of two: it grows by half.
func (s *shard) home(hash uint64) int {
	return int(uint64(uint32(hash>>tagBits)) * uint64(len(s.places)) >> 32)
}

func (s *shard) next(i int) int {
	if i++; i == len(s.places) {
		return 0
	}
	return i
}

// find returns the slot of a key, or 0.
func (b *Book) find(k *key, hash uint64) uint32 {
	s := b.index.shard(hash)
	if s.n == 0 {
		return 0
	}
	tag := uint32(hash & tagMask)
	for i := s.home(hash); ; i = s.next(i) {
		e := s.places[i]
		if e == 0 {
			return 0
		}
		if e&tagMask == tag && b.records.at(e>>tagBits).is(k) {
			return e >> tagBits
		}
	}
}

func (s *shard) put(hash uint64, slot uint32) {
	i := s.home(hash)
	for s.places[i] != 0 {
		i = s.next(i)
	}
	s.places[i] = slot<<tagBits | uint32(hash&tagMask)
}

// enter puts a slot into the index, which must not hold its key yet.
func (b *Book) enter(hash uint64, slot uint32) {
	s := b.index.shard(hash)
	if (s.n+1)*5 > len(s.places)*4 {
		old := s.places
		s.places = make([]uint32, max(8, len(old)*3/2))
		for _, e := range old {
			if e != 0 {
				s.put(b.hashOf(e>>tagBits), e>>tagBits)
			}
		}
	}
	s.put(hash, slot)
	s.n++
}

// leave takes a slot out of the index.
func (b *Book) leave(hash uint64, slot uint32) {
	s := b.index.shard(hash)
	gap := s.home(hash)
	for s.places[gap]>>tagBits != slot {
		gap = s.next(gap)
	}
	for i := s.next(gap); s.places[i] != 0; i = s.next(i) {
		// An entry may move up to the gap unless its home lies behind the gap.
		home := s.home(b.hashOf(s.places[i] >> tagBits))
		if s.distance(home, i) >= s.distance(gap, i) {
			s.places[gap], gap = s.places[i], i
		}
	}
	s.places[gap] = 0
	s.n--
}

func (s *shard) distance(from, to int) int {
	if to < from {
		to += len(s.places)
	}
	return to - from
}

func (b *Book) hashOf(slot uint32) uint64 {
	k := b.records.at(slot).key()
	return k.hash(b.seed)
}

// insert makes a record for a new host, with one stamp still to be set.
func (b *Book) insert(k *key, hash uint64) uint32 {
	slot := b.records.alloc()
	r := b.records.at(slot)
	r.fill(k)
	r.count = 1
	b.enter(hash, slot)
	b.records.push(&b.all, inAll, slot)
	b.records.push(&b.policies[k.policy].list, inPolicy, slot)
	b.mark(slot)
	return slot
}

// remove forgets a host.
func (b *Book) remove(slot uint32) {
	r := b.records.at(slot)
	if r.meta&flagStored != 0 {
		b.gone = append(b.gone, r.key())
	}
	b.unmark(slot)
	b.leave(b.hashOf(slot), slot)
	b.records.unlink(&b.all, inAll, slot)
	b.records.unlink(&b.policies[r.policy].list, inPolicy, slot)
	b.stamps.release(r.class(), r.block)
	b.records.release(slot)
}

// evict forgets the host whose last failure was counted longest ago.
func (b *Book) evict() {
	b.remove(b.all.oldest)
	b.evicted++
}

// touch makes a host the one whose failure was counted last.
func (b *Book) touch(slot uint32) {
	if b.all.newest == slot {
		return // and then it is its policy's last, too
	}
	p := &b.policies[b.records.at(slot).policy].list
	b.records.unlink(&b.all, inAll, slot)
	b.records.push(&b.all, inAll, slot)
	b.records.unlink(p, inPolicy, slot)
	b.records.push(p, inPolicy, slot)
}
