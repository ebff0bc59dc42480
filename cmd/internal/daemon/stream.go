package daemon

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// journalSocket is where journald takes streams of log lines; systemd connects a unit's stderr to it.
const journalSocket = "/run/systemd/journal/stdout"

// isJournal reports whether out is the stream that $JOURNAL_STREAM names, "device:inode": it is inherited by programs
// whose output went elsewhere, see systemd.exec(5).
func isJournal(out io.Writer, stream string) bool {
	f, ok := out.(*os.File)
	if !ok || stream == "" {
		return false
	}
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// openStream connects to journald as systemd does for a unit (sd_journal_stream_fd(3)): seven lines say how to take what
// follows, of which the third is a priority, and the fourth that lines begin with one of their own.
func openStream(socket string) (net.Conn, error) {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(c, "banset\n\n6\n1\n0\n0\n0\n"); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// streamRetry is how long journald is left alone after it was not there.
const streamRetry = time.Second

// rewrite writes lines to a new stream of the journal, whenever there is one again, or gives up when the logger ends.
func (h *logHandler) rewrite(lines []byte) {
	for {
		c, err := openStream(h.journal)
		if err == nil {
			if old, ok := h.out.(net.Conn); ok {
				old.Close()
			}
			h.out = c
			n, err := c.Write(lines)
			if err == nil {
				return
			}
			lines = lines[bytes.LastIndexByte(lines[:n], '\n')+1:]
		}
		select {
		case <-time.After(streamRetry):
		case <-h.closing:
			return
		}
	}
}
