package journal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"banset/cmd/internal/source"
	"banset/cmd/internal/source/sourcetest"
)

// remotePrograms are where distributions put the program that makes journal files of export format.
var remotePrograms = []string{"/usr/lib/systemd/systemd-journal-remote", "/lib/systemd/systemd-journal-remote"}

// find is the first of several places at which a program is.
func find(t testing.TB, paths []string, pkg string) string {
	t.Helper()
	i := slices.IndexFunc(paths, func(path string) bool { _, err := os.Stat(path); return err == nil })
	if i < 0 {
		t.Fatalf("%s is not there: apt-get install %s", paths[0], pkg)
	}
	return paths[i]
}

// A remoteLog is a directory of real journal files, written by systemd-journal-remote.
type remoteLog struct {
	t       testing.TB
	dir     string
	program string
	opts    Options
	match   []string

	mu   sync.Mutex
	cmd  *exec.Cmd
	in   io.WriteCloser
	n    int
	last int64 // the newest entry's time
	boot string
	gone []string // rotated files, oldest first
}

const testBoot = "6d8b3c8e0a5e4f0f9a4d3c2b1a090807"

func newRemoteLog(t testing.TB) *remoteLog {
	l := &remoteLog{t: t, dir: t.TempDir(), boot: testBoot, match: []string{"SYSLOG_IDENTIFIER=sshd"}}
	l.program = find(t, remotePrograms, "systemd-journal-remote")
	l.begin()
	t.Cleanup(func() { l.end() })
	return l
}

func (l *remoteLog) must(err error) {
	if err != nil {
		l.t.Error(err)
		panic(err)
	}
}

func (l *remoteLog) path() string { return filepath.Join(l.dir, "system.journal") }

// begin starts a writer of the file in use.
func (l *remoteLog) begin() {
	l.cmd = exec.Command(l.program, "--output="+l.path(), "-")
	var err error
	l.in, err = l.cmd.StdinPipe()
	l.must(err)
	l.must(l.cmd.Start())
}

// end lets it finish its file.
func (l *remoteLog) end() {
	l.in.Close()
	l.must(l.cmd.Wait())
}

// entry writes one entry of these fields, now.
func (l *remoteLog) entry(fields ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = max(l.last+1, time.Now().UnixMicro())
	l.put(l.last, fields...)
}

func (l *remoteLog) put(at int64, fields ...string) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=%s\n", at, at-1_700_000_000_000_000, l.boot)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, "=")
		if !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == '\ufffd' }) {
			b.WriteString(f + "\n")
			continue
		}
		b.WriteString(name + "\n")
		size := uint64(len(value))
		for i := range 8 {
			b.WriteByte(byte(size >> (8 * i)))
		}
		b.WriteString(value + "\n")
	}
	b.WriteByte('\n')
	_, err := l.in.Write(b.Bytes())
	l.must(err)
}

func (l *remoteLog) Write(text string) {
	l.entry("MESSAGE="+strings.TrimSuffix(text, "\n"), "SYSLOG_IDENTIFIER=sshd", "_PID=42", "_HOSTNAME=mx1")
}

func (l *remoteLog) Open(from []source.Position) source.Source {
	o := l.opts
	o.From, o.Directory = from, l.dir
	j := New(l.match, o)
	j.retry = 10 * time.Millisecond
	return bare{j}
}

func (l *remoteLog) Rotate(way sourcetest.Way) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end()
	l.n++
	old := filepath.Join(l.dir, fmt.Sprintf("system@%032x-%016x-%016x.journal", l.n, l.n, l.last))
	l.must(os.Rename(l.path(), old))
	l.begin()
	l.gone = append(l.gone, old)
	if way.Name == "vacuum" && len(l.gone) > 1 {
		l.must(os.Remove(l.gone[0]))
		l.gone = l.gone[1:]
	}
}

var prefix = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00 [\w-]+ (?:sshd|banset-test)(?:\[\d+\])?: `)

// bare takes from each line what the journal puts before the text, so that there remains what was written.
type bare struct{ *Journal }

func (b bare) Run(ctx context.Context, h source.Handler) error {
	return b.Journal.Run(ctx, func(ctx context.Context, c source.Chunk) error {
		var lines []byte
		for line := range bytes.Lines(c.Lines) {
			n := prefix.FindIndex(line)
			if n == nil {
				return fmt.Errorf("no line of the journal: %q", line)
			}
			lines = append(lines, line[n[1]:]...)
		}
		c.Lines = lines
		return h(ctx, c)
	})
}

func TestContract(t *testing.T) {
	t.Parallel()
	sourcetest.Test(t, sourcetest.Kind{
		New:  func(t testing.TB) sourcetest.Log { return newRemoteLog(t) },
		Ways: []sourcetest.Way{{Name: "new file"}, {Name: "vacuum", Live: true}},
	})
}
