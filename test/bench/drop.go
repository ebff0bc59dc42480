package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// drop measures the time from the write of a log line to the first packet of its host that is dropped.
func drop(b *bench) error {
	p, err := newPeer()
	if err != nil {
		return err
	}
	defer p.close()
	conf, err := b.config("drop", 131_072, "", fmt.Sprintf("  exim2: {filter: exim2, logpath: [%s], maxretry: 1, findtime: 1d, bantime: 1h}\n",
		b.path("drop/log")))
	if err != nil {
		return err
	}
	d, err := b.startOn(besidesSender(), conf)
	if err != nil {
		return err
	}
	defer func() { d.stop() }()
	rounds := b.of(300)
	ours, err := lineToDrop(p, b.path("drop/log"), rounds)
	if err != nil {
		return err
	}
	if err := errors.Join(d.stop(), b.flushRules()); err != nil {
		return err
	}
	var theirs []time.Duration
	if b.has("fail2ban") && b.has("nftables") {
		if theirs, err = b.fail2banDrops(p); err != nil {
			return err
		}
	}
	for _, q := range []struct {
		name  string
		share float64
		limit time.Duration
	}{{"median", 0.5, 400 * time.Microsecond}, {"99th percentile", 0.99, 3 * time.Millisecond}} {
		v := quantile(ours, q.share)
		r := row{section: "drop", claim: fmt.Sprintf("line to first dropped packet, %s of %d", q.name, len(ours)), ours: span(v), value: v.Seconds(),
			target: within(q.limit.Seconds(), span(q.limit))}
		if theirs != nil {
			t := quantile(theirs, q.share)
			r.theirs, r.shown = "fail2ban "+span(t), ratio(t.Seconds()/v.Seconds())
		}
		b.add(r)
	}
	if d, err = b.startDaemon(conf); err != nil {
		return err
	}
	return errors.Join(b.burst(), d.stop(), b.flushRules())
}

// besidesSender keeps a daemon off the CPU on which the sender never pauses: the sender stands for another machine.
func besidesSender() []string {
	all := cpus()
	if len(all) == 1 {
		return nil
	}
	var others []string
	for _, c := range all[:len(all)-1] {
		others = append(others, strconv.Itoa(c))
	}
	return []string{"taskset", "-c", strings.Join(others, ",")}
}

// pace is how often a host under test sends: the resolution of the measurement.
const pace = 10 * time.Microsecond

// quiet is how long nothing has to arrive of a host that sends on.
const quiet = 20 * time.Millisecond

// lineToDrop lets one host after another send without a pause, writes a failure of it into the log, and measures how
// long its datagrams go on arriving.
func lineToDrop(p *peer, log string, rounds int) ([]time.Duration, error) {
	f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sink, err := receiver(4 << 20)
	if err != nil {
		return nil, err
	}
	defer unix.Close(sink)
	const warmUp = 3
	var all []time.Duration
	for i := 0; len(all) < rounds; i++ {
		took, ok, err := oneDrop(p, f, sink, attacker(i))
		if err != nil {
			return nil, err
		}
		if ok && i >= warmUp {
			all = append(all, took)
		}
		if i > 20*rounds {
			return nil, errors.New("this machine is too busy: the sender hardly ever sends")
		}
	}
	return all, nil
}

// oneDrop measures one host. ok is false when the sender was held up, so that nothing was sent just when the ban came:
// on a busy machine that is often so, and says nothing of banset.

func oneDrop(p *peer, log *os.File, sink int, host netip.Addr) (took time.Duration, ok bool, err error) {
	var stop atomic.Bool
	var sent []time.Time // of each datagram, just before it was sent
	sending := make(chan error)
	go func() {
		sending <- p.do(func() error { // which has a thread of its own
			if err := pin(lastCPU()); err != nil {
				return err
			}
			fd, to, err := sender()
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			d := newDatagram(host)
			sent = make([]time.Time, 0, 1<<16)
			for next := time.Now(); !stop.Load(); next = next.Add(pace) {
				now := time.Now()
				for ; now.Before(next); now = time.Now() {
				}
				next = now
				d.number(uint64(len(sent)))
				sent = append(sent, now)
				if err := unix.Sendto(fd, d[:], 0, to); err != nil {
					return err
				}
			}
			return nil
		})
	}()
	last, heard := uint64(0), false
	for began := time.Now(); !heard; last, heard = drain(sink) {
		if time.Since(began) > patience {
			return 0, false, errors.New("nothing arrives from the peer")
		}
		time.Sleep(time.Millisecond)
	}
	began, err := appendTo(log, eximFailure(time.Now(), host, "alice")+"\n")
	for arrived := time.Now(); err == nil && time.Since(arrived) < quiet; {
		time.Sleep(time.Millisecond)
		n, some := drain(sink)
		if some {
			last, arrived = n, time.Now()
		}
		if time.Since(began) > patience {
			err = fmt.Errorf("%s was never banned", host)
		}
	}
	stop.Store(true)
	if err := errors.Join(err, <-sending); err != nil {
		return 0, false, err
	}
	first := int(last) + 1
	if first >= len(sent) || sent[first].Sub(sent[last]) > 10*pace {
		return 0, false, nil
	}
	return sent[first].Sub(began), true, nil
}

