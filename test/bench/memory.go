package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// memory measures what banset takes when it does nothing, and when it knows very many hosts.
func memory(b *bench) error {
	for _, f := range []func(*bench) error{tracked, liveBans, idle, startUp} {
		if err := f(b); err != nil {
			return err
		}
	}
	return nil
}

func tracked(b *bench) error {
	n := b.of(1_000_000)
	costs, err := b.race(1, b.helper("hosts", strconv.Itoa(n), "9"))
	if err != nil {
		return err
	}
	v := costs[0].said["bytes"]
	r := row{section: "memory", claim: count(n) + " hosts tracked, 9 failures each, a host", ours: digits(v) + " bytes", value: v,
		target: within(120, "120 bytes")}
	if b.quick {
		r.target = target{} // of a few hosts the tables' first allotment is most of it
	}
	b.add(r)
	return nil
}

func liveBans(b *bench) error {
	n := b.of(100_000)
	conf, err := b.quietConfig("live", n, "")
	if err != nil {
		return err
	}
	if _, err := b.blocklist("live/blocklist", n); err != nil {
		return err
	}
	// Twice: as it is after it took in the file, and as it is after a restart.
	for _, when := range []string{"the first start", "a restart"} {
		d, err := b.startDaemon(conf)
		if err != nil {
			return err
		}
		if !b.quick {
			time.Sleep(10 * time.Second) // until its state is written, and what that took is given back
		}
		v, err := statusBytes(d.cmd.Process.Pid, "VmRSS")
		if err != nil {
			return err
		}
		if err := d.stop(); err != nil {
			return err
		}
		b.add(row{section: "memory", claim: "daemon with " + count(n) + " live bans, after " + when, ours: megabytes(float64(v)), value: float64(v),
			target: within(40e6, "40 MB")})
	}
	return b.flushRules()
}

// idle counts how often a daemon with quiet logs wakes up.
func idle(b *bench) error {
	const logs = 20
	// Not in /tmp: what others do in a directory on the way to a log is an event, too.
	dir, err := os.MkdirTemp("/var/tmp", "banset-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	quiet := *b
	quiet.dir = dir
	var paths []string
	for i := range logs {
		path, err := quiet.writeFile(fmt.Sprintf("idle/quiet%d", i), eximFailure(b.stamp, attacker(i), "alice")+"\n")
		if err != nil {
			return err
		}
		paths = append(paths, path)
	}
	conf, err := quiet.config("idle", 1024, "", fmt.Sprintf("  exim2: {filter: exim2, logpath: [%s]}\n", strings.Join(paths, ", ")))
	if err != nil {
		return err
	}
	d, err := b.startDaemon(conf)
	if err != nil {
		return err
	}
	defer d.stop()
	settle, watched := 20*time.Second, 30*time.Second
	if b.quick {
		settle, watched = 0, 100*time.Millisecond
	}
	time.Sleep(settle)
	pid := d.cmd.Process.Pid
	before, cpu, err := wakeUps(pid)
	if err != nil {
		return err
	}
	time.Sleep(watched)
	after, cpuAfter, err := wakeUps(pid)
	if err != nil {
		return err
	}
	r := row{section: "memory", claim: fmt.Sprintf("idle daemon, %d quiet logs: wake-ups a second", logs), value: float64(after-before) / watched.Seconds(),
		target: within(0, "0"), theirs: fmt.Sprintf("of all its threads, in %.0f s; CPU %s", watched.Seconds(), span(cpuAfter-cpu))}
	r.ours = digits(r.value)
	if b.quick {
		r.target = target{}
	}
	b.add(r)
	return d.stop()
}

// wakeUps is how often the threads of a process went to sleep, which is how often they were woken, and the CPU time that
// they took.
func wakeUps(pid int) (n int, cpu time.Duration, err error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		return 0, 0, err
	}
	for _, task := range tasks {
		v, err := statusField(task+"/status", "voluntary_ctxt_switches")
		if err != nil {
			return 0, 0, err
		}
		n += v
		text, err := os.ReadFile(task + "/schedstat")
		if err != nil {
			return 0, 0, err
		}
		ns, _, _ := strings.Cut(string(text), " ")
		if v, err = strconv.Atoi(ns); err != nil {
			return 0, 0, err
		}
		cpu += time.Duration(v)
	}
	return n, cpu, nil
}

// startUp lets a daemon count the failures of very many hosts and measures how long it takes until it is ready when
// it is started again with all of them in its state.
func startUp(b *bench) error {
	n := b.of(1_000_000)
	conf, err := b.quietConfig("start", 1024, fmt.Sprintf("max_hosts: %d\n", n+1000))
	if err != nil {
		return err
	}
	path := b.path("start/log")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var text strings.Builder
	for failure := range 9 {
		for i := range n {
			text.WriteString(eximFailure(b.stamp.Add(-time.Duration(9-failure)*time.Hour), attacker(i), "alice"))
			text.WriteByte('\n')
			if text.Len() > 1<<20 || i == n-1 {
				if _, err := f.WriteString(text.String()); err != nil {
					return err
				}
				text.Reset()
			}
		}
	}
	d, err := b.startDaemon(conf)
	if err != nil {
		return err
	}
	defer func() { d.stop() }()
	for began := time.Now(); ; time.Sleep(time.Second) {
		hosts, found, err := b.counted(conf)
		if err != nil {
			return err
		}
		if hosts == n && found == 9*n {
			break
		}
		if time.Since(began) > patience {
			return fmt.Errorf("%d hosts of %d are tracked, %d failures of %d were found", hosts, n, found, 9*n)
		}
	}
	if err := d.stop(); err != nil {
		return err
	}
	var times []time.Duration
	var resident int
	for range min(b.rounds, 3) {
		began := time.Now()
		if d, err = b.startDaemon(conf); err != nil {
			return err
		}
		times = append(times, time.Since(began))
		if !b.quick {
			time.Sleep(2 * time.Second)
		}
		hosts, _, err := b.counted(conf)
		if err == nil && hosts != n {
			err = fmt.Errorf("%d hosts of %d are tracked after the start", hosts, n)
		}
		if err != nil {
			return err
		}
		if resident, err = statusBytes(d.cmd.Process.Pid, "VmRSS"); err != nil {
			return err
		}
		if err := d.stop(); err != nil {
			return err
		}
	}
	v := quantile(times, 0.5)
	b.add(row{section: "memory", claim: "start with " + count(n) + " hosts in state, until ready, wall time", ours: span(v), value: v.Seconds(),
		target: within(2, "2 s")})
	b.add(row{section: "memory", claim: "daemon that tracks them, resident in all", ours: megabytes(float64(resident)),
		theirs: digits(float64(resident)/float64(n)) + " bytes a host"})
	return b.flushRules()
}

// counted asks a daemon how many hosts it tracks and how many failures it found.
func (b *bench) counted(conf string) (hosts, found int, err error) {
	answer, err := b.run(contestant{args: []string{b.banset, "status", "--json", "--config", conf}, finding: true})
	if err != nil {
		return 0, 0, err
	}
	var status struct {
		Hosts    int
		Policies []struct{ Found int }
	}
	err = json.Unmarshal([]byte(answer.output), &status)
	for _, p := range status.Policies {
		found += p.Found
	}
	return status.Hosts, found, err
}
