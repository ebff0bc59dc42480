// Package ledger is the book of bans: who is out, until when, and why. It is the truth that the kernel, the blocklist
// file and the state are copies of, and it holds the work that is pending for each of them.
//
// Pending work is state, not a queue: a host that is banned, unbanned and banned again before a mirror comes for
// it is one piece of work. A Ledger belongs to one goroutine.
//
// A ban takes about 85 bytes, pending work included, and the garbage collector finds no pointer in it.
package ledger

import (
	"cmp"
	"iter"
	"math"
	"net/netip"
	"slices"
	"time"

	"banset/policy"
	"banset/policy/hosts"
)

// A Copy is one of the places that mirror the book.
type Copy int

const (
	Kernel Copy = iota
	File
	State
	copies
)

// An Outcome is what became of a ban that was entered.
type Outcome int

const (
	Unchanged Outcome = iota // the ban that stands ends no earlier
	Added                    // the host was free
	Moved                    // the end of the ban that stands was moved
)

// A Ledger is the book of bans.
type Ledger struct {
	records *hosts.Table[record]
	reasons reasons
	work    [copies]work
	ends    []uint32 // a heap of the slots whose bans end, see ends.go
	oldest  uint32   // the ban that was entered first, and the newest; 0 for none
	newest  uint32
	n       int // bans
	max     int // bans, 0 for no limit
	evicted uint64
	byName  map[string]int // bans by policy
	nets    map[uint32]struct{}
	isHost  func(netip.Prefix) bool

	// Heed, where it is set, is called with every ban that is entered or whose end moves, and, with gone, every ban that
	// leaves the book. It must not change the book.
	Heed func(b policy.Ban, gone bool)
}

// A record is a host with a ban, or one without that a copy has yet to be told of: 48 bytes.
type record struct {
	at, until int64 // as in policy.Ban; of the last one where none stands
	active    int64 // when the host was last known to fail, in seconds since the epoch
	failures  int32
	reason    uint32 // in Ledger.reasons
	older     uint32 // the slots of the bans that were entered before and after
	newer     uint32
	end       uint32 // its place in Ledger.ends, from 1; 0: not there
	stands    bool   // there is a ban
	filed     bool   // the file has a line for the host
	waiting   uint8  // for which copies it waits, a bit each
	taken     uint8  // which mirrors are busy with it
}

// New makes an empty book of at most maxBans bans, 0 for no limit. No book takes more than 33 million. isHost tells the prefixes that
// stand in the kernel as one element of a hash set from those that are ranges; see [Ledger.Ranges].
func New(maxBans int, isHost func(netip.Prefix) bool) *Ledger {
	return &Ledger{
		records: hosts.New[record](),
		reasons: newReasons(),
		max:     min(max(maxBans, 0), hosts.MaxSlots/2),
		byName:  make(map[string]int),
		nets:    make(map[uint32]struct{}),
		isHost:  isHost,
	}
}

// find returns the slot of a host's ban and its record, 0 when there is none.
func (l *Ledger) find(host netip.Prefix) (uint32, *record) {
	slot := l.records.Find(hosts.KeyOf(host, 0))
	if slot == 0 {
		return 0, nil
	}
	if r := l.records.At(slot); r.stands {
		return slot, r
	}
	return 0, nil
}

// host is the one of a record.
func (l *Ledger) host(slot uint32) netip.Prefix { return l.records.Key(slot).Host() }

// ban is the one of a record.
func (l *Ledger) ban(slot uint32) policy.Ban {
	r := l.records.At(slot)
	why := l.reasons.get(r.reason)
	return policy.Ban{
		Host: l.host(slot), At: r.at, Until: r.until, Policy: why.policy, Failures: int(r.failures), Note: why.note,
	}
}

