package daemon

import (
	"context"
	"runtime"
	"sync/atomic"
)

// A lane is the way that a log's findings go to the court: one for live lines, which are heard first, and one for
// backlogs, which may be long. What one log sent stays in order: it changes over only when nothing of it is on its way.
type lane struct {
	waiting atomic.Int32 // findings that were not heard yet
	live    atomic.Bool  // they went the way of live lines
}

// send sends what a log found. lanes are those of the log's names.
func (c *court) send(ctx context.Context, f finding, lanes []*lane) error {
	live := f.live && len(lanes) > 0
	for _, l := range lanes {
		if l.waiting.Load() > 0 {
			live = l.live.Load()
		}
	}
	for _, l := range lanes {
		l.live.Store(live)
		l.waiting.Add(1)
	}
	f.lanes = lanes
	way := c.found
	if live {
		way = c.foundLive
	}
	select {
	case way <- f:
		if live {
			runtime.Gosched() // whoever judges goes first
		}
		return nil
	case <-ctx.Done():
		for _, l := range lanes {
			l.waiting.Add(-1)
		}
		return ctx.Err()
	}
}

// hearLive hears the live lines that wait, but not those that come meanwhile without an end.
func (c *court) hearLive() {
	for range cap(c.foundLive) {
		select {
		case f := <-c.foundLive:
			c.hear(f)
		default:
			return
		}
	}
}
