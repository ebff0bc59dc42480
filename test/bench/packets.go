package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// packets measures what a packet costs on its way from the peer into this host: of a banned host, and of another one
// whose packets pass, with more and more bans.
func packets(b *bench) error {
	p, err := newPeer()
	if err != nil {
		return err
	}
	defer p.close()
	sink, err := receiver(1) // no room, and nobody reads: that it arrived is counted
	if err != nil {
		return err
	}
	defer unix.Close(sink)
	setups := b.packetSetups()
	dropped, passed := make([][]float64, len(setups)), make([][]float64, len(setups))
	for range b.rounds {
		for i, s := range setups {
			if err := s.make(); err != nil {
				return err
			}
			ns, err := b.perPacket(p, spread(s.bans), false)
			if s.bans > 0 {
				if err != nil {
					return fmt.Errorf("%s, %d bans: dropped packets: %w", s.name, s.bans, err)
				}
				dropped[i] = append(dropped[i], ns)
			}
			if ns, err = b.perPacket(p, []netip.Addr{netip.MustParseAddr(there)}, true); err != nil {
				return fmt.Errorf("%s, %d bans: passed packets: %w", s.name, s.bans, err)
			}
			passed[i] = append(passed[i], ns)
			if err := b.flushRules(); err != nil {
				return err
			}
		}
	}
	return b.showPackets(setups, medians(dropped), medians(passed))
}

func medians(all [][]float64) []float64 {
	m := make([]float64, len(all))
	for i, v := range all {
		if len(v) > 0 {
			m[i] = quantile(v, 0.5)
		}
	}
	return m
}

// A packetSetup is a way to keep hosts out.
type packetSetup struct {
	name string
	bans int
	make func() error
}

const noFirewall, tracking, withBanset, withIptables = "no firewall", "connection tracking alone", "banset", "iptables"

func (b *bench) packetSetups() []packetSetup {
	all := []packetSetup{
		{noFirewall, 0, func() error { return nil }},
		{tracking, 0, func() error {
			return pipe("add table inet peer\nadd chain inet peer in { type filter hook prerouting priority -190; }\n"+
				"add rule inet peer in ct state invalid drop\n", "/usr/sbin/nft", "-f", "-")
		}},
	}
	ours := []int{0, 100, 1000, 10_000, 100_000}
	theirs := []int{10, 100, 1000, 10_000}
	if b.quick {
		ours = []int{0, 10}
	}
	for _, n := range ours {
		all = append(all, packetSetup{withBanset, n, func() error { return b.restored(n) }})
	}
	if b.has("iptables") {
		for _, n := range theirs {
			var s strings.Builder
			s.WriteString("*filter\n")
			for i := range n {
				fmt.Fprintf(&s, "-A INPUT -s %s -j DROP\n", attacker(i))
			}
			s.WriteString("COMMIT\n")
			all = append(all, packetSetup{withIptables, n, func() error { return pipe(s.String(), "/usr/sbin/iptables-nft-restore") }})
		}
	}
	return all
}

func pipe(input, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, lastLines(string(out)))
	}
	return nil
}

// restored puts n bans into the kernel as at boot.
func (b *bench) restored(n int) error {
	conf, err := b.bootDir(n)
	if err != nil {
		return err
	}
	_, err = b.run(contestant{args: []string{b.banset, "restore", "--config", conf}})
	return err
}

// spread picks hosts from all over a list of n.
func spread(n int) (hosts []netip.Addr) {
	for i := range min(n, 64) {
		hosts = append(hosts, attacker(i*n/min(n, 64)))
	}
	return hosts
}

