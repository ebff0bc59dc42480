package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"banset/policy"
	"banset/policy/blocklist"
	"banset/policy/judge"
	"banset/policy/ledger"
)

// desk is a judge and the mirror of its file alone, without goroutines: every step of the writer is the caller's.
type desk struct {
	judge *judge.Judge
	file  *File
	log   *logBuffer
	acked error // what the mirror told last
}

func newDesk(path string, remembered []Remembered) (*desk, error) {
	d := &desk{log: &logBuffer{}}
	d.judge = judge.New(judge.Settings{
		Policies:   []policy.Policy{{Name: "sshd", MaxRetry: 3, FindTime: time.Hour, BanTime: []time.Duration{time.Hour}}},
		IPv6Prefix: 64, MaxHosts: 1000, MaxBans: 200_000,
	})
	do := func(ctx context.Context, f func(*judge.Judge)) error {
		f(d.judge)
		d.judge.Book().EndOver(time.Now())
		return nil
	}
	options := func() blocklist.Options { return blocklist.Options{Location: time.Local, LegacyBan: policy.Forever} }
	d.file = NewFile(path, do, slog.New(slog.NewTextHandler(d.log, nil)), options, func(err error) { d.acked = err })
	if err := d.file.Load(d.judge, slices.Values(remembered), time.Now()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return d, nil
}

func (d *desk) finish() error { return d.file.Finish(context.Background()) }

// seedBan is a ban of a policy, always the same.
func seedBan(host string) policy.Ban {
	at := time.Now().Truncate(24 * time.Hour).Unix()
	return policy.Ban{Host: netip.MustParsePrefix(host), At: at, Until: at + 7*86400, Policy: "sshd", Failures: 3}
}

func linesFor(bans ...policy.Ban) []byte {
	text := []byte(blocklist.Header)
	for _, b := range bans {
		text = blocklist.AppendLine(text, b)
	}
	return text
}

// A job is something that the writer does, in steps; each is acknowledged when it is done.
type job struct {
	before     []byte // the file; nil: none
	remembered []policy.Ban
	steps      []step
}

type step struct {
	name      string
	ban, lift []string // hosts
}

const person = "# a person's comment\n203.0.113.77 # a person's line\n"

var jobs = map[string]job{
	"append": {
		before:     append(linesFor(seedBan("192.0.2.1/32")), person...),
		remembered: []policy.Ban{seedBan("192.0.2.1/32")},
		steps: []step{{name: "one", ban: []string{"192.0.2.12/32"}},
			{name: "three", ban: []string{"192.0.2.123/32", "2001:db8:1::/64", "198.51.100.0/24"}}},
	},
	"append behind a person's unfinished line": {
		before:     append(linesFor(seedBan("192.0.2.1/32")), "203.0.113.77 # no end"...),
		remembered: []policy.Ban{seedBan("192.0.2.1/32")},
		steps:      []step{{name: "one", ban: []string{"192.0.2.12/32"}}},
	},
	"rewrite": {
		before:     append(linesFor(seedBan("192.0.2.1/32"), seedBan("192.0.2.2/32"), seedBan("192.0.2.3/32")), person...),
		remembered: []policy.Ban{seedBan("192.0.2.1/32"), seedBan("192.0.2.2/32"), seedBan("192.0.2.3/32")},
		steps: []step{{name: "lift", lift: []string{"192.0.2.2/32"}},
			{name: "lift and ban", lift: []string{"192.0.2.1/32"}, ban: []string{"192.0.2.12/32"}}},
	},
	"begin": {steps: []step{{name: "one", ban: []string{"192.0.2.12/32"}}, {name: "two", ban: []string{"192.0.2.13/32"}}}},
	"write anew after an accident": {
		before:     []byte{},
		remembered: []policy.Ban{seedBan("192.0.2.1/32"), seedBan("192.0.2.2/32")},
		steps:      []step{{name: "one", ban: []string{"192.0.2.12/32"}}},
	},
	"mend a torn line": {
		before:     append(linesFor(seedBan("192.0.2.1/32")), "192.0.2.1"...),
		remembered: []policy.Ban{seedBan("192.0.2.1/32")},
		steps:      []step{{name: "one", ban: []string{"192.0.2.12/32"}}},
	},
}

func remember(bans []policy.Ban) (all []Remembered) {
	for _, b := range bans {
		all = append(all, Remembered{Ban: b, Filed: true})
	}
	return all
}

// perform does a job's steps; done is called after each that was acknowledged.
func perform(j job, path string, done func(step)) error {
	d, err := newDesk(path, remember(j.remembered))
	if err != nil {
		return err
	}
	for _, s := range j.steps {
		for _, host := range s.ban {
			d.judge.Take(seedBan(host))
		}
		for _, host := range s.lift {
			d.judge.Pardon(netip.MustParsePrefix(host))
		}
		if err := d.finish(); err != nil {
			return err
		}
		if n := d.judge.Book().Pending(ledger.File); n > 0 || d.acked != nil {
			return fmt.Errorf("%d hosts wait for the file after %s, told %v", n, s.name, d.acked)
		}
		done(s)
	}
	return nil
}

// stopEnv asks the test binary to do a job and be killed at a system call: its number (0: none), the job, the path.
const stopEnv = "MIRROR_TEST_STOP"

// stopChild is the process that is killed. It says on its standard output what it does, and what was acknowledged.
func stopChild() {
	part := strings.SplitN(os.Getenv(stopEnv), "|", 3)
	n, _ := strconv.Atoi(part[0])
	path := part[2]
	kill := stopAt(n, filepath.Dir(path))
	err := supervised(func() error {
		return perform(jobs[part[1]], path, func(s step) { fmt.Printf("acknowledged %s\n", s.name) })
	}, func(c fileCall) syscall.Errno {
		errno := kill(c)
		if rel, ok := strings.CutPrefix(c.path, filepath.Dir(path)); ok {
			fmt.Printf("%s .%s\n", c.name, rel)
		}
		return errno
	})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(3)
	}
	os.Exit(0)
}