// Enter puts a ban that a policy earned into the book: of two bans of one host the later end wins. The ban that
// stands afterwards and its outcome are returned.
func (l *Ledger) Enter(b policy.Ban) (policy.Ban, Outcome) {
	key := hosts.KeyOf(b.Host, 0)
	slot := l.records.Find(key)
	if slot == 0 {
		return b, l.enter(b, key, 0)
	}
	if r := l.records.At(slot); !r.stands || r.until < b.Until {
		return b, l.enter(b, key, slot)
	}
	stands := l.ban(slot)
	// A ban that was found again in the kernel after a crash has a beginning only as good as its timeout tells, and none if
	// it never ends, until the line that earned it is read again.
	if again := stands; again.At > b.At || again.At < b.At && b.Until != policy.Never {
		if again.At = b.At; again == b {
			l.enter(b, key, slot)
			return b, Unchanged
		}
	}
	return stands, Unchanged
}

// Take puts a ban into the book whatever stands there: a person's will, which may also shorten a ban.
func (l *Ledger) Take(b policy.Ban) Outcome {
	key := hosts.KeyOf(b.Host, 0)
	return l.enter(b, key, l.records.Find(key))
}

// enter is Take for a host whose record, if it has one, is known.
func (l *Ledger) enter(b policy.Ban, key hosts.Key, slot uint32) Outcome {
	b.Failures = min(max(b.Failures, math.MinInt32), math.MaxInt32)
	var r *record
	if slot != 0 {
		r = l.records.At(slot)
	}
	stood := slot != 0 && r.stands
	if stood && l.ban(slot) == b {
		return Unchanged
	}
	why := l.reasons.add(reason{b.Policy, b.Note}) // before the old one goes: mostly they are the same
	outcome := Moved
	news := !stood || r.until != b.Until
	if stood {
		l.forget(r)
	} else {
		outcome = Added
		if l.max > 0 && l.n >= l.max || l.n >= hosts.MaxSlots/2 {
			l.evictOldest()
		}
		if slot == 0 {
			slot = l.records.Insert(key)
		}
		r = l.stand(b.Host, slot)
	}
	r.at, r.until, r.failures = b.At, b.Until, int32(b.Failures)
	r.reason = why
	r.active = max(r.active, b.At)
	l.byName[b.Policy]++
	l.setEnd(slot)
	l.markAll(slot)
	if news && l.Heed != nil {
		l.Heed(b, false)
	}
	return outcome
}

// stand makes a record that of a ban, the newest, with nothing said of it yet.
func (l *Ledger) stand(host netip.Prefix, slot uint32) *record {
	r := l.records.At(slot)
	r.stands = true
	r.filed = r.pending(File) // a removal that the file has yet to be told of leaves a line there
	r.active = 0
	l.n++
	if r.older = l.newest; r.older != 0 {
		l.records.At(r.older).newer = slot
	} else {
		l.oldest = slot
	}
	l.newest = slot
	if !l.isHost(host) {
		l.nets[slot] = struct{}{}
	}
	return r
}

// forget takes back what a ban's policy and reason count.
func (l *Ledger) forget(r *record) {
	name := l.reasons.get(r.reason).policy
	if l.byName[name]--; l.byName[name] == 0 {
		delete(l.byName, name)
	}
	l.reasons.drop(r.reason)
}

// Remove takes a host out of the book and returns the ban that stood.
func (l *Ledger) Remove(host netip.Prefix) (policy.Ban, bool) {
	slot, _ := l.find(host)
	if slot == 0 {
		return policy.Ban{}, false
	}
	return l.remove(slot), true
}

func (l *Ledger) remove(slot uint32) policy.Ban {
	b, r := l.ban(slot), l.records.At(slot)
	l.forget(r)
	l.dropEnd(slot)
	if r.older != 0 {
		l.records.At(r.older).newer = r.newer
	} else {
		l.oldest = r.newer
	}
	if r.newer != 0 {
		l.records.At(r.newer).older = r.older
	} else {
		l.newest = r.older
	}
	r.older, r.newer = 0, 0
	r.stands, r.filed = false, false
	l.n--
	delete(l.nets, slot)
	l.markAll(slot)
	if l.Heed != nil {
		l.Heed(b, true)
	}
	return b
}

