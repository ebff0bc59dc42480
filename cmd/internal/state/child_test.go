package state

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// The tests of locks and crashes need other processes: this binary again, which then plays one of these parts.
var parts = map[string]func(args []string) error{
	"hold":   hold,
	"commit": commitForever,
	"full":   fullDisk,
	"frozen": frozenDisk,
	"nobody": asNobody,
}

const partEnv = "STATE_TEST_PART"

func TestMain(m *testing.M) {
	part, ok := parts[os.Getenv(partEnv)]
	if !ok {
		os.Exit(m.Run())
	}
	if err := part(os.Args[1:]); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

// play starts a part and returns its output. It ends when its stdin is closed, and with the test.
func play(t *testing.T, part string, args ...string) (*exec.Cmd, io.WriteCloser, *bufio.Reader) {
	t.Helper()
	return playIn(t, 0, part, args...)
}

// playIn is play in new namespaces.
func playIn(t *testing.T, namespaces uintptr, part string, args ...string) (*exec.Cmd, io.WriteCloser, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), partEnv+"="+part)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	if namespaces&syscall.CLONE_NEWUSER != 0 { // root there, whoever we are
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
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
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	return cmd, in, bufio.NewReader(out)
}

// hold opens the state of the first argument, says so, and keeps it until stdin ends.
func hold(args []string) error {
	s, err := Open(args[0], Options{})
	if err != nil {
		return err
	}
	fmt.Println("open")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return s.Close()
}

const numberKey = "commits"

// commitForever makes the commits from a number on (second argument) and says after each that it is done.
func commitForever(args []string) error {
	s, err := Open(args[0], Options{})
	if err != nil {
		return err
	}
	from, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	for n := from; ; n++ {
		if err := s.Commit(numbered(n)); err != nil {
			return err
		}
		fmt.Println(n)
		if n%7 == 0 {
			s.mu.Lock()
			err := s.rewrite(os.Rename)
			s.mu.Unlock()
			if err != nil {
				return err
			}
		}
	}
}

// numbered is the n-th commit: always the same changes, and the number itself.
func numbered(n int) []Change {
	rnd := rand.New(rand.NewPCG(uint64(n), 7))
	return append(randomChanges(rnd, 1+rnd.IntN(300)), put(Meta, numberKey, strconv.Itoa(n)))
}

// kill -9 at any moment: the file then holds what some commit left, whole, and none that was acknowledged is missing.
func TestKilled(t *testing.T) {
	rounds := 30
	if testing.Short() {
		rounds = 5
	}
	path := filepath.Join(t.TempDir(), "state.db")
	want := world{}
	done := 0 // commits in want
	rnd := rand.New(rand.NewPCG(5, 6))
	for range rounds {
		cmd, _, out := play(t, "commit", path, strconv.Itoa(done+1))
		acked := done
		for target := done + 1 + rnd.IntN(20); acked < target; {
			line, err := out.ReadString('\n')
			if err != nil {
				t.Fatalf("the child ended by itself: %v", err)
			}
			if acked, err = strconv.Atoi(line[:len(line)-1]); err != nil {
				t.Fatalf("the child says %q", line)
			}
		}
		// Somewhere in the next commit or rewrite.
		time.Sleep(time.Duration(rnd.IntN(3000)) * time.Microsecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		rest, _ := io.ReadAll(out)
		_ = cmd.Wait()
		for _, b := range rest {
			if b == '\n' {
				acked++
			}
		}

		s := mustOpen(t, path)
		if s.Notice() != "" {
			t.Fatalf("after commit %d: %s", acked, s.Notice())
		}
		mustBeSound(t, s)
		got, err := contents(s)
		if err != nil {
			t.Fatal(err)
		}
		last, _ := strconv.Atoi(got[Meta][numberKey])
		if last < acked || last > acked+1 {
			t.Fatalf("commit %d was acknowledged, the file holds %d", acked, last)
		}
		for ; done < last; done++ {
			want.apply(numbered(done + 1))
		}
		mustHold(t, s, want)
		mustHaveFiles(t, filepath.Dir(path), "state.db")
		s.Close()
	}
	if done < rounds {
		t.Errorf("only %d commits in %d rounds", done, rounds)
	}
}