// runStopped starts a child, and returns what it said and whether it came to its end.
func runStopped(t *testing.T, name, path string, n int) (said []string, whole bool) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d|%s|%s", stopEnv, n, name, path))
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	said = strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	var exit *exec.ExitError
	switch {
	case err == nil:
		return said, true
	case errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL:
		return said, false
	}
	t.Fatalf("%s, stopped at call %d: %v\n%s%s", name, n, err, out, &errs)
	return nil, false
}

// TestStoppedAtEverySystemCall kills the writer before each of its system calls, and after the last, and starts anew.
func TestStoppedAtEverySystemCall(t *testing.T) {
	t.Parallel()
	for name, j := range jobs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				path := filepath.Join(t.TempDir(), "blocklist")
				if j.before != nil {
					if err := os.WriteFile(path, j.before, 0o640); err != nil {
						t.Fatal(err)
					}
				}
				said, whole := runStopped(t, name, path, n)
				checkStopped(t, j, path, said, fmt.Sprintf("stopped at call %d, %q", n, said[len(said)-1]))
				if whole {
					if n < 8 {
						t.Errorf("only %d system calls were seen: %q", n-1, said)
					}
					break
				}
			}
		})
	}
}

// checkStopped looks at what a killed writer left, and starts anew on it.
func checkStopped(t *testing.T, j job, path string, said []string, when string) {
	t.Helper()
	left, err := os.ReadFile(path)
	if err != nil && len(j.before) > 0 {
		t.Fatalf("%s: no file any more: %v", when, err)
	}
	// Every line that is there is one that was there, or a whole one of ours.
	whole := make(map[string]bool)
	for line := range bytes.Lines(j.before) {
		whole[strings.TrimSuffix(string(line), "\n")] = true
	}
	for line := range strings.Lines(blocklist.Header) {
		whole[strings.TrimSuffix(line, "\n")] = true
	}
	banned, lifted := make(map[string]bool), make(map[string]bool)
	var known []Remembered // what the state knows, had it been told of each step
	for _, b := range j.remembered {
		banned[b.Host.String()] = true
		whole[strings.TrimSuffix(string(blocklist.AppendLine(nil, b)), "\n")] = true
	}
	for _, s := range j.steps {
		for _, host := range s.ban {
			whole[strings.TrimSuffix(string(blocklist.AppendLine(nil, seedBan(host))), "\n")] = true
		}
		if !slices.Contains(said, "acknowledged "+s.name) {
			for _, host := range s.lift {
				delete(banned, host) // either will do
			}
			continue
		}
		for _, host := range s.ban {
			banned[host] = true
		}
		for _, host := range s.lift {
			delete(banned, host)
			lifted[host] = true
			known = append(known, Remembered{Ban: policy.Ban{Host: netip.MustParsePrefix(host)}, Gone: true})
		}
	}
	for line := range bytes.Lines(left) {
		text := strings.TrimSuffix(string(line), "\n")
		if !whole[text] && !strings.HasPrefix(text, "# banset: this line was cut off") {
			t.Errorf("%s: the file has the line %q:\n%s", when, text, left)
		}
	}
	for host := range banned {
		known = append(known, Remembered{Ban: seedBan(host), Filed: true})
	}
	for state, remembered := range map[string][]Remembered{"state of before": remember(j.remembered), "state of now": known} {
		copied := filepath.Join(t.TempDir(), "blocklist")
		if err := os.CopyFS(filepath.Dir(copied), os.DirFS(filepath.Dir(path))); err != nil {
			t.Fatal(err)
		}
		d, err := newDesk(copied, remembered)
		if err != nil {
			t.Fatalf("%s, %s: %v", when, state, err)
		}
		if err := d.finish(); err != nil {
			t.Fatalf("%s, %s: %v", when, state, err)
		}
		for host := range banned {
			if _, ok := d.judge.Book().Get(netip.MustParsePrefix(host)); !ok {
				t.Errorf("%s, %s: the ban of %s is lost\nfile:\n%s", when, state, host, left)
			}
		}
		for host := range lifted {
			if _, ok := d.judge.Book().Get(netip.MustParsePrefix(host)); ok {
				t.Errorf("%s, %s: %s is banned again\nfile:\n%s", when, state, host, left)
			}
		}
		checkWhole(t, d, copied, when+", "+state)
	}
}

