package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// The two ends of the link between the bench and its peer.
const here, there = "192.0.2.1", "192.0.2.2"

// A peer is another host: a second network namespace, joined to the bench's by a pair of veth interfaces. Every
// attacker is behind it.
type peer struct{ ns *os.File }

func newPeer() (*peer, error) {
	p := &peer{}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread keeps the new namespace, and ends with this goroutine
		made <- func() (err error) {
			if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
				if err = loopbackUp(); err == nil {
					p.ns, err = os.Open("/proc/thread-self/ns/net")
				}
			}
			return err
		}()
	}()
	if err := <-made; err != nil {
		return nil, fmt.Errorf("make a second network namespace: %w", err)
	}
	steps := [][]string{
		{"link", "add", "here", "type", "veth", "peer", "name", "there", "netns", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), p.ns.Fd())},
		{"address", "add", here + "/24", "dev", "here"},
		{"link", "set", "here", "up"},
		{"route", "add", "198.16.0.0/12", "dev", "here"}, // the attackers
	}
	for _, args := range steps {
		if err := ip(args...); err != nil {
			return nil, errors.Join(err, p.close())
		}
	}
	err := p.do(func() error {
		return errors.Join(ip("address", "add", there+"/24", "dev", "there"), ip("link", "set", "there", "up"))
	})
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// close takes the link away, and the namespace with it once nobody uses it.
func (p *peer) close() error {
	return errors.Join(ip("link", "delete", "here"), p.ns.Close())
}

// do runs f in the peer's namespace, on a thread of its own. Sockets that f opens stay the peer's.
func (p *peer) do(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and ends with this goroutine
		err := unix.Setns(int(p.ns.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func ip(args ...string) error {
	if out, err := exec.Command("/usr/sbin/ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %v: %w\n%s", args, err, out)
	}
	return nil
}

// loopbackUp brings lo up in the thread's namespace.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

// port is where the peer's datagrams go.
const port = 5555

// payload is how many bytes of its own a datagram carries: a number.
const payload = 8

// A datagram is an IPv4 packet with UDP in it, as the peer's raw socket sends it: from any address.
type datagram [28 + payload]byte

func newDatagram(from netip.Addr) *datagram {
	var d datagram
	d[0], d[8], d[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(d[2:], uint16(len(d))) // the kernel fills in the checksum
	src, dst := from.As4(), netip.MustParseAddr(here).As4()
	copy(d[12:], src[:])
	copy(d[16:], dst[:])
	binary.BigEndian.PutUint16(d[20:], 4444)
	binary.BigEndian.PutUint16(d[22:], port)
	binary.BigEndian.PutUint16(d[24:], 8+payload) // and no checksum: it may be left out
	return &d
}

func (d *datagram) number(n uint64) { binary.BigEndian.PutUint64(d[28:], n) }

// sender opens the peer's raw socket, for the thread that calls it in [peer.do].
func sender() (fd int, to *unix.SockaddrInet4, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	return fd, &unix.SockaddrInet4{Addr: netip.MustParseAddr(here).As4()}, err
}

// receiver opens a socket that takes what the peer sends, with room for so many bytes.
func receiver(room int) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room) != nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: port})
	}
	if err != nil {
		unix.Close(fd)
	}
	return fd, err
}

// cpus are the ones that this program may run on.
func cpus() (all []int) {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return []int{0}
	}
	for i := range 1024 {
		if set.IsSet(i) {
			all = append(all, i)
		}
	}
	return all
}

// pin keeps the calling thread on one CPU. The goroutine must be locked to it.
func pin(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	return unix.SchedSetaffinity(0, &set)
}
