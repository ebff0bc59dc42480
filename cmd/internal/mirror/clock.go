package mirror

import (
	"banset/policy"
	"banset/policy/ledger"
)

// ClockSet says that the wall clock, by which bans end, has moved against the one by which the kernel counts timeouts
// down: somebody set it, or the machine slept, during which no timeout gets shorter. Every element with an end gets the
// time that is left of its ban by the wall clock. It never blocks.
func (k *Kernel) ClockSet() {
	k.mu.Lock()
	k.clockSet = true
	k.mu.Unlock()
	k.Wake()
}

// misaligned makes every ban that has an end wait for the kernel. It runs in the judgement's goroutine, while that of
// the mirror waits for it.
func (k *Kernel) misaligned(book *ledger.Ledger) {
	for b := range book.All() {
		if b.Until != policy.Never {
			book.Mark(ledger.Kernel, b.Host)
		}
	}
	for first, n := range k.nets {
		if n.host.IsValid() && n.until != policy.Never {
			n.until = 0 // no range that is wanted has this end
			k.nets[first] = n
		}
	}
}