// checkWhole holds file and book to one another, and the directory to the file and odd ones.
func checkWhole(t *testing.T, d *desk, path, when string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	file := blocklist.Parse(text, blocklist.Options{Location: time.Local, LegacyBan: policy.Forever})
	for b := range d.judge.Book().All() {
		if e, ok := file.Lookup(b.Host); !ok || e.Ban.Until != b.Until {
			t.Errorf("%s: %s is not in the file as the book has it:\n%s", when, b.Host, text)
		}
	}
	if file.Len() != d.judge.Book().Len() {
		t.Errorf("%s: %d hosts in the file, %d in the book:\n%s", when, file.Len(), d.judge.Book().Len(), text)
	}
	if problems, _ := file.Problems(); len(problems) > 0 {
		t.Errorf("%s: %v", when, problems)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "blocklist" && !strings.HasPrefix(e.Name(), "blocklist.odd-") {
			t.Errorf("%s: %s was left behind", when, e.Name())
		}
	}
}

// TestSyncedBeforeItCounts: a power cut keeps what was synced. The text is on the disk before it gets its name, the
// name before anything is acknowledged, and nothing is written in place but at the end.
func TestSyncedBeforeItCounts(t *testing.T) {
	t.Parallel()
	for name, j := range jobs {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "blocklist")
			if j.before != nil {
				if err := os.WriteFile(path, j.before, 0o640); err != nil {
					t.Fatal(err)
				}
			}
			said, whole := runStopped(t, name, path, 0)
			if !whole {
				t.Fatalf("it was killed: %q", said)
			}
			unsynced := make(map[string]string) // what a power cut would lose, and why
			for i, line := range said {
				what, about, _ := strings.Cut(line, " ")
				switch what {
				case "write", "truncate":
					if about != "./blocklist" && about != "./.blocklist.new" {
						t.Errorf("call %d: %s", i, line)
					}
					unsynced[about] = line
				case "sync":
					delete(unsynced, about)
				case "rename":
					if why, lost := unsynced[about]; lost {
						t.Errorf("call %d: %s, and %q is not synced: %q", i, line, why, said)
					}
					unsynced["."] = line
				case "acknowledged":
					if len(unsynced) > 0 {
						t.Errorf("%s, but not yet synced: %q in %q", line, unsynced, said)
					}
				case "link":
					t.Errorf("call %d: %s", i, line)
				}
			}
		})
	}
}

