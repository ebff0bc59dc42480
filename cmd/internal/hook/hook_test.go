package hook

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"banset/policy"
	"banset/policy/config"
)

// child, in the environment, makes the test program run one hook and end.
const child = "BANSET_TEST_CHILD"

func TestMain(m *testing.M) {
	if script := os.Getenv(child); script != "" {
		w := &worker{Hook: config.Hook{Command: []string{"/bin/sh", "-c", script}}}
		dropAmbient()
		if err := w.run(context.Background(), ban, time.Now()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var ban = Event{
	Host: netip.MustParsePrefix("203.0.113.7/32"), Policy: "sshd", Failures: 6, At: 1795457565, Until: 1795461165,
}

// logText is a log that a test reads.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logText) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// start runs hooks and returns what ends them.
func start(t *testing.T, log *slog.Logger, hooks ...*config.Hook) (*Hooks, func()) {
	t.Helper()
	h := New(hooks, log)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := h.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop := sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return h, stop
}

// program is a hook that runs a script with the arguments given, for bans and unbans.
func program(t *testing.T, script string, args ...string) *config.Hook {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	// Written by another process: a file that is open for writing in any process can't be run, and one of the other
	// tests' forks may have inherited ours.
	cmd := exec.Command("/bin/sh", "-c", `cat > "$0" && chmod 755 "$0"`, path)
	cmd.Stdin = strings.NewReader("#!/bin/sh\n" + script + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return &config.Hook{
		Name: "tell", Enabled: true, Ban: true, Unban: true, Command: append([]string{path}, args...),
		Timeout: 10 * time.Second, PerMinute: 6000,
	}
}

// fifo is a named pipe that programs write to, and its lines.
func fifo(t *testing.T) (string, <-chan string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100)
	go func() {
		var text string
		buf := make([]byte, 4096)
		for {
			n, err := f.Read(buf)
			if err != nil {
				return
			}
			text += string(buf[:n])
			for {
				line, rest, ok := strings.Cut(text, "\n")
				if !ok {
					break
				}
				lines <- line
				text = rest
			}
		}
	}()
	t.Cleanup(func() { f.Close() })
	return path, lines
}

// A real program gets the values as its arguments, each one argument, and an environment of PATH alone.
func TestCommand(t *testing.T) {
	path, lines := fifo(t)
	h := program(t, `echo "$#|$1|$2|$3|$4|$(pwd)|$(env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= | cut -d= -f1 | tr '\n' ' ')" > `+path,
		"{event} {addr}", "{policy}", "{failures},{end}", "$HOME;{seconds}")
	t.Setenv("SECRET", "x")
	hooks, _ := start(t, slog.New(slog.DiscardHandler), h)
	unban := ban
	unban.Unban = true
	hand := Event{Host: netip.MustParsePrefix("2001:db8::/64"), Until: policy.Never}
	over := ban
	over.Until = 1
	for _, tt := range []struct {
		event Event
		want  string
	}{
		{over, "4|ban 203.0.113.7|sshd|6,1970-01-01T00:00:01Z|$HOME;0|/|PATH "},
		{unban, "4|unban 203.0.113.7|sshd|6,2026-11-23T19:12:45Z|$HOME;0|/|PATH "},
		{hand, "4|ban 2001:db8::/64|by hand|0,forever|$HOME;-1|/|PATH "},
	} {
		hooks.Send(tt.event)
		if got := <-lines; got != tt.want {
			t.Errorf("%+v:\n%s, want\n%s", tt.event, got, tt.want)
		}
	}
}

// What an argument is filled with is not looked at again, and seconds count from now.
func TestFill(t *testing.T) {
	now := time.Unix(1795457600, 0)
	for arg, want := range map[string]string{
		"":                          "",
		"plain":                     "plain",
		"{addr}":                    "203.0.113.7",
		"a{addr}b{seconds}{event}c": "a203.0.113.7b3565banc",
	} {
		if got := fill(arg, ban, now); got != want {
			t.Errorf("fill(%q) is %q, want %q", arg, got, want)
		}
	}
}

// Everything that config allows is known here.
func TestPlaceholders(t *testing.T) {
	for _, name := range config.Placeholders {
		if ban.value(name, time.Now()) == "" {
			t.Errorf("{%s} has no value", name)
		}
	}
}

// A program that hangs is killed with its children, its failure is counted, and the next event has its turn.
func TestTimeout(t *testing.T) {
	path, lines := fifo(t)
	h := program(t, `if [ "$1" = ban ]; then sleep 1000 & echo $! > `+path+`; wait; fi; echo done > `+path, "{event}")
	h.Timeout = 300 * time.Millisecond
	var log logText
	hooks, stop := start(t, log.logger(), h)
	hooks.Send(ban)
	unban := ban
	unban.Unban = true
	hooks.Send(unban)
	pid := 0
	if _, err := fmt.Sscan(<-lines, &pid); err != nil {
		t.Fatal(err)
	}
	if got := <-lines; got != "done" {
		t.Errorf("the second event: %q", got)
	}
	stop()
	// Its new parent may not have come for it yet, but it runs no more.
	if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(text), ") Z ") {
		t.Errorf("the program's child lives: %s", text)
	}
	want := []Stats{{Name: "tell", OK: 1, TimedOut: 1}}
	if diff := cmp.Diff(want, hooks.Stats()); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(log.String(), "hook tell: ban of 203.0.113.7: took more than") {
		t.Errorf("the log: %s", &log)
	}
}

// Failures are counted, and told with the end of what the program said, escaped.
func TestFailure(t *testing.T) {
	h := program(t, `head -c 100000 /dev/zero; printf 'no \033[31mway' >&2; exit 3`)
	missing := *h
	missing.Name, missing.Command = "gone", []string{"/nonexistent/program"}
	var log logText
	hooks, stop := start(t, log.logger(), h, &missing)
	w := hooks.workers
	for _, w := range w {
		w.pass(t.Context(), ban)
		w.pass(t.Context(), ban)
	}
	stop()
	for _, s := range hooks.Stats() {
		if s.Failed != 2 {
			t.Errorf("%+v", s)
		}
	}
	text := log.String()
	for _, want := range []string{"exit status 3", `no \\x1b[31mway`, "hook gone: ban of 203.0.113.7: fork/exec /nonexistent/program: no such file"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in the log: %s", want, text)
		}
	}
	if n := strings.Count(text, "\n"); n != 2 || len(text) > 2000 {
		t.Errorf("%d lines, %d bytes of log: %s", n, len(text), text)
	}
}

// A program that leaves something running in the background does not hold up the next event.
func TestLeftBehind(t *testing.T) {
	path, lines := fifo(t)
	h := program(t, `sleep 1000 & echo $! > `+path)
	w := New([]*config.Hook{h}, slog.New(slog.DiscardHandler)).workers[0]
	if err := w.run(t.Context(), ban, time.Now()); err != nil {
		t.Error(err)
	}
	pid := 0
	if _, err := fmt.Sscan(<-lines, &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("what was left behind: %v", err)
	}
}

// A program does not inherit the capability by which the daemon works.
func TestNoCapabilities(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), child+"=! grep CapAmb /proc/self/status | grep '[1-9a-f]$\\|[1-9a-f]0*$'")
	// In a user namespace everybody has the right to hand capabilities on.
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: os.Getgid(), Size: 1}},
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN},
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// events is a hook whose events a test takes one by one.
func events(perMinute int) (*Hooks, *worker, chan Event) {
	h := New([]*config.Hook{{Name: "slow", Enabled: true, Ban: true, Timeout: time.Hour, PerMinute: perMinute, Command: []string{"/x"}}},
		slog.New(slog.DiscardHandler))
	taken := make(chan Event)
	h.workers[0].call = func(ctx context.Context, e Event, _ time.Time) error {
		select {
		case taken <- e:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return h, h.workers[0], taken
}

// A hook that is too slow loses events, and neither memory nor the sender's time.
func TestQueueEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _, taken := events(6000)
		ctx, cancel := context.WithCancel(t.Context())
		go h.Run(ctx)
		synctest.Wait()
		for range queueSize + 100 {
			h.Send(ban)
			synctest.Wait()
		}
		want := []Stats{{Name: "slow", Dropped: 99, Waiting: queueSize}} // one is in the hook's hands
		if diff := cmp.Diff(want, h.Stats()); diff != "" {
			t.Error(diff)
		}
		if p := h.Problems(time.Now()); len(p) != 1 || !strings.Contains(p[0], "99 events dropped") {
			t.Errorf("problems: %q", p)
		}
		<-taken
		time.Sleep(2 * dropsTold)
		if p := h.Problems(time.Now()); p != nil {
			t.Errorf("problems, long after: %q", p)
		}
		cancel()
		time.Sleep(2 * lastWords)
		synctest.Wait()
	})
}

