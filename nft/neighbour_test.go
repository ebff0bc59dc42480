package nft

import (
	"context"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"banset/nft/nfttest"

	"golang.org/x/sys/unix"
)

// sendICMPv6 sends one packet of that type from the peer's address to ours.
func (l *link) sendICMPv6(typ byte, hopLimit int) {
	l.t.Helper()
	var err error
	l.peer.Do(func() {
		var d = net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
			var serr error
			err := c.Control(func(fd uintptr) {
				serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, hopLimit)
			})
			if err == nil {
				err = serr
			}
			return err
		}, LocalAddr: &net.IPAddr{IP: net.ParseIP(nfttest.There6)}}
		var c net.Conn
		if c, err = d.DialContext(context.Background(), "ip6:ipv6-icmp", nfttest.Here6); err == nil {
			_, err = c.Write(append([]byte{typ, 0, 0, 0, 0, 0, 0, 0}, net.ParseIP(nfttest.Here6)...))
			c.Close()
		}
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// A ban of our own link's prefix does not cut us off from who is there: neighbour discovery passes, as ARP does, and
// nothing else. Our own connections to a banned neighbour work.
func TestNeighbourDiscovery(t *testing.T) {
	for _, direction := range []string{"original", "any"} {
		t.Run(direction, func(t *testing.T) {
			k := ready(t, func(c *Config) { c.Direction = direction })
			l := newLink(t)
			apply(t, k, add("2001:db8::", time.Hour))
			dropped := func(what string, typ byte, hopLimit int, want uint64) {
				t.Helper()
				before, _, err := k.Dropped(ctx)
				if err != nil {
					t.Fatal(err)
				}
				l.sendICMPv6(typ, hopLimit)
				if after, _, err := k.Dropped(ctx); err != nil || after-before != want {
					t.Errorf("%s: %d packets dropped, %v; want %d", what, after-before, err, want)
				}
			}
			dropped("echo request", 128, 64, 1)
			dropped("echo request with the link's hop limit", 128, 255, 1)
			for typ := byte(133); typ <= 136; typ++ {
				dropped("discovery", typ, 255, 0)
				dropped("discovery from beyond the link", typ, 254, 1)
			}

			nfttest.Run(t, "ip", "-6", "neighbour", "flush", "dev", "here")
			var echo net.Listener
			var err error
			l.peer.Do(func() { echo, err = net.Listen("tcp", net.JoinHostPort(nfttest.There6, "25")) })
			if err != nil {
				t.Fatal(err)
			}
			defer echo.Close()
			timeout := 10 * time.Second // only a failure takes so long
			if direction == "any" {
				timeout = 100 * time.Millisecond // the answer is dropped; that of its neighbour is not
			}
			c, err := net.DialTimeout("tcp", echo.Addr().String(), timeout)
			if err == nil {
				c.Close()
			}
			if (err == nil) != (direction == "original") {
				t.Errorf("our own connection to a banned neighbour: %v", err)
			}
			for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
				entry := nfttest.Run(t, "ip", "-6", "neighbour", "show", nfttest.There6, "dev", "here")
				if strings.Contains(entry, "lladdr") {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("the neighbour was not found: %s", entry)
				}
			}
			if got := l.passes(nfttest.There6, nfttest.There4); len(got) != 1 {
				t.Errorf("%v pass", got)
			}
		})
	}
}
