package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"banset/policy"
	"banset/policy/blocklist"
	"banset/policy/judge"
	"banset/policy/ledger"
)

// newDisk makes a small file system of its own the working directory for the test, in a private mount namespace, and
// returns how to make it read-only and writable again.
func newDisk(t *testing.T, size string) (readOnly func(bool)) {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	mounts := make(chan uintptr)
	results := make(chan error)
	var root int
	go func() {
		// The thread keeps its mount namespace and ends with this goroutine. The others of the process reach the disk
		// by their working directory.
		runtime.LockOSThread()
		results <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
				return fmt.Errorf("unshare: %w", err)
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return fmt.Errorf("making the mounts private: %w", err)
			}
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755,size="+size); err != nil {
				return fmt.Errorf("mounting: %w", err)
			}
			var err error
			root, err = unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			return err
		}()
		for flags := range mounts {
			results <- unix.Mount("", dir, "", unix.MS_REMOUNT|flags, "")
		}
	}()
	t.Cleanup(func() { close(mounts) })
	if err := <-results; err != nil {
		t.Fatalf("a disk of its own: %v", err)
	}
	t.Cleanup(func() { unix.Close(root) })
	if err := unix.Fchdir(root); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chdir("/") }) // before the namespace goes
	return func(ro bool) {
		t.Helper()
		flags := uintptr(0)
		if ro {
			flags = unix.MS_RDONLY
		}
		mounts <- flags
		if err := <-results; err != nil {
			t.Fatalf("remounting: %v", err)
		}
	}
}

// host is the i-th host of a test.
func host(i int) string {
	return netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}).String() + "/32"
}

// takeMany bans hosts all at once.
func (r *rig) takeMany(from, n int) {
	r.do(r.t.Context(), func(j *judge.Judge) {
		now := time.Now().Unix()
		for i := from; i < from+n; i++ {
			j.Take(policy.Ban{Host: netip.MustParsePrefix(host(i)), At: now, Until: now + 3600, Policy: "sshd", Failures: 3})
		}
	})
}

// inTrouble waits until the file's mirror is in trouble, and checks what else is to hold then: the kernel has the
// bans, status and log tell of it, and the file has whole lines only.
func (r *rig) inTrouble(want string) {
	r.t.Helper()
	r.until("trouble", func(*judge.Judge) bool {
		_, problems := r.file.Status()
		return len(problems) > 0 && strings.Contains(problems[0], want)
	})
	r.until("the kernel has the bans", func(j *judge.Judge) bool { return j.Book().Pending(ledger.Kernel) == 0 })
	if n := r.waitingForFile(); n == 0 {
		r.t.Error("nothing waits for the file")
	}
	r.logged("bans go on in the kernel")
	r.wholeLines()
}

func (r *rig) waitingForFile() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.judge.Book().Pending(ledger.File)
}

// wholeLines checks that the file has no beginning of a line.
func (r *rig) wholeLines() {
	r.t.Helper()
	text := r.text()
	if text != "" && !strings.HasSuffix(text, "\n") {
		r.t.Errorf("the last line has no end: %q", text[strings.LastIndexByte(text, '\n')+1:])
	}
	file := blocklist.Parse([]byte(text), blocklist.Options{})
	if problems, _ := file.Problems(); len(problems) > 0 {
		r.t.Errorf("lines that can't be read: %v", problems)
	}
	for e := range file.Entries() {
		if e.Kind == blocklist.Ours && e.Ban.Policy != "sshd" && e.Ban.Policy != "" {
			r.t.Errorf("half a line: %+v", e)
		}
	}
}

// good waits until the file is made good.
func (r *rig) good() {
	r.t.Helper()
	r.settled()
	r.logged("writing works again")
	if _, problems := r.file.Status(); len(problems) > 0 {
		r.t.Errorf("problems stay: %q", problems)
	}
	r.wholeLines()
}

