package main

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

// roomCheck is run by TestRooms inside the private namespaces: it joins two of them and talks across in both
// directions. It prints what each side saw of the other.
func roomCheck() error {
	if err := furnishRoom(); err != nil {
		return err
	}
	left, err := os.ReadDir("/tmp")
	if err != nil {
		return err
	}
	fmt.Printf("tmp %d\n", len(left))
	room, err := newNetRoom()
	if err != nil {
		return err
	}
	defer room.Close()
	here, there := netip.MustParseAddr("192.0.2.25"), netip.MustParseAddr("203.0.113.66")
	if err := joinRooms(room, here, there); err != nil {
		return err
	}
	own, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(here, 25)))
	if err != nil {
		return err
	}
	defer own.Close()
	var far *net.TCPListener
	room.do(func() { far, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(there, 7))) })
	if err != nil {
		return err
	}
	defer far.Close()
	var in, out net.Conn
	room.do(func() { in, err = net.DialTimeout("tcp4", "192.0.2.25:25", 5*time.Second) })
	if err != nil {
		return err
	}
	defer in.Close()
	if out, err = net.DialTimeout("tcp4", "203.0.113.66:7", 5*time.Second); err != nil {
		return err
	}
	defer out.Close()
	for _, l := range []*net.TCPListener{own, far} {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		fmt.Println(c.RemoteAddr().(*net.TCPAddr).IP)
		c.Close()
	}
	return nil
}

func TestRooms(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	status, err := inPrivateRoom([]string{roomCheckArg}, w, os.Stderr)
	if err != nil || status != 0 {
		t.Fatalf("status %d, error %v", status, err)
	}
	w.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if want := "tmp 0\n203.0.113.66\n192.0.2.25\n"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := net.InterfaceByName("server"); err == nil {
		t.Error("the cable is in the machine's own namespace")
	}
}