// A rate is kept over time, and a quiet hook may be told of several events at once.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _, taken := events(60)
		ctx, cancel := context.WithCancel(t.Context())
		go h.Run(ctx)
		began := time.Now()
		for range 200 {
			h.Send(ban)
		}
		var at []time.Duration
		for range 200 {
			<-taken
			at = append(at, time.Since(began))
		}
		if at[9] != 0 || at[10] != time.Second {
			t.Errorf("the first 10 came within %s, the next at %s", at[9], at[10])
		}
		if got := at[199]; got != 190*time.Second {
			t.Errorf("200 events took %s", got)
		}
		cancel()
		synctest.Wait()
	})
}

// What waits when the daemon stops is counted as dropped, and stopping does not wait for it.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, w, _ := events(6000)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); h.Run(ctx) }()
		for range 5 {
			h.Send(ban)
		}
		synctest.Wait()
		began := time.Now()
		cancel()
		<-done
		if took := time.Since(began); took > lastWords {
			t.Errorf("stopping took %s", took)
		}
		if got := w.dropped.Load() + w.failed.Load(); got != 5 {
			t.Errorf("%d of 5 accounted for", got)
		}
	})
}

// server is an HTTP server on loopback.
func server(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: handler}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return "http://user:secret@" + l.Addr().String() + "/hook"
}

