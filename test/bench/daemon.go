package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"banset/test/e2e/program"
)

// patience bounds every wait for an event.
const patience = 5 * time.Minute

// A daemon is a program that runs in the bench's namespace and logs what it does: banset, or fail2ban.
type daemon struct {
	cmd     *exec.Cmd
	changed chan struct{} // the log has grown
	exited  chan struct{}
	err     error

	mu  sync.Mutex
	log bytes.Buffer
}

// startDaemon starts banset with a configuration and waits until it is ready.
func (b *bench) startDaemon(config string) (*daemon, error) {
	return b.startOn(nil, config)
}

// startOn starts it behind the arguments of another program that leads to it.
func (b *bench) startOn(before []string, config string) (*daemon, error) {
	args := append(before, b.banset, "run", "--config", config)
	d, err := launch(args[0], args[1:]...)
	if err != nil {
		return nil, err
	}
	return d, errors.Join(d.logged("ready: "))
}

func launch(name string, args ...string) (*daemon, error) {
	d := &daemon{cmd: exec.Command(name, args...), changed: make(chan struct{}, 1), exited: make(chan struct{})}
	d.cmd.Stderr = d
	if err := program.Spawn(d.cmd); err != nil {
		return nil, err
	}
	go func() { d.err = d.cmd.Wait(); close(d.exited) }()
	return d, nil
}

// Write keeps what the daemon logs. It is for the daemon's own output.
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
func (d *daemon) logged(text string) error {
	deadline := time.After(patience)
	for !strings.Contains(d.text(), text) {
		select {
		case <-d.changed:
		case <-d.exited:
			if !strings.Contains(d.text(), text) {
				return fmt.Errorf("%s ended: %v\n%s", d.cmd.Args[0], d.err, lastLines(d.text()))
			}
		case <-deadline:
			d.stop()
			return fmt.Errorf("%s never logged %q:\n%s", d.cmd.Args[0], text, lastLines(d.text()))
		}
	}
	return nil
}

// stop stops the daemon and waits for its end. A second call does nothing.
func (d *daemon) stop() error {
	d.cmd.Process.Signal(syscall.SIGTERM) // an error says that it has ended
	<-d.exited
	if d.err != nil {
		return fmt.Errorf("%s: %w\n%s", d.cmd.Args[0], d.err, lastLines(d.text()))
	}
	return nil
}

// quietConfig makes a directory with a configuration of one policy, the seed's, on a log in it that nobody writes, and
// returns the configuration's path. more is added at the top level.
func (b *bench) quietConfig(dir string, maxBans int, more string) (string, error) {
	return b.config(dir, maxBans, more, fmt.Sprintf("  exim2-repeater: {filter: exim2, logpath: [%s], maxretry: 10, findtime: 31536000, "+
		"bantime: 31536000}\n", b.path(dir+"/log")))
}

// bootDir makes the directory of a host that boots: a configuration, a blocklist of n bans, and no state. It returns
// the configuration's path.
func (b *bench) bootDir(n int) (string, error) {
	dir := fmt.Sprintf("boot%d", n)
	if err := os.RemoveAll(b.path(dir)); err != nil {
		return "", err
	}
	conf, err := b.quietConfig(dir, n, "")
	if err == nil {
		_, err = b.blocklist(dir+"/blocklist", n)
	}
	return conf, err
}

// config makes a directory with a configuration of these policies.
func (b *bench) config(dir string, maxBans int, more, policies string) (string, error) {
	if _, err := b.writeFile(dir+"/log", ""); err != nil {
		return "", err
	}
	return b.writeFile(dir+"/banset.yaml", fmt.Sprintf("blocklist: %[1]s/blocklist\nstate: %[1]s/state.db\nsocket: %[1]s/banset.sock\n"+
		"max_bans: %[2]d\n%[3]spolicies:\n%[4]s", b.path(dir), max(maxBans, 1024), more, policies))
}

// appendTo writes a text at a file's end in one call, and returns the time just before it.
func appendTo(f *os.File, text string) (time.Time, error) {
	began := time.Now()
	_, err := f.WriteString(text)
	return began, err
}

func eachLine(path string, f func(string)) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		f(lines.Text())
	}
	return lines.Err()
}

// statusBytes is a size out of /proc/PID/status, in bytes.
func statusBytes(pid int, name string) (int, error) {
	v, err := statusField(filepath.Join("/proc", strconv.Itoa(pid), "status"), name)
	return v << 10, err
}

func statusField(path, name string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")))
		}
	}
	return 0, fmt.Errorf("%s: no %s", path, name)
}
