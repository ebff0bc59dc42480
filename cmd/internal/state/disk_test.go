package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// Disks that are full or read-only are tmpfs mounts that only a child sees.
func TestDisks(t *testing.T) {
	for name, namespaces := range map[string]uintptr{
		"full":   syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		"frozen": syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		"nobody": 0,
	} {
		t.Run(name, func(t *testing.T) {
			cmd, in, out := playIn(t, namespaces, name, t.TempDir())
			in.Close()
			said, _ := io.ReadAll(out)
			if err := cmd.Wait(); err != nil || string(said) != "fine\n" {
				t.Errorf("the child ended with %v and says:\n%s", err, said)
			}
		})
	}
}

// mountAt mounts a tmpfs on dir. The process has a namespace of mounts of its own.
func mountAt(dir, size string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	return unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size)
}

func holds(s *Store, want world) error {
	got, err := contents(s)
	if err == nil && !cmp.Equal(want, got) {
		err = fmt.Errorf("it holds something else (-want +got):\n%s", cmp.Diff(want, got))
	}
	return err
}

// A full disk fails commits and compactions, and nothing else: once there is room they work again.
func fullDisk(args []string) error {
	if err := mountAt(args[0], "16m"); err != nil {
		return err
	}
	path := filepath.Join(args[0], "state.db")
	s, err := Open(path, Options{})
	if err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	want := world{}
	commit := func(changes []Change) error {
		err := s.Commit(changes)
		if err == nil {
			want.apply(changes)
		}
		return err
	}
	if err := commit(randomChanges(rnd, 2000)); err != nil {
		return err
	}
	filler := filepath.Join(args[0], "filler")
	for round := range 3 {
		if err := os.WriteFile(filler, make([]byte, 32<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
			return fmt.Errorf("the disk is not full: %v", err)
		}
		failed := 0
		for range 5 {
			var changes []Change
			for range 20_000 {
				changes = append(changes, hostKey(Windows, rnd.Uint64()))
			}
			err := commit(changes)
			if err == nil {
				return errors.New("a megabyte found room")
			}
			failed++
			if !errors.Is(err, unix.ENOSPC) || !strings.HasSuffix(err.Error(), ": free some space there") {
				return err
			}
			if err := holds(s, want); err != nil {
				return fmt.Errorf("after a failed commit: %w", err)
			}
		}
		s.mu.Lock()
		err := s.rewrite(os.Rename)
		s.mu.Unlock()
		if !errors.Is(err, unix.ENOSPC) {
			return fmt.Errorf("rewritten on a full disk: %v", err)
		}
		if _, err := os.Stat(path + freshSuffix); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("a failed rewrite left %v", err)
		}
		if err := os.Remove(filler); err != nil {
			return err
		}
		if err := commit(randomChanges(rnd, 500)); err != nil {
			return fmt.Errorf("round %d, with room again: %w", round, err)
		}
		if err := holds(s, want); err != nil {
			return err
		}
		if err := s.Close(); err != nil {
			return err
		}
		if s, err = Open(path, Options{}); err != nil {
			return err
		}
		if s.Notice() != "" {
			return errors.New(s.Notice())
		}
		if err := holds(s, want); err != nil {
			return fmt.Errorf("opened again: %w", err)
		}
	}
	// A disk with no room at all, and no state yet.
	s.Close()
	if err := os.Remove(path); err != nil {
		return err
	}
	if err := os.WriteFile(filler, make([]byte, 32<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("the disk is not full: %v", err)
	}
	if _, err := Open(path, Options{}); !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("a state begun on a full disk: %v", err)
	}
	if _, err := os.Stat(path + freshSuffix); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("it left %v", err)
	}
	fmt.Println("fine")
	return nil
}

// A read-only disk: the daemon is told what to do, a command can look.
func frozenDisk(args []string) error {
	if err := mountAt(args[0], "1m"); err != nil {
		return err
	}
	path := filepath.Join(args[0], "state.db")
	s, err := Open(path, Options{})
	if err != nil {
		return err
	}
	if err := s.Commit([]Change{put(Meta, "a", "1")}); err != nil {
		return err
	}
	s.Close()
	if err := unix.Mount("", args[0], "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return err
	}
	const advice = "make the file system writable, or set state to a path on another one"
	for path, want := range map[string]string{
		path:                               "open state %s: read-only file system: " + advice,
		filepath.Join(args[0], "new"):      "begin state %s: read-only file system: " + advice,
		filepath.Join(args[0], "d", "new"): "make the directory of state %s: read-only file system: " + advice,
	} {
		_, err := Open(path, Options{})
		if want := fmt.Sprintf(want, path); !errors.Is(err, unix.EROFS) || err.Error() != want {
			return fmt.Errorf("got %w, want %s", err, want)
		}
	}
	if s, err = Open(path, Options{ReadOnly: true}); err != nil {
		return err
	}
	if err := holds(s, world{Meta: {"a": "1"}}); err != nil {
		return err
	}
	fmt.Println("fine")
	return nil
}

// A user without the right is told whose it is; a broken file that can't be moved stays as it is.
func asNobody(args []string) error {
	closed, open := filepath.Join(args[0], "closed"), filepath.Join(args[0], "open")
	if err := errors.Join(os.Mkdir(closed, 0), os.Mkdir(open, 0o755)); err != nil {
		return err
	}
	broken := filepath.Join(open, "broken.db")
	if err := os.WriteFile(broken, []byte("broken"), 0o600); err != nil {
		return err
	}
	if err := os.Chmod(open, 0o555); err != nil {
		return err
	}
	defer os.Chmod(open, 0o755) // for who removes it
	if os.Getuid() == 0 {
		if err := errors.Join(os.Chmod(args[0], 0o755), os.Chmod(filepath.Dir(args[0]), 0o755),
			os.Chown(broken, 65534, 65534), syscall.Setgroups(nil), syscall.Setgid(65534), syscall.Setuid(65534)); err != nil {
			return err
		}
	}
	const denied = "permission denied: run as root, or as the user whom %s belongs to"
	for path, want := range map[string]string{
		filepath.Join(closed, "state.db"):    "open state %s: " + denied,
		filepath.Join(open, "state.db"):      "begin state %s: " + denied,
		filepath.Join(open, "d", "state.db"): "make the directory of state %s: " + denied,
	} {
		_, err := Open(path, Options{})
		want := fmt.Sprintf(want, path, filepath.Dir(path))
		if !errors.Is(err, fs.ErrPermission) || err.Error() != want {
			return fmt.Errorf("got %w, want %s", err, want)
		}
	}
	_, err := Open(broken, Options{})
	if !errors.Is(err, fs.ErrPermission) || !errors.Is(err, ErrBroken) {
		return fmt.Errorf("a broken file in another's directory: %v", err)
	}
	if data, err := os.ReadFile(broken); err != nil || string(data) != "broken" {
		return fmt.Errorf("it holds %q, %v", data, err)
	}
	fmt.Println("fine")
	return nil
}
