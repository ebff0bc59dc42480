// Package ledger is the book of bans: who is out, until when, and why. It is the truth that the kernel, the blocklist
// file and the state are copies of, and it holds the work that is pending for each of them.
//
// Pending work is state, not a queue: a host that is banned, unbanned and banned again before a mirror comes for
// it is one piece of work. A Ledger belongs to one goroutine.
package ledger

import (
	"cmp"
	"container/heap"
	"iter"
	"math"
	"net/netip"
	"slices"
	"time"

	"banset/policy"
)

// A Copy is one of the places that mirror the book.
type Copy int

const (
	Kernel Copy = iota
	File
	State
	copies
)

// work is what one copy has yet to be told: hosts that wait, and hosts that a mirror is busy with.
type work struct{ waiting, taken map[netip.Prefix]struct{} }

// An Outcome is what became of a ban that was entered.
type Outcome int

const (
	Unchanged Outcome = iota // the ban that stands ends no earlier
	Added                    // the host was free
	Moved                    // the end of the ban that stands was moved
)

// A Ledger is the book of bans.
type Ledger struct {
	bans    map[netip.Prefix]*entry
	work    [copies]work
	ends    endHeap
	order   []netip.Prefix // oldest entered first; an element whose entry has another seq is stale
	seq     uint64
	seqs    []uint64 // of order
	max     int
	evicted uint64
	byName  map[string]int // bans by policy
	nets    map[netip.Prefix]struct{}
	past    map[netip.Prefix]int64 // hosts removed that the file may still have a line of: when that ban began
	isHost  func(netip.Prefix) bool

	// Heed, where it is set, is called with every ban that is entered or whose end moves, and, with gone, every ban that
	// leaves the book. It must not change the book.
	Heed func(b policy.Ban, gone bool)
}

type entry struct {
	ban    policy.Ban
	seq    uint64
	filed  bool  // the file has a line for the host
	active int64 // when the host was last known to fail, in seconds since the epoch
}

// New makes an empty book of at most maxBans bans, 0 for no limit. isHost tells the prefixes that stand in the
// kernel as one element of a hash set from those that are ranges; see [Ledger.Ranges].
func New(maxBans int, isHost func(netip.Prefix) bool) *Ledger {
	l := &Ledger{
		bans:   make(map[netip.Prefix]*entry),
		max:    maxBans,
		byName: make(map[string]int),
		nets:   make(map[netip.Prefix]struct{}),
		past:   make(map[netip.Prefix]int64),
		isHost: isHost,
	}
	for c := range l.work {
		l.work[c] = work{make(map[netip.Prefix]struct{}), make(map[netip.Prefix]struct{})}
	}
	return l
}

// Enter puts a ban that a policy earned into the book: of two bans of one host the later end wins. The ban that
// stands afterwards and its outcome are returned.
func (l *Ledger) Enter(b policy.Ban) (policy.Ban, Outcome) {
	e, ok := l.bans[b.Host]
	if !ok || e.ban.Until < b.Until {
		return b, l.Take(b)
	}
	// A ban that never ends and was found again in the kernel after a crash has no beginning, until its line is read.
	if again := e.ban; again.At > b.At {
		if again.At = b.At; again == b {
			l.Take(b)
		}
	}
	return e.ban, Unchanged
}

// Take puts a ban into the book whatever stands there: a person's will, which may also shorten a ban.
func (l *Ledger) Take(b policy.Ban) Outcome {
	e, ok := l.bans[b.Host]
	if ok && e.ban == b {
		return Unchanged
	}
	news := !ok || e.ban.Until != b.Until
	outcome := Moved
	if !ok {
		outcome = Added
		if l.max > 0 && len(l.bans) >= l.max {
			l.evictOldest()
		}
		l.seq++
		// A removal that the file has yet to be told of leaves a line there.
		e = &entry{seq: l.seq, filed: !l.Holds(File, b.Host)}
		l.bans[b.Host] = e
		delete(l.past, b.Host)
		l.order = append(l.order, b.Host)
		l.seqs = append(l.seqs, l.seq)
		if !l.isHost(b.Host) {
			l.nets[b.Host] = struct{}{}
		}
	} else {
		l.count(e.ban.Policy, -1)
	}
	e.ban = b
	e.active = max(e.active, b.At)
	l.count(b.Policy, +1)
	if b.Until != policy.Never {
		heap.Push(&l.ends, end{b.Until, b.Host})
	}
	l.markAll(b.Host)
	l.compact()
	if news && l.Heed != nil {
		l.Heed(b, false)
	}
	return outcome
}

