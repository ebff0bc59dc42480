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
	done atomic.Int64 // bytes
	quit chan struct{}
	over chan struct{}
}

// startProgress shows how much of the named files is read, until stop.
func (a *app) startProgress(names []string) *progress {
	p := &progress{quit: make(chan struct{}), over: make(chan struct{})}
	if !isTerminal(a.stderr) {
		close(p.over)
		return p
	}
	var total int64
	for _, name := range names {
		if info, err := os.Stat(name); err == nil {
			total += info.Size()
		}
	}
	go p.show(a.stderr, total)
	return p
}

// show draws until stop, then wipes its line. Work that is done in less than half a second shows nothing.
func (p *progress) show(w io.Writer, total int64) {
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
		text := size(uint64(done))
		if total > 0 {
			text = fmt.Sprintf("%3d %%  %s of %s", min(100, 100*done/total), text, size(uint64(total)))
		}
		speed := size(uint64(float64(done) / time.Since(began).Seconds()))
		fmt.Fprintf(w, "\r%s, %s/s\x1b[K", text, speed)
	}
}

// stop ends the showing.
func (p *progress) stop() {
	close(p.quit)
	<-p.over
}
