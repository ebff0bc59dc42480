// Package window counts the failures of each host within a policy's find time, exactly and in little memory: a
// million hosts with nine failures each take less than 120 bytes a host, and the garbage collector finds no pointer
// in any of them.
//
// # What is counted
//
// For each policy and host the Book keeps the seconds of the newest failures, sorted, at most maxretry-1 of them: the
// one that makes maxretry earns the ban, and with it the host's failures are forgotten and a new count begins.
//
// The window ends at the newest second seen of the host and reaches back findtime: a failure exactly findtime before
// the newest still counts, one a second older does not and is dropped. Lines come late and out of order (two logs,
// rotated files, a syslog that batches): a failure within the window is put where it belongs, one before it counts
// for nothing. So as long as no ban is earned, what is kept depends only on which failures were added, not on their
// order; and failures that all lie within one window earn the ban with the same count whatever their order.
//
// The newest second seen rules the window, so a failure from the far future would hide those that follow. The
// caller sees to it that no failure is later than its arrival.
package window

import (
	"hash/maphash"
	"math"
	"net/netip"
	"sort"
	"time"
)

// MaxFailures is the most failures of one host that are kept: a larger maxretry counts as this.
const MaxFailures = 1 << 20

// A PolicyID stands for a policy's name in one Book, until that policy is dropped. The zero ID is no policy.
type PolicyID uint16

// A Book holds the failures of all hosts for all policies. It belongs to one goroutine.
type Book struct {
	seed     maphash.Seed
	maxHosts int
	maxWords int // the most stamps that blocks may hold

	policies []policyState // by PolicyID; the first is no policy
	ids      map[string]PolicyID
	spare    []PolicyID // dropped and free for another name
	retired  []PolicyID // dropped, but gone still needs their names
	turn     int        // the policy with which Expire begins

	records records
	stamps  arena
	index   index
	all     list // every host, by its last failure counted
	evicted uint64
	loaded  bool // the lists are in the order of Load: settle sorts them

	dirty   []uint64 // a bit for each slot that changed since the last Changed
	gone    []key    // hosts that the store has and the Book has not
	scratch []byte
	fetched uint32 // means nothing: Expect needs it
}

type policyState struct {
	name string // "" for an ID that is free
	dead bool   // dropped; the name stays until gone has been told
	list list   // its hosts, by their last failure counted
}

// New makes an empty Book that keeps at most maxHosts hosts, counted once for each policy (at least 1, at most 67
// million). Their failures together are kept to a mean of 16 a host, but for a small Book to four million. When
// either is full, the host whose last failure was counted longest ago is forgotten.
func New(maxHosts int) *Book {
	maxHosts = min(max(maxHosts, 1), maxSlots)
	return &Book{
		seed:     maphash.MakeSeed(),
		maxHosts: maxHosts,
		maxWords: max(16*maxHosts, 4*MaxFailures),
		policies: make([]policyState, 1),
		ids:      make(map[string]PolicyID),
	}
}

// Policy returns the ID of the policy of that name, a new one if the name is new. It is 0, for which nothing is ever
// counted, for an empty name and when 65,535 policies are known.
func (b *Book) Policy(name string) PolicyID {
	if id, ok := b.ids[name]; ok {
		return id
	}
	var id PolicyID
	switch n := len(b.spare); {
	case name == "":
		return 0
	case n > 0:
		id, b.spare = b.spare[n-1], b.spare[:n-1]
	case len(b.policies) > math.MaxUint16:
		return 0
	default:
		id = PolicyID(len(b.policies))
		b.policies = append(b.policies, policyState{})
	}
	b.policies[id] = policyState{name: name}
	b.ids[name] = id
	return id
}

// Policies returns the names of all policies that the Book knows, those from Load included, in no order.
func (b *Book) Policies() []string {
	names := make([]string, 0, len(b.ids))
	for name := range b.ids {
		names = append(names, name)
	}
	return names
}

