package daemon

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
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

// thrift keeps the process's memory near what it needs. The zero value is ready; one goroutine uses it.
type thrift struct {
	percent int
	burst   bool
}

// worked takes note of a commit of so many changes.
func (t *thrift) worked(changes int) {
	t.burst = t.burst || changes >= muchWork
	t.adjust()
}

// rest is called when nothing more was to be done for a while. Behind a burst it gives back to the system what is free;
// Go itself would take minutes.
func (t *thrift) rest() {
	if t.burst {
		t.burst = false
		debug.FreeOSMemory()
	}
}

// adjust sets how much the heap may grow until the next collection, unless whoever started us said it.
func (t *thrift) adjust() {
	if os.Getenv("GOGC") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	percent := mostPercent
	if n := live[0].Value.Uint64(); n > 0 {
		percent = int(min(max(garbage*100/n, fewPercent), mostPercent))
	}
	// Setting it stops the world for a moment: not for a little.
	if d := percent - t.percent; d > t.percent/4 || -d > t.percent/4 {
		t.percent = percent
		debug.SetGCPercent(percent)
	}
}
