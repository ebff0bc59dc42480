package exact

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"banset/nft/nfttest"
	"banset/policy"
	"banset/test/e2e/program"
)

func TestMain(m *testing.M) { nfttest.Main(m) }

// patience bounds every wait for an event, so that a bug ends a test instead of hanging it.
const patience = 60 * time.Second

// A daemon is one banset with its own configuration, state, blocklist and table.
type daemon struct {
	t      *testing.T
	name   string // of its table, too
	dir    string
	binary string

	cmd    *exec.Cmd
	exited chan struct{}

	mu      sync.Mutex
	log     bytes.Buffer // of the life that runs
	lives   bytes.Buffer // of those before
	changed chan struct{}
}

func newDaemon(t *testing.T, name, config string) *daemon {
	t.Helper()
	binary, err := program.Build()
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{t: t, name: name, dir: t.TempDir(), binary: binary, changed: make(chan struct{})}
	config = fmt.Sprintf("blocklist: %[1]s/blocklist\nstate: %[1]s/state.db\nsocket: %[1]s/socket\nnftables: {table: %[2]s}\n",
		d.dir, name) + config
	if err := os.WriteFile(d.path("banset.yaml"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.end(syscall.SIGKILL)
		if t.Failed() && *keep != "" {
			os.WriteFile(filepath.Join(*keep, d.name+".log"), []byte(d.lives.String()+d.text()), 0o644)
		}
		if t.Failed() {
			t.Logf("the last log lines of %s:\n%s", d.name, tail(d.lives.String()+d.text(), 60))
		}
	})
	return d
}

// tail is the last lines of a log but for those that tell of single failures.
func tail(s string, lines int) string {
	all := slices.DeleteFunc(strings.SplitAfter(s, "\n"), func(line string) bool { return strings.Contains(line, "] Found ") })
	return strings.Join(all[max(0, len(all)-lines):], "")
}

func (d *daemon) path(name string) string { return filepath.Join(d.dir, name) }

// start begins a life.
func (d *daemon) start() {
	d.t.Helper()
	cmd := exec.Command(d.binary, "run", "--config", d.path("banset.yaml"))
	cmd.Env = append(os.Environ(), "JOURNAL_STREAM=")
	d.mu.Lock()
	d.lives.Write(d.log.Bytes())
	d.lives.WriteString("----\n")
	d.log.Reset()
	d.mu.Unlock()
	cmd.Stderr = writer(func(p []byte) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.log.Write(p)
		close(d.changed)
		d.changed = make(chan struct{})
	})
	if err := program.Spawn(cmd); err != nil {
		d.t.Fatal(err)
	}
	exited := make(chan struct{})
	d.cmd, d.exited = cmd, exited
	go func() {
		cmd.Wait()
		close(exited)
	}()
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }

// end ends the life with a signal and waits for it.
func (d *daemon) end(s syscall.Signal) {
	d.t.Helper()
	if d.cmd == nil {
		return
	}
	d.cmd.Process.Signal(s)
	select {
	case <-d.exited:
	case <-time.After(patience):
		d.cmd.Process.Kill()
		d.t.Errorf("%s did not end on %v", d.name, s)
	}
	if s == syscall.SIGTERM && d.cmd.ProcessState != nil && d.cmd.ProcessState.ExitCode() != 0 {
		d.t.Errorf("%s ended with %v on %v", d.name, d.cmd.ProcessState, s)
	}
	d.cmd = nil
}

func (d *daemon) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.String()
}

// await waits until the life has logged a text at or after the offset from, at most so long, and reports whether it
// did.
func (d *daemon) await(text string, from int, most time.Duration) bool {
	deadline := time.After(most)
	for {
		d.mu.Lock()
		found, changed := strings.Contains(string(d.log.Bytes()[min(from, d.log.Len()):]), text), d.changed
		d.mu.Unlock()
		if found {
			return true
		}
		select {
		case <-changed:
		case <-d.exited:
			return strings.Contains(d.text()[from:], text)
		case <-deadline:
			return false
		}
	}
}

