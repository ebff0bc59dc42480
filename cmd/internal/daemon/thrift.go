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
	garbage     = 16 << 20 // bytes
	mostPercent = 100      // of what lives: Go's default
	fewPercent  = 20
)

// muchWork is how many changes of one commit are a burst: a start, a flood, a reload. Behind it lies memory that may not
// be needed again for days.
const muchWork = 1000

// calmAfter is how long nothing more must have been to do before memory is given back.
const calmAfter = 2 * time.Second

// thrift keeps the process's memory near what it needs. The memory task uses it.
type thrift struct {
	percent int
	burst   atomic.Bool
}

// begin is for a start: its peak is what decides how much the daemon ever takes from the system.
func (t *thrift) begin() { t.set(fewPercent) }

// worked takes note of a commit of so many changes.
func (t *thrift) worked(changes int) {
	if changes >= muchWork {
		t.burst.Store(true)
	}
	t.adjust()
}

// calm is called when nothing more was to be done for a while. It gives back to the system what is free; Go itself would
// take minutes.
func (t *thrift) calm() {
	t.burst.Store(false)
	runtime.GC() // what lies in a sync.Pool goes with the second collection, and FreeOSMemory is one
	debug.FreeOSMemory()
	t.adjust()
}

// adjust sets how much the heap may grow until the next collection.
func (t *thrift) adjust() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	percent := mostPercent
	if n := live[0].Value.Uint64(); n > 0 {
		percent = int(min(max(garbage*100/n, fewPercent), mostPercent))
	}
	// Setting it stops the world for a moment: not for a little.
	if d := percent - t.percent; d > t.percent/4 || -d > t.percent/4 {
		t.set(percent)
	}
}

// set does so, unless whoever started us said it.
func (t *thrift) set(percent int) {
	t.percent = percent
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}
