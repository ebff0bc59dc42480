package judge

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"banset/policy"
	"banset/policy/hosts"
)

// minMemory is how long a host must have been quiet after its last ban before its offences are forgotten: this, or
// the longest rung of the policy's ladder that ends, whichever is longer.
const minMemory = 30 * 24 * time.Hour

// ladder remembers how often each host offended each policy that has more than one rung: 45 bytes for each, without a
// pointer. A host that was dropped has its record until the state has been told.
type ladder struct {
	rungs    *hosts.Table[rung]
	policies []string          // by the kinds of the table's keys
	kinds    map[string]uint16 // their inverse
	n        int               // rungs that are not dropped
	max      int
	changed  []uint32 // slots that the state has yet to be told of, each once
}

type rungKey struct {
	policy string
	host   netip.Prefix
}

// rung is where a host stands: the offences so far and the end of the ban for the last one.
type rung struct {
	end      int64 // seconds since the epoch, or policy.Never
	offences int32
	changed  bool // it is in ladder.changed
	dropped  bool
}

func newLadder(maxHosts int) *ladder {
	return &ladder{rungs: hosts.New[rung](), kinds: make(map[string]uint16), max: min(max(maxHosts, 0), hosts.MaxSlots/2)}
}

// kind is a policy's number, a new one for a new policy. There are never as many as it has bits for: each has a name
// in a configuration that somebody loaded since the start.
func (l *ladder) kind(name string) uint16 {
	kind, ok := l.kinds[name]
	if !ok {
		kind = uint16(len(l.policies))
		l.policies = append(l.policies, name)
		l.kinds[name] = kind
	}
	return kind
}

// find returns the slot of a host that stands on a policy's ladder, or 0.
func (l *ladder) find(k rungKey) uint32 {
	slot := l.rungs.Find(hosts.KeyOf(k.host, l.kind(k.policy)))
	if slot != 0 && l.rungs.At(slot).dropped {
		return 0
	}
	return slot
}

func (l *ladder) get(k rungKey) (rung, bool) {
	slot := l.find(k)
	if slot == 0 {
		return rung{}, false
	}
	return *l.rungs.At(slot), true
}

// set puts a host where it stands now, and returns its slot.
func (l *ladder) set(k rungKey, r rung) uint32 {
	key := hosts.KeyOf(k.host, l.kind(k.policy))
	slot := l.rungs.Find(key)
	if slot == 0 {
		slot = l.rungs.Insert(key)
		l.n++
	}
	at := l.rungs.At(slot)
	if at.dropped {
		at.dropped = false
		l.n++
	}
	at.end, at.offences = r.end, r.offences
	return slot
}

// mark has the state told of a slot.
func (l *ladder) mark(slot uint32) {
	if r := l.rungs.At(slot); !r.changed {
		r.changed = true
		l.changed = append(l.changed, slot)
	}
}

// tell yields what changed since the last call.
func (l *ladder) tell(yield func(key, value []byte)) {
	changed := l.changed
	l.changed = nil
	for _, slot := range changed {
		key, r := l.rungs.Key(slot), l.rungs.At(slot)
		k := rungKey{l.policies[key.Kind()], key.Host()}
		r.changed = false
		if !r.dropped {
			yield(k.encode(), r.encode())
			continue
		}
		l.rungs.Remove(slot)
		yield(k.encode(), nil)
	}
}

// step returns the ban time for an offence at the given second and moves the host up, but only when its last ban was
// over: a host that goes on knocking while it is banned commits no new offence.
func (l *ladder) step(p *policy.Policy, host netip.Prefix, at int64) (length time.Duration, offences int) {
	if len(p.BanTime) == 1 {
		return p.BanTime[0], 1
	}
	k := rungKey{p.Name, host}
	r, known := l.get(k)
	switch {
	case known && forgotten(p, r, at):
		r = rung{offences: 1}
	case !known || at >= r.end:
		r.offences = min(r.offences, math.MaxInt32-1) + 1
	}
	length = p.BanTime[min(int(r.offences), len(p.BanTime))-1]
	r.end = max(r.end, endOf(at, length))
	if !known && l.max > 0 && l.n >= l.max {
		l.evict()
	}
	l.mark(l.set(k, r))
	return length, int(r.offences)
}

// forgotten reports whether the host was quiet for so long at the given second that its past no longer counts.
func forgotten(p *policy.Policy, r rung, at int64) bool {
	memory := minMemory
	for _, d := range p.BanTime {
		if d != policy.Forever {
			memory = max(memory, d)
		}
	}
	return r.end != policy.Never && at-r.end > int64(memory/time.Second)
}

func (l *ladder) drop(k rungKey) {
	if slot := l.find(k); slot != 0 {
		l.dropSlot(slot)
	}
}

func (l *ladder) dropSlot(slot uint32) {
	l.rungs.At(slot).dropped = true
	l.n--
	l.mark(slot)
}

// evict drops the tenth of the hosts whose last ban ended first, so that the work is shared by many calls.
func (l *ladder) evict() {
	slots := make([]uint32, 0, l.n)
	for slot := range l.rungs.Slots() {
		if !l.rungs.At(slot).dropped {
			slots = append(slots, slot)
		}
	}
	slices.SortFunc(slots, func(a, b uint32) int { return cmp.Compare(l.rungs.At(a).end, l.rungs.At(b).end) })
	for _, slot := range slots[:max(1, len(slots)/10)] {
		l.dropSlot(slot)
	}
}

// endOf is the first free second after a ban of this length, or Never.
func endOf(at int64, length time.Duration) int64 {
	if length == policy.Forever {
		return policy.Never
	}
	return at + int64(length/time.Second)
}

// A rung is stored under "policy NUL prefix" as two varints.

func (k rungKey) encode() []byte {
	b := append([]byte(k.policy), 0)
	h, _ := k.host.MarshalBinary() // never fails
	return append(b, h...)
}

func decodeRung(key, value []byte) (k rungKey, r rung, err error) {
	name, h, ok := bytes.Cut(key, []byte{0})
	if !ok {
		return k, r, fmt.Errorf("ladder: key %q has no policy", key)
	}
	if err := k.host.UnmarshalBinary(h); err != nil {
		return k, r, fmt.Errorf("ladder: host in key %q: %w", key, err)
	}
	k.policy = string(name)
	offences, n := binary.Varint(value)
	if n <= 0 || offences < 1 {
		return k, r, fmt.Errorf("ladder: value %x of key %q can't be read", value, key)
	}
	end, m := binary.Varint(value[n:])
	if m <= 0 {
		return k, r, fmt.Errorf("ladder: value %x of key %q can't be read", value, key)
	}
	r.offences, r.end = int32(min(offences, math.MaxInt32)), end
	return k, r, nil
}

func (r rung) encode() []byte {
	return binary.AppendVarint(binary.AppendVarint(nil, int64(r.offences)), r.end)
}
