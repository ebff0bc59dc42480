package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"banset/nft/nfttest"
)

// barrage is banned hosts that send as fast as they can, and a socket that none of it may reach.
type barrage struct {
	h       *host
	sent    atomic.Int64
	leaked  atomic.Int64
	last    atomic.Pointer[string] // who got through
	stopped chan struct{}
	stop    context.CancelFunc
	done    chan struct{} // the end was received
}

const (
	barragePort = 2525
	theEnd      = "the end"
)

// fire starts it. The hosts are banned already.
func (h *host) fire(from ...string) *barrage {
	h.t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{Port: barragePort})
	if err != nil {
		h.t.Fatal(err)
	}
	conn.SetReadBuffer(1 << 20)
	b := &barrage{h: h, stopped: make(chan struct{}), done: make(chan struct{})}
	var out []net.Conn
	h.peer.Do(func() {
		for _, a := range from {
			d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(a)}}
			c, dialErr := d.Dial("udp", net.JoinHostPort(here(a), fmt.Sprint(barragePort)))
			if dialErr != nil {
				err = dialErr
				return
			}
			out = append(out, c)
		}
	})
	if err != nil {
		h.t.Fatal(err)
	}
	go func() {
		defer conn.Close()
		defer close(b.done)
		buf := make([]byte, 64)
		for {
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			text := string(buf[:n])
			if text == theEnd {
				return
			}
			b.leaked.Add(1)
			b.last.Store(&text)
		}
	}()
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	go func() {
		defer close(b.stopped)
		for ctx.Err() == nil {
			for i, c := range out {
				c.Write([]byte(from[i])) // refused, by a rule that rejects: that is no error
				b.sent.Add(1)
			}
		}
		for _, c := range out {
			c.Close()
		}
	}()
	h.t.Cleanup(func() { stop(); conn.Close() })
	return b
}

// more waits until as many packets again were sent: what happened before is under fire.
func (b *barrage) more(n int64) {
	b.h.t.Helper()
	until := b.sent.Load() + n
	for end := time.Now().Add(patience); b.sent.Load() < until; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			b.h.t.Fatalf("%d packets sent, want %d", b.sent.Load(), until)
		}
	}
}

// held fails the test if a packet got through so far.
func (b *barrage) held(what string) {
	b.h.t.Helper()
	if n := b.leaked.Swap(0); n > 0 {
		b.h.t.Errorf("%s: %d packets got through, the last one from %s", what, n, *b.last.Load())
	}
}

// end stops it and waits until whatever was under way has arrived: packets keep their order.
func (b *barrage) end() {
	b.h.t.Helper()
	b.stop()
	<-b.stopped
	var c net.Conn
	var err error
	b.h.peer.Do(func() { c, err = net.Dial("udp", net.JoinHostPort(nfttest.Here4, fmt.Sprint(barragePort))) })
	if err != nil {
		b.h.t.Fatal(err)
	}
	defer c.Close()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if _, err := c.Write([]byte(theEnd)); err != nil && !errors.Is(err, net.ErrClosed) {
			b.h.t.Log(err)
		}
		select {
		case <-b.done:
			b.held("at the end")
			b.h.t.Logf("%d packets sent", b.sent.Load())
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
	b.h.t.Error("the end never arrived")
}

const (
	inNet4 = "198.51.100.77"
	inNet6 = "2001:db8:4e::77"
)

// besiege makes a host with more bans than fit one transaction, those under fire last in the kernel's order.
func besiege(t *testing.T, more string) (*host, *barrage) {
	h := newHost(t)
	for _, a := range []string{attacker, attacker6, inNet4, inNet6} {
		h.neighbour(a)
	}
	h.configure(more)
	var list strings.Builder
	now := time.Now().UTC()
	const stamp = "2006-01-02 15:04:05Z"
	until := now.Add(1000 * time.Hour).Format(stamp)
	for i := range 12_000 {
		fmt.Fprintf(&list, "%s # banset/%s until %s: exim2-repeater: 10 failures\n",
			netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), now.Add(-time.Hour).Format(stamp), until)
	}
	for _, a := range []string{attacker, attacker6prefix, "198.51.100.0/24", "2001:db8:4e::/48"} {
		fmt.Fprintf(&list, "%s # banset/%s until %s: by hand\n", a, now.Add(-2*time.Hour).Format(stamp), until)
	}
	h.writeFile("data/blocklist", list.String())
	h.start()
	h.verified()
	b := h.fire(attacker, attacker6, inNet4, inNet6)
	b.more(1000)
	b.held("at rest")
	return h, b
}

