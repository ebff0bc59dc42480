package journaltest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Machine is the id of the machine that a [Journald] runs on.
const Machine = "0123456789abcdef0123456789abcdef"

// syncSignal is SIGRTMIN+1: write what has come and tell.
const syncSignal = syscall.Signal(35)

// A Journald is a real systemd-journald with /run and /var/log of its own, in a mount namespace; for those who are not
// root in a user namespace, too. Its methods may be called by several goroutines.
type Journald struct {
	Dir        string   // holds run and log, as seen from outside
	Journalctl string   // a program that runs journalctl in its namespaces
	Roots      []string // its journal directories, as seen from outside

	t       testing.TB
	program string
	inside  []string // runs the rest of the command line in the namespaces

	mu   sync.Mutex
	cmd  *exec.Cmd
	conn *net.UnixConn
}

// NewJournald starts a journald that keeps its files in /var/log/journal if it is to be persistent, else in
// /run/log/journal.
func NewJournald(t testing.TB, persistent bool) *Journald {
	dir, err := os.MkdirTemp("", "jd") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	j := &Journald{t: t, Dir: dir, program: find(t, "systemd-journald", "systemd"), Journalctl: filepath.Join(dir, "journalctl")}
	j.Roots = []string{j.path("run/log/journal"), j.path("log/journal")}
	for _, d := range []string{"run/systemd/journald.conf.d", "run/systemd/journal", "run/log/journal", "log"} {
		must(t, os.MkdirAll(j.path(d), 0o755))
	}
	if persistent {
		must(t, os.Mkdir(j.path("log/journal"), 0o755))
	}
	must(t, os.WriteFile(j.path("id"), []byte(Machine+"\n"), 0o644))
	must(t, os.WriteFile(j.path("run/systemd/journald.conf.d/test.conf"), []byte("[Journal]\nStorage=auto\n"+
		"ReadKMsg=no\nAudit=no\nRateLimitBurst=0\nForwardToSyslog=no\nForwardToWall=no\nSystemMaxUse=200M\n"), 0o644))
	j.hold()
	must(t, os.WriteFile(j.Journalctl, []byte("#!/bin/sh\nexec "+strings.Join(j.inside, " ")+" journalctl \"$@\"\n"), 0o755))
	j.begin()
	t.Cleanup(func() {
		if t.Failed() {
			out, err := exec.Command(j.Journalctl, "--output=short-precise", "--lines=200").CombinedOutput()
			t.Logf("the journal (%v):\n%s", err, out)
		}
		j.signal(syscall.SIGKILL)
	})
	ctx, cancel := context.WithCancel(context.Background())
	var bell sync.WaitGroup
	bell.Go(func() { j.ring(ctx) })
	t.Cleanup(func() { cancel(); bell.Wait() })
	return j
}

func (j *Journald) path(name string) string { return filepath.Join(j.Dir, name) }

// ring wakes the readers of the journal. journald does so by itself, but at most four times a second.
func (j *Journald) ring(ctx context.Context) {
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			for _, file := range j.Files("system.journal") {
				_ = os.Chtimes(file, time.Time{}, time.Now()) // it may be gone
			}
		case <-ctx.Done():
			return
		}
	}
}

// hold makes the namespaces and a process that keeps them.
func (j *Journald) hold() {
	cmd := exec.Command("/bin/sh", "-ec", `
		mount --make-rprivate /
		mount --bind "$0/log" /var/log
		if test -e /etc/machine-id; then mount --bind "$0/id" /etc/machine-id; fi
		mount --rbind "$0/run" /run
		echo ready
		exec cat`, j.Dir)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	j.inside = []string{"nsenter", "-m"}
	if os.Getuid() != 0 {
		a := cmd.SysProcAttr
		a.Cloneflags |= unix.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		j.inside = append(j.inside, "-U", "--preserve-credentials")
	}
	out, err := cmd.StdoutPipe()
	must(j.t, err)
	_, err = cmd.StdinPipe() // closed by our end, however that comes: it ends too
	must(j.t, err)
	must(j.t, cmd.Start())
	j.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if word, _ := bufio.NewReader(out).ReadString('\n'); word != "ready\n" {
		j.t.Fatal("no mount namespace for a journald of its own")
	}
	j.inside = append(j.inside, "-t", strconv.Itoa(cmd.Process.Pid), "--")
}

