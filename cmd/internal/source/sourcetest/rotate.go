package sourcetest

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"banset/cmd/internal/source"
)

// writeRotating writes the lines, each once r has the one before, and rotates before every so many.
func writeRotating(l Log, r *reader, way Way, lines []string, every int) {
	for i, line := range lines {
		if i%every == every-1 {
			l.Rotate(way)
		}
		l.Write(line + "\n")
		r.awaitLine(line)
	}
}

func testRotateQuiet(t *testing.T, k Kind, way Way) {
	l := k.New(t)
	all := numbered(0, 40)
	r := start(t, l.Open(nil), nil, nil)
	writeRotating(l, r, way, all, 5)
	r.stop()
	same(t, r.lines(), all, way.Late)
}

// testRotateBusy rotates while lines are written without a pause.
func testRotateBusy(t *testing.T, k Kind, way Way, slow bool) {
	const lines, rotations = 6000, 6
	l := k.New(t)
	all := numbered(0, lines)
	var block chan struct{}
	if slow {
		block = make(chan struct{})
	}
	r := start(t, l.Open(nil), nil, block)
	var written atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, line := range all {
			l.Write(line + "\n")
			written.Add(1)
		}
	})
	if slow {
		// The handler takes one chunk for each rotation, so files pile up before it.
		go func() {
			for range rotations / 2 {
				select {
				case block <- struct{}{}:
				case <-t.Context().Done():
				}
			}
		}()
	}
	inNew := 0 // a line that is in the newest file
	for i := range rotations {
		// Each file gets some lines: one that is rotated while it is empty can't be told from a copy being made.
		next := max(int64(lines/(rotations+1)*(i+1)), min(int64(inNew+30), lines))
		for written.Load() < next {
			if slow {
				time.Sleep(time.Millisecond) // paces the test, nothing is concluded from it
				continue
			}
			r.awaitMore()
		}
		if i == 0 {
			r.awaitLine(all[0]) // a first start does not look for what is rotated
		} else if way.Live {
			// A file that was never seen leaves nothing behind: a line that is surely in it must have come.
			if slow || inNew >= lines {
				break
			}
			r.awaitLine(all[inNew])
		}
		l.Rotate(way)
		inNew = int(written.Load()) + 1
	}
	wg.Wait()
	if slow {
		go func() {
			for {
				select {
				case block <- struct{}{}:
				case <-t.Context().Done():
					return
				}
			}
		}()
	}
	r.awaitAll(account{all: all})
	l.Write("the end\n")
	r.awaitLine("the end")
	r.stop()
	same(t, r.lines(), append(all, "the end"), way.Late)
}

// testEveryRotation resumes after several rotations from positions in every one of the files.
func testEveryRotation(t *testing.T, k Kind, way Way) {
	l := k.New(t)
	all := numbered(0, 16)
	r := start(t, l.Open(nil), nil, nil)
	writeRotating(l, r, way, all, 4)
	r.stop()
	// More rotations while nobody reads.
	more := numbered(100, 6)
	for i, line := range more {
		l.Write(line + "\n")
		if i%2 == 1 {
			l.Rotate(way)
		}
	}
	resumeAll(t, l, r.batches(), append(all, more...), way.Late)
}

// testCrashes stops the source again and again while the log is written and rotated, and lets it forget some of what it
// did last, as a crash does.
func testCrashes(t *testing.T, k Kind, way Way) {
	const lines, rotations = 8000, 10
	l := k.New(t)
	all := numbered(0, lines)
	rnd := rand.New(rand.NewPCG(1, uint64(len(way.Name))))
	writerDone := make(chan struct{})
	write := func() {
		defer close(writerDone)
		for i, line := range all {
			if i%(lines/rotations) == lines/rotations/2 {
				l.Rotate(way)
			}
			if i > 0 {
				l.Write(line + "\n")
			}
			if i%50 == 0 {
				time.Sleep(time.Millisecond) // paces the test, nothing is concluded from it
			}
		}
	}
	l.Write(all[0] + "\n")
	var got []string
	var held []source.Position
	for running := true; running; {
		select {
		case <-writerDone:
			running = false
		default:
		}
		r := start(t, l.Open(held), held, nil)
		if held == nil {
			r.awaitLine(all[0]) // a first start does not look for what is rotated already
			go write()
		}
		n := 1 + rnd.IntN(12)
		timeout := time.After(deadline)
		for len(r.batches()) < n && running {
			select {
			case <-r.more:
			case <-writerDone:
				running = false
			case <-timeout:
				t.Fatalf("no more than %d batches", len(r.batches()))
			}
		}
		r.stop()
		kept := r.batches()
		lost := min(len(kept), rnd.IntN(4))
		if held == nil {
			lost = 0 // nor would a second one without any position
		}
		kept = kept[:len(kept)-lost]
		for _, b := range kept {
			got = append(got, b.lines...)
			held = b.held
		}
	}
	l.Write("the end\n")
	r := start(t, l.Open(held), held, nil)
	r.awaitLine("the end")
	r.awaitAll(account{before: got, all: append(all, "the end")})
	r.stop()
	same(t, append(got, r.lines()...), append(all, "the end"), way.Late)
}
