package main

import (
	"context"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
)

// A summaryHit is one hit of a log.
type summaryHit struct {
	host netip.Prefix
	at   int64 // seconds since the epoch; noStamp without one
	job  uint16
}

const noStamp = math.MaxInt64

const (
	mergeBatch = 1024 // hits that are handed over at once
	mergeAhead = 64   // batches that a file may be ahead
)

// A merge brings the hits of several logs in order of time, as the daemon would have read them, without keeping them:
// logs are read at the same time as far as there are processors, and beyond that only if their times overlap. Within one
// log the order is the log's own. A log that is ahead of the others waits.
type merge struct {
	files   []*mergeFile // as they were named
	scan    func(*mergeFile)
	waiting []*mergeFile // not begun, by their beginning
	open    []*mergeFile
	reading atomic.Int64 // files whose goroutine reads
}

// A mergeFile is one log. Its goroutine is the owner of tally and cut until hits is closed.
type mergeFile struct {
	tally fileTally
	cut   uint64
	hits  chan []summaryHit
	spent chan []summaryHit // batches to be filled again
	batch []summaryHit      // to be sent
	whole []summaryHit      // received,
	queue []summaryHit      // and what of it is left
	index int
	last  int64 // no hit of it is older: its beginning, then the latest of those that were handed out
}

// newMerge makes a merge of the named files, each of which is read by scan in a goroutine of its own.
func newMerge(names []string, scan func(*mergeFile)) *merge {
	m := &merge{scan: scan}
	for i, name := range names {
		f := &mergeFile{hits: make(chan []summaryHit, mergeAhead), spent: make(chan []summaryHit, mergeAhead), index: i}
		f.tally.Name = name
		m.files = append(m.files, f)
	}
	m.waiting = slices.Clone(m.files)
	return m
}

// add sends a hit. It waits while the file is ahead of others, or gives up with ctx.
func (f *mergeFile) add(ctx context.Context, h summaryHit) {
	if f.batch = append(f.batch, h); len(f.batch) == mergeBatch {
		f.flush(ctx)
	}
}

func (f *mergeFile) flush(ctx context.Context) {
	if len(f.batch) == 0 {
		return
	}
	select {
	case f.hits <- f.batch:
	case <-ctx.Done():
	}
	select {
	case f.batch = <-f.spent:
	default:
		f.batch = make([]summaryHit, 0, mergeBatch)
	}
}

// begin starts the file that waits at i.
func (m *merge) begin(i int) *mergeFile {
	f := m.waiting[i]
	m.waiting = slices.Delete(m.waiting, i, i+1)
	m.open = append(m.open, f)
	m.reading.Add(1)
	go func() {
		m.scan(f)
		m.reading.Add(-1)
		close(f.hits)
	}()
	return f
}

// earliest is the index of the file with the least time in a list, the one named first of several; -1 of none.
func earliest(files []*mergeFile) int {
	best := -1
	for i, f := range files {
		if best < 0 || f.time() < files[best].time() || f.time() == files[best].time() && f.index < files[best].index {
			best = i
		}
	}
	return best
}

// time is when the next hit of the file is, as far as that is known: no earlier.
func (f *mergeFile) time() int64 {
	if len(f.queue) > 0 && f.queue[0].at != noStamp {
		return max(f.last, f.queue[0].at)
	}
	return f.last
}

// next is the next hit; false at the end of all files.
func (m *merge) next() (summaryHit, bool) {
	for {
		for len(m.waiting) > 0 && m.reading.Load() < int64(runtime.GOMAXPROCS(0)) {
			m.begin(earliest(m.waiting))
		}
		i := earliest(m.open)
		if w := earliest(m.waiting); w >= 0 && (i < 0 || m.waiting[w].time() <= m.open[i].time()) {
			m.begin(w)
			continue
		}
		if i < 0 {
			return summaryHit{}, false
		}
		f := m.open[i]
		if len(f.queue) == 0 {
			batch, ok := <-f.hits
			if !ok {
				m.open = slices.Delete(m.open, i, i+1)
				continue
			}
			if f.whole != nil {
				select {
				case f.spent <- f.whole[:0]:
				default:
				}
			}
			f.whole, f.queue = batch, batch
			continue // its time is known better now
		}
		h := f.queue[0]
		f.queue = f.queue[1:]
		if h.at != noStamp {
			f.last = max(f.last, h.at)
		}
		return h, true
	}
}
