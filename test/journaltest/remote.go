// Package journaltest gives tests real journal files: written by systemd-journal-remote, or by a systemd-journald that
// has /run and /var/log of its own. Both work without rights, where the system allows user namespaces.
package journaltest

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// find is the first of several places at which a program is.
func find(t testing.TB, name, pkg string) string {
	t.Helper()
	paths := []string{"/usr/lib/systemd/" + name, "/lib/systemd/" + name}
	i := slices.IndexFunc(paths, func(path string) bool { _, err := os.Stat(path); return err == nil })
	if i < 0 {
		t.Fatalf("%s is not there: apt-get install %s", paths[0], pkg)
	}
	return paths[i]
}

// Boot is the boot in which the entries of a [Remote] were written.
const Boot = "6d8b3c8e0a5e4f0f9a4d3c2b1a090807"

// A Remote is a directory of journal files that systemd-journal-remote writes, with whatever times one likes. Its
// methods may be called by several goroutines.
type Remote struct {
	Dir  string
	Boot string // of new entries; not while others write

	t       testing.TB
	program string
	mu      sync.Mutex
	cmd     *exec.Cmd
	in      io.WriteCloser
	n       int
	last    int64    // the newest entry's time
	rotated []string // files, oldest first
}

// NewRemote begins a journal in a directory of the test's own.
func NewRemote(t testing.TB) *Remote {
	r := &Remote{Dir: t.TempDir(), Boot: Boot, t: t, program: find(t, "systemd-journal-remote", "systemd-journal-remote")}
	r.begin()
	t.Cleanup(r.end)
	return r
}

func must(t testing.TB, err error) {
	if err != nil {
		t.Error(err)
		panic(err)
	}
}

// Path is the file in use.
func (r *Remote) Path() string { return filepath.Join(r.Dir, "system.journal") }

// begin starts a writer of the file in use.
func (r *Remote) begin() {
	r.cmd = exec.Command(r.program, "--output="+r.Path(), "-")
	var err error
	r.in, err = r.cmd.StdinPipe()
	must(r.t, err)
	must(r.t, r.cmd.Start())
}

// end lets it finish its file.
func (r *Remote) end() {
	r.in.Close()
	must(r.t, r.cmd.Wait())
}

// Entry writes an entry of these fields, FIELD=VALUE, now. No two have the same time.
func (r *Remote) Entry(fields ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = max(r.last+1, time.Now().UnixMicro())
	r.put(r.last, fields)
}

// EntryAt writes an entry with a time of its own.
func (r *Remote) EntryAt(at time.Time, fields ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put(at.UnixMicro(), fields)
}

func (r *Remote) put(at int64, fields []string) {
	var b bytes.Buffer
	// The monotonic clock runs with the other one.
	fmt.Fprintf(&b, "__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=%s\n", at, at-1_000_000_000_000_000, r.Boot)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, "=")
		b.Write(Field(name, value))
	}
	b.WriteByte('\n')
	_, err := r.in.Write(b.Bytes())
	must(r.t, err)
}

// Field is one field in the form that journald's socket and systemd-journal-remote take, whatever its value holds.
func Field(name, value string) []byte {
	if value == "" {
		return []byte(name + "=\n") // a length of zero is not taken
	}
	b := append([]byte(name), '\n')
	size := uint64(len(value))
	for i := range 8 {
		b = append(b, byte(size>>(8*i)))
	}
	return append(append(b, value...), '\n')
}

// Settle returns when all that was written so far can be read.
func (r *Remote) Settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end()
	r.begin()
}

// Rotate goes over to another file.
func (r *Remote) Rotate() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end()
	r.n++
	old := filepath.Join(r.Dir, fmt.Sprintf("system@%032x-%016x-%016x.journal", r.n, r.n, r.last))
	must(r.t, os.Rename(r.Path(), old))
	r.begin()
	r.rotated = append(r.rotated, old)
}

// Vacuum removes the oldest files that were rotated, and leaves so many.
func (r *Remote) Vacuum(leave int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.rotated) > leave {
		must(r.t, os.Remove(r.rotated[0]))
		r.rotated = r.rotated[1:]
	}
}