// Remove takes a host out of the book and returns the ban that stood.
func (l *Ledger) Remove(host netip.Prefix) (policy.Ban, bool) {
	e, ok := l.bans[host]
	if !ok {
		return policy.Ban{}, false
	}
	delete(l.bans, host)
	delete(l.nets, host)
	l.past[host] = e.ban.At
	l.count(e.ban.Policy, -1)
	l.markAll(host)
	l.compact()
	if l.Heed != nil {
		l.Heed(e.ban, true)
	}
	return e.ban, true
}

// Over says of a host that is not in the book that its last ban began at a time, 0 for one that is not known, and that
// the file may still have it.
func (l *Ledger) Over(host netip.Prefix, at int64) {
	l.past[host] = at
	l.Mark(File, host)
}

// Past is when the last ban of a host began that the file has yet to be told is over; 0 when that is not known.
func (l *Ledger) Past(host netip.Prefix) int64 { return l.past[host] }

// EndOver removes the bans that are over at now and returns them. The kernel has expired its elements by itself,
// but for a clock that jumped; both copies are marked.
func (l *Ledger) EndOver(now time.Time) []policy.Ban {
	var over []policy.Ban
	for len(l.ends) > 0 && l.ends[0].until <= now.Unix() {
		top := heap.Pop(&l.ends).(end)
		if e, ok := l.bans[top.host]; ok && e.ban.Until == top.until {
			l.Remove(top.host)
			over = append(over, e.ban)
		}
	}
	return over
}

// NextEnd is when the next ban ends, in seconds since the epoch; false when none ever does.
func (l *Ledger) NextEnd() (int64, bool) {
	for len(l.ends) > 0 {
		top := l.ends[0]
		if e, ok := l.bans[top.host]; ok && e.ban.Until == top.until {
			return top.until, true
		}
		heap.Pop(&l.ends)
	}
	return 0, false
}

// Get returns the ban of exactly this host or prefix.
func (l *Ledger) Get(host netip.Prefix) (policy.Ban, bool) {
	if e, ok := l.bans[host]; ok {
		return e.ban, true
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
		if e, ok := l.bans[wide]; ok {
			bans = append(bans, e.ban)
		}
	}
	return bans
}

// All yields every ban, in no order.
func (l *Ledger) All() iter.Seq[policy.Ban] {
	return func(yield func(policy.Ban) bool) {
		for _, e := range l.bans {
			if !yield(e.ban) {
				return
			}
		}
	}
}

// Within yields the bans of hosts inside p.
func (l *Ledger) Within(p netip.Prefix) iter.Seq[policy.Ban] {
	return func(yield func(policy.Ban) bool) {
		for host, e := range l.bans {
			if host.Bits() >= p.Bits() && p.Contains(host.Addr()) && !yield(e.ban) {
				return
			}
		}
	}
}

// Sorted returns every ban, the latest first.
func (l *Ledger) Sorted() []policy.Ban {
	bans := make([]policy.Ban, 0, len(l.bans))
	for _, e := range l.bans {
		bans = append(bans, e.ban)
	}
	slices.SortFunc(bans, latestFirst)
	return bans
}

func latestFirst(a, b policy.Ban) int {
	return cmp.Or(cmp.Compare(b.At, a.At), a.Host.Addr().Compare(b.Host.Addr()), cmp.Compare(a.Host.Bits(), b.Host.Bits()))
}

