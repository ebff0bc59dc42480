package hook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// path is all that a program finds in its environment.
	path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// outputKept is how much of the end of a program's output is told when it fails, in bytes.
	outputKept = 300
	// pipeDelay is how long something that a program left behind may hold its output open.
	pipeDelay = 500 * time.Millisecond
)

// dropAmbient gives the calling goroutine a thread of its own, and takes from it the capabilities that a program which
// it starts would inherit: CAP_NET_ADMIN is the daemon's, not a hook's. The thread ends with the goroutine.
func dropAmbient() {
	runtime.LockOSThread()
	// It fails on a kernel without ambient capabilities, and there are none to drop then.
	_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
}

// run starts the hook's program with the event's values in its arguments, and waits for it. When ctx ends it is killed
// with everything in its process group.
func (w *worker) run(ctx context.Context, e Event, now time.Time) error {
	args := make([]string, len(w.Command))
	for i, arg := range w.Command {
		args[i] = fill(arg, e, now)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = []string{path}
	cmd.Dir = "/"
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = pipeDelay
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil // it ended well, and left something behind that runs on
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return fmt.Errorf("%s: %w%s", args[0], err, &out)
	}
	return err
}

// fill puts values in the place of placeholders, which config has checked. A value is never looked at again.
func fill(arg string, e Event, now time.Time) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(arg, "{")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		name, after, _ := strings.Cut(rest, "}")
		b.WriteString(e.value(name, now))
		arg = after
	}
}

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p[max(0, len(p)-outputKept):]...)
	t.kept = t.kept[max(0, len(t.kept)-outputKept):]
	return len(p), nil
}

// String is a colon and one printable line of it, quoted; "" when there is nothing.
func (t *tail) String() string {
	text := bytes.TrimSpace(t.kept)
	if len(text) == 0 {
		return ""
	}
	return ": " + strconv.QuoteToASCII(string(text))
}
