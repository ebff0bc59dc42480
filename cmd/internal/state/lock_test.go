package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	cmd, in, out := play(t, "hold", path)
	if line, err := out.ReadString('\n'); line != "open\n" {
		t.Fatalf("the holder says %q, %v", line, err)
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("open state %s: in use by PID %d (%s)",
		path, cmd.Process.Pid, strings.TrimSpace(string(comm)))
	for _, o := range []Options{{}, {ReadOnly: true}} {
		_, err := Open(path, o)
		if !errors.Is(err, ErrInUse) || err.Error() != want {
			t.Errorf("%+v: got %v, want %s", o, err, want)
		}
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, path)
}

// A file that was renamed away between open and lock is not the state any more.
func TestLockMoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	for _, then := range []func() error{
		func() error { return os.Rename(path, path+".old") },
		func() error { return errors.Join(os.Rename(path, path+".old"), os.WriteFile(path, nil, 0o600)) },
	} {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := then(); err != nil {
			t.Fatal(err)
		}
		if err := lock(f, path, unix.LOCK_EX); err != errMoved {
			t.Errorf("got %v", err)
		}
	}
}

// The lock goes with the file through a rewrite: at no moment can another process have it.
func TestInUseWhileRewritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := mustOpen(t, path)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Error(err)
				return
			}
			if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
				if same, err := isAt(f, path); same || err != nil {
					t.Errorf("got the lock of the file in use (%v)", err)
				}
			}
			f.Close()
		}
	})
	for range 100 {
		s.mu.Lock()
		err := s.rewrite(os.Rename)
		s.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
}

// Several daemons started at once: one gets the state, however it looks at that moment.
func TestOpenAtOnce(t *testing.T) {
	for _, start := range []string{"nothing", "broken"} {
		t.Run(start, func(t *testing.T) {
			for range 4 {
				path := filepath.Join(t.TempDir(), "state.db")
				if start == "broken" {
					if err := os.WriteFile(path, []byte("broken"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				var wg sync.WaitGroup
				var mu sync.Mutex
				var open []*Store
				for range 4 {
					wg.Go(func() {
						s, err := Open(path, Options{})
						if err != nil && !errors.Is(err, ErrInUse) {
							t.Error(err)
						}
						if err == nil {
							mu.Lock()
							open = append(open, s)
							mu.Unlock()
						}
					})
				}
				wg.Wait()
				if len(open) != 1 {
					t.Fatalf("%d have it open", len(open))
				}
				if err := open[0].Commit([]Change{put(Meta, "a", "1")}); err != nil {
					t.Error(err)
				}
				if err := open[0].Close(); err != nil {
					t.Error(err)
				}
				s := mustOpen(t, path)
				mustHold(t, s, world{Meta: {"a": "1"}})
				s.Close()
			}
		})
	}
}

func TestLockPID(t *testing.T) {
	const locks = `1: POSIX  ADVISORY  WRITE 11 fe:00:77 0 EOF
2: FLOCK  ADVISORY  WRITE 12 fe:00:78 0 EOF
3: -> FLOCK  ADVISORY  WRITE 13 fe:00:77 0 EOF
3: FLOCK  ADVISORY  WRITE 14 fe:01:77 0 EOF
4: FLOCK  ADVISORY  READ  15 fe:00:77 0 EOF
5: FLOCK  ADVISORY  WRITE 0 fe:00:79 0 EOF
6: FLOCK  ADVISORY  WRITE fe:00:79
7: OFDLCK ADVISORY  WRITE -1 fe:00:80 0 EOF
`
	for _, tt := range []struct {
		major, minor uint32
		ino          uint64
		want         int
	}{
		{0xfe, 0, 77, 15}, // not the one on another device, not who waits, no POSIX lock
		{0xfe, 1, 77, 14},
		{0xfe, 0, 79, 0}, // out of sight
		{0xfe, 0, 80, 0},
		{0, 42, 78, 12}, // the device of btrfs
		{0, 42, 77, 0},  // could be either
		{0xfe, 0, 1, 0},
	} {
		if got := lockPID([]byte(locks), unix.Mkdev(tt.major, tt.minor), tt.ino); got != tt.want {
			t.Errorf("%x:%x:%d: got %d, want %d", tt.major, tt.minor, tt.ino, got, tt.want)
		}
	}
}

// A state file that is removed or replaced under the daemon is put back at the next commit.
func TestRemovedWhileOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	path := filepath.Join(dir, "state.db")
	s, err := Open(path, Options{Now: at("2026-11-23T18:12:05Z")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	want := world{Windows: {"a": "1"}}
	if err := s.Commit([]Change{put(Windows, "a", "1")}); err != nil {
		t.Fatal(err)
	}
	check := func(notice string) {
		t.Helper()
		if err := s.Commit([]Change{put(Ladder, "b", notice)}); err != nil {
			t.Fatal(err)
		}
		want[Ladder] = map[string]string{"b": notice}
		mustHold(t, s, want)
		if same, err := isAt(s.file, path); !same || err != nil {
			t.Errorf("the open file is not at the path: %v", err)
		}
		if _, err := Open(path, Options{}); !errors.Is(err, ErrInUse) {
			t.Errorf("the new file is not locked: %v", err)
		}
		if !strings.Contains(s.Notice(), notice) {
			t.Errorf("notice: %q", s.Notice())
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	check("was deleted while in use")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	check("was deleted while in use")
	if err := os.WriteFile(path+"2", []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+"2", path); err != nil {
		t.Fatal(err)
	}
	check("state.db.broken-2026-11-23T181205.000Z")

	// Another daemon began a state of its own there.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other := mustOpen(t, path)
	if err := s.Commit([]Change{put(Windows, "a", "1")}); !errors.Is(err, ErrInUse) {
		t.Errorf("two daemons on one path: %v", err)
	}
	mustHold(t, other, world{})
}

func TestAdvice(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&fs.PathError{Op: "open", Path: "/x/s", Err: syscall.EROFS}, "open state /x/s: read-only file " +
			"system: make the file system writable, or set state to a path on another one"},
		{syscall.EACCES, "open state /x/s: permission denied: run as root, or as the user whom /x belongs to"},
		{syscall.EPERM, "open state /x/s: operation not permitted: run as root, or as the user whom /x belongs to"},
		{syscall.ENOSPC, "open state /x/s: no space left on device: free some space there"},
		{syscall.EIO, "open state /x/s: input/output error"},
	} {
		got := advise("open state", "/x/s", tt.err)
		var errno syscall.Errno
		if got.Error() != tt.want || !errors.As(tt.err, &errno) || !errors.Is(got, errno) {
			t.Errorf("got  %v\nwant %s", got, tt.want)
		}
	}
}

// What can't be a state is left alone.
func TestNotAFile(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, pipe, "/dev/null", filepath.Join(dir, "file", "state.db")} {
		_, err := Open(path, Options{})
		if err == nil || !strings.Contains(err.Error(), "set state to another path") {
			t.Errorf("%s: %v", path, err)
		}
	}
	mustHaveFiles(t, dir, "file", "pipe")
}
