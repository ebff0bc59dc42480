package follow

import (
	"io"
	"log"
	"os"
	"runtime"

	"github.com/hpcloud/tail"
)

// A tailer is hpcloud/tail, set to read the lines from a place to the file's end, once. It waits for read: opening the
// file and getting there is most of the work for a line, and is done before the line comes.
//
// What makes the library safe (version 1.0.0):
//   - It opens our descriptor through /proc, so it reads that inode whatever the name leads to by now.
//   - Follow is off: it reads to the end and stops, and our own inotify rings for the next time. With Follow it would
//     wait for notifications of its own, which it drops while it is busy and which stop for good at a rename; its
//     watchers are global and may call os.Exit. None of that code runs.
//   - Without MaxLineSize and RateLimiter a line's Text is what was in the file, so lengths add up to offsets.
//   - It keeps a line without end in memory while the file grows faster than it reads: the caller hands over to block
//     reads when more than trickle bytes wait.
//   - It blocks until its Lines are received: they always are, to the end.
//   - It logs that it has found its place, in its own goroutine, before it reads. There it is held.
type tailer struct {
	tail *tail.Tail
	off  int64
	gate chan bool
}

// newTailer opens a tailer at off. It must be read, or closed.
func newTailer(f *os.File, off int64) (*tailer, error) {
	gate := make(chan bool, 1)
	t, err := tail.TailFile(fdPath(f), tail.Config{
		Location:  &tail.SeekInfo{Offset: off},
		MustExist: true,
		Logger:    &gateLogger{Logger: discard, gate: gate},
	})
	if err != nil {
		return nil, err // e.g. no /proc, or the right to open it was lost since
	}
	return &tailer{t, off, gate}, nil
}

var discard = log.New(io.Discard, "", 0)

// A gateLogger writes nothing. It returns from the first thing that is logged when its gate lets it, and ends the
// goroutine when the gate is closed: what the library has deferred closes the file.
type gateLogger struct {
	*log.Logger
	gate chan bool
	open bool
}

func (l *gateLogger) Printf(string, ...any) {
	if l.open {
		return
	}
	if l.open = <-l.gate; !l.open {
		runtime.Goexit()
	}
}

// read appends the lines to buf. Each ends in '\n', also the last one if it has none in the file: the caller must look.
// It returns early once it has limit bytes.
func (t *tailer) read(limit int, buf []byte) ([]byte, error) {
	t.gate <- true
	stopped := false
	for line := range t.tail.Lines {
		if stopped {
			continue
		}
		buf = append(append(buf, line.Text...), '\n')
		if len(buf) >= limit {
			stopped = true
			t.tail.Kill(nil)
		}
	}
	return buf, t.tail.Wait()
}

// close ends a tailer that was not read. There may be none.
func (t *tailer) close() {
	if t == nil {
		return
	}
	close(t.gate)
	_ = t.tail.Wait() // it did nothing that can have failed
}
