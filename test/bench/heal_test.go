package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"banset/nft"
	"banset/nft/nfttest"
)

// attackers are the banned hosts that send as fast as one core can. They failed last.
const attackers = 4

// BenchmarkHeal measures what `nft flush ruleset` costs while banned hosts flood this one:
//
//	go test -run '^$' -bench Heal ./test/bench         # -benchtime 50x: more rounds than ten
//
// One round: flush everything, and wait until the kernel counts every ban again. gap-ms is the time from the flush to
// the last element, packets how many of the attackers' datagrams reached a socket meanwhile, of how many sent at
// which rate. There are at least ten rounds, a pause between them, since banset slows down repairs that are undone
// again and again.
func BenchmarkHeal(b *testing.B) {
	binary := build(b, b.TempDir())
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) { heal(b, binary, n) })
	}
}

func heal(b *testing.B, binary string, n int) {
	nfttest.Clean(b)
	peer := nfttest.NewPeer(b)
	var text strings.Builder
	now := time.Now().UTC()
	for i := range n {
		host := netip.AddrFrom4([4]byte{198, 18 + byte(i>>16), byte(i >> 8), byte(i)})
		at := now.Add(time.Duration(i-n) * time.Second)
		if last := n - 1 - i; last < attackers {
			host = netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + last)})
			peer.AddAddress(host.String() + "/24")
		}
		fmt.Fprintf(&text, "%s # banset/%s until %s: sshd: 5 failures\n", host, at.Format("2006-01-02 15:04:05Z"),
			now.Add(1000*time.Hour).Format("2006-01-02 15:04:05Z"))
	}
	startDaemon(b, binary, text.String())
	keeper, err := nft.Open(nft.Config{Table: "banset", Hook: "prerouting", Priority: -190, Direction: "original",
		Verdict: "drop", IPv6Prefix: 64, Size: 131072})
	if err != nil {
		b.Fatal(err)
	}
	defer keeper.Close()
	count := func() int {
		got, err := keeper.Count(context.Background(), nft.Ban4)
		if err != nil && !errors.Is(err, nft.ErrMissing) {
			b.Fatal(err)
		}
		return got
	}
	if got := count(); got != n {
		b.Fatalf("%d bans in the kernel, want %d", got, n)
	}

	// A socket that nobody reads and that has no room: the namespace counts each datagram that reaches it.
	target, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(nfttest.Here4)})
	if err != nil {
		b.Fatal(err)
	}
	defer target.Close()
	if err := target.SetReadBuffer(1); err != nil {
		b.Fatal(err)
	}
	var sent atomic.Uint64
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		peer.Do(func() { flood(b, target.LocalAddr().String(), &sent, stop) })
	}()
	defer func() { close(stop); <-stopped }()

	var gaps []time.Duration
	var through []uint64
	var rate float64
	round := func() {
		time.Sleep(1100 * time.Millisecond) // the pacer of repairs forgets one a second
		passed, packets, began := arrived(b), sent.Load(), time.Now()
		nfttest.Flush(b)
		for count() != n {
			if time.Since(began) > patience {
				b.Fatalf("%d bans of %d in the kernel", count(), n)
			}
			time.Sleep(100 * time.Microsecond)
		}
		gap := time.Since(began)
		gaps = append(gaps, gap)
		through = append(through, arrived(b)-passed)
		rate += float64(sent.Load()-packets) / gap.Seconds()
	}
	for b.Loop() {
		round()
	}
	for len(gaps) < 10 {
		round()
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	rounds := float64(len(gaps))
	slices.Sort(gaps)
	slices.Sort(through)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(rounds, "rounds")
	b.ReportMetric(ms(gaps[len(gaps)/2]), "gap-ms-median")
	b.ReportMetric(ms(gaps[len(gaps)-1]), "gap-ms-max")
	b.ReportMetric(float64(through[len(through)/2]), "packets-median")
	b.ReportMetric(float64(through[len(through)-1]), "packets-max")
	b.ReportMetric(rate/rounds, "packets/s")
}

// flood sends from each attacker in turn until stop is closed.
func flood(b *testing.B, to string, sent *atomic.Uint64, stop <-chan struct{}) {
	var conns []net.Conn
	for i := range attackers {
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(192, 0, 2, byte(100+i))}}
		c, err := d.Dial("udp", to)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		conns = append(conns, c)
	}
	for {
		select {
		case <-stop:
			return
		default:
		}
		for range 100 {
			for _, c := range conns {
				c.Write([]byte("flood"))
			}
		}
		sent.Add(100 * attackers)
	}
}

// arrived is how many datagrams found the target's buffer full in this network namespace.
func arrived(b *testing.B) uint64 {
	text, err := os.ReadFile("/proc/thread-self/net/snmp")
	if err != nil {
		b.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); fields[0] != "Udp:" {
			continue
		} else if names == nil {
			names = fields
		} else if i := slices.Index(names, "RcvbufErrors"); i > 0 && i < len(fields) {
			n, err := strconv.ParseUint(fields[i], 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatalf("no RcvbufErrors:\n%s", text)
	return 0
}
