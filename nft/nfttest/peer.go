package nfttest

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// A Peer is another host: a second network namespace, connected to the test's by a pair of veth interfaces. Our end
// has the addresses 192.0.2.1/24 and 2001:db8::1/64, the peer's 192.0.2.2/24 and 2001:db8::2/64.
type Peer struct {
	t  testing.TB
	ns *os.File
}

// The addresses of a peer's link.
const (
	Here4, There4 = "192.0.2.1", "192.0.2.2"
	Here6, There6 = "2001:db8::1", "2001:db8::2"
)

// NewPeer makes a peer, which goes when the test ends. There is one at a time.
func NewPeer(t testing.TB) *Peer {
	t.Helper()
	p := &Peer{t: t}
	made := make(chan error)
	go func() {
		// The thread keeps the new namespace, so it is not given back but ends with this goroutine.
		runtime.LockOSThread()
		made <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("unshare: %w", err)
			}
			if err := loopbackUp(); err != nil {
				return fmt.Errorf("bring up lo: %w", err)
			}
			var err error
			p.ns, err = os.Open("/proc/thread-self/ns/net")
			return err
		}()
	}()
	if err := <-made; err != nil {
		t.Fatalf("make a second network namespace: %v", err)
	}
	t.Cleanup(func() { p.ns.Close() })

	Run(t, "ip", "link", "add", "here", "type", "veth", "peer", "name", "there", "netns",
		fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), p.ns.Fd()))
	t.Cleanup(func() { Run(t, "ip", "link", "delete", "here") })
	Run(t, "ip", "address", "add", Here4+"/24", "dev", "here")
	Run(t, "ip", "address", "add", Here6+"/64", "dev", "here", "nodad")
	Run(t, "ip", "link", "set", "here", "up")
	p.AddAddress(There4 + "/24")
	p.AddAddress(There6 + "/64")
	p.Run("ip", "link", "set", "there", "up")
	return p
}

// AddAddress gives the peer another address, with its prefix length.
func (p *Peer) AddAddress(prefix string) {
	p.t.Helper()
	args := []string{"address", "add", prefix, "dev", "there"}
	for _, c := range prefix {
		if c == ':' {
			args = append(args, "nodad")
			break
		}
	}
	p.Run("ip", args...)
}

// Do runs f in the peer's namespace: sockets that f opens and programs that it starts, in its own goroutine, are the
// peer's. They stay so after it.
func (p *Peer) Do(f func()) {
	p.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and ends with this goroutine, as in NewPeer
		err := unix.Setns(int(p.ns.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		p.t.Fatalf("enter the peer's namespace: %v", err)
	}
}

// Run runs a program as the peer and returns what it printed. If it fails, so does the test.
func (p *Peer) Run(name string, args ...string) string {
	p.t.Helper()
	cmd := Command(p.t, name, args...)
	var out []byte
	var err error
	p.Do(func() { out, err = cmd.Output() })
	if err != nil {
		var why []byte
		if exit, ok := err.(*exec.ExitError); ok {
			why = exit.Stderr
		}
		p.t.Fatalf("as the peer: %s %v: %v\n%s%s", name, args, err, out, why)
	}
	return string(out)
}
