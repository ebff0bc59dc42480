package journal

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"banset/cmd/internal/source"
	"banset/cmd/internal/source/sourcetest"
	"banset/test/journaltest"
)

// bare takes from each line what the journal puts before the text, so that there remains what was written.
type bare struct{ *Journal }

var prefix = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00 [\w-]+ sshd(?:\[\d+\])?: `)

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

// match is what the tests' entries are written with.
var match = []string{"SYSLOG_IDENTIFIER=sshd"}

// openRemote reads a journal that systemd-journal-remote writes.
func openRemote(r *journaltest.Remote, o Options) *Journal {
	o.Directory = r.Dir
	j := New(match, o)
	j.retry = 10 * time.Millisecond
	return j
}

// openJournald reads a journald's journal as the daemon does, in its namespaces.
func openJournald(d *journaltest.Journald, o Options) *Journal {
	o.Journalctl = d.Journalctl
	j := New(match, o)
	j.retry, j.roots = 10*time.Millisecond, d.Roots
	return j
}

type remoteLog struct{ *journaltest.Remote }

func (l remoteLog) Write(text string) { l.Entry(entryOf(text)...) }

func entryOf(text string) []string {
	return []string{"MESSAGE=" + strings.TrimSuffix(text, "\n"), "SYSLOG_IDENTIFIER=sshd", "_PID=42", "_HOSTNAME=mx1"}
}

func (l remoteLog) Open(from []source.Position) source.Source {
	return bare{openRemote(l.Remote, Options{From: from})}
}

func (l remoteLog) Rotate(way sourcetest.Way) {
	l.Remote.Rotate()
	if way.Live {
		l.Vacuum(1)
	}
}

func TestContract(t *testing.T) {
	t.Parallel()
	sourcetest.Test(t, sourcetest.Kind{
		New:  func(t testing.TB) sourcetest.Log { return remoteLog{journaltest.NewRemote(t)} },
		Ways: []sourcetest.Way{{Name: "new file"}, {Name: "new file and vacuum", Live: true}},
	})
}

type daemonLog struct{ *journaltest.Journald }

func (l daemonLog) Write(text string) {
	l.Send("MESSAGE="+strings.TrimSuffix(text, "\n"), "SYSLOG_IDENTIFIER=sshd")
}

func (l daemonLog) Open(from []source.Position) source.Source {
	// journalctl may look at an entry that is not linked everywhere yet, and then sees it with the next one only.
	return bare{openJournald(l.Journald, Options{From: from, Look: 2 * time.Second})}
}

func (l daemonLog) Rotate(way sourcetest.Way) {
	switch way.Name {
	case "rotation":
		l.Journald.Rotate()
	case "rotation and vacuum":
		l.Journald.Rotate()
		l.Vacuum(2)
	case "restart of journald":
		l.Restart()
	case "end of journald":
		l.Crash()
	}
}

func TestContractJournald(t *testing.T) {
	t.Parallel()
	all := []sourcetest.Way{{Name: "rotation"}, {Name: "rotation and vacuum", Live: true}, {Name: "restart of journald"},
		{Name: "end of journald"}}
	for _, kind := range []struct {
		name       string
		persistent bool
		ways       []sourcetest.Way
	}{{"persistent", true, all}, {"volatile", false, all[:1]}} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			sourcetest.Test(t, sourcetest.Kind{
				New:  func(t testing.TB) sourcetest.Log { return daemonLog{journaltest.NewJournald(t, kind.persistent)} },
				Ways: kind.ways,
			})
		})
	}
}
