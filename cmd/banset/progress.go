package main

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"
)

// A progress shows on a terminal how far long work has come, and nothing anywhere else.
type progress struct {
	done  atomic.Int64
	total int64
	unit  func(uint64) string // how an amount is written
	quit  chan struct{}
	over  chan struct{}
}

// startProgress shows how much of total is done, until stop; a total of 0 is not known.
func (a *app) startProgress(total int64, unit func(uint64) string) *progress {
	p := &progress{total: total, unit: unit, quit: make(chan struct{}), over: make(chan struct{})}
	if !isTerminal(a.stderr) {
		close(p.over)
		return p
	}
	go p.show(a.stderr)
	return p
}

// sizes is the size of the named files together, of those that can be asked.
func sizes(names []string) (total int64) {
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			total += info.Size()
		}
	}
	return total
}

// show draws until stop, then wipes its line. Work that is done in less than half a second shows nothing.
func (p *progress) show(w io.Writer) {
	defer close(p.over)
	began := time.Now()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.quit:
			fmt.Fprint(w, "\r\x1b[K")
			return
		case <-tick.C:
		}
		done := p.done.Load()
		text := p.unit(uint64(done))
		if p.total > 0 {
			text = fmt.Sprintf("%3d %%  %s of %s", min(100, 100*done/p.total), text, p.unit(uint64(p.total)))
		}
		speed := p.unit(uint64(float64(done) / time.Since(began).Seconds()))
		fmt.Fprintf(w, "\r%s, %s/s\x1b[K", text, speed)
	}
}

// stop ends the showing.
func (p *progress) stop() {
	close(p.quit)
	<-p.over
}
