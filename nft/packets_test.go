package nft

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"banset/nft/nfttest"
)

// send sends n datagrams of one byte from a local address to 127.0.0.1, where nobody may be listening.
func send(t testing.TB, from string, n int) {
	t.Helper()
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, &net.UDPAddr{IP: net.ParseIP("127.0.0.1"), Port: 9})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range n {
		// What comes back of the first one is told to the second.
		if _, err := c.Write([]byte{1}); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatal(err)
		}
	}
}

const port = 25

// A link is us and a peer that sends us datagrams from several addresses.
type link struct {
	t    *testing.T
	peer *nfttest.Peer
	udp  *net.UDPConn // ours
}

func newLink(t *testing.T) *link {
	l := &link{t: t, peer: nfttest.NewPeer(t)}
	var err error
	l.udp, err = net.ListenUDP("udp", &net.UDPAddr{Port: port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.udp.Close() })
	// Until the peer has found us, packets wait, and those of the two families overtake each other.
	l.passes(nfttest.There4)
	l.passes(nfttest.There6)
	return l
}

// datagram sends one from an address of the peer.
func (l *link) datagram(from, text string) {
	l.t.Helper()
	to := nfttest.Here4
	if strings.Contains(from, ":") {
		to = nfttest.Here6
	}
	var err error
	l.peer.Do(func() {
		var c *net.UDPConn
		if c, err = net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, &net.UDPAddr{IP: net.ParseIP(to), Port: port}); err == nil {
			_, err = c.Write([]byte(text))
			c.Close()
		}
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// passes reports which of the addresses' datagrams reach us. The last one must: datagrams come in order, so that is
// how we know that the others won't.
func (l *link) passes(from ...string) []string {
	l.t.Helper()
	for _, a := range from {
		l.datagram(a, a)
	}
	var got []string
	for {
		var p [64]byte
		n, _, err := l.udp.ReadFrom(p[:])
		if err != nil {
			l.t.Fatal(err)
		}
		got = append(got, string(p[:n]))
		if got[len(got)-1] == from[len(from)-1] {
			return got
		}
	}
}

func TestPackets(t *testing.T) {
	for _, change := range []func(*Config){
		func(c *Config) {},
		func(c *Config) { c.Hook = "input" },
		func(c *Config) { c.Direction = "any" },
		func(c *Config) { c.Direction, c.Priority = "any", -300 },
		func(c *Config) { c.Verdict = "reject" },
		func(c *Config) { c.Verdict, c.Hook = "reject", "input" },
	} {
		k := ready(t, change)
		t.Run(fmt.Sprint(k.config.Hook, k.config.Priority, k.config.Direction, k.config.Verdict), func(t *testing.T) {
			l := newLink(t)
			for _, a := range []string{"192.0.2.7/24", "192.0.2.8/24", "192.0.2.200/24", "192.0.2.255/23",
				"2001:db8::7/64", "2001:db8:0:1::7/56", "2001:db8:0:2::7/56", "2001:db8:0:3::8/56"} {
				l.peer.AddAddress(a)
			}
			nfttest.Run(t, "ip", "route", "add", "2001:db8::/56", "dev", "here")
			all := []string{"192.0.2.7", "192.0.2.8", "192.0.2.200", "2001:db8::7", "2001:db8:0:1::7", "2001:db8:0:2::7", "2001:db8:0:3::8", nfttest.There4}
			if got := l.passes(all...); !slices.Equal(got, all) {
				t.Fatalf("without bans %v pass", got)
			}
			apply(t, k, add("192.0.2.7", 0), add("192.0.2.128/25", 0), add("2001:db8:0:1::", time.Hour), add("2001:db8:0:3::8/128", 0))
			if got, want := l.passes(all...), []string{"192.0.2.8", "2001:db8::7", "2001:db8:0:2::7", nfttest.There4}; !slices.Equal(got, want) {
				t.Errorf("%v pass, want %v", got, want)
			}
			if packets, bytes, err := k.Dropped(ctx); err != nil || packets != 4 || bytes < 4*28 {
				t.Errorf("dropped %d packets, %d bytes, %v; want 4", packets, bytes, err)
			}
			apply(t, k, del("192.0.2.7"), del("192.0.2.128/25"), del("2001:db8:0:1::"), add("2001:db8:0:3::8/128", time.Millisecond))
			gone(t, k, Net6, "2001:db8:0:3::8")
			if got := l.passes(all...); !slices.Equal(got, all) {
				t.Errorf("after the bans %v pass", got)
			}
		})
	}
}

// Our own connections to a banned host work, unless the direction is any; its connections to us don't, and one that
// stood before the ban ends with it.
func TestDirection(t *testing.T) {
	for _, direction := range []string{"original", "any"} {
		t.Run(direction, func(t *testing.T) {
			k := ready(t, func(c *Config) { c.Direction = direction })
			l := newLink(t)
			var echo net.Listener
			var err error
			l.peer.Do(func() { echo, err = net.Listen("tcp", nfttest.There4+":25") })
			if err != nil {
				t.Fatal(err)
			}
			defer echo.Close()
			go func() {
				for {
					c, err := echo.Accept()
					if err != nil {
						return
					}
					go io.Copy(c, c)
				}
			}()
			// It stood before the ban: the peer's datagrams are of the original direction.
			if got := l.passes(nfttest.There4); len(got) != 1 {
				t.Fatal(got)
			}
			apply(t, k, add(nfttest.There4, 0))
			l.peer.AddAddress("192.0.2.3/24")
			if got := l.passes(nfttest.There4, "192.0.2.3"); len(got) != 1 {
				t.Errorf("after the ban %v pass", got)
			}
			before, _, err := k.Dropped(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if direction == "any" {
				// The answer to our first packet is dropped: that is all there is to wait for.
				go func() {
					if c, err := net.DialTimeout("tcp", nfttest.There4+":25", time.Second); err == nil {
						c.Close()
						t.Error("connected to a banned host")
					}
				}()
				for {
					if now, _, err := k.Dropped(ctx); err != nil || now > before {
						if err != nil {
							t.Error(err)
						}
						return
					}
				}
			}
			c, err := net.Dial("tcp", nfttest.There4+":25")
			if err != nil {
				t.Fatalf("our own connection: %v", err)
			}
			defer c.Close()
			c.Write([]byte("hello"))
			var p [5]byte
			if _, err := io.ReadFull(c, p[:]); err != nil || string(p[:]) != "hello" {
				t.Errorf("our own connection: %q, %v", p, err)
			}
			if now, _, err := k.Dropped(ctx); err != nil || now != before {
				t.Errorf("%d packets of our own connection dropped, %v", now-before, err)
			}
		})
	}
}

// What conntrack does not track is not let through as a reply.
func TestUntrackedPackets(t *testing.T) {
	k := ready(t)
	l := newLink(t)
	l.peer.AddAddress("192.0.2.7/24")
	nfttest.Nft(t, "add table ip raw; add chain ip raw pre { type filter hook prerouting priority -300; }; add rule ip raw pre notrack")
	if got := l.passes("192.0.2.7", nfttest.There4); len(got) != 2 {
		t.Fatalf("without a ban %v pass", got)
	}
	apply(t, k, add("192.0.2.7", 0))
	if got := l.passes("192.0.2.7", nfttest.There4); len(got) != 1 {
		t.Errorf("%v pass", got)
	}
}

func TestReject(t *testing.T) {
	for _, hook := range []string{"prerouting", "input"} {
		t.Run(hook, func(t *testing.T) {
			k := ready(t, func(c *Config) { c.Verdict, c.Hook = "reject", hook })
			l := newLink(t)
			apply(t, k, add(nfttest.There4, 0), add("2001:db8::", 0))
			for _, here := range []string{nfttest.Here4, nfttest.Here6} {
				ln, err := net.Listen("tcp", net.JoinHostPort(here, "25"))
				if err != nil {
					t.Fatal(err)
				}
				defer ln.Close()
				l.peer.Do(func() { _, err = net.Dial("tcp", net.JoinHostPort(here, "25")) })
				if !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("tcp to %s: %v, want refused", here, err)
				}
				// ICMP's admin-prohibited is "no route" to a socket of IPv4, "permission denied" to one of IPv6.
				l.peer.Do(func() {
					var c net.Conn
					if c, err = net.Dial("udp", net.JoinHostPort(here, fmt.Sprint(port))); err != nil {
						return
					}
					defer c.Close()
					c.SetDeadline(time.Now().Add(10 * time.Second)) // only a failure takes so long
					c.Write([]byte("x"))
					_, err = c.Read(make([]byte, 1))
				})
				if !errors.Is(err, syscall.EHOSTUNREACH) && !errors.Is(err, syscall.EACCES) {
					t.Errorf("udp to %s: %v, want unreachable", here, err)
				}
			}
		})
	}
}

// fire sends datagrams from an address of the peer without a pause, until cease is called, which returns how many.
func (l *link) fire(from string) (cease func() int) {
	var stop atomic.Bool
	done := make(chan int)
	go l.peer.Do(func() {
		sent := 0
		defer func() { done <- sent }()
		c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, &net.UDPAddr{IP: net.ParseIP(nfttest.Here4), Port: port})
		if err != nil {
			return
		}
		defer c.Close()
		for ; !stop.Load(); sent++ {
			c.Write([]byte("leaked"))
		}
	})
	return func() int { stop.Store(true); return <-done }
}

// Under fire from a banned host nothing gets through while its ban is replaced, rules are repaired, and the whole
// table is made anew.
func TestNoGap(t *testing.T) {
	k := ready(t, func(c *Config) { c.Direction = "any" })
	l := newLink(t)
	l.peer.AddAddress("192.0.2.7/24")
	banned := add("192.0.2.7", time.Hour)
	apply(t, k, banned)
	cease := l.fire("192.0.2.7")
	for i := range 500 {
		c := banned
		c.Timeout += time.Duration(i) * time.Second
		apply(t, k, c)
		// Ranges around it come and go.
		apply(t, k, add("192.0.2.0/25", 0))
		apply(t, k, add("192.0.2.0/26", 0), add("192.0.2.64/26", 0), del("192.0.2.0/25"))
		apply(t, k, del("192.0.2.0/26"), del("192.0.2.64/26"))
		if i%10 > 0 {
			continue
		}
		if err := k.Replace(ctx, slices.Values([]Element{c.Element})); err != nil {
			t.Fatal(err)
		}
		nfttest.Nft(t, "insert rule inet banset prerouting ip saddr 192.0.2.99 accept")
		if r := ensure(t, k); len(r.Changes) == 0 {
			t.Error("nothing repaired")
		}
	}
	sent := cease()
	if got := l.passes(nfttest.There4); len(got) != 1 {
		t.Errorf("%d of %d packets leaked", len(got)-1, sent)
	}
	if sent < 1000 {
		t.Errorf("only %d packets were sent", sent)
	}
}

// The order of transactions: what a peer sends after Apply has returned meets what was applied.
func TestApplyIsInForceWhenItReturns(t *testing.T) {
	k := ready(t)
	l := newLink(t)
	l.peer.AddAddress("192.0.2.7/24")
	for range 50 {
		apply(t, k, add("192.0.2.7", time.Hour))
		if got := l.passes("192.0.2.7", nfttest.There4); len(got) != 1 {
			t.Fatalf("banned, %v pass", got)
		}
		apply(t, k, del("192.0.2.7"))
		if got := l.passes("192.0.2.7", nfttest.There4); len(got) != 2 {
			t.Fatalf("unbanned, %v pass", got)
		}
	}
}