// Touch takes note that a host failed at a second, if it is in the book.
func (l *Ledger) Touch(host netip.Prefix, at int64) {
	if e, ok := l.bans[host]; ok {
		e.active = max(e.active, at)
	}
}

// Latest yields every ban, those of the hosts first that failed last. A host that earns a ban fails at that second.
func (l *Ledger) Latest() iter.Seq[policy.Ban] {
	return func(yield func(policy.Ban) bool) {
		// Sorting the bans themselves would cost five times as much, and this is done while a host is unprotected.
		type one struct {
			active int64
			e      *entry
		}
		all := make([]one, 0, len(l.bans))
		for _, e := range l.bans {
			all = append(all, one{e.active, e})
		}
		slices.SortFunc(all, func(a, b one) int { return cmp.Compare(b.active, a.active) })
		for _, x := range all {
			if !yield(x.e.ban) {
				return
			}
		}
	}
}

// Len is the number of bans.
func (l *Ledger) Len() int { return len(l.bans) }

// Room is how many bans more the book takes before the oldest has to leave.
func (l *Ledger) Room() int {
	if l.max == 0 {
		return math.MaxInt
	}
	return max(0, l.max-len(l.bans))
}

// Of is the number of bans that a policy gave, "" for those by hand.
func (l *Ledger) Of(name string) int { return l.byName[name] }

// Evicted is how many bans had to leave because the book was full.
func (l *Ledger) Evicted() uint64 { return l.evicted }

// Reshape asks isHost anew of every ban, after the allowlist or the IPv6 prefix changed, and marks everything for the
// kernel.
func (l *Ledger) Reshape() {
	clear(l.nets)
	for host := range l.bans {
		if !l.isHost(host) {
			l.nets[host] = struct{}{}
		}
		l.Mark(Kernel, host)
	}
}

// IsHost reports whether a prefix stands in the kernel as one element of a hash set, not as ranges.
func (l *Ledger) IsHost(p netip.Prefix) bool { return l.isHost(p) }

// Nets yields the bans that are ranges in the kernel.
func (l *Ledger) Nets() iter.Seq[policy.Ban] {
	return func(yield func(policy.Ban) bool) {
		for host := range l.nets {
			if !yield(l.bans[host].ban) {
				return
			}
		}
	}
}

// Mark makes a host wait for a copy again: what the copy holds of it is unknown or wrong.
func (l *Ledger) Mark(c Copy, host netip.Prefix) { l.work[c].waiting[host] = struct{}{} }

// Settle drops what waits for a host: the copy is known to hold what the book says.
func (l *Ledger) Settle(c Copy, host netip.Prefix) {
	delete(l.work[c].waiting, host)
	if c == File {
		l.Mark(State, host)
		delete(l.past, host)
		if e, ok := l.bans[host]; ok {
			e.filed = true
		}
	}
}

// Pending is how many hosts a copy has yet to be told of, those that a mirror is busy with included.
func (l *Ledger) Pending(c Copy) int { return len(l.work[c].waiting) + len(l.work[c].taken) }

// Waiting is how many hosts wait for a copy's mirror to come.
func (l *Ledger) Waiting(c Copy) int { return len(l.work[c].waiting) }

// Holds reports whether a copy holds what the book says of a host, as far as its mirror knows.
func (l *Ledger) Holds(c Copy, host netip.Prefix) bool {
	_, waiting := l.work[c].waiting[host]
	_, taken := l.work[c].taken[host]
	return !waiting && !taken
}

