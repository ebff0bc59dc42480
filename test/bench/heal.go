package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"banset/nft"
)

// healing measures what `nft flush ruleset` costs while banned hosts flood this one: the time until the kernel counts
// every ban again, and the packets that get through meanwhile.
func healing(b *bench) error {
	for _, n := range []int{b.of(10_000), b.of(100_000)} {
		rounds := max(b.rounds, 10)
		if b.quick {
			rounds = 2
		}
		h, err := b.heal(n, rounds)
		if err != nil {
			return err
		}
		b.add(row{section: "heal", claim: fmt.Sprintf("flush ruleset, until all %s bans are back", count(n)),
			ours: span(quantile(h.gaps, 0.5)), theirs: fmt.Sprintf("of %s packets/s, %d got through", count(int(h.rate)/1000*1000), quantile(h.through, 0.5))})
	}
	return nil
}

// A healed is what the rounds of a heal were.
type healed struct {
	gaps    []time.Duration // from the flush until all bans are back
	through []uint64        // packets that reached a socket meanwhile
	rate    float64         // packets a second that were sent meanwhile
}

// floods is how many banned hosts send at once. They are those that failed last.
const floods = 4

// heal flushes the ruleset while n bans stand, round after round, with a pause between them, since banset slows down
// repairs that are undone again and again.
func (b *bench) heal(n, rounds int) (h healed, err error) {
	p, err := newPeer()
	if err != nil {
		return h, err
	}
	defer p.close()
	dir := fmt.Sprintf("heal%d", n)
	conf, err := b.quietConfig(dir, n, "")
	if err != nil {
		return h, err
	}
	if _, err := b.blocklist(dir+"/blocklist", n); err != nil {
		return h, err
	}
	d, err := b.startDaemon(conf)
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, d.stop(), b.flushRules()) }()
	keeper, err := nft.Open(table(n))
	if err != nil {
		return h, err
	}
	defer keeper.Close()
	count := func() (int, error) {
		got, err := keeper.Count(context.Background(), nft.Ban4)
		if errors.Is(err, nft.ErrMissing) {
			return 0, nil
		}
		return got, err
	}
	if got, err := count(); err != nil || got != n {
		return h, fmt.Errorf("%d bans in the kernel of %d: %v", got, n, err)
	}
	sink, err := receiver(1) // no room, and nobody reads: what arrives is counted
	if err != nil {
		return h, err
	}
	defer unix.Close(sink)
	var hosts []netip.Addr
	for i := range min(floods, n) {
		hosts = append(hosts, attacker(n-1-i))
	}
	var sent atomic.Uint64
	var stop atomic.Bool
	flooding := make(chan error, 1)
	go func() { flooding <- p.do(func() error { return flood(hosts, &sent, &stop) }) }()
	defer func() { stop.Store(true); err = errors.Join(err, <-flooding) }()

	var seconds, packets float64
	for range rounds {
		time.Sleep(1100 * time.Millisecond) // the pacer of repairs forgets one a second
		passed, err := arrivals()
		if err != nil {
			return h, err
		}
		began, before := time.Now(), sent.Load()
		if err := b.flushRules(); err != nil {
			return h, err
		}
		for got := -1; got != n; time.Sleep(100 * time.Microsecond) {
			if got, err = count(); err != nil {
				return h, err
			}
			if time.Since(began) > patience {
				return h, fmt.Errorf("%d bans of %d in the kernel", got, n)
			}
		}
		gap := time.Since(began)
		now, err := arrivals()
		if err != nil {
			return h, err
		}
		h.gaps, h.through = append(h.gaps, gap), append(h.through, now-passed)
		seconds += gap.Seconds()
		packets += float64(sent.Load() - before)
	}
	h.rate = packets / seconds
	slices.Sort(h.gaps)
	slices.Sort(h.through)
	return h, nil
}

// flood sends from these hosts in turn, as fast as one core can, until stop says so.
func flood(hosts []netip.Addr, sent *atomic.Uint64, stop *atomic.Bool) error {
	fd, to, err := sender()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var datagrams []*datagram
	for _, h := range hosts {
		datagrams = append(datagrams, newDatagram(h))
	}
	for !stop.Load() {
		for range 100 {
			for _, d := range datagrams {
				if err := unix.Sendto(fd, d[:], 0, to); err != nil && err != unix.ENOBUFS {
					return err
				}
			}
		}
		sent.Add(uint64(100 * len(datagrams)))
	}
	return nil
}
