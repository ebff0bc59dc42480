package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"
)

// queueSize is how much log text may wait for a slow reader of our output, in bytes.
const queueSize = 1 << 20

// logHandler writes one line a record, in fail2ban's shape: people grep for "[policy] Ban". The journal gets a
// priority and no time, anything else the local time and a word for what is wrong.
//
// Writing happens in a goroutine of its own: a full pipe must not hold up a ban. What does not fit the queue is
// counted and told. A journald that was stopped and is there again gets what was queued meanwhile.
type logHandler struct {
	out     io.Writer
	journal string // the socket that the journal takes streams at; "": out is none of the journal's
	level   slog.Level

	mu      sync.Mutex
	more    *sync.Cond
	queue   []byte
	lost    int
	closed  bool
	closing chan struct{} // closed with closed
	written chan struct{}
}

// NewLogger returns a logger to out and a function that writes what is queued and ends it. Debug lines only if debug.
func NewLogger(out io.Writer, debug bool) (log *slog.Logger, flush func()) {
	socket := ""
	if isJournal(out, os.Getenv("JOURNAL_STREAM")) {
		socket = journalSocket
	}
	return newLogger(out, socket, debug)
}

func newLogger(out io.Writer, journal string, debug bool) (log *slog.Logger, flush func()) {
	h := &logHandler{out: out, journal: journal, closing: make(chan struct{}), written: make(chan struct{})}
	if debug {
		h.level = slog.LevelDebug
	}
	h.more = sync.NewCond(&h.mu)
	go h.write()
	return slog.New(h), func() {
		h.mu.Lock()
		h.closed = true
		h.more.Signal()
		h.mu.Unlock()
		close(h.closing)
		<-h.written
	}
}

func (h *logHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }
func (h *logHandler) WithAttrs([]slog.Attr) slog.Handler           { return h }
func (h *logHandler) WithGroup(string) slog.Handler                { return h }

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	var word, priority string // see sd-daemon(3) for the priority
	switch r.Level {
	case slog.LevelError:
		word, priority = "ERROR ", "<3>"
	case slog.LevelWarn:
		word, priority = "WARNING ", "<4>"
	case slog.LevelDebug:
		priority = "<7>"
	}
	line := make([]byte, 0, 160)
	if h.journal != "" {
		line = append(line, priority...)
	} else {
		line = append(r.Time.AppendFormat(line, "2006-01-02 15:04:05.000 "), word...)
	}
	line = append(line, r.Message...)
	r.Attrs(func(a slog.Attr) bool {
		line = fmt.Appendf(line, " %s=%v", a.Key, a.Value)
		return true
	})
	line = append(line, '\n')
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.queue)+len(line) > queueSize || h.closed {
		h.lost++
		return nil
	}
	h.queue = append(h.queue, line...)
	h.more.Signal()
	return nil
}

func (h *logHandler) write() {
	defer close(h.written)
	var buf []byte
	for {
		h.mu.Lock()
		for len(h.queue) == 0 && !h.closed {
			h.more.Wait()
		}
		buf, h.queue = h.queue, buf[:0]
		lost, closed := h.lost, h.closed
		h.lost = 0
		h.mu.Unlock()
		if lost > 0 {
			mark := "<4>"
			if h.journal == "" {
				mark = time.Now().Format("2006-01-02 15:04:05.000 WARNING ")
			}
			buf = fmt.Appendf(buf, "%s%d log lines were lost: nobody read them\n", mark, lost)
		}
		if len(buf) == 0 && closed {
			return
		}
		n, err := h.out.Write(buf)
		if err != nil && h.journal != "" {
			h.rewrite(buf[bytes.LastIndexByte(buf[:n], '\n')+1:])
		}
		// Else nobody is left to tell of an error.
	}
}
