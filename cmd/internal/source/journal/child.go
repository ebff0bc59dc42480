package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// fields are those that a line is made of. journalctl adds the cursor and the times by itself.
const fields = "MESSAGE,SYSLOG_IDENTIFIER,_COMM,_PID,SYSLOG_PID,_HOSTNAME,_SOURCE_REALTIME_TIMESTAMP"

// A child is a journalctl at work. It ends by itself when nobody reads from it any more, so none outlives us.
type child struct {
	cmd    *exec.Cmd
	out    io.ReadCloser
	errors tail
	began  time.Time
	files  []journalFile // that there were before it began
	follow bool

	stopped atomic.Bool // by us, so its status says nothing
	waited  bool
	err     error
}

// A readError says why journalctl gives nothing.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// start starts a journalctl that goes on at our place, that one's entry included.
func (j *Journal) start(ctx context.Context, follow bool) (*child, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	args := []string{"--output=export", "--output-fields=" + fields, "--quiet", "--no-pager", "--lines=all"}
	if follow {
		args = append(args, "--follow", "--no-tail")
	}
	if j.opts.Directory != "" {
		args = append(args, "--directory="+j.opts.Directory)
	}
	switch p := j.place; {
	case p.cursor != "" && !p.lost && !p.ahead:
		args = append(args, "--cursor="+p.cursor)
	case p.cursor != "" && !p.ahead:
		args = append(args, "--since=@"+strconv.FormatUint(p.real/1e6, 10))
	case !j.opts.Since.IsZero():
		args = append(args, "--since=@"+strconv.FormatInt(j.opts.Since.Unix(), 10))
	}
	c := &child{cmd: exec.Command(j.opts.Journalctl, append(args, j.match...)...), began: time.Now(),
		files: j.watch.files(), follow: follow}
	// Nothing of our environment changes what it prints.
	c.cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC", "SYSTEMD_COLORS=0"}
	c.cmd.Stderr = &c.errors
	var err error
	if c.out, err = c.cmd.StdoutPipe(); err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		return nil, &readError{fmt.Errorf("starting journalctl: %w", err)}
	}
	if j.began != nil {
		j.began(c)
	}
	j.mu.Lock()
	j.last = c.began
	j.mu.Unlock()
	return c, nil
}

// stop ends it. What it has written can still be read from it, by who does so already.
func (c *child) stop() {
	c.stopped.Store(true)
	_ = c.cmd.Process.Kill() // gone already is fine
}

// wait takes leave of a child from which nobody reads any more, and says why it ended.
func (c *child) wait() error {
	if !c.waited {
		c.waited, c.err = true, c.cmd.Wait()
	}
	if c.stopped.Load() || c.err == nil {
		return nil
	}
	err := c.err
	if text := c.errors.line(); text != "" {
		err = errors.New(text)
	}
	return &readError{fmt.Errorf("journalctl: %w", err)}
}

// release ends a child that nobody reads from any more, however it stands.
func (c *child) release() {
	c.stop()
	_ = c.wait() // we ended it
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailSize = 1024

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - tailSize; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

// line is the last line that says something. It may name what a journal file holds: printable ASCII only.
func (t *tail) line() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(string(bytes.TrimSpace(t.text)), "\n")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, strings.TrimSpace(lines[len(lines)-1]))
}