// Drop forgets a policy and all its hosts. Its ID must not be used any more.
func (b *Book) Drop(name string) {
	id, ok := b.ids[name]
	if !ok {
		return
	}
	p := &b.policies[id]
	for p.list.oldest != 0 {
		b.remove(p.list.oldest)
	}
	delete(b.ids, name)
	if len(b.gone) > 0 {
		p.dead = true
		b.retired = append(b.retired, id)
		return
	}
	*p = policyState{}
	b.spare = append(b.spare, id)
}

func (b *Book) known(id PolicyID) bool {
	return int(id) < len(b.policies) && b.policies[id].name != "" && !b.policies[id].dead
}

// Add counts one failure of host at a second since the epoch and returns how many of the host's failures now lie
// within findtime, this one included, and whether they earned the ban: then they are forgotten.
//
// A failure older than the window leaves the count as it is and earns nothing. One outside the years 1970 to 2105, of
// an invalid host or of an unknown policy counts for nothing: 0, false. maxretry below 1 counts as 1; findtime is cut
// to whole seconds. Both may differ from call to call: a host that has already more failures than a lowered maxretry
// earns its ban with the next one, and a lowered findtime drops what it no longer covers.
func (b *Book) Add(policy PolicyID, host netip.Prefix, at int64, maxretry int, findtime time.Duration) (count int, earned bool) {
	k, ok := newKey(policy, host)
	if !ok || !b.known(policy) || at < 0 || at > math.MaxUint32 {
		return 0, false
	}
	b.settle()
	maxretry = min(max(maxretry, 1), MaxFailures)
	h := k.hash(b.seed)
	slot := b.find(&k, h)
	if slot == 0 {
		if maxretry == 1 {
			return 1, true
		}
		for b.all.n >= b.maxHosts {
			b.evict()
		}
		slot = b.insert(&k, h)
		b.records.at(slot).newest = uint32(at)
		return 1, false
	}
	return b.count(slot, uint32(at), maxretry, seconds(findtime))
}

// count adds a failure to a host that is known.
func (b *Book) count(slot, at uint32, maxretry int, within uint32) (count int, earned bool) {
	r := b.records.at(slot)
	older := b.stamps.block(r.class(), r.block)[:r.count-1]
	newest := max(r.newest, at)
	floor := newest - min(within, newest)
	if at < floor {
		b.trim(slot, floor)
		return int(r.count), false
	}
	lo := since(older, floor)
	// kept is what remains of the stamps behind the newest, the new or the former newest among them.
	kept := len(older) - lo
	if min(r.newest, at) >= floor {
		kept++
	} else {
		lo, kept = len(older), 0 // the former newest is out, and so are all before it
	}
	if kept+1 >= maxretry {
		b.remove(slot)
		return kept + 1, true
	}
	moved := b.resize(r, lo, kept)
	if kept > 0 {
		put := min(r.newest, at)
		i := kept - 1
		if at < r.newest {
			i = sort.Search(kept-1, func(i int) bool { return moved[i] > at })
			copy(moved[i+1:kept], moved[i:])
		}
		moved[i] = put
	}
	r.newest, r.count = newest, uint32(kept+1)
	b.touch(slot)
	b.mark(slot)
	for b.stamps.words > b.maxWords && b.all.n > 1 {
		b.evict()
	}
	return kept + 1, false
}

// trim drops a host's stamps before floor.
func (b *Book) trim(slot, floor uint32) {
	r := b.records.at(slot)
	older := b.stamps.block(r.class(), r.block)[:r.count-1]
	lo := since(older, floor)
	if lo == 0 {
		return
	}
	kept := len(older) - lo
	b.resize(r, lo, kept)
	r.count = uint32(kept + 1)
	b.mark(slot)
}