// Over says of a host that is not in the book when its last ban began and ended, 0 for what is not known, and that the
// file may still have it.
func (l *Ledger) Over(host netip.Prefix, at, until int64) {
	l.Mark(File, host)
	if slot, _ := l.find(host); slot == 0 {
		r := l.records.At(l.records.Find(hosts.KeyOf(host, 0)))
		r.at, r.until = at, until
	}
}

// Past is when the last ban of a host began, and would have ended, that the file has yet to be told is over; 0 when that
// is not known.
func (l *Ledger) Past(host netip.Prefix) (at, until int64) {
	slot := l.records.Find(hosts.KeyOf(host, 0))
	if slot == 0 {
		return 0, 0
	}
	if r := l.records.At(slot); !r.stands && r.pending(File) {
		return r.at, r.until
	}
	return 0, 0
}

// EndOver removes the bans that are over at now and returns them. The kernel has expired its elements by itself,
// but for a clock that jumped; both copies are marked.
func (l *Ledger) EndOver(now time.Time) []policy.Ban {
	var over []policy.Ban
	for len(l.ends) > 0 && l.records.At(l.ends[0]).until <= now.Unix() {
		over = append(over, l.remove(l.ends[0]))
	}
	return over
}

// NextEnd is when the next ban ends, in seconds since the epoch; false when none ever does.
func (l *Ledger) NextEnd() (int64, bool) {
	if len(l.ends) == 0 {
		return 0, false
	}
	return l.records.At(l.ends[0]).until, true
}

// Get returns the ban of exactly this host or prefix.
func (l *Ledger) Get(host netip.Prefix) (policy.Ban, bool) {
	if slot, _ := l.find(host); slot != 0 {
		return l.ban(slot), true
	}
	return policy.Ban{}, false
}

// Covering returns the bans that keep all of p out, the widest first.
func (l *Ledger) Covering(p netip.Prefix) []policy.Ban {
	var bans []policy.Ban
	for bits := 0; bits <= p.Bits(); bits++ {
		wide, err := p.Addr().Prefix(bits)
		if err != nil {
			break
		}
		if b, ok := l.Get(wide); ok {
			bans = append(bans, b)
		}
	}
	return bans
}

// slots yields every ban's slot, in no order.
func (l *Ledger) slots() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for slot := range l.records.Slots() {
			if l.records.At(slot).stands && !yield(slot) {
				return
			}
		}
	}
}

// All yields every ban, in no order.
func (l *Ledger) All() iter.Seq[policy.Ban] {
	return func(yield func(policy.Ban) bool) {
		for slot := range l.slots() {
			if !yield(l.ban(slot)) {
				return
			}
		}
	}
}

// Within yields the bans of hosts inside p.
func (l *Ledger) Within(p netip.Prefix) iter.Seq[policy.Ban] {
	return func(yield func(policy.Ban) bool) {
		for slot := range l.slots() {
			if host := l.host(slot); host.Bits() >= p.Bits() && p.Contains(host.Addr()) && !yield(l.ban(slot)) {
				return
			}
		}
	}
}

// Sorted returns every ban, the latest first.
func (l *Ledger) Sorted() []policy.Ban {
	bans := make([]policy.Ban, 0, l.n)
	for b := range l.All() {
		bans = append(bans, b)
	}
	slices.SortFunc(bans, latestFirst)
	return bans
}

func latestFirst(a, b policy.Ban) int {
	return cmp.Or(cmp.Compare(b.At, a.At), a.Host.Addr().Compare(b.Host.Addr()), cmp.Compare(a.Host.Bits(), b.Host.Bits()))
}

// Touch takes note that a host failed at a second, if it is in the book.
func (l *Ledger) Touch(host netip.Prefix, at int64) {
	if slot, r := l.find(host); slot != 0 {
		r.active = max(r.active, at)
	}
}

