package daemon

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A listener is journald as far as streams go.
type listener struct {
	t *testing.T
	net.Listener
}

func listenAt(t *testing.T, path string) listener {
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return listener{t, l}
}

// accept takes a stream and checks that it says what it is.
func (l listener) accept() *stream {
	l.t.Helper()
	c, err := l.Accept()
	if err != nil {
		l.t.Fatal(err)
	}
	s := &stream{l.t, c, bufio.NewReader(c)}
	// Identifier, unit, priority, lines have their own, and three places where they are not to go.
	for _, line := range []string{"banset", "", "6", "1", "0", "0", "0"} {
		s.want(line)
	}
	return s
}

type stream struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func (s *stream) want(want string) {
	s.t.Helper()
	if line, err := s.r.ReadString('\n'); err != nil || line != want+"\n" {
		s.t.Fatalf("the journal gets %q, %v; want %q", line, err, want)
	}
}

// TestJournalComesBack: a journald that is stopped closes its streams for good. The one that is started then gets what
// is said meanwhile, and everything after it.
func TestJournalComesBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stdout")
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	first, stderr := os.NewFile(uintptr(pair[0]), "journald"), os.NewFile(uintptr(pair[1]), "stderr")
	defer stderr.Close()
	log, flush := newLogger(stderr, path, false)
	log.Info("one")
	if line, err := bufio.NewReader(first).ReadString('\n'); err != nil || line != "one\n" {
		t.Fatalf("%q, %v", line, err)
	}
	first.Close()
	log.Warn("two")
	log.Info("three")
	journald := listenAt(t, path)
	s := journald.accept()
	s.want("<4>two")
	s.want("three")

	// And again, after a stream that was opened here.
	journald.Close()
	s.Close()
	log.Error("four")
	journald = listenAt(t, path)
	s = journald.accept()
	s.want("<3>four")
	log.Info("five")
	s.want("five")

	// Nobody waits for one that does not come back.
	journald.Close()
	s.Close()
	log.Info("six")
	flush()
}

func TestIsJournal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(w.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("%d:%d", st.Dev, st.Ino)
	for _, c := range []struct {
		out    io.Writer
		stream string
		want   bool
	}{
		{w, name, true},
		{w, "", false},
		{w, name + "0", false},
		{io.Discard, name, false},
	} {
		if got := isJournal(c.out, c.stream); got != c.want {
			t.Errorf("isJournal(%v, %q) = %v", c.out, c.stream, got)
		}
	}
}
