package follow

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestPermission takes a file's permission away and gives it back. Root may read everything, so the test runs itself
// as somebody else.
func TestPermission(t *testing.T) {
	dir := os.Getenv("FOLLOW_TEST_DIR")
	if dir == "" && os.Getuid() == 0 {
		dir, err := os.MkdirTemp("/tmp", "follow")
		must(t, err)
		t.Cleanup(func() { os.RemoveAll(dir) })
		exe := filepath.Join(dir, "test")
		data, err := os.ReadFile("/proc/self/exe")
		must(t, err)
		must(t, os.WriteFile(exe, data, 0o755))
		must(t, os.Chown(dir, 65534, 65534))
		cmd := exec.Command(exe, "-test.run=^TestPermission$", "-test.v")
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "FOLLOW_TEST_DIR="+dir, "GOCOVERDIR=")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	if dir == "" {
		dir = t.TempDir()
	}
	log := filepath.Join(dir, "a.log")
	write(t, log, "one\n")
	r := follow(t, Options{}, log)
	r.want("one\n")

	// A file that is open stays open; tail can't open it again, blocks go on.
	must(t, os.Chmod(log, 0))
	f, err := os.OpenFile(log+".w", os.O_CREATE|os.O_WRONLY, 0o644)
	must(t, err)
	f.Close()
	must(t, os.Rename(log+".w", log+".new"))
	must(t, os.Chmod(log, 0o200))
	w, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	defer w.Close()
	_, err = w.WriteString("two\n")
	must(t, err)
	r.want("two\n")

	// Its successor can't be opened.
	must(t, os.Rename(log, log+".1"))
	must(t, os.Chmod(log+".new", 0o200))
	must(t, os.Rename(log+".new", log))
	r.wantStatus("a.log unreadable: open: permission denied")
	w2, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	defer w2.Close()
	_, err = w2.WriteString("three\n")
	must(t, err)
	must(t, os.Chmod(log, 0o600))
	if c := r.want("three\n"); c.Live {
		t.Error("what was written while nobody could read it is live")
	}
	r.wantStatus("a.log following")
	r.stop()

	// A position in a file that can't be opened waits for it.
	must(t, os.Chmod(log, 0o200))
	_, err = w2.WriteString("four\n")
	must(t, err)
	r = follow(t, Options{From: r.held}, log)
	r.wantStatus("a.log unreadable: open: permission denied")
	must(t, os.Chmod(log, 0o600))
	r.want("four\n")
	r.stop()

	// So does one in a directory that can't be searched.
	must(t, os.Mkdir(filepath.Join(dir, "d"), 0o700))
	log2 := filepath.Join(dir, "d", "b.log")
	write(t, log2, "one\n")
	r = follow(t, Options{}, log2)
	r.want("one\n")
	r.stop()
	write(t, log2, "two\n")
	must(t, os.Chmod(filepath.Join(dir, "d"), 0))
	r = follow(t, Options{From: r.held}, log2)
	r.wantStatus("b.log unreadable: stat: permission denied")
	must(t, os.Chmod(filepath.Join(dir, "d"), 0o700))
	r.want("two\n")
}
