package journal

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

	"banset/cmd/internal/source"
	"banset/cmd/internal/source/sourcetest"
)

var journaldPrograms = []string{"/usr/lib/systemd/systemd-journald", "/lib/systemd/systemd-journald"}

const testMachine = "0123456789abcdef0123456789abcdef"

// A daemonLog is a real systemd-journald with /run and /var/log of its own, in a mount namespace; for those who are not
// root in a user namespace, too.
type daemonLog struct {
	t       testing.TB
	dir     string // holds run and log, as seen from outside
	program string
	inside  []string // runs the rest of the command line in the namespaces
	opts    Options

	mu   sync.Mutex
	cmd  *exec.Cmd
	conn *net.UnixConn
	n    int
}

// newDaemonLog starts a journald, persistent or not.
func newDaemonLog(t testing.TB, persistent bool) *daemonLog {
	dir, err := os.MkdirTemp("", "jd") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l := &daemonLog{t: t, dir: dir, program: find(t, journaldPrograms, "systemd")}
	for _, d := range []string{"run/systemd/journald.conf.d", "run/systemd/journal", "run/log/journal", "log"} {
		l.must(os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	if persistent {
		l.must(os.Mkdir(filepath.Join(dir, "log/journal"), 0o755))
	}
	l.must(os.WriteFile(filepath.Join(dir, "id"), []byte(testMachine+"\n"), 0o644))
	l.must(os.WriteFile(filepath.Join(dir, "run/systemd/journald.conf.d/test.conf"), []byte("[Journal]\nStorage=auto\n"+
		"ReadKMsg=no\nAudit=no\nRateLimitBurst=0\nForwardToSyslog=no\nForwardToWall=no\nSystemMaxUse=200M\n"), 0o644))
	l.hold()
	l.begin()
	t.Cleanup(func() {
		if t.Failed() {
			out, err := exec.Command(l.opts.Journalctl, "-o", "short-precise").CombinedOutput()
			t.Logf("the journal (%v):\n%s", err, out)
		}
		l.signal(syscall.SIGKILL)
	})
	ctx, cancel := context.WithCancel(context.Background())
	var bell sync.WaitGroup
	bell.Go(func() { l.ring(ctx) })
	t.Cleanup(func() { cancel(); bell.Wait() })
	return l
}

// ring wakes the readers of the journal. journald does so by itself, but at most four times a second.
func (l *daemonLog) ring(ctx context.Context) {
	for tick := time.NewTicker(3 * time.Millisecond); ; {
		select {
		case <-tick.C:
			for _, file := range l.files("system.journal") {
				_ = os.Chtimes(file, time.Time{}, time.Now()) // it may be gone
			}
		case <-ctx.Done():
			return
		}
	}
}

func (l *daemonLog) must(err error) {
	if err != nil {
		l.t.Error(err)
		panic(err)
	}
}

// hold makes the namespaces and a process that keeps them.
func (l *daemonLog) hold() {
	cmd := exec.Command("/bin/sh", "-ec", `
		mount --make-rprivate /
		mount --bind "$0/log" /var/log
		if test -e /etc/machine-id; then mount --bind "$0/id" /etc/machine-id; fi
		mount --rbind "$0/run" /run
		echo ready
		exec sleep 100000`, l.dir)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	l.inside = []string{"nsenter", "-m"}
	if os.Getuid() != 0 {
		a := cmd.SysProcAttr
		a.Cloneflags |= unix.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		l.inside = append(l.inside, "-U", "--preserve-credentials")
	}
	out, err := cmd.StdoutPipe()
	l.must(err)
	l.must(cmd.Start())
	l.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if word, _ := bufio.NewReader(out).ReadString('\n'); word != "ready\n" {
		l.t.Fatal("no mount namespace for a journald of its own")
	}
	l.inside = append(l.inside, "-t", strconv.Itoa(cmd.Process.Pid), "--")
	wrapper := filepath.Join(l.dir, "journalctl")
	l.must(os.WriteFile(wrapper, []byte("#!/bin/sh\nexec "+strings.Join(l.inside, " ")+" journalctl \"$@\"\n"), 0o755))
	l.opts.Journalctl = wrapper
}

// begin starts journald and waits until it listens.
func (l *daemonLog) begin() {
	l.cmd = exec.Command(l.inside[0], append(slices.Clone(l.inside[1:]), l.program)...)
	l.must(l.cmd.Start())
	l.connect()
}

func (l *daemonLog) connect() {
	socket := &net.UnixAddr{Name: filepath.Join(l.dir, "run/systemd/journal/socket"), Net: "unixgram"}
	for range 4000 {
		conn, err := net.DialUnix("unixgram", nil, socket)
		if err == nil && l.heeds() {
			l.conn = conn
			return
		}
		if err == nil {
			conn.Close()
		}
		time.Sleep(5 * time.Millisecond) // a start of journald; there is nothing to wait on
	}
	l.t.Error("journald does not start")
	panic("no journald")
}

// heeds reports whether journald is so far that a signal does not just end it.
func (l *daemonLog) heeds() bool {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.cmd.Process.Pid))
	_, mask, _ := strings.Cut(string(status), "SigBlk:\t")
	mask, _, _ = strings.Cut(mask, "\n")
	blocked, _ := strconv.ParseUint(mask, 16, 64)
	return blocked&(1<<(syscall.SIGTERM-1)) != 0 && blocked&(1<<(syncSignal-1)) != 0
}