// perPacket sends from these hosts in turn and returns the nanoseconds that a packet takes, sending included: the
// receiving host's work is done in the sender's own call, as it is for a pair of veth interfaces. It is the median of
// many short slices, so that what else the machine does hardly matters. It makes sure that all packets arrive or none.
func (b *bench) perPacket(p *peer, from []netip.Addr, arrive bool) (ns float64, err error) {
	if len(from) == 0 {
		return 0, nil
	}
	const slice = 64
	slices, limit := b.of(2000), time.Second
	before, err := arrivals()
	if err != nil {
		return 0, err
	}
	sent := 0
	err = p.do(func() error {
		if err := pin(lastCPU()); err != nil {
			return err
		}
		fd, to, err := sender()
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		var datagrams []*datagram
		for _, a := range from {
			datagrams = append(datagrams, newDatagram(a))
		}
		var times []float64
		for began := time.Now(); len(times) < slices && (time.Since(began) < limit || len(times) < 10); {
			start := time.Now()
			for range slice {
				if err := unix.Sendto(fd, datagrams[sent%len(datagrams)][:], 0, to); err != nil {
					return err
				}
				sent++
			}
			times = append(times, float64(time.Since(start).Nanoseconds())/slice)
		}
		ns = quantile(times, 0.5)
		return nil
	})
	after, counted := arrivals()
	if err := errors.Join(err, counted); err != nil {
		return 0, err
	}
	if got := int(after - before); arrive && got < sent*9/10 || !arrive && got != 0 {
		return 0, fmt.Errorf("%d packets of %d arrived", got, sent)
	}
	return ns, nil
}

// arrivals is how many datagrams reached a socket of this network namespace, whether or not there was room for them.
func arrivals() (n uint64, err error) {
	text, err := os.ReadFile("/proc/thread-self/net/snmp")
	if err != nil {
		return 0, err
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if fields[0] != "Udp:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		for _, name := range []string{"InDatagrams", "RcvbufErrors"} {
			i := slices.Index(names, name)
			if i < 0 || i >= len(fields) {
				return 0, fmt.Errorf("no %s in:\n%s", name, text)
			}
			v, err := strconv.ParseUint(fields[i], 10, 64)
			if err != nil {
				return 0, err
			}
			n += v
		}
		return n, nil
	}
	return 0, fmt.Errorf("no counters of UDP:\n%s", text)
}

// showPackets adds the rows and writes the chart.
func (b *bench) showPackets(setups []packetSetup, dropped, passed []float64) error {
	at := func(name string, bans int) int {
		return slices.IndexFunc(setups, func(s packetSetup) bool { return s.name == name && s.bans == bans })
	}
	nanos := func(v float64) string { return span(time.Duration(v)) }
	floor := passed[at(noFirewall, 0)]
	largest := 0 // rules that were measured
	for _, s := range setups {
		if s.name == withIptables {
			largest = s.bans
		}
		i := at(s.name, s.bans)
		b.say("%s, %d bans: dropped %s, passed %s", s.name, s.bans, nanos(dropped[i]), nanos(passed[i]))
		if s.name != withBanset || s.bans != 0 && s.bans < 10_000 && !b.quick {
			continue
		}
		b.add(row{section: "packets", claim: "a packet that passes, " + count(s.bans) + " bans", ours: nanos(passed[i]),
			theirs: noFirewall + " " + nanos(floor), shown: ratio(passed[i]/floor) + " the time"})
		if s.bans > 0 {
			b.add(row{section: "packets", claim: "a packet that is dropped, " + count(s.bans) + " bans", ours: nanos(dropped[i]),
				theirs: noFirewall + " " + nanos(floor), shown: ratio(dropped[i]/floor) + " the time"})
		}
	}
	if ours, theirs := at(withBanset, largest), at(withIptables, largest); largest > 0 && ours >= 0 {
		for _, v := range []struct {
			what string
			of   []float64
		}{{"passes", passed}, {"is dropped", dropped}} {
			b.add(row{section: "packets", claim: fmt.Sprintf("a packet that %s, %s bans", v.what, count(largest)), ours: nanos(v.of[ours]),
				theirs: "one iptables-nft rule a host " + nanos(v.of[theirs]), shown: ratio(v.of[theirs] / v.of[ours])})
		}
	}
	c := lineChart{title: "What a packet costs, sending included", x: "bans", y: "ns"}
	for _, name := range []string{withIptables, withBanset} {
		pass, dr := series{name: name + ", passed"}, series{name: name + ", dropped"}
		for i, s := range setups {
			if s.name == name && s.bans > 0 {
				pass.points = append(pass.points, point{float64(s.bans), passed[i]})
				dr.points = append(dr.points, point{float64(s.bans), dropped[i]})
			}
		}
		for _, s := range []series{pass, dr} {
			if len(s.points) > 0 {
				c.series = append(c.series, s)
			}
		}
	}
	low, high := c.span()
	for _, name := range []string{tracking, noFirewall} {
		v := passed[at(name, 0)]
		c.series = append(c.series, series{name: name, points: []point{{low, v}, {high, v}}, dashed: true})
	}
	return b.writeChart("packets.svg", c.svg())
}