// mustLog is await for what has to come.
func (d *daemon) mustLog(text string) {
	d.t.Helper()
	if !d.await(text, 0, patience) {
		d.t.Fatalf("%s never logged %q:\n%s", d.name, text, d.stuck())
	}
}

// stuck is what the daemon, which does not get on, is at: it ends with a listing of its goroutines.
func (d *daemon) stuck() string {
	d.cmd.Process.Signal(syscall.SIGQUIT)
	select {
	case <-d.exited:
	case <-time.After(patience):
	}
	return tail(d.text(), 300)
}

// run runs a command of banset with this daemon's configuration.
func (d *daemon) run(args ...string) (stdout, stderr string, status int) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.binary, append(args, "--config", d.path("banset.yaml"))...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		d.t.Fatalf("banset %v: %v", args, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// ask runs a command with --json and decodes what it prints. A finding (status 1) is an answer, too.
func (d *daemon) ask(into any, args ...string) {
	d.t.Helper()
	out, errs, status := d.run(append(args, "--json")...)
	if status > 1 {
		d.t.Fatalf("banset %v: status %d\n%s", args, status, errs)
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		d.t.Fatalf("banset %v: %v\n%s%s", args, err, out, errs)
	}
}

// verified is every test's last step: policy, file and kernel say the same, once the file is written: a slow disk may
// take longer for it than verify waits.
func (d *daemon) verified() {
	d.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		out, errs, status := d.run("verify")
		if status == 0 {
			return
		}
		if status > 1 || time.Now().After(deadline) {
			d.t.Errorf("%s: banset verify: status %d\n%s%s", d.name, status, out, errs)
			return
		}
	}
}

// An account is what banset tells of one host.
type account struct {
	Counted netip.Prefix
	Bans    []struct {
		Host     netip.Prefix
		At       time.Time
		Until    time.Time
		Policy   string
		Failures int
	}
	Counts []struct {
		Policy   string
		Failures int
	}
	Ladder []struct {
		Policy   string
		Offences int64
		LastEnd  time.Time `json:"last_end"`
	}
}

// tells holds what why says of every host against the oracle.
func (d *daemon) tells(want memory) (hosts int) {
	d.t.Helper()
	var args []string
	for k, at := range want.failures {
		if name, host := cutKey(k); name == tally && len(at) > 0 {
			args = append(args, host.String())
		}
	}
	slices.Sort(args)
	var all []account
	asked := time.Now().Unix()
	d.ask(&all, append([]string{"why"}, args...)...)
	if len(all) != len(args) {
		d.t.Errorf("%s: why tells of %d hosts of %d", d.name, len(all), len(args))
	}
	for _, a := range all {
		counts := map[string]int{}
		for _, c := range a.Counts {
			counts[c.Policy] = c.Failures
		}
		for _, name := range []string{tally, half} {
			if w := len(want.failures[name+" "+a.Counted.String()]); counts[name] != w {
				d.t.Errorf("%s: why says %d failures of %s for %s, the oracle %d", d.name, counts[name], a.Counted, name, w)
			}
		}
		w := want.ladder[soon+" "+a.Counted.String()]
		var g rung
		for _, r := range a.Ladder {
			g = rung{r.Offences, r.LastEnd.Unix()}
			if r.LastEnd.IsZero() {
				g.end = policy.Never
			}
		}
		if g != w {
			d.t.Errorf("%s: why says %s has offence %d until %d, the oracle %d until %d", d.name, a.Counted, g.offences, g.end, w.offences, w.end)
		}
		b, banned := want.bans[a.Counted]
		if banned && b.Until <= asked+1 {
			continue
		}
		if banned != (len(a.Bans) == 1) {
			d.t.Errorf("%s: why says %s has %d bans, the oracle has %+v", d.name, a.Counted, len(a.Bans), b)
			continue
		}
		if banned {
			x := a.Bans[0]
			g := policy.Ban{Host: x.Host, At: x.At.Unix(), Until: x.Until.Unix(), Policy: x.Policy, Failures: x.Failures}
			if x.Until.IsZero() {
				g.Until = policy.Never
			}
			if g != b {
				d.t.Errorf("%s: why says %+v, the oracle %+v", d.name, g, b)
			}
		}
	}
	return len(all)
}
