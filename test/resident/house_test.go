// Package resident measures the memory of the built program at work on a real kernel, and how often it wakes up when
// nothing happens. Its numbers are for people. See each benchmark for its command.
package resident

import (
	"bytes"
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
)

func TestMain(m *testing.M) { nfttest.Main(m) }

// patience bounds every wait for an event.
const patience = 60 * time.Second

// build builds the program into dir and returns its path.
func build(b *testing.B, dir string) string {
	b.Helper()
	path := filepath.Join(dir, "banset")
	cmd := exec.Command("go", "build", "-o", path, "banset/cmd/banset")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is shipped
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// A daemon is banset at work in the benchmark's namespace, on a blocklist of the benchmark's.
type daemon struct {
	b       *testing.B
	dir     string
	binary  string
	cmd     *exec.Cmd     // nil: it does not run
	changed chan struct{} // the log has grown

	mu  sync.Mutex
	log bytes.Buffer
}

// newDaemon prepares one, with more lines for its configuration.
func newDaemon(b *testing.B, binary, blocklist, more string) *daemon {
	b.Helper()
	// Not below /tmp: others make and remove files there all the time, which wakes up whoever waits for a log below.
	dir, err := os.MkdirTemp("/var/tmp", "banset-resident-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	d := &daemon{b: b, dir: dir, binary: binary, changed: make(chan struct{}, 1)}
	config := fmt.Sprintf("blocklist: %[1]s/blocklist\nstate: %[1]s/state.db\nsocket: %[1]s/banset.sock\n%[2]s"+
		"policies:\n  exim2-repeater: {failregex: ['from <HOST>$'], logpath: ['%[1]s/log*'], maxretry: 10, findtime: forever, bantime: 1y}\n",
		d.dir, more)
	for name, text := range map[string]string{"banset.yaml": config, "blocklist": blocklist, "log": ""} {
		if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	b.Cleanup(d.stop)
	return d
}

// start returns when it is ready.
func (d *daemon) start() {
	d.b.Helper()
	d.mu.Lock()
	d.log.Reset()
	d.mu.Unlock()
	d.cmd = exec.Command(d.binary, "run", "--config", filepath.Join(d.dir, "banset.yaml"))
	d.cmd.Stderr = d
	if err := d.cmd.Start(); err != nil {
		d.b.Fatal(err)
	}
	d.logged("ready: ")
}

// stop ends it, if it runs.
func (d *daemon) stop() {
	if d.cmd == nil || d.cmd.Process == nil {
		return
	}
	d.cmd.Process.Signal(syscall.SIGTERM)
	if err := d.cmd.Wait(); err != nil {
		d.b.Errorf("the daemon: %v\n%s", err, d.text())
	}
	d.cmd = nil
}

func (d *daemon) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case d.changed <- struct{}{}:
	default:
	}
	return d.log.Write(p)
}

func (d *daemon) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.String()
}

// logged waits for a text in the log.
func (d *daemon) logged(text string) {
	d.b.Helper()
	deadline := time.After(patience)
	for !strings.Contains(d.text(), text) {
		select {
		case <-d.changed:
		case <-deadline:
			d.b.Fatalf("the daemon never logged %q:\n%s", text, d.text())
		}
	}
}