// drain takes all that has arrived at a socket and returns the last datagram's number.
func drain(fd int) (last uint64, some bool) {
	buf := make([]byte, 64)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return last, some
		}
		if n == payload {
			last, some = binary.BigEndian.Uint64(buf), true
		}
	}
}

// burst writes the failures of many hosts in one call and watches how the kernel gets their bans.
func (b *bench) burst() error {
	n := b.of(10_000)
	f, err := os.OpenFile(b.path("drop/log"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	commits, ended, stop, err := watchCommits()
	if err != nil {
		return err
	}
	defer stop()
	var times []time.Duration
	var transactions []int
	for round := range b.rounds {
		var text strings.Builder
		for i := range n {
			text.WriteString(eximFailure(time.Now(), attacker(10_000+round*n+i), "alice") + "\n")
		}
		runtime.GC() // not while it is measured
		began, err := appendTo(f, text.String())
		if err != nil {
			return err
		}
		done, several := 0, 0
		for done < n {
			select {
			case c := <-commits:
				done += c.bans
				if c.bans > 0 {
					several++
				}
				if done >= n {
					times = append(times, c.at.Sub(began))
				}
			case err := <-ended:
				return fmt.Errorf("watch the kernel: %v", err)
			case <-time.After(patience):
				return fmt.Errorf("%d bans of %d reached the kernel", done, n)
			}
		}
		transactions = append(transactions, several)
		time.Sleep(time.Second) // until file, state and log have them, too
	}
	v := quantile(times, 0.5)
	b.add(row{section: "drop", claim: count(n) + " bans in one write, until all are in force", ours: span(v), value: v.Seconds(),
		target: within(0.05, "50 ms")})
	many := quantile(transactions, 0.5)
	b.add(row{section: "drop", claim: count(n) + " bans in one write, transactions", ours: fmt.Sprint(many), value: float64(many), target: within(1, "1")})
	return nil
}

// A commit is a transaction of nf_tables.
type commit struct {
	at   time.Time // when its first event came
	bans int       // elements added
}

// watchCommits tells of every transaction that changes this network namespace, until stop. The kernel makes all of a
// transaction's elements active at once before it sends the first event of it (nf_tables_commit in
// net/netfilter/nf_tables_api.c).
func watchCommits() (commits <-chan commit, ended <-chan error, stop func(), err error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := errors.Join(conn.SetReadBuffer(64<<20), conn.JoinGroup(unix.NFNLGRP_NFTABLES)); err != nil {
		conn.Close()
		return nil, nil, nil, err
	}
	out, end := make(chan commit, 1000), make(chan error, 1)
	go func() {
		var c commit
		for {
			messages, err := conn.Receive()
			now := time.Now()
			if err != nil {
				end <- err
				return
			}
			for _, m := range messages {
				if c.at.IsZero() {
					c.at = now
				}
				switch m.Header.Type &^ (unix.NFNL_SUBSYS_NFTABLES << 8) {
				case unix.NFT_MSG_NEWSETELEM:
					c.bans++
				case unix.NFT_MSG_NEWGEN: // the last one
					out <- c
					c = commit{}
				}
			}
		}
	}()
	return out, end, func() { conn.Close() }, nil
}

// fail2banDrops measures fail2ban in the same way, with its own nftables action and its watch by inotify.
func (b *bench) fail2banDrops(p *peer) ([]time.Duration, error) {
	dir := b.path("fail2ban")
	for name, text := range map[string]string{
		"log": "",
		"fail2ban.conf": fmt.Sprintf("[Definition]\nloglevel = INFO\nlogtarget = STDERR\nsyslogsocket = auto\nsocket = %[1]s/sock\n"+
			"pidfile = %[1]s/pid\ndbfile = None\nallowipv6 = no\n", dir),
		"jail.conf": fmt.Sprintf("[exim2]\nenabled = true\nfilter = exim2\nlogpath = %s/log\nbackend = auto\nusedns = no\n"+
			"maxretry = 1\nfindtime = 86400\nbantime = 3600\naction = nftables[type=allports, name=exim2, protocol=\"tcp,udp\", blocktype=drop]\n", dir),
		"filter.d/exim2.conf": "[Definition]\nfailregex = " + seedPattern + "\n",
	} {
		if _, err := b.writeFile("fail2ban/"+name, text); err != nil {
			return nil, err
		}
	}
	if err := os.Symlink("/etc/fail2ban/action.d", dir+"/action.d"); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	args := append(besidesSender(), "/usr/bin/fail2ban-server", "-f", "-x", "-c", dir, "-s", dir+"/sock", "-p", dir+"/pid", "--logtarget", "STDERR", "start")
	d, err := launch(args[0], args[1:]...)
	if err != nil {
		return nil, err
	}
	defer b.flushRules()
	defer d.stop()
	if err := d.logged("Jail 'exim2' started"); err != nil {
		return nil, err
	}
	return lineToDrop(p, dir+"/log", b.of(40))
}