func TestDiskFull(t *testing.T) {
	newDisk(t, "256k") // room for a second version of the file
	r := newRigAt(t, "blocklist")
	r.takeMany(0, 20)
	r.settled()
	before := r.text()
	filler, err := os.Create("filler")
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	filler.Close()
	r.takeMany(1000, 200) // more than the page that the file has begun
	r.inTrouble("no space left")
	if got := r.text(); got != before {
		t.Errorf("the file has changed:\n%s", got)
	}
	r.do(t.Context(), func(j *judge.Judge) { j.Pardon(netip.MustParsePrefix(host(3))) })
	r.takeMany(2000, 200)
	r.inTrouble("no space left")
	if n := strings.Count(r.log.String(), "level=ERROR"); n != 1 {
		t.Errorf("%d errors in the log, want one:\n%s", n, r.log)
	}
	if err := os.Remove("filler"); err != nil {
		t.Fatal(err)
	}
	r.good()
	if _, ok := r.ban(host(3)); ok || strings.Contains(r.text(), host(3)) {
		t.Error("a pardon on a full disk was lost")
	}
}

func TestReadOnlyFileSystem(t *testing.T) {
	readOnly := newDisk(t, "1m")
	r := newRigAt(t, "blocklist")
	r.takeMany(0, 20)
	r.settled()
	before := r.text()
	readOnly(true)
	r.takeMany(1000, 20)
	r.do(t.Context(), func(j *judge.Judge) { j.Pardon(netip.MustParsePrefix(host(3))) })
	r.inTrouble("read-only file system")
	if got := r.text(); got != before {
		t.Errorf("the file has changed:\n%s", got)
	}
	readOnly(false)
	r.good()
}

// TestStartOnReadOnlyFileSystem: a start reads what it can and protects.
func TestStartOnReadOnlyFileSystem(t *testing.T) {
	readOnly := newDisk(t, "1m")
	r := newRigAt(t, "blocklist")
	r.takeMany(0, 5)
	r.settled()
	r.stop()
	readOnly(true)
	r.begin(nil)
	r.takeMany(1000, 5)
	r.inTrouble("read-only file system")
	readOnly(false)
	r.good()
}

// withoutRights runs f in a thread to which the modes of files apply, as they do to an ordinary user.
func withoutRights(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and ends with this goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		err := unix.Capget(&header, &data[0])
		if err == nil {
			data[0].Effective &^= 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH
			err = unix.Capset(&header, &data[0])
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestPermissionLost: of the file, and of its directory, while it runs and at a start.
func TestPermissionLost(t *testing.T) {
	for _, what := range []string{"file", "directory"} {
		for _, when := range []string{"running", "start"} {
			t.Run(what+"/"+when, func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, "blocklist")
				old := seedBan("192.0.2.1/32")
				if err := os.WriteFile(path, linesFor(old), 0o640); err != nil {
					t.Fatal(err)
				}
				deny := func(yes bool) {
					name, mode := path, os.FileMode(0o640)
					if what == "directory" {
						name, mode = dir, 0o750
					}
					if yes {
						mode = 0
					}
					if err := os.Chmod(name, mode); err != nil {
						t.Error(err)
					}
				}
				t.Cleanup(func() { deny(false) })
				withoutRights(t, func() {
					if when == "start" {
						deny(true)
					}
					d, err := newDesk(path, remember([]policy.Ban{old}))
					if err != nil {
						t.Errorf("a start needs no file to protect: %v", err)
						return
					}
					if when == "running" {
						if err := d.finish(); err != nil {
							t.Error(err)
						}
						deny(true)
					}
					d.judge.Take(seedBan("192.0.2.12/32"))
					if err := d.finish(); !errors.Is(err, os.ErrPermission) || d.acked == nil {
						t.Errorf("%v, acknowledged: %v; want no permission", err, d.acked)
					}
					if _, problems := d.file.Status(); len(problems) != 1 || !strings.Contains(problems[0], "permission denied") {
						t.Errorf("problems %q, want that there is no permission", problems)
					}
					deny(false)
					if err := d.finish(); err != nil {
						t.Error(err)
					}
					for _, host := range []string{"192.0.2.1/32", "192.0.2.12/32"} {
						if _, ok := d.judge.Book().Get(netip.MustParsePrefix(host)); !ok {
							t.Errorf("%s is lost", host)
						}
					}
					if _, problems := d.file.Status(); len(problems) > 0 {
						t.Errorf("problems stay: %q", problems)
					}
					checkWhole(t, d, path, what)
				})
			})
		}
	}
}