// TestEverySystemCallFails lets each call of the writer fail once, in turn: nothing is half, nothing is acknowledged
// that failed, and the next try makes it good.
func TestEverySystemCallFails(t *testing.T) {
	t.Parallel()
	for name, j := range jobs {
		for _, errno := range []syscall.Errno{syscall.EIO, syscall.EROFS} {
			t.Run(name+"/"+errno.Error(), func(t *testing.T) {
				t.Parallel()
				for n := 1; ; n++ {
					path := filepath.Join(t.TempDir(), "blocklist")
					if j.before != nil {
						if err := os.WriteFile(path, j.before, 0o640); err != nil {
							t.Fatal(err)
						}
					}
					left, failed := n, fileCall{}
					verdict := func(c fileCall) syscall.Errno {
						if !strings.HasPrefix(c.path, filepath.Dir(path)) || c.name == "close" {
							return 0
						}
						if left--; left == 0 {
							failed = c
							return errno
						}
						return 0
					}
					failOnce(t, j, path, verdict, func() string { return fmt.Sprintf("call %d, %s %s", n, failed.name, failed.path) })
					if left > 0 {
						break
					}
				}
			})
		}
	}
}

func failOnce(t *testing.T, j job, path string, verdict func(fileCall) syscall.Errno, when func() string) {
	t.Helper()
	d, err := newDesk(path, remember(j.remembered))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range j.steps {
		for _, host := range s.ban {
			d.judge.Take(seedBan(host))
		}
		for _, host := range s.lift {
			d.judge.Pardon(netip.MustParsePrefix(host))
		}
		err := supervised(d.finish, verdict)
		if err == nil {
			if n := d.judge.Book().Pending(ledger.File); n > 0 {
				t.Errorf("%s: no error, and %d hosts wait", when(), n)
			}
			continue
		}
		if d.acked == nil {
			t.Errorf("%s: %v, and it was acknowledged", when(), err)
		}
		if _, problems := d.file.Status(); len(problems) == 0 {
			t.Errorf("%s: %v, and status has no problem", when(), err)
		}
		if err := d.finish(); err != nil {
			t.Errorf("%s: %v; the next try: %v", when(), err, err)
		}
	}
	if err := d.finish(); err != nil {
		t.Errorf("%s: in the end %v", when(), err)
	}
	if _, problems := d.file.Status(); len(problems) > 0 {
		t.Errorf("%s: in the end %q", when(), problems)
	}
	if n := d.judge.Book().Pending(ledger.File); n > 0 || d.acked != nil {
		t.Errorf("%s: in the end %d hosts wait, told %v", when(), n, d.acked)
	}
	checkWhole(t, d, path, when())
	for _, s := range j.steps {
		for _, host := range s.ban {
			if _, ok := d.judge.Book().Get(netip.MustParsePrefix(host)); !ok {
				t.Errorf("%s: the ban of %s is lost", when(), host)
			}
		}
	}
}
