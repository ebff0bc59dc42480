package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

var comparePrefix = cmpopts.EquateComparable(netip.Prefix{})

// socketAt is a path that other users can get to.
func socketAt(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "run", "banset.sock")
}

// serve runs a server with h. end stops it and returns what Serve returned.
func serve(t testing.TB, path string, h Handler, set ...func(*Server)) (end func() error) {
	t.Helper()
	s, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range set {
		f(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, h) }()
	end = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Error("Serve:", err)
		}
	})
	return end
}

func echo(_ context.Context, _ Cred, r Request) Answer { return Answer{Text: string(r.Op)} }

func dialRaw(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestCall(t *testing.T) {
	path := socketAt(t)
	req := Request{
		Op:     OpBan,
		Hosts:  []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/64")},
		For:    90 * time.Minute,
		Reason: "a \"person's\"\nreason",
	}
	want := Answer{
		Changes:  []Change{{Host: req.Hosts[0], Done: true, Text: "banned"}},
		Bans:     []Ban{{Host: req.Hosts[1], At: time.Unix(1e9, 0).UTC(), Failures: 10, Reason: "exim2: 10 failures"}},
		Problems: "a\nb",
		Text:     "<done> & gone",
	}
	end := serve(t, path, func(_ context.Context, who Cred, got Request) Answer {
		if d := cmp.Diff(req, got, comparePrefix); d != "" {
			t.Errorf("the request came as (-want +got):\n%s", d)
		}
		if w := (Cred{uint32(os.Getuid()), uint32(os.Getgid()), int32(os.Getpid())}); who != w {
			t.Errorf("it came from %v, not %v", who, w)
		}
		return want
	})
	got, err := Call(context.Background(), path, req)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, comparePrefix); d != "" {
		t.Errorf("the answer came as (-want +got):\n%s", d)
	}

	if err := end(); err != nil {
		t.Error("Serve:", err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 0 {
		t.Errorf("it left %v, %v", entries, err)
	}
	for _, p := range []string{path, path + "/sub", filepath.Join(t.TempDir(), "none", "sock")} {
		if _, err := Call(context.Background(), p, req); !errors.Is(err, ErrNoDaemon) {
			t.Errorf("nobody at %s: %v", p, err)
		}
	}
}

// What is no request gets an answer that says so, and the next client is served.
func TestGarbage(t *testing.T) {
	path := socketAt(t)
	serve(t, path, echo)
	const noAddress = `netip.ParsePrefix("192.0.2.256/32"): ParseAddr("192.0.2.256"): IPv4 field has value >255`
	const wrongType = "json: cannot unmarshal number into Go struct field Request.op of type control.Op"
	const wrongValue = "json: cannot unmarshal array into Go value of type control.Request"
	for _, tt := range []struct{ name, send, want string }{
		{"text", "status\n", "request: invalid character 's' looking for beginning of value"},
		{"empty line", "\n", "request: it is empty"},
		{"half", `{"op":"sta`, "request: unexpected EOF"},
		{"half a line", `{"op":"sta` + "\n", `request: invalid character '\n' in string literal`},
		{"no op", "{}\n", `request: no operation ""`},
		{"unknown op", `{"op":"st\u001b[31mop"}` + "\n", `request: no operation "st\x1b[31mop"`},
		{"unknown field", `{"op":"ban","why":1}` + "\n", `request: json: unknown field "why"`},
		{"wrong type", `{"op":1}` + "\n", "request: " + wrongType},
		{"no object", "[]\n", "request: " + wrongValue},
		{"two", `{"op":"status"} {"op":"flush"}` + "\n", "request: more than one JSON value"},
		{"no address", `{"op":"why","hosts":["192.0.2.256/32"]}` + "\n", "request: " + noAddress},
		{"no host", `{"op":"ban","hosts":[""]}` + "\n", "request: a host is empty"},
		{"bytes", "\xff\xfe\x00\n", "request: invalid character 'ÿ' looking for beginning of value"},
		{"deep", strings.Repeat("[", 100_000) + "\n", "request: invalid character '[' exceeded max depth"},
		{"too long", `{"op":"ban","reason":"` + strings.Repeat("x", MaxRequest) + `"}` + "\n", "request is longer than 1048576 bytes"},
		{"endless", strings.Repeat("x", MaxRequest+1), "request is longer than 1048576 bytes"},
		{"good", `{"op":"status"}` + "\n", ""},
		{"good, with no newline", `{"op":"status"}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dialRaw(t, path)
			_, _ = io.WriteString(c, tt.send) // refused before all is sent, perhaps
			_ = c.CloseWrite()
			a, err := readAnswer(c)
			if err != nil {
				t.Fatal(err)
			}
			if a.Error != tt.want || a.Error == "" && a.Text != "status" {
				t.Errorf("got  %q\nwant %q", a.Error, tt.want)
			}
		})
	}
}

// Clients that come and go in any state harm nobody.
func TestRudeClients(t *testing.T) {
	path := socketAt(t)
	big := Answer{Bans: make([]Ban, 20_000)}
	for i := range big.Bans {
		big.Bans[i].Host = netip.MustParsePrefix("192.0.2.1/32")
	}
	serve(t, path, func(context.Context, Cred, Request) Answer { return big })
	for range 3 * (maxOwners + maxOthers) {
		for _, send := range []string{"", "{", `{"op":"list"}` + "\n"} {
			c := dialRaw(t, path)
			_, _ = io.WriteString(c, send)
			c.Close()
		}
	}
	var a Answer
	for len(a.Bans) == 0 { // until the last of them is found gone
		var err error
		if a, err = Call(context.Background(), path, Request{Op: OpList}); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.Bans) != len(big.Bans) {
		t.Errorf("%d bans came", len(a.Bans))
	}
}

// Who says nothing is told so and hung up on; who does not take the answer does not hold up the stop.
func TestSlowClients(t *testing.T) {
	path := socketAt(t)
	long := Answer{Bans: manyBans(50_000)} // no socket buffer holds it
	serve(t, path, func(context.Context, Cred, Request) Answer { return long }, func(s *Server) {
		s.requestTime, s.answerTime = 30*time.Millisecond, 30*time.Millisecond
	})
	silent := dialRaw(t, path)
	if _, err := io.WriteString(silent, `{"op":`); err != nil {
		t.Fatal(err)
	}
	a, err := readAnswer(silent)
	if err != nil || a.Error != "the request took too long" {
		t.Errorf("a silent client gets %q, %v", a.Error, err)
	}
	deaf := dialRaw(t, path)
	if _, err := io.WriteString(deaf, `{"op":"list"}`+"\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(deaf)
	if _, err := r.ReadByte(); err != nil { // the answer has begun
		t.Fatal(err)
	}
	// It reads no more until the server has given up.
	for hungUp := false; !hungUp; {
		raw, err := deaf.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) {
			p := []unix.PollFd{{Fd: int32(fd)}} // no events: it waits for the hang-up alone
			_, _ = unix.Poll(p, 1000)
			hungUp = p[0].Revents&unix.POLLHUP != 0
		}); err != nil {
			t.Fatal(err)
		}
	}
	rest, _ := io.ReadAll(r)
	if strings.HasSuffix(string(rest), "\n") {
		t.Errorf("the whole answer came: %d bytes", len(rest))
	}
}

func TestConcurrentCalls(t *testing.T) {
	path := socketAt(t)
	arrived, release := make(chan struct{}), make(chan struct{})
	serve(t, path, func(_ context.Context, _ Cred, r Request) Answer {
		if r.Op == OpStatus {
			arrived <- struct{}{}
			<-release
		}
		return Answer{Text: r.Reason}
	})
	var wg sync.WaitGroup
	for i := range maxOwners {
		wg.Go(func() {
			reason := fmt.Sprint("call ", i)
			a, err := Call(context.Background(), path, Request{Op: OpStatus, Reason: reason})
			if err != nil || a.Text != reason {
				t.Errorf("%s got %+v, %v", reason, a, err)
			}
		})
	}
	for range maxOwners {
		<-arrived // all at the same time
	}
	a, err := Call(context.Background(), path, Request{Op: OpList})
	if err != nil || !strings.Contains(a.Error, "too many connections") {
		t.Errorf("one more: %+v, %v", a, err)
	}
	// A request that does not fit into the socket's buffer is still being written when the refusal comes.
	a, err = Call(context.Background(), path, Request{Op: OpList, Reason: strings.Repeat("x", MaxRequest-100)})
	if err != nil || !strings.Contains(a.Error, "too many connections") {
		t.Errorf("one more, with a long request: %.100v, %v", a, err)
	}
	close(release)
	wg.Wait()
}

// The end of ctx ends what waits, lets what runs finish, and leaves nothing.
func TestStop(t *testing.T) {
	path := socketAt(t)
	arrived := make(chan struct{})
	end := serve(t, path, func(ctx context.Context, _ Cred, _ Request) Answer {
		close(arrived)
		<-ctx.Done()
		return Answer{Text: "just so"}
	}, func(s *Server) { s.requestTime = time.Hour })
	silent := dialRaw(t, path)
	if _, err := io.WriteString(silent, "{"); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		a, err := Call(context.Background(), path, Request{Op: OpReload})
		if err == nil && a.Text != "just so" {
			err = fmt.Errorf("got %+v", a)
		}
		answered <- err
	}()
	<-arrived
	if err := end(); err != nil {
		t.Error("Serve:", err)
	}
	if err := <-answered; err != nil {
		t.Error("the running call:", err)
	}
	if a, err := readAnswer(silent); err != nil || a.Error != "the daemon is stopping" {
		t.Errorf("the waiting client got %q, %v", a.Error, err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestCallerGivesUp(t *testing.T) {
	path := socketAt(t)
	arrived := make(chan struct{}, 1)
	serve(t, path, func(ctx context.Context, _ Cred, _ Request) Answer {
		arrived <- struct{}{}
		<-ctx.Done()
		return Answer{}
	})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-arrived; cancel() }()
	if _, err := Call(ctx, path, Request{Op: OpReload}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := Call(ctx, path, Request{Op: OpReload}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("timed out: %v", err)
	}
	if _, err := Call(ctx, path, Request{Op: OpReload}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ended before: %v", err)
	}
}

// A daemon that dies under a call: it is not known whether it did what it was asked.
func TestNoAnswer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, said := range []string{"", `{"te`, `{"bans":[{"host":"192.0.2.1/32"},`} {
		go func() {
			c, err := ln.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = bufio.NewReader(c).ReadString('\n')
			_, _ = io.WriteString(c, said)
			c.Close()
		}()
		_, err := Call(context.Background(), path, Request{Op: OpFlush})
		if !errors.Is(err, ErrNoAnswer) || errors.Is(err, ErrNoDaemon) {
			t.Errorf("after %q: %v", said, err)
		}
	}
	_, err = Call(context.Background(), path, Request{Op: OpBan, Reason: strings.Repeat("x", MaxRequest)})
	if !errors.Is(err, errTooLong) {
		t.Errorf("too long a request: %v", err)
	}
}