// TestReadOnlyFile: a file that we may read but not write to, as root puts it where the daemon is another user, is
// replaced. Its mode stays.
func TestReadOnlyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blocklist")
	old, fresh := seedBan("192.0.2.1/32"), seedBan("192.0.2.12/32")
	if err := os.WriteFile(path, linesFor(old), 0o440); err != nil {
		t.Fatal(err)
	}
	withoutRights(t, func() {
		d, err := newDesk(path, remember([]policy.Ban{old}))
		if err != nil {
			t.Error(err)
			return
		}
		d.judge.Take(fresh)
		if err := d.finish(); err != nil || d.acked != nil {
			t.Errorf("%v, acknowledged: %v", err, d.acked)
		}
		text, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(text, linesFor(old, fresh)) {
			t.Errorf("the file is %q, %v", text, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o440 {
			t.Errorf("the file's mode: %v %v, want 0440", info, err)
		}
	})
}

// TestTroublePause: while the file can't be written, the judgement's wake-ups do not make a loop that spins.
func TestTroublePause(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	j := judge.New(judge.Settings{})
	var f *File
	began, looks := time.Now(), 0
	do := func(_ context.Context, work func(*judge.Judge)) error {
		work(j)
		f.Wake() // as the court does while work waits
		return nil
	}
	f = NewFile(filepath.Join(file, "blocklist"), do, slog.New(slog.DiscardHandler), func() blocklist.Options { return blocklist.Options{} },
		func(err error) {
			if looks++; looks == 4 {
				cancel()
			}
		})
	if err := f.Run(ctx); err != nil {
		t.Fatal(err)
	}
	// 100, 200 and 400 ms lie between four looks: never less, however loaded the machine is.
	if took := time.Since(began); took < 700*time.Millisecond {
		t.Errorf("4 looks at a file that can't be had took %v", took)
	}
}

// TestShortWrite: a write that ends in the middle of a line leaves nothing of it.
func TestShortWrite(t *testing.T) {
	newDisk(t, "8m")
	// Large, so that the limit below is met by nothing else that this process writes.
	before := append(linesFor(seedBan("192.0.2.1/32")), bytes.Repeat([]byte("# a person's comment\n"), 100_000)...)
	old := syscall.Rlimit{}
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	line := len(blocklist.AppendLine(nil, seedBan("192.0.2.12/32")))
	for cut := 1; cut < line; cut++ {
		if err := os.WriteFile("blocklist", before, 0o640); err != nil {
			t.Fatal(err)
		}
		d, err := newDesk("blocklist", remember([]policy.Ban{seedBan("192.0.2.1/32")}))
		if err != nil {
			t.Fatal(err)
		}
		d.judge.Take(seedBan("192.0.2.12/32"))
		// The Go runtime does nothing at the SIGXFSZ that comes with it.
		limit := syscall.Rlimit{Cur: uint64(len(before) + cut), Max: old.Max}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			t.Fatal(err)
		}
		err = d.finish()
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
			t.Fatal(err)
		}
		if !errors.Is(err, syscall.EFBIG) {
			t.Fatalf("cut at %d: %v, want that the file would be too large", cut, err)
		}
		if text, err := os.ReadFile("blocklist"); err != nil || !bytes.Equal(text, before) {
			t.Fatalf("cut at %d: %v:\n%s", cut, err, text)
		}
		if err := d.finish(); err != nil {
			t.Fatal(err)
		}
		checkWhole(t, d, "blocklist", "made good")
	}
}
