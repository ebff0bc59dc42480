package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// kernel measures the way of many bans into the kernel: from the blocklist at boot, beside nft with the same elements.
func kernel(b *bench) error {
	n := b.of(1_000_000)
	restore := contestant{args: []string{b.banset, "restore", "--config", b.path(fmt.Sprintf("boot%d/banset.yaml", n))},
		before: func() error { return b.rebooted(n) }}
	racers := []contestant{restore}
	if b.has("nftables") {
		script, err := b.nftScript(n)
		if err != nil {
			return err
		}
		racers = append(racers, contestant{args: []string{"/usr/sbin/nft", "-f", script}, before: b.flushRules})
	}
	costs, err := b.race(min(b.rounds, 3), racers...)
	if err != nil {
		return err
	}
	what := count(n) + " bans from the blocklist into the kernel"
	r := row{section: "kernel", claim: what, ours: span(costs[0].cpu), target: atLeast(3)}
	if len(costs) > 1 {
		r.value = costs[1].cpu.Seconds() / costs[0].cpu.Seconds()
		r.theirs, r.shown = "nft -f "+span(costs[1].cpu), ratio(r.value)
	} else {
		r.target = target{}
	}
	b.add(r)
	list := b.path(fmt.Sprintf("boot%d/blocklist", n))
	ledger, err := b.race(1, b.helper("ledger", list))
	if err != nil {
		return err
	}
	book := ledger[0].said["bytes"]
	r = row{section: "kernel", claim: "restore of " + count(n) + " bans: memory at the most", ours: megabytes(float64(costs[0].memory)),
		theirs: "the book of bans " + megabytes(book), value: float64(costs[0].memory) - book, target: within(40e6, "40 MB above the book's")}
	if len(costs) > 1 {
		r.theirs += ", nft -f " + megabytes(float64(costs[1].memory))
	}
	b.add(r)
	if err := b.loadAlone(n); err != nil {
		return err
	}
	if _, err := b.run(restore); err != nil {
		return err
	}
	conf := restore.args[3]
	verify, err := b.run(contestant{args: []string{b.banset, "verify", "--config", conf}, finding: true})
	if err != nil {
		return err
	}
	r = row{section: "kernel", claim: "verify of " + count(n) + " bans, wall time", ours: span(verify.wall), value: verify.wall.Seconds(),
		target: within(20, "20 s"), theirs: "it says: " + lastLine(verify.output)}
	b.add(r)
	if err := b.manyBans(n, conf, book); err != nil {
		return err
	}
	return b.flushRules()
}

// loadAlone compares the load with what the kernel itself takes for the same elements.
func (b *bench) loadAlone(n int) error {
	load, err := b.race(b.rounds, b.helper("load", strconv.Itoa(n)), b.helper("raw", strconv.Itoa(n)))
	if err != nil {
		return err
	}
	v := load[0].said["cpu"] / load[1].said["cpu"]
	b.add(row{section: "kernel", claim: "the load of " + count(n) + " alone", ours: span(time.Duration(load[0].said["cpu"])),
		theirs: "the kernel with messages built before " + span(time.Duration(load[1].said["cpu"])), value: v, shown: ratio(v) + " the time",
		target: atMost(1.3)})
	return nil
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// manyBans starts a daemon with n bans, and asks it how it is.
func (b *bench) manyBans(n int, conf string, book float64) error {
	d, err := b.startDaemon(conf)
	if err != nil {
		return err
	}
	defer d.stop()
	if !b.quick {
		time.Sleep(10 * time.Second) // until all of it is in the state, too
	}
	most, err := statusBytes(d.cmd.Process.Pid, "VmHWM")
	if err != nil {
		return err
	}
	b.add(row{section: "kernel", claim: "daemon's start with " + count(n) + " bans: memory at the most", ours: megabytes(float64(most)),
		theirs: "the book of bans " + megabytes(book), value: float64(most) - book, target: within(40e6, "40 MB above the book's")})
	status, err := b.race(b.rounds, contestant{args: []string{b.banset, "status", "--config", conf}, finding: true})
	if err != nil {
		return err
	}
	b.add(row{section: "kernel", claim: "status of a daemon with " + count(n) + " bans, wall time", ours: span(status[0].wall)})
	return d.stop()
}

// blocklist writes a blocklist of n bans.
func (b *bench) blocklist(name string, n int) (string, error) {
	path := b.path(name)
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	const stamp = "2006-01-02 15:04:05Z"
	until := b.stamp.Add(banTime).Format(stamp)
	for i := range n {
		at := b.stamp.Add(-time.Duration(n-i) * time.Second / 100).Format(stamp)
		fmt.Fprintf(w, "%s # banset/%s until %s: %s\n", attacker(i), at, until, reason)
	}
	return path, w.Flush()
}

// nftScript writes the same bans as a script for nft.
func (b *bench) nftScript(n int) (string, error) {
	path := b.path("bans.nft")
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	fmt.Fprintf(w, "add table inet peer\nadd set inet peer ban4 { type ipv4_addr; size %d; flags timeout; }\n", n)
	for i := range n {
		if i%10_000 == 0 {
			fmt.Fprint(w, "add element inet peer ban4 {\n")
		}
		fmt.Fprintf(w, "%s timeout %ds comment \"%s\"", attacker(i), int(banTime.Seconds()), reason)
		if i%10_000 == 9999 || i == n-1 {
			fmt.Fprint(w, " }\n")
		} else {
			fmt.Fprint(w, ",\n")
		}
	}
	return path, w.Flush()
}

// flushRules empties the namespace of all rules.
func (b *bench) flushRules() error {
	if os.Getenv(inside) == "" && os.Getenv("NFTTEST_NAMESPACE") == "" {
		return fmt.Errorf("not in a namespace of ours: nothing is flushed")
	}
	if out, err := exec.Command("/usr/sbin/nft", "flush", "ruleset").CombinedOutput(); err != nil {
		return fmt.Errorf("nft flush ruleset: %w\n%s", err, out)
	}
	return nil
}
