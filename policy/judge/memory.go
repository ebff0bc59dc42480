package judge

import (
	"encoding/binary"
	"fmt"
	"time"
)

// A Part is one kind of what a judge remembers across a restart, beside the book of bans.
type Part string

const (
	Windows Part = "windows" // failures within findtime
	Ladder  Part = "ladder"  // offences of repeat offenders
	Skews   Part = "skews"   // how far the logs' time stamps are off
)

// blockSize is how much memory for keys and values is had at once.
const blockSize = 4 << 10

// Changed yields what changed since the last call, as bytes for a store; a nil value says that the key is gone. The
// bytes are the receiver's to keep.
func (j *Judge) Changed(yield func(p Part, key, value []byte)) {
	// A flood has a million of them: they share blocks of memory.
	var block []byte
	keep := func(b []byte) []byte {
		if b == nil {
			return nil
		}
		if block == nil || len(b) > cap(block)-len(block) {
			block = make([]byte, 0, max(blockSize, len(b)))
		}
		from := len(block)
		block = append(block, b...)
		return block[from:len(block):len(block)]
	}
	j.windows.Changed(func(key, value []byte) { yield(Windows, keep(key), keep(value)) })
	j.ladder.tell(func(key, value []byte) { yield(Ladder, key, value) })
	for log, c := range j.clocks {
		if c.changed {
			c.changed = false
			yield(Skews, []byte(log), binary.AppendVarint(nil, int64(c.skew)))
		}
	}
}

// ChangeAll makes the next Changed yield everything, for a store that is empty.
func (j *Judge) ChangeAll() {
	j.windows.MarkAll()
	for slot := range j.ladder.rungs.Slots() {
		j.ladder.mark(slot)
	}
	for _, c := range j.clocks {
		c.changed = true
	}
}

// Load puts back what Changed yielded before a restart. What belongs to a policy that is gone is left out. An error
// says that the bytes are none of ours; nothing was taken from them.
func (j *Judge) Load(p Part, key, value []byte) error {
	switch p {
	case Windows:
		return j.windows.Load(key, value)
	case Ladder:
		k, r, err := decodeRung(key, value)
		if err != nil {
			return err
		}
		if p := j.policies[k.policy]; p != nil && len(p.BanTime) > 1 {
			j.ladder.set(k, r)
		}
		return nil
	case Skews:
		skew, n := binary.Varint(value)
		if n <= 0 {
			return fmt.Errorf("skews: value %x of %q can't be read", value, key)
		}
		j.clocks[string(key)] = &clock{skew: time.Duration(skew)}
		return nil
	}
	return fmt.Errorf("no such part: %q", p)
}

// Loaded ends a series of Load: counts of policies that are gone are forgotten.
func (j *Judge) Loaded() {
	for _, name := range j.windows.Policies() {
		if j.policies[name] == nil {
			j.windows.Drop(name)
		}
	}
}