// syncSignal is SIGRTMIN+1.
const syncSignal = syscall.Signal(35)

// signal sends journald a signal, and waits for its end if that is what it was for.
func (l *daemonLog) signal(s syscall.Signal) {
	l.must(l.cmd.Process.Signal(s))
	if s == syscall.SIGTERM || s == syscall.SIGKILL {
		l.conn.Close()
		l.cmd.Wait()
	}
}

// sync returns when journald has written all that was sent to it.
func (l *daemonLog) sync() {
	l.handshake(syncSignal, "run/systemd/journal/synced")
}

// handshake sends a signal after which journald touches a file.
func (l *daemonLog) handshake(s syscall.Signal, file string) {
	path := filepath.Join(l.dir, file)
	os.Remove(path)
	l.signal(s)
	for range 4000 {
		if _, err := os.Stat(path); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond) // journald touches the file when it is done
	}
	l.t.Fatalf("journald did not make %s", file)
}

func (l *daemonLog) Write(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := fmt.Fprintf(l.conn, "MESSAGE=%s\nSYSLOG_IDENTIFIER=banset-test\n", strings.TrimSuffix(text, "\n"))
	l.must(err)
}

func (l *daemonLog) files(pattern string) []string {
	var all []string
	for _, root := range []string{"run/log/journal", "log/journal"} {
		files, _ := filepath.Glob(filepath.Join(l.dir, root, testMachine, pattern))
		all = append(all, files...)
	}
	return all
}

func (l *daemonLog) Rotate(way sourcetest.Way) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch way.Name {
	case "rotation", "rotation and vacuum":
		// journald touches the file when it is done.
		l.handshake(syscall.SIGUSR2, "run/systemd/journal/rotated")
		if way.Live {
			old := l.files("system@*")
			slices.SortFunc(old, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) })
			for _, file := range old[:max(0, len(old)-2)] {
				l.must(os.Remove(file))
			}
		}
	case "restart of journald":
		l.sync() // else it may end before it looks at its socket again, which only systemd keeps
		l.signal(syscall.SIGTERM)
		l.begin()
	case "end of journald":
		l.sync()
		l.signal(syscall.SIGKILL)
		l.begin()
	default:
		l.t.Fatalf("no way %q", way.Name)
	}
}

func (l *daemonLog) Open(from []source.Position) source.Source {
	o := l.opts
	o.From = from
	j := New([]string{"SYSLOG_IDENTIFIER=banset-test"}, o)
	j.retry = 10 * time.Millisecond
	j.roots = []string{filepath.Join(l.dir, "run/log/journal"), filepath.Join(l.dir, "log/journal")}
	return bare{j}
}

func TestJournald(t *testing.T) {
	t.Parallel()
	all := []sourcetest.Way{{Name: "rotation"}, {Name: "rotation and vacuum", Live: true}, {Name: "restart of journald"},
		{Name: "end of journald"}}
	for _, kind := range []struct {
		name       string
		persistent bool
		ways       []sourcetest.Way
	}{{"persistent", true, all}, {"volatile", false, all[:1]}} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			sourcetest.Test(t, sourcetest.Kind{
				New:  func(t testing.TB) sourcetest.Log { return newDaemonLog(t, kind.persistent) },
				Ways: kind.ways,
			})
		})
	}
}
