package judge

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"banset/policy"
)

// minMemory is how long a host must have been quiet after its last ban before its offences are forgotten: this, or
// the longest rung of the policy's ladder that ends, whichever is longer.
const minMemory = 30 * 24 * time.Hour

// ladder remembers how often each host offended each policy that has more than one rung.
type ladder struct {
	rungs   map[rungKey]rung
	max     int
	changed map[rungKey]struct{}
}

type rungKey struct {
	policy string
	host   netip.Prefix
}

// rung is where a host stands: the offences so far and the end of the ban for the last one.
type rung struct {
	offences int
	end      int64 // seconds since the epoch, or policy.Never
}

func newLadder(maxHosts int) *ladder {
	return &ladder{rungs: make(map[rungKey]rung), max: maxHosts, changed: make(map[rungKey]struct{})}
}

// step returns the ban time for an offence at the given second and moves the host up, but only when its last ban was
// over: a host that goes on knocking while it is banned commits no new offence.
func (l *ladder) step(p *policy.Policy, host netip.Prefix, at int64) (length time.Duration, offences int) {
	if len(p.BanTime) == 1 {
		return p.BanTime[0], 1
	}
	k := rungKey{p.Name, host}
	r, known := l.rungs[k]
	switch {
	case known && forgotten(p, r, at):
		r = rung{offences: 1}
	case !known || at >= r.end:
		r.offences++
	}
	length = p.BanTime[min(r.offences, len(p.BanTime))-1]
	r.end = max(r.end, endOf(at, length))
	if !known && l.max > 0 && len(l.rungs) >= l.max {
		l.evict()
	}
	l.rungs[k] = r
	l.changed[k] = struct{}{}
	return length, r.offences
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
	if _, ok := l.rungs[k]; ok {
		delete(l.rungs, k)
		l.changed[k] = struct{}{}
	}
}

// evict drops the tenth of the hosts whose last ban ended first, so that the work is shared by many calls.
func (l *ladder) evict() {
	keys := make([]rungKey, 0, len(l.rungs))
	for k := range l.rungs {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b rungKey) int {
		return cmp.Compare(l.rungs[a].end, l.rungs[b].end)
	})
	for _, k := range keys[:max(1, len(keys)/10)] {
		l.drop(k)
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
	r.offences, r.end = int(offences), end
	return k, r, nil
}

func (r rung) encode() []byte {
	return binary.AppendVarint(binary.AppendVarint(nil, int64(r.offences)), r.end)
}