func TestWebhook(t *testing.T) {
	type request struct {
		method, kind, user string
		text               map[string]any
	}
	requests := make(chan request, 10)
	url := server(t, func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		var fields map[string]any
		if err := json.Unmarshal(text, &fields); err != nil {
			t.Error(err)
		}
		user, _, _ := r.BasicAuth()
		requests <- request{r.Method, r.Header.Get("Content-Type"), user, fields}
		w.WriteHeader(http.StatusNoContent)
	})
	if err := newPoster(url).post(t.Context(), ban, time.Unix(ban.At+600, 0)); err != nil {
		t.Fatal(err)
	}
	want := request{"POST", "application/json", "user", map[string]any{
		"event": "ban", "addr": "203.0.113.7", "policy": "sshd", "failures": 6.0,
		"at": "2026-11-23T18:12:45Z", "end": "2026-11-23T19:12:45Z", "seconds": 3000.0,
	}}
	if diff := cmp.Diff(want, <-requests, cmp.AllowUnexported(request{})); diff != "" {
		t.Error(diff)
	}
}

// What a server may do to a webhook: refuse, redirect, send without end, never answer.
func TestWebhookTrouble(t *testing.T) {
	var elsewhere sync.Once
	other := server(t, func(http.ResponseWriter, *http.Request) {
		elsewhere.Do(func() { t.Error("a redirection was followed") })
	})
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		want    string
	}{
		{"refuses", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, "the answer is 500"},
		{"redirects", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other, http.StatusTemporaryRedirect) },
			"the answer is 307"},
		{"sends without end", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		}, ""},
		{"has endless headers", func(w http.ResponseWriter, _ *http.Request) {
			for i := range 10_000 {
				w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("x", 100))
			}
		}, "exceeded"},
		{"never answers", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "deadline exceeded"},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			url := server(t, tt.handler)
			timeout := 10 * time.Second
			if tt.name == "never answers" {
				timeout = 100 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			err := newPoster(url).post(ctx, ban, time.Now())
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("the error is %v, want %s", err, tt.want)
			case err != nil && strings.Contains(err.Error(), "secret"):
				t.Errorf("the error tells the address: %v", err)
			}
		})
	}
}
