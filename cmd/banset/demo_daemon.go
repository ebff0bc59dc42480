package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banset/cmd/internal/control"
	"banset/cmd/internal/source"
)

// A demoDaemon is "banset run" as a process of its own.
type demoDaemon struct {
	cmd  *exec.Cmd
	read chan struct{} // closed at the end of its log

	mu    sync.Mutex
	lines []loggedLine
	more  chan struct{} // closed and replaced at each line
}

type loggedLine struct {
	text string
	at   time.Time // when it was read
}

// startDemoDaemon starts the daemon and returns once it follows its log. Call it on the main thread's goroutine: the
// process dies with the thread that started it.
func startDemoDaemon(ctx context.Context, configPath, socket string) (*demoDaemon, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	d := &demoDaemon{read: make(chan struct{}), more: make(chan struct{})}
	d.cmd = exec.Command("/proc/self/exe", "run", "--config", configPath)
	d.cmd.Args[0] = "banset"
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	log, err := d.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the daemon: %w", err)
	}
	go d.listen(log)
	if err := d.follows(ctx, socket); err != nil {
		return nil, errors.Join(err, d.stop())
	}
	return d, nil
}

// listen takes in the daemon's log.
func (d *demoDaemon) listen(log io.Reader) {
	defer close(d.read)
	for s := bufio.NewScanner(log); s.Scan(); {
		d.mu.Lock()
		d.lines = append(d.lines, loggedLine{s.Text(), time.Now()})
		close(d.more)
		d.more = make(chan struct{})
		d.mu.Unlock()
	}
}

// follows waits until the daemon is at the end of its log.
func (d *demoDaemon) follows(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		answer, err := control.Call(ctx, socket, control.Request{Op: control.OpStatus})
		if err == nil && answer.Status != nil && len(answer.Status.Logs) > 0 &&
			answer.Status.Logs[0].State == source.Following {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-d.read:
			return fmt.Errorf("the daemon ended: %s", d.last())
		case <-ctx.Done():
			return fmt.Errorf("the daemon does not follow its log: %s", d.last())
		}
	}
}

// last is the last line that the daemon logged.
func (d *demoDaemon) last() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.lines) == 0 {
		return "it said nothing"
	}
	return d.lines[len(d.lines)-1].text
}

// find returns the first line that has text in it, and when it came.
func (d *demoDaemon) find(ctx context.Context, text string) (string, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for from := 0; ; {
		d.mu.Lock()
		lines, more := d.lines[from:], d.more
		d.mu.Unlock()
		for _, l := range lines {
			if strings.Contains(l.text, text) {
				return l.text, l.at, nil
			}
		}
		from += len(lines)
		select {
		case <-more:
		case <-ctx.Done():
			return "", time.Time{}, fmt.Errorf("the daemon's log has no line with %q; the last is: %s", text, d.last())
		}
	}
}

// stop ends the daemon and waits for it.
func (d *demoDaemon) stop() error {
	err := d.cmd.Process.Signal(unix.SIGTERM)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-d.read
	if err := d.cmd.Wait(); err != nil {
		return fmt.Errorf("the daemon: %w; it last said: %s", err, d.last())
	}
	return nil
}
