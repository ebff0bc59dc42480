package hosts

// The index finds a record by its key: open addressing, cut into shards that grow one by one, so that no single Insert
// pays for moving all of it. An entry is a slot and six bits of the hash; 0 is an empty place. Places are probed one
// after the other, and a removal moves the followers up, so there are no tombstones.
const (
	shardBits = 8
	slotBits  = 26
	tagBits   = 32 - slotBits
	tagMask   = 1<<tagBits - 1
)

type shard struct {
	places []uint32
	n      int
}

// home is where the search for a hash begins. The number of places need not be a power of two: it grows by half.
func (s *shard) home(hash uint64) int {
	return int(uint64(uint32(hash>>tagBits)) * uint64(len(s.places)) >> 32)
}

func (s *shard) next(i int) int {
	if i++; i == len(s.places) {
		return 0
	}
	return i
}

func (s *shard) distance(from, to int) int {
	if to < from {
		to += len(s.places)
	}
	return to - from
}

func (s *shard) put(hash uint64, slot uint32) {
	i := s.home(hash)
	for s.places[i] != 0 {
		i = s.next(i)
	}
	s.places[i] = slot<<tagBits | uint32(hash&tagMask)
}

// enter puts a slot into the index, which must not hold its key yet.
func (t *Table[V]) enter(hash uint64, slot uint32) {
	s := &t.index[hash>>(64-shardBits)]
	if (s.n+1)*5 > len(s.places)*4 {
		old := s.places
		s.places = make([]uint32, max(8, len(old)*3/2))
		for _, e := range old {
			if e != 0 {
				s.put(t.hashOf(e>>tagBits), e>>tagBits)
			}
		}
	}
	s.put(hash, slot)
	s.n++
}

// leave takes a slot out of the index.
func (t *Table[V]) leave(hash uint64, slot uint32) {
	s := &t.index[hash>>(64-shardBits)]
	gap := s.home(hash)
	for s.places[gap]>>tagBits != slot {
		gap = s.next(gap)
	}
	for i := s.next(gap); s.places[i] != 0; i = s.next(i) {
		// An entry may move up to the gap unless its home lies behind the gap.
		home := s.home(t.hashOf(s.places[i] >> tagBits))
		if s.distance(home, i) >= s.distance(gap, i) {
			s.places[gap], gap = s.places[i], i
		}
	}
	s.places[gap] = 0
	s.n--
}

func (t *Table[V]) hashOf(slot uint32) uint64 { return t.record(slot).key.hash(t.seed) }