// Inside is the command line that runs a program where this journald's journal is the machine's.
func (j *Journald) Inside(args ...string) []string { return slices.Concat(j.inside, args) }

// begin starts journald and waits until it works.
func (j *Journald) begin() {
	line := j.Inside(j.program)
	j.cmd = exec.Command(line[0], line[1:]...)
	must(j.t, j.cmd.Start())
	socket := &net.UnixAddr{Name: j.path("run/systemd/journal/socket"), Net: "unixgram"}
	for range 4000 {
		conn, err := net.DialUnix("unixgram", nil, socket)
		if err == nil && j.heeds() {
			j.conn = conn
			return
		}
		if err == nil {
			conn.Close()
		}
		time.Sleep(5 * time.Millisecond) // a start of journald; there is nothing to wait on
	}
	j.t.Error("journald does not start")
	panic("no journald")
}

// heeds reports whether journald is so far that a signal does not just end it.
func (j *Journald) heeds() bool {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", j.cmd.Process.Pid))
	_, mask, _ := strings.Cut(string(status), "SigBlk:\t")
	mask, _, _ = strings.Cut(mask, "\n")
	blocked, _ := strconv.ParseUint(mask, 16, 64)
	return blocked&(1<<(syscall.SIGTERM-1)) != 0 && blocked&(1<<(syncSignal-1)) != 0
}

// signal sends journald a signal, and waits for its end if that is what it was for.
func (j *Journald) signal(s syscall.Signal) {
	must(j.t, j.cmd.Process.Signal(s))
	if s == syscall.SIGTERM || s == syscall.SIGKILL {
		j.conn.Close()
		j.cmd.Wait()
	}
}

// handshake sends a signal after which journald touches a file.
func (j *Journald) handshake(s syscall.Signal, file string) {
	path := j.path(file)
	os.Remove(path)
	j.signal(s)
	for range 4000 {
		if _, err := os.Stat(path); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond) // journald touches the file when it is done
	}
	j.t.Fatalf("journald did not make %s", file)
}

// Send sends an entry of these fields, FIELD=VALUE.
func (j *Journald) Send(fields ...string) {
	var b []byte
	for _, f := range fields {
		name, value, _ := strings.Cut(f, "=")
		b = append(b, Field(name, value)...)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	_, err := j.conn.Write(b)
	must(j.t, err)
}

// Files are the journal files that a pattern names.
func (j *Journald) Files(pattern string) []string {
	var all []string
	for _, root := range j.Roots {
		files, _ := filepath.Glob(filepath.Join(root, Machine, pattern))
		all = append(all, files...)
	}
	return all
}

// Rotate makes journald go over to another file.
func (j *Journald) Rotate() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.handshake(syscall.SIGUSR2, "run/systemd/journal/rotated")
}

// Vacuum removes the oldest rotated files and leaves so many, as journald does when they take too much room.
func (j *Journald) Vacuum(leave int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	old := j.Files("system@*")
	slices.SortFunc(old, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) })
	for _, file := range old[:max(0, len(old)-leave)] {
		must(j.t, os.Remove(file))
	}
}

// Restart ends journald in good order, and starts another one.
func (j *Journald) Restart() {
	j.mu.Lock()
	defer j.mu.Unlock()
	// What waits at its socket would be lost; only systemd keeps that.
	j.handshake(syncSignal, "run/systemd/journal/synced")
	j.signal(syscall.SIGTERM)
	j.begin()
}

// Crash kills journald, and starts another one, which finds a file that was not closed.
func (j *Journald) Crash() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.handshake(syncSignal, "run/systemd/journal/synced")
	j.signal(syscall.SIGKILL)
	j.begin()
}

// Persist makes a volatile journal persistent: journald moves all entries to /var/log/journal.
func (j *Journald) Persist() {
	j.mu.Lock()
	defer j.mu.Unlock()
	must(j.t, os.MkdirAll(j.path("log/journal"), 0o755))
	j.handshake(syscall.SIGUSR1, "run/systemd/journal/flushed")
}
