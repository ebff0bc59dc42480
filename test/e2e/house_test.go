// Package e2e drives the built program on real logs, a real kernel and real packets: a network namespace for the host
// that banset protects, and another one, joined by veth, for those who attack it.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"banset/nft/nfttest"
	"banset/test/e2e/program"
)

func TestMain(m *testing.M) { nfttest.Main(m) }

// patience bounds every wait for an event, so that a bug ends a test instead of hanging it.
const patience = 30 * time.Second

// host is the machine that banset protects.
type host struct {
	t      *testing.T
	dir    string
	binary string
	peer   *nfttest.Peer
	small  bool     // the daemon's directory is a small disk of its own
	etc    string   // a directory that the daemon has for /etc; "" for the machine's
	env    []string // added to the daemon's environment
	found  int      // failures that a test counts itself

	// around makes a command line one that runs where /run and /var/log are others; nil: they are the machine's.
	around func(args ...string) []string

	mu      sync.Mutex
	cmd     *exec.Cmd
	log     bytes.Buffer
	changed chan struct{}
	exited  chan struct{}
}

// newHost makes the host and its neighbour, with an empty kernel and no daemon. more is added to the configuration.
func newHost(t *testing.T) *host {
	t.Helper()
	binary, err := program.Build()
	if err != nil {
		t.Fatal(err)
	}
	nfttest.Clean(t)
	// Not t.TempDir, whose name is the test's: a socket's path may have 107 bytes.
	dir, err := os.MkdirTemp("", "e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := &host{t: t, dir: dir, binary: binary, peer: nfttest.NewPeer(t), changed: make(chan struct{})}
	if err := os.Chmod(h.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(h.path("data"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.stop()
		if t.Failed() {
			t.Logf("daemon's log:\n%s", h.logText())
		}
	})
	return h
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

// configure writes the configuration: the seed's policy on a log of the test's own, and what else is given, as YAML
// at the top level.
func (h *host) configure(more string) {
	h.t.Helper()
	h.writeFile("banset.yaml", fmt.Sprintf(`
blocklist: %[1]s/data/blocklist
state: %[1]s/data/state.db
socket: %[1]s/banset.sock
%[2]s
policies:
  exim2-repeater:
    filter: exim2
    logpath: [%[1]s/mainlog]
    maxretry: 10
    findtime: 31536000
    bantime: 31536000
`, h.dir, more))
}

// inside is the daemon's directory as the daemon sees it.
func (h *host) inside() string {
	if h.small {
		return fmt.Sprintf("/proc/%d/root%s", h.cmd.Process.Pid, h.path("data"))
	}
	return h.path("data")
}

func (h *host) writeFile(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(h.path(name), []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) readFile(name string) string {
	text, err := os.ReadFile(h.path(name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		h.t.Fatal(err)
	}
	return string(text)
}

func (h *host) appendFile(name, text string) {
	h.t.Helper()
	f, err := os.OpenFile(h.path(name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		h.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		h.t.Fatal(err)
	}
}

// fail writes n failures of a host to the log, as Exim does.
func (h *host) fail(addr string, n int) {
	h.t.Helper()
	for range n {
		h.appendFile("mainlog", fmt.Sprintf("%s login authenticator failed for (User) [%s]: 535 Incorrect authentication data\n",
			time.Now().Format("2006-01-02 15:04:05"), addr))
	}
}

// start starts the daemon and waits until it protects.
func (h *host) start() {
	h.t.Helper()
	h.startOnly()
	h.logged("ready: ")
}

func (h *host) startOnly() {
	h.t.Helper()
	cmd := exec.Command(h.binary, "run", "--config", h.path("banset.yaml"))
	if h.small {
		// In a mount namespace of its own, with the log, which others write, outside of the disk.
		cmd = exec.Command("unshare", "--mount", "sh", "-c", `mount -t tmpfs -o size=512k small "$1" && exec "$2" run --config "$3"`,
			"sh", h.path("data"), h.binary, h.path("banset.yaml"))
	}
	if h.etc != "" {
		cmd = exec.Command("unshare", "--mount", "sh", "-c", `mount --bind "$1" /etc && exec "$2" run --config "$3"`,
			"sh", h.etc, h.binary, h.path("banset.yaml"))
	}
	if h.around != nil {
		line := h.around(cmd.Args...)
		cmd = exec.Command(line[0], line[1:]...)
	}
	cmd.Env = append(append(os.Environ(), "JOURNAL_STREAM="), h.env...)
	cmd.Stderr = writer(func(p []byte) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.log.Write(p)
		close(h.changed)
		h.changed = make(chan struct{})
	})
	h.mu.Lock()
	h.log.Reset()
	h.mu.Unlock()
	if err := program.Spawn(cmd); err != nil {
		h.t.Fatal(err)
	}
	h.cmd, h.exited = cmd, make(chan struct{})
	go func(exited chan struct{}) {
		cmd.Wait()
		close(exited)
	}(h.exited)
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }

// stop ends the daemon as systemd does, and waits for it.
func (h *host) stop() { h.signal(syscall.SIGTERM) }

// kill ends it without a warning.
func (h *host) kill() { h.signal(syscall.SIGKILL) }

func (h *host) signal(s syscall.Signal) {
	if h.cmd == nil {
		return
	}
	h.cmd.Process.Signal(s)
	select {
	case <-h.exited:
	case <-time.After(patience):
		h.cmd.Process.Kill()
		h.t.Errorf("the daemon did not end on %v", s)
	}
	h.cmd = nil
}

func (h *host) logText() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.String()
}

// logged waits for a text in the daemon's log.
func (h *host) logged(text string) {
	h.t.Helper()
	deadline := time.After(patience)
	for {
		h.mu.Lock()
		found, changed := strings.Contains(h.log.String(), text), h.changed
		h.mu.Unlock()
		if found {
			return
		}
		select {
		case <-changed:
		case <-h.exited:
			if strings.Contains(h.logText(), text) {
				return
			}
			h.t.Fatalf("the daemon ended before it logged %q:\n%s", text, h.logText())
		case <-deadline:
			h.t.Fatalf("the daemon never logged %q:\n%s", text, h.logText())
		}
	}
}

// run runs a command of banset and returns its output and exit status.
func (h *host) run(args ...string) (stdout, stderr string, status int) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	args = append(args, "--config", h.path("banset.yaml"))
	cmd := exec.CommandContext(ctx, h.binary, args...)
	if h.small && h.cmd != nil {
		cmd = exec.CommandContext(ctx, "nsenter", append([]string{"--mount", "--target", fmt.Sprint(h.cmd.Process.Pid), h.binary}, args...)...)
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		h.t.Fatalf("banset %v: %v", args, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// banset runs a command that must do what it was asked.
func (h *host) banset(args ...string) string {
	h.t.Helper()
	out, errs, status := h.run(args...)
	if status != 0 {
		h.t.Fatalf("banset %v: status %d\n%s%s", args, status, out, errs)
	}
	return out
}

// verified is every test's last step: policy, file and kernel say the same.
func (h *host) verified() {
	h.t.Helper()
	if out, errs, status := h.run("verify"); status != 0 {
		h.t.Errorf("banset verify: status %d\n%s%s", status, out, errs)
	}
}