const attacker6prefix = "2001:db8:bad::/64"

// TestNoPacketThroughRestart: banned hosts send while the daemon is stopped, killed and started: nothing gets through.
func TestNoPacketThroughRestart(t *testing.T) {
	for _, protect := range []string{"none", "owner"} {
		t.Run(protect, func(t *testing.T) {
			h, b := besiege(t, "nftables: {protect: "+protect+"}")
			for range 3 {
				for what, end := range map[string]func(){"stop": h.stop, "kill": h.kill} {
					end()
					b.more(200)
					b.held(what)
					h.start()
					b.more(200)
					b.held(what + " and start")
				}
			}
			h.verified()
			b.end()
		})
	}
}

// TestNoPacketThroughReload: the same, while everything about the table changes.
func TestNoPacketThroughReload(t *testing.T) {
	h, b := besiege(t, "")
	for _, more := range []string{
		"nftables: {priority: -150}",
		"nftables: {hook: input, priority: -10}",
		"nftables: {verdict: reject}",
		"nftables: {counters: true}",
		"nftables: {direction: any, priority: -300}",
		"max_bans: 65536",
		"ipv6_prefix: 56",
		"ipv6_prefix: 64",
		"nftables: {table: other}",
		"nftables: {protect: owner}",
		"nftables: {protect: owner, counters: true, hook: input, priority: 0}",
		"ipv6_prefix: 48\nnftables: {protect: owner}",
		"",
	} {
		h.configure(more)
		h.banset("reload")
		b.more(200)
		b.held("reload with " + more)
		h.verified()
	}
	h.stop()
	h.configure("nftables: {counters: true, protect: owner}")
	h.start() // and a start that finds a table of another shape
	b.more(200)
	b.held("start with other settings")
	h.verified()
	b.end()
}

// TestOwner: while the daemon owns the table nobody else can take a ban out, and all that reads works; when it is gone,
// the table is everybody's again, and the commands that do without it work on it.
func TestOwner(t *testing.T) {
	h := newHost(t)
	h.neighbour(attacker)
	h.neighbour(bystander)
	h.configure("nftables: {protect: owner}")
	h.start()
	h.logged("is this process's own: nobody else can change it")
	h.banset("ban", attacker)
	nfttest.Nft(t, "flush ruleset")
	for _, args := range [][]string{
		{"delete", "table", "inet", "banset"}, {"flush", "set", "inet", "banset", "ban4"},
		{"delete", "element", "inet", "banset", "ban4", "{ " + attacker + " }"},
	} {
		if out, err := nfttest.Command(t, "nft", args...).CombinedOutput(); err == nil || !strings.Contains(string(out), "not permitted") {
			t.Errorf("nft %v: %v %s, want not permitted", args, err, out)
		}
	}
	h.mustDrop(attacker)
	h.mustPass(bystander)
	h.verified()
	for _, args := range [][]string{{"list"}, {"why", attacker}} {
		if out := h.banset(args...); !strings.Contains(out, attacker) {
			t.Errorf("banset %v:\n%s", args, out)
		}
	}
	h.banset("status")
	h.banset("ban", bystander)
	h.mustDrop(bystander)
	h.banset("unban", bystander)
	h.mustPass(bystander)

	h.kill()
	h.mustDrop(attacker)
	h.banset("ban", bystander) // without the daemon
	h.mustDrop(attacker, bystander)
	h.verified()
	h.banset("unban", bystander)
	h.mustPass(bystander)
	h.start()
	h.mustDrop(attacker)
	if out, err := nfttest.Command(t, "nft", "delete", "table", "inet", "banset").CombinedOutput(); err == nil {
		t.Errorf("after the next start anybody can delete the table: %s", out)
	}
	h.verified()
}
