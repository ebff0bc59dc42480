package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"banset/nft/nfttest"
)

// here is the host's own address for a neighbour of the same family.
func here(src string) string {
	if strings.Contains(src, ":") {
		return nfttest.Here6
	}
	return nfttest.Here4
}

// neighbour gives the other side an address to attack from, with a way back to it.
func (h *host) neighbour(addr string) {
	h.t.Helper()
	a := netip.MustParseAddr(addr)
	bits := 24
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	h.peer.AddAddress(fmt.Sprintf("%s/%d", a, bits))
	if p.Contains(netip.MustParseAddr(here(addr))) {
		return
	}
	args := []string{"route", "replace", p.String(), "dev", "here"}
	if a.Is6() {
		args = append([]string{"-6"}, args...)
	}
	nfttest.Run(h.t, "ip", args...)
}

var counted = regexp.MustCompile(`counter packets (\d+)`)

// drops is how many packets our rules have dropped.
func (h *host) drops() (n int) {
	out, err := nfttest.Command(h.t, "nft", "list", "table", "inet", "banset").Output()
	if err != nil {
		return 0 // no table, no drops
	}
	for _, m := range counted.FindAllSubmatch(out, -1) {
		packets, _ := strconv.Atoi(string(m[1]))
		n += packets
	}
	return n
}

// passes sends packets from src until one arrives or one is dropped by our rules, and says which it was.
func (h *host) passes(src string) bool {
	h.t.Helper()
	conn, err := net.ListenPacket("udp", net.JoinHostPort(here(src), "0"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close()
	var out net.Conn
	h.peer.Do(func() {
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(src)}}
		out, err = d.Dial("udp", conn.LocalAddr().String())
	})
	if err != nil {
		h.t.Fatalf("as the neighbour, from %s: %v", src, err)
	}
	defer out.Close()
	before, dropped := h.drops(), 0
	buf := make([]byte, 64)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if _, err := out.Write([]byte("knock")); err != nil {
			continue // refused, by a rule that rejects
		}
		conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, _, err := conn.ReadFrom(buf); err == nil {
			return true
		} else if !errors.Is(err, os.ErrDeadlineExceeded) {
			h.t.Fatal(err)
		}
		// One drop may be a straggler of somebody else's.
		if n := h.drops(); n > before {
			before = n
			if dropped++; dropped == 3 {
				return false
			}
		}
	}
	h.t.Fatalf("packets from %s neither arrive nor are dropped by our rules", src)
	return false
}

// mustDrop holds that packets are dropped, or are within a moment: a ban is logged just before the kernel has it. That
// none passes through a restart is TestNoPacketThroughRestart's to show.
func (h *host) mustDrop(srcs ...string) {
	h.t.Helper()
	for _, src := range srcs {
		for end := time.Now().Add(time.Second); h.passes(src); {
			if time.Now().After(end) {
				h.t.Errorf("a packet from %s passes", src)
				break
			}
		}
	}
}

func (h *host) mustPass(srcs ...string) {
	h.t.Helper()
	for _, src := range srcs {
		if !h.passes(src) {
			h.t.Errorf("a packet from %s is dropped", src)
		}
	}
}

// connect makes a TCP connection from src to a listener on the host.
func (h *host) connect(src string) error {
	h.t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(here(src), "0"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer l.Close()
	h.peer.Do(func() {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(src)}, Timeout: patience}
		var c net.Conn
		if c, err = d.Dial("tcp", l.Addr().String()); err == nil {
			c.Close()
		}
	})
	return err
}

// outbound makes a TCP connection from the host to a listener of the neighbour's at dst, and has it answer.
func (h *host) outbound(dst string) error {
	h.t.Helper()
	var l net.Listener
	var err error
	h.peer.Do(func() { l, err = net.Listen("tcp", net.JoinHostPort(dst, "0")) })
	if err != nil {
		h.t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			c.Write([]byte("220 hello\r\n"))
			c.Close()
		}
	}()
	c, err := net.DialTimeout("tcp", l.Addr().String(), patience)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	_, err = c.Read(make([]byte, 9))
	return err
}