// resize drops the first lo stamps of a host's block and makes room for n, which is at most one more than remain.
func (b *Book) resize(r *record, lo, n int) []uint32 {
	class := r.class()
	older := b.stamps.block(class, r.block)[:r.count-1]
	want := classFor(n)
	// A block is given back only when it has become much too large: a host at a border must not move each time.
	if want == class || want < class && n > 0 && (capOf(class) <= smallBlock || n > capOf(class)/4) {
		copy(older, older[lo:])
		return b.stamps.block(class, r.block)
	}
	block := b.stamps.alloc(want)
	into := b.stamps.block(want, block)
	copy(into, older[lo:])
	b.stamps.release(class, r.block)
	r.block = block
	r.setClass(want)
	return into
}

// Count returns how many failures of host lie within findtime at now, and the second of the last one (0 if none).
func (b *Book) Count(policy PolicyID, host netip.Prefix, now int64, findtime time.Duration) (n int, last int64) {
	k, ok := newKey(policy, host)
	if !ok {
		return 0, 0
	}
	slot := b.find(&k, k.hash(b.seed))
	if slot == 0 {
		return 0, 0
	}
	r := b.records.at(slot)
	floor := windowStart(max(now, int64(r.newest)), findtime)
	if floor > int64(r.newest) {
		return 0, 0
	}
	older := b.stamps.block(r.class(), r.block)[:r.count-1]
	return int(r.count) - since(older, uint32(floor)), int64(r.newest)
}

// Forget forgets the failures of a host that one policy counted, and reports whether there were any.
func (b *Book) Forget(policy PolicyID, host netip.Prefix) bool {
	k, ok := newKey(policy, host)
	if !ok {
		return false
	}
	slot := b.find(&k, k.hash(b.seed))
	if slot == 0 {
		return false
	}
	b.remove(slot)
	return true
}

// ForgetHost forgets the failures of a host that any policy counted and returns how many policies had some.
func (b *Book) ForgetHost(host netip.Prefix) int {
	n := 0
	for _, id := range b.ids {
		if b.Forget(id, host) {
			n++
		}
	}
	return n
}

// Expire forgets hosts whose last failure no longer counts at now, at most limit of them, and returns how many; limit
// means that there may be more. findtime says the find time of each policy. Each policy's hosts are looked at in the
// order of the last failure counted, up to the first that still counts: the work of a call is bounded by limit and
// the number of policies.
func (b *Book) Expire(now int64, limit int, findtime func(policy string) time.Duration) int {
	b.settle()
	done := 0
	for range b.policies {
		b.turn++
		if b.turn >= len(b.policies) {
			b.turn = 0
		}
		p := &b.policies[b.turn]
		if p.list.oldest == 0 {
			continue
		}
		start := windowStart(now, findtime(p.name))
		for p.list.oldest != 0 && int64(b.records.at(p.list.oldest).newest) < start {
			if done >= limit {
				b.turn-- // begin here the next time
				return done
			}
			b.remove(p.list.oldest)
			done++
		}
	}
	return done
}

// Len is the number of hosts whose failures are kept, counted once for each policy.
func (b *Book) Len() int { return b.all.n }

// Evicted is how many hosts were forgotten for want of room.
func (b *Book) Evicted() uint64 { return b.evicted }

// seconds is a find time in whole seconds. The years that a stamp can name end before a longer one would.
func seconds(d time.Duration) uint32 {
	return uint32(min(max(d/time.Second, 0), math.MaxUint32))
}

// windowStart is the first second of the window that ends at a second, not before 1970.
func windowStart(end int64, findtime time.Duration) int64 {
	within := seconds(findtime)
	if within == math.MaxUint32 {
		return 0
	}
	return max(end-int64(within), 0)
}

// since is the index of the first stamp that is not before floor.
func since(stamps []uint32, floor uint32) int {
	if len(stamps) == 0 || stamps[0] >= floor {
		return 0
	}
	return sort.Search(len(stamps), func(i int) bool { return stamps[i] >= floor })
}
