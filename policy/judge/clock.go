package judge

import (
	"time"

	"banset/policy"
)

// tolerance is how far a live line's own time may be from its arrival before the stamp is held to be wrong.
const tolerance = time.Minute

// farAhead is how far ahead of its arrival a backlog's line may be stamped because of a wrong zone: zones are up to 26
// hours apart. A line that is further ahead says that the host's own clock is behind, as that of a machine whose battery
// is empty, until it hears the time.
const farAhead = 36 * time.Hour

// clock judges the time stamps of one log.
type clock struct {
	skew    time.Duration // arrival less stamp as last seen live; 0 within the tolerance
	changed bool          // since the last Changes
}

// time is when the failure of h happened. A live line counts at its own time, or at its arrival where the two differ
// by more than the tolerance: the writer's clock or zone is wrong, and the difference is remembered. A line from a
// backlog counts at its own time put right by that difference, and no further ahead of its arrival than a live line
// could: a line that is read again after a crash counts as it did before. But when it is so far ahead that the host's
// clock must be wrong, it counts at its own time: to count a year of lines at the moment of their arrival would ban hosts
// for failures months apart.
func (c *clock) time(h *policy.Hit) time.Time {
	if h.Stamp.IsZero() {
		return h.Arrived
	}
	if !h.Live {
		ahead := tolerance
		if c.skew != 0 {
			ahead = 0 // then live lines count at their arrival
		}
		t := h.Stamp.Add(c.skew)
		if off := t.Sub(h.Arrived); off <= ahead || off > farAhead {
			return t
		}
		return h.Arrived
	}
	off := h.Arrived.Sub(h.Stamp)
	if off.Abs() <= tolerance {
		c.set(0)
		return h.Stamp
	}
	c.set(off.Round(time.Second))
	return h.Arrived
}

func (c *clock) set(skew time.Duration) {
	// A skew that only wavers is not worth a write.
	if (c.skew-skew).Abs() > time.Second || (skew == 0) != (c.skew == 0) {
		c.skew, c.changed = skew, true
	}
}