// GoneAround reports whether p lies within a prefix that the book no longer has and that a copy still has to be told of.
func (l *Ledger) GoneAround(c Copy, p netip.Prefix) bool {
	for host := range l.work[c].waiting {
		if _, ok := l.bans[host]; !ok && host.Bits() <= p.Bits() && host.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// Filed reports whether the file is known to have a line for a host of the book, right or out of date.
func (l *Ledger) Filed(host netip.Prefix) bool {
	e, ok := l.bans[host]
	return ok && e.filed
}

// Fresh takes those bans that wait for the file and have no line there yet: an append does for them. It is ended by
// Done like Work.
func (l *Ledger) Fresh() []policy.Ban {
	w := &l.work[File]
	var bans []policy.Ban
	for host := range w.waiting {
		if e, ok := l.bans[host]; ok && !e.filed {
			bans = append(bans, e.ban)
			delete(w.waiting, host)
			w.taken[host] = struct{}{}
		}
	}
	slices.SortFunc(bans, func(a, b policy.Ban) int { return latestFirst(b, a) })
	return bans
}

// Work takes what waits for a copy, at most limit hosts (0: all), the most recent bans first. Hosts that the book no
// longer has come in gone. The mirror says with [Ledger.Done] how it went, before it comes again.
func (l *Ledger) Work(c Copy, limit int) (bans []policy.Ban, gone []netip.Prefix) {
	w := &l.work[c]
	n := len(w.waiting)
	if limit > 0 {
		n = min(n, limit)
	}
	for host := range w.waiting {
		if n == 0 {
			break
		}
		n--
		if e, ok := l.bans[host]; ok {
			bans = append(bans, e.ban)
		} else {
			gone = append(gone, host)
		}
		delete(w.waiting, host)
		w.taken[host] = struct{}{}
	}
	if len(w.waiting) == 0 {
		// A Go map never shrinks, and a flood makes it large once.
		w.waiting = make(map[netip.Prefix]struct{})
	}
	slices.SortFunc(bans, latestFirst)
	return bans, gone
}

// Done ends what Work took: it is in the copy, or, when ok is false, it waits again.
func (l *Ledger) Done(c Copy, ok bool) {
	w := &l.work[c]
	for host := range w.taken {
		switch {
		case !ok:
			w.waiting[host] = struct{}{}
		case c == File:
			l.Mark(State, host) // the state says which bans the file is known to hold
			if _, again := w.waiting[host]; !again {
				delete(l.past, host)
			}
			if e, ok := l.bans[host]; ok {
				e.filed = true
			}
		}
	}
	w.taken = make(map[netip.Prefix]struct{})
}

func (l *Ledger) markAll(host netip.Prefix) {
	for c := range copies {
		l.Mark(c, host)
	}
}

func (l *Ledger) count(name string, by int) {
	if l.byName[name] += by; l.byName[name] == 0 {
		delete(l.byName, name)
	}
}

// evictOldest removes the ban that was entered first.
func (l *Ledger) evictOldest() {
	for len(l.order) > 0 {
		host, seq := l.order[0], l.seqs[0]
		l.order, l.seqs = l.order[1:], l.seqs[1:]
		if e, ok := l.bans[host]; ok && e.seq == seq {
			l.Remove(host)
			l.evicted++
			return
		}
	}
}

// compact and the heap's lazy deletion keep both within a constant factor of the bans that stand.
func (l *Ledger) compact() {
	if len(l.order) > 64 && len(l.order) > 2*len(l.bans) {
		hosts, seqs := make([]netip.Prefix, 0, len(l.bans)), make([]uint64, 0, len(l.bans))
		for i, host := range l.order {
			if e, ok := l.bans[host]; ok && e.seq == l.seqs[i] {
				hosts, seqs = append(hosts, host), append(seqs, l.seqs[i])
			}
		}
		l.order, l.seqs = hosts, seqs
	}
	if len(l.ends) > 64 && len(l.ends) > 2*len(l.bans) {
		l.ends = slices.DeleteFunc(l.ends, func(x end) bool {
			e, ok := l.bans[x.host]
			return !ok || e.ban.Until != x.until
		})
		heap.Init(&l.ends)
	}
}

// end is a ban's end in the heap; stale when the book has another end for the host.
type end struct {
	until int64
	host  netip.Prefix
}

type endHeap []end

func (h endHeap) Len() int           { return len(h) }
func (h endHeap) Less(i, j int) bool { return h[i].until < h[j].until }
func (h endHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *endHeap) Push(x any)        { *h = append(*h, x.(end)) }
func (h *endHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}
