package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"runtime"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A netRoom is a network namespace and the one OS thread that lives in it. Sockets made by a function given to do
// belong to the namespace for good, whoever uses them later.
type netRoom struct {
	ns   *os.File // keeps the namespace, and lends its descriptor to others
	work chan func()
}

// newNetRoom makes a network namespace with nothing in it. Close it when done.
func newNetRoom() (*netRoom, error) {
	r := &netRoom{work: make(chan func())}
	ready := make(chan error)
	go func() {
		// Never unlocked: the thread can't come back into the old namespace, so it ends with the goroutine.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			ready <- fmt.Errorf("making a network namespace: %w", err)
			return
		}
		var err error
		if r.ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			ready <- fmt.Errorf("opening the new network namespace: %w", err)
			return
		}
		ready <- nil
		for f := range r.work {
			f()
		}
	}()
	return r, <-ready
}

// do runs f on the room's thread and waits for it.
func (r *netRoom) do(f func()) {
	done := make(chan struct{})
	r.work <- func() {
		defer close(done)
		f()
	}
	<-done
}

// Close ends the room's thread. The namespace goes once its last socket does.
func (r *netRoom) Close() error {
	close(r.work)
	return r.ns.Close()
}

// vethInfoPeer is VETH_INFO_PEER of linux/veth.h, which x/sys leaves out.
const vethInfoPeer = 1

// A linkConn asks the kernel for network links: as much of rtnetlink(7) as joining two namespaces takes.
type linkConn struct{ c *netlink.Conn }

// dialLinks opens the links of a namespace; nil is the caller's own.
func dialLinks(ns *os.File) (*linkConn, error) {
	cfg := &netlink.Config{}
	if ns != nil {
		cfg.NetNS = int(ns.Fd())
	}
	c, err := netlink.Dial(unix.NETLINK_ROUTE, cfg)
	if err != nil {
		return nil, fmt.Errorf("opening rtnetlink: %w", err)
	}
	return &linkConn{c}, nil
}

func (l *linkConn) Close() error { return l.c.Close() }

// ifinfomsg is struct ifinfomsg: family, pad, type, index, flags, change.
func ifinfomsg(index, flags, change uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], index)
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], change)
	return b
}

// change marks a message that the kernel is to confirm. A question isn't marked: its answer is confirmation, and an
// acknowledgement behind it would be taken for the answer to the next one.
const change = netlink.Acknowledge

func (l *linkConn) send(typ netlink.HeaderType, flags netlink.HeaderFlags, head []byte,
	attrs func(*netlink.AttributeEncoder)) ([]netlink.Message, error) {
	ae := netlink.NewAttributeEncoder()
	attrs(ae)
	data, err := ae.Encode()
	if err != nil {
		return nil, err
	}
	return l.c.Execute(netlink.Message{
		Header: netlink.Header{Type: typ, Flags: netlink.Request | flags},
		Data:   append(head, data...),
	})
}

// addVeth makes a cable: one end is name, here; the other is peer, in the namespace ns.
func (l *linkConn) addVeth(name, peer string, ns *os.File) error {
	_, err := l.send(unix.RTM_NEWLINK, change|netlink.Create|netlink.Excl, ifinfomsg(0, 0, 0), func(ae *netlink.AttributeEncoder) {
		ae.String(unix.IFLA_IFNAME, name)
		ae.Nested(unix.IFLA_LINKINFO, func(info *netlink.AttributeEncoder) error {
			info.String(unix.IFLA_INFO_KIND, "veth")
			info.Nested(unix.IFLA_INFO_DATA, func(data *netlink.AttributeEncoder) error {
				data.Do(vethInfoPeer, func() ([]byte, error) {
					pe := netlink.NewAttributeEncoder()
					pe.String(unix.IFLA_IFNAME, peer)
					pe.Uint32(unix.IFLA_NET_NS_FD, uint32(ns.Fd()))
					attrs, err := pe.Encode()
					return append(ifinfomsg(0, 0, 0), attrs...), err
				})
				return nil
			})
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("making the veth pair %s, %s: %w", name, peer, err)
	}
	return nil
}

// index is the number of the link name.
func (l *linkConn) index(name string) (uint32, error) {
	msgs, err := l.send(unix.RTM_GETLINK, 0, ifinfomsg(0, 0, 0), func(ae *netlink.AttributeEncoder) {
		ae.String(unix.IFLA_IFNAME, name)
	})
	if err != nil {
		return 0, fmt.Errorf("asking for link %s: %w", name, err)
	}
	for _, m := range msgs {
		if m.Header.Type == unix.RTM_NEWLINK && len(m.Data) >= unix.SizeofIfInfomsg {
			return binary.NativeEndian.Uint32(m.Data[4:]), nil
		}
	}
	return 0, fmt.Errorf("asking for link %s: no answer", name)
}

// up switches the link on.
func (l *linkConn) up(name string) error {
	index, err := l.index(name)
	if err != nil {
		return err
	}
	_, err = l.send(unix.RTM_NEWLINK, change, ifinfomsg(index, unix.IFF_UP, unix.IFF_UP), func(*netlink.AttributeEncoder) {})
	if err != nil {
		return fmt.Errorf("switching link %s on: %w", name, err)
	}
	return nil
}

// addAddr gives the link the IPv4 address local; the other end of the cable is peer, and nothing else is reached by it.
func (l *linkConn) addAddr(name string, local, peer netip.Addr) error {
	index, err := l.index(name)
	if err != nil {
		return err
	}
	head := make([]byte, unix.SizeofIfAddrmsg) // family, length of the prefix, flags, scope, index
	head[0], head[1] = unix.AF_INET, 32
	binary.NativeEndian.PutUint32(head[4:], index)
	_, err = l.send(unix.RTM_NEWADDR, change|netlink.Create|netlink.Excl, head, func(ae *netlink.AttributeEncoder) {
		ae.Bytes(unix.IFA_LOCAL, local.AsSlice())
		ae.Bytes(unix.IFA_ADDRESS, peer.AsSlice())
	})
	if err != nil {
		return fmt.Errorf("giving link %s the address %s: %w", name, local, err)
	}
	return nil
}

// joinRooms lays a cable between the caller's namespace, which gets the address here, and the room, which gets there.
func joinRooms(room *netRoom, here, there netip.Addr) error {
	own, err := dialLinks(nil)
	if err != nil {
		return err
	}
	defer own.Close()
	far, err := dialLinks(room.ns)
	if err != nil {
		return err
	}
	defer far.Close()
	for _, step := range []func() error{
		func() error { return own.up("lo") },
		func() error { return far.up("lo") },
		func() error { return own.addVeth("server", "client", room.ns) },
		func() error { return own.addAddr("server", here, there) },
		func() error { return far.addAddr("client", there, here) },
		func() error { return own.up("server") },
		func() error { return far.up("client") },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
