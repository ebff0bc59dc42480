package daemon

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

// What the daemon keeps for long, the hosts' failures and the bans, are large blocks without pointers, which cost the
// garbage collector next to nothing however many they are. Letting the heap double before it collects, as Go does by
// itself, would double the daemon's memory for no gain: garbage comes from lines and commits, whose number does not
// grow with that of the hosts. So the garbage that may lie about is bounded by a size, and above that by a share.
const (
	garbage      = 6 << 20 // bytes
	mostPercent  = 100     // of what lives: Go's default
	fewPercent   = 20
	startPercent = 5 // at a start, which fills the book, and in a burst
)

// calmAfter is how long after a burst memory is given back: not in the middle of it, and not again and again.
const calmAfter = 5 * time.Second

// thrift keeps the process's memory near what it needs. The memory task uses it.
type thrift struct {
	percent int
	burst   atomic.Bool
}

// begin is for a start: its peak is what decides how much the daemon ever takes from the system.
func (t *thrift) begin() { t.set(startPercent) }

// manyChanges is a commit that is a burst by itself: what it takes may have counted as living when that was last measured.
const manyChanges = 1000

// worked is called after a commit of so many changes, which follows on all work but that of the kernel's mirror. Where that left much
// memory behind (a flood, a large blocklist read or written), it is given back a little later.
func (t *thrift) worked(changes int) {
	held := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/free:bytes"}}
	metrics.Read(held)
	sum := uint64(0)
	for _, s := range held {
		sum += s.Value.Uint64()
	}
	least := fewPercent
	if changes >= manyChanges {
		least = startPercent
	}
	live := t.adjust(least)
	if changes >= manyChanges || sum > live+max(garbage, live/100*fewPercent) {
		t.burst.Store(true)
	}
}

// calm is called calmAfter a burst. It gives back to the system what is free; Go itself would take minutes.
func (t *thrift) calm() {
	t.burst.Store(false)
	runtime.GC() // what lies in a sync.Pool goes with the second collection, and FreeOSMemory is one
	debug.FreeOSMemory()
	t.adjust(fewPercent)
}

// adjust sets how much the heap may grow until the next collection, at least so many percent, and returns what lived at
// the last one.
func (t *thrift) adjust(least int) (live uint64) {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	live = sample[0].Value.Uint64()
	percent := mostPercent
	if live > 0 {
		percent = int(min(max(garbage*100/live, uint64(least)), mostPercent))
	}
	// Setting it stops the world for a moment: not for a little.
	if d := percent - t.percent; d > t.percent/4 || -d > t.percent/4 {
		t.set(percent)
	}
	return live
}

// set does so, unless whoever started us said it.
func (t *thrift) set(percent int) {
	t.percent = percent
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}