// A Place is where the book has a ban, as long as the ban stands. Later another one may stand there.
type Place uint32

// Latest is where every ban stands, those of the hosts first that failed last. A host that earns a ban fails at that
// second.
func (l *Ledger) Latest() []Place {
	// One number each, with the time above: this is done while a host is unprotected.
	all := make([]uint64, 0, l.n)
	for slot := range l.slots() {
		ago := uint64(1)<<37 - uint64(min(max(l.records.At(slot).active, 0), 1<<37))
		all = append(all, ago<<26|uint64(slot)) // a slot has 26 bits
	}
	slices.Sort(all)
	places := make([]Place, len(all))
	for i, x := range all {
		places[i] = Place(x & (1<<26 - 1))
	}
	return places
}

// At is the ban at a place. It is false when none stands there any more.
func (l *Ledger) At(at Place) (policy.Ban, bool) {
	if slot := uint32(at); l.records.At(slot).stands {
		return l.ban(slot), true
	}
	return policy.Ban{}, false
}

// Told is At, and takes the ban as told to a copy, as [Ledger.Settle] does.
func (l *Ledger) Told(c Copy, at Place) (policy.Ban, bool) {
	b, ok := l.At(at)
	if ok {
		l.settle(c, uint32(at))
	}
	return b, ok
}

// Earliest yields every ban, those that began first before the others.
func (l *Ledger) Earliest() iter.Seq[policy.Ban] {
	return func(yield func(policy.Ban) bool) {
		slots := slices.AppendSeq(make([]uint32, 0, l.n), l.slots())
		slices.SortFunc(slots, func(a, b uint32) int {
			if x, y := l.records.At(a).at, l.records.At(b).at; x != y {
				return cmp.Compare(x, y)
			}
			x, y := l.host(a), l.host(b)
			return cmp.Or(x.Addr().Compare(y.Addr()), cmp.Compare(x.Bits(), y.Bits()))
		})
		for _, slot := range slots {
			if !yield(l.ban(slot)) {
				return
			}
		}
	}
}

// Len is the number of bans.
func (l *Ledger) Len() int { return l.n }

// Room is how many bans more the book takes before the oldest has to leave.
func (l *Ledger) Room() int {
	if l.max == 0 {
		return math.MaxInt
	}
	return max(0, l.max-l.n)
}

// Of is the number of bans that a policy gave, "" for those by hand.
func (l *Ledger) Of(name string) int { return l.byName[name] }

// Evicted is how many bans had to leave because the book was full.
func (l *Ledger) Evicted() uint64 { return l.evicted }

// Reshape asks isHost anew of every ban, after the allowlist or the IPv6 prefix changed, and marks everything for the
// kernel.
func (l *Ledger) Reshape() {
	clear(l.nets)
	for slot := range l.slots() {
		if !l.isHost(l.host(slot)) {
			l.nets[slot] = struct{}{}
		}
		l.mark(Kernel, slot)
	}
}

// IsHost reports whether a prefix stands in the kernel as one element of a hash set, not as ranges.
func (l *Ledger) IsHost(p netip.Prefix) bool { return l.isHost(p) }

// Nets yields the bans that are ranges in the kernel.
func (l *Ledger) Nets() iter.Seq[policy.Ban] {
	return func(yield func(policy.Ban) bool) {
		for slot := range l.nets {
			if !yield(l.ban(slot)) {
				return
			}
		}
	}
}

// Filed reports whether the file is known to have a line for a host of the book, right or out of date.
func (l *Ledger) Filed(host netip.Prefix) bool {
	_, r := l.find(host)
	return r != nil && r.filed
}

// evictOldest removes the ban that was entered first.
func (l *Ledger) evictOldest() {
	if l.oldest != 0 {
		l.remove(l.oldest)
		l.evicted++
	}
}
