package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestModes(t *testing.T) {
	path := socketAt(t)
	s, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	bare := path + "2"
	ln, err := listenClosed(bare)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for p, want := range map[string]fs.FileMode{
		filepath.Dir(path): fs.ModeDir | 0o755,
		path:               fs.ModeSocket | 0o660,
		path + lockSuffix:  0o600,
		bare:               fs.ModeSocket | 0o600, // before Listen gives it to the group
	} {
		fi, err := os.Lstat(p)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode() != want {
			t.Errorf("%s is %v, not %v", p, fi.Mode(), want)
		}
	}
}

func TestPathTooLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 108))
	want := fmt.Sprintf("its path has %d bytes, a socket's can have 107", len(path))
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Listen: %v", err)
	}
	if _, err := Call(context.Background(), path, Request{Op: OpStatus}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Call: %v", err)
	}
	// The longest one works.
	dir := t.TempDir()
	path = filepath.Join(dir, strings.Repeat("x", maxPath-len(dir)-1))
	serve(t, path, echo)
	if a, err := Call(context.Background(), path, Request{Op: OpStatus}); err != nil || a.Text != "status" {
		t.Errorf("at %d bytes: %+v, %v", len(path), a, err)
	}
}

func TestRunning(t *testing.T) {
	path := socketAt(t)
	cmd := part("serve", path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "serving\n" {
		t.Fatalf("the other daemon says %q, %v", line, err)
	}
	mustBeRunning := func() {
		t.Helper()
		_, err := Listen(path)
		if !errors.Is(err, ErrRunning) || !strings.Contains(err.Error(), fmt.Sprintf("PID %d (", cmd.Process.Pid)) {
			t.Errorf("beside PID %d: %v", cmd.Process.Pid, err)
		}
		if a, err := Call(context.Background(), path, Request{Op: OpList}); err != nil || a.Text != "child" {
			t.Errorf("the other daemon answers %+v, %v", a, err)
		}
	}
	mustBeRunning()
	// Even without its lock: one that answers lives.
	if err := os.Remove(path + lockSuffix); err != nil {
		t.Fatal(err)
	}
	mustBeRunning()

	// kill -9 leaves the socket: it is replaced.
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	if _, err := Call(context.Background(), path, Request{Op: OpList}); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("a dead daemon: %v", err)
	}
	serve(t, path, echo)
	if a, err := Call(context.Background(), path, Request{Op: OpList}); err != nil || a.Text != "list" {
		t.Errorf("the new daemon answers %+v, %v", a, err)
	}
}

// Many daemons at once, over a dead one's socket: one gets it, and its socket stays.
func TestListenAtOnce(t *testing.T) {
	path := socketAt(t)
	for range 30 {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		ln.SetUnlinkOnClose(false)
		ln.Close()
		var wg sync.WaitGroup
		var mu sync.Mutex
		var got []*Server
		for range 8 {
			wg.Go(func() {
				s, err := Listen(path)
				if err != nil && !errors.Is(err, ErrRunning) {
					t.Error(err)
				}
				if err == nil {
					mu.Lock()
					got = append(got, s)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(got) != 1 {
			t.Fatalf("%d of them listen", len(got))
		}
		if err := running(path); !errors.Is(err, ErrRunning) {
			t.Errorf("nobody answers: %v", err)
		}
		if err := got[0].Close(); err != nil {
			t.Error(err)
		}
		if err := got[0].Close(); err != nil {
			t.Error("second Close:", err)
		}
		if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 0 {
			t.Fatalf("left: %v, %v", entries, err)
		}
	}
}

// Daemons that start while another one stops: never two at once.
func TestListenWhileClosing(t *testing.T) {
	path := socketAt(t)
	var listening, starts atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				s, err := Listen(path)
				if err != nil {
					// Directory and file are others', who may just remove or make them.
					if !errors.Is(err, ErrRunning) {
						t.Error(err)
					}
					continue
				}
				if n := listening.Add(1); n != 1 {
					t.Errorf("%d listen at once", n)
				}
				starts.Add(1)
				listening.Add(-1)
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if starts.Load() == 0 {
		t.Error("nobody ever listened")
	}
}

// What stands at the path and is no socket, or not ours, is nobody's to remove.
func TestNotOurs(t *testing.T) {
	dir := t.TempDir()
	file, link, sock := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "sock")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link, dir} {
		if _, err := Listen(path); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if data, err := os.ReadFile(link); err != nil || string(data) != "precious" {
		t.Errorf("the file holds %q, %v", data, err)
	}

	s, err := Listen(sock)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file, sock); err != nil { // somebody's file now
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(sock); err != nil || string(data) != "precious" {
		t.Errorf("the file holds %q, %v", data, err)
	}
	if _, err := os.Lstat(sock + lockSuffix); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock is still there: %v", err)
	}
}

// A closed server ends Serve too.
func TestCloseEndsServe(t *testing.T) {
	s, err := Listen(socketAt(t))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- s.Serve(context.Background(), echo) }()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Clients that come between Listen and Serve wait and are answered.
func TestEarlyClient(t *testing.T) {
	path := socketAt(t)
	s, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	c := dialRaw(t, path)
	if _, err := io.WriteString(c, `{"op":"why"}`+"\n"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, echo) }()
	if a, err := readAnswer(c); err != nil || a.Text != "why" {
		t.Errorf("got %+v, %v", a, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
