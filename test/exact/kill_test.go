// Package exact proves that every log line counts once: a daemon that is killed all the time, by kill -9 and in the
// middle of its start and of its stop, on logs that are rotated in every way as they are written, ends with the same
// failures, offences and bans as one that was never interrupted, and as the judge alone makes of the lines.
package exact

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"banset/nft/nfttest"
	"banset/policy"
)

var (
	kills = flag.Int("kills", 300, "how often the daemon is killed")
	keep  = flag.String("keep", "", "the directory for the daemons' whole logs when the test fails")
	seed  = flag.Uint64("seed", 1, "what chance begins with")
)

const (
	tally = "tally" // remembers every failure
	soon  = "soon"  // a short findtime and a ladder whose bans end within the test
	slow  = "slow"  // many failures within an hour
	half  = "half"  // half an hour, for the log whose stamps are an hour off
)

var policies = []policy.Policy{
	{Name: half, MaxRetry: 10_000, FindTime: 30 * time.Minute, BanTime: []time.Duration{time.Hour}},
	{Name: slow, MaxRetry: 60, FindTime: time.Hour, BanTime: []time.Duration{24 * time.Hour}},
	{Name: soon, MaxRetry: 4, FindTime: 6 * time.Second, BanTime: []time.Duration{2 * time.Second, 3 * time.Second, 5 * time.Second, time.Hour, policy.Forever}},
	{Name: tally, MaxRetry: 10_000, FindTime: 365 * 24 * time.Hour, BanTime: []time.Duration{time.Hour}},
}

// world is the logs and the configuration that reads them.
func world(t *testing.T) (logs []*logfile, config string) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "g"), 0o755); err != nil {
		t.Fatal(err)
	}
	numbered := []func(*logfile){renamed, created, writtenOn, compressedAtOnce, copyTruncated, deleted}
	logs = []*logfile{
		{path: dir + "/a.log", layout: "2006-01-02 15:04:05", rotate: numbered,
			policies: []string{slow, soon, tally}, prefix4: netip.MustParsePrefix("192.0.2.0/24"), prefix6: netip.MustParsePrefix("2001:db8:a::/48")},
		{path: dir + "/b.log", layout: "2006-01-02T15:04:05.000000-07:00", dated: true, rotate: []func(*logfile){renamed, created, writtenOn, compressedAtOnce, copyTruncated},
			policies: []string{slow, soon, tally}, prefix4: netip.MustParsePrefix("198.51.100.0/24"), prefix6: netip.MustParsePrefix("2001:db8:b::/48")},
		{path: dir + "/g/c.log", layout: "Jan _2 15:04:05", rotate: []func(*logfile){renamed, created, writtenOn, deleted},
			policies: []string{slow, soon, tally}, prefix4: netip.MustParsePrefix("203.0.113.0/24"), prefix6: netip.MustParsePrefix("2001:db8:c::/48")},
		{path: dir + "/off.log", layout: "2006-01-02 15:04:05", off: -time.Hour, rotate: []func(*logfile){renamed, copyTruncated},
			policies: []string{half, tally}, prefix6: netip.MustParsePrefix("2001:db8:d::/48")},
	}
	for i, l := range logs {
		l.t, l.rng, l.turned = t, rand.New(rand.NewPCG(*seed, uint64(i))), map[string]int{}
	}
	var b strings.Builder
	b.WriteString("policies:\n")
	for _, p := range policies {
		var paths, rungs []string
		for _, l := range logs {
			if slices.Contains(l.policies, p.Name) {
				paths = append(paths, strings.Replace(l.path, "/c.log", "/*.log", 1))
			}
		}
		for _, d := range p.BanTime {
			rungs = append(rungs, policy.FormatDuration(d))
		}
		fmt.Fprintf(&b, "  %s: {failregex: ['login failed for \\S+ from <HOST>$'], logpath: [%s], maxretry: %d, findtime: %s, bantime: [%s]}\n",
			p.Name, strings.Join(paths, ", "), p.MaxRetry, policy.FormatDuration(p.FindTime), strings.Join(rungs, ", "))
	}
	return logs, b.String()
}

// TestKills is the proof.
func TestKills(t *testing.T) {
	nfttest.Clean(t)
	logs, config := world(t)
	calm, killed := newDaemon(t, "calm", config), newDaemon(t, "killed", config)
	off := logs[len(logs)-1]
	for _, l := range logs {
		l.readers = []*daemon{calm, killed}
	}
	var mercy atomic.Int32
	for _, l := range logs {
		l.mercy = &mercy
	}
	began := time.Now()
	// How far stamps are off is known only once a line was seen live and committed.
	off.put("\n")
	for _, d := range off.readers {
		d.start()
		d.mustLog("ready: ")
	}
	off.put(off.line(off.host(attackers), 0))
	off.awaitCommit()
	var stop atomic.Bool
	var lives atomic.Int64
	var writing sync.WaitGroup
	for _, l := range logs {
		writing.Go(func() { l.write(&stop, &lives) })
	}
	k := killer{d: killed, lives: &lives, mercy: &mercy, rng: rand.New(rand.NewPCG(*seed, 99))}
	k.run(*kills)
	stop.Store(true)
	killed.start()
	writing.Wait()
	for _, l := range logs {
		last := "[tally] Found " + l.failures[len(l.failures)-1].host.String()
		calm.mustLog(last)
		killed.mustLog(last)
	}
	wall := time.Since(began)

	want := judged(policies, logs)
	for _, d := range []*daemon{calm, killed} {
		d.verified()
		t.Logf("%s: why told of %d hosts", d.name, d.tells(want))
		d.end(syscall.SIGTERM)
	}
	compared := time.Now()
	lines, turns := 0, map[string]int{}
	for _, l := range logs {
		lines += l.lines
		for kind, n := range l.turned {
			turns[kind] += n
		}
	}
	if *keep != "" {
		for i, l := range logs {
			var b strings.Builder
			for _, f := range l.failures {
				fmt.Fprintln(&b, f.host, f.stamp.Format(time.TimeOnly), f.written.Format(time.StampMilli))
			}
			os.WriteFile(filepath.Join(*keep, fmt.Sprint("written.", i)), []byte(b.String()), 0o644)
		}
	}
	for _, d := range []*daemon{calm, killed} {
		got := d.remembered()
		v := compare(got, want, policies, compared, time.Now(), func(p netip.Prefix) bool {
			return off.prefix6.Overlaps(p)
		})
		failures := 0
		for k, at := range want.failures {
			if strings.HasPrefix(k, tally+" ") {
				failures += len(at)
			}
		}
		t.Logf("%s: %d lines, %d failures, %d hosts, %d offences on the ladder, %d bans; %d lost, %d double, %d differences", d.name, lines, failures,
			len(got.failures), len(got.ladder), len(got.bans), v.lost, v.double, len(v.differences))
		for i, text := range v.differences {
			if i == 40 {
				t.Errorf("and %d more", len(v.differences)-i)
				break
			}
			t.Errorf("%s: %s", d.name, text)
		}
	}
	t.Logf("%d kills (%v), %d stops, %d lives spared, %v rotations in %s", k.kills, k.when, k.stops, k.spared, turns, wall.Round(time.Second))
	if k.kills < *kills {
		t.Errorf("only %d kills", k.kills)
	}
}

// killer ends a daemon's lives at random moments.
type killer struct {
	d      *daemon
	lives  *atomic.Int64
	mercy  *atomic.Int32
	spared int // lives
	rng    *rand.Rand
	kills  int
	stops  int
	before []policy.Ban // the blocklist before the start
	when   [5]int       // kills: during the start, at any time, at a ban, after a commit, during a stop
}

func (k *killer) run(n int) {
	d := k.d
	for k.kills < n {
		if d.cmd == nil {
			k.before = d.blocklist()
			d.start()
		}
		k.lives.Add(1)
		if k.mercy.Load() > 0 {
			// On a busy machine lives of moments may not be enough to get anywhere.
			k.spared++
			k.ready()
			for k.mercy.Load() > 0 {
				time.Sleep(20 * time.Millisecond)
			}
		}
		switch dice := k.rng.IntN(100); {
		case dice < 25:
			k.sleep(70 * time.Millisecond)
			k.kill(0)
		case dice < 60:
			k.ready()
			k.sleep(300 * time.Millisecond)
			k.kill(1)
		case dice < 85:
			k.ready()
			d.await("] Ban ", len(d.text()), 500*time.Millisecond)
			k.sleep(3 * time.Millisecond)
			k.kill(2)
		case dice < 93:
			k.ready()
			time.Sleep(time.Second)
			k.sleep(300 * time.Millisecond)
			k.kill(3)
		case dice < 97:
			k.ready()
			k.sleep(300 * time.Millisecond)
			d.cmd.Process.Signal(syscall.SIGTERM)
			k.sleep(20 * time.Millisecond)
			k.kill(4)
		default:
			k.ready()
			k.sleep(300 * time.Millisecond)
			d.end(syscall.SIGTERM)
			d.verified()
			k.stops++
		}
	}
}

func (k *killer) sleep(most time.Duration) { time.Sleep(time.Duration(k.rng.Int64N(int64(most)))) }

// ready waits for the end of the start and sees that no ban got lost by it.
func (k *killer) ready() {
	k.d.mustLog("ready: ")
	held := map[netip.Prefix]policy.Ban{}
	for _, b := range k.d.blocklist() {
		held[b.Host] = b
	}
	now := time.Now() // a start may take long on a busy machine
	for _, b := range k.before {
		if after, ok := held[b.Host]; !b.Ended(now.Add(time.Second)) && (!ok || after.Until < b.Until) {
			k.d.t.Errorf("the blocklist had %+v before a start and %+v after it", b, after)
		}
	}
}

func (k *killer) kill(when int) {
	k.d.cmd.Process.Signal(syscall.SIGKILL)
	<-k.d.exited
	// It may have ended by itself: by a signal that came first, or by a fault.
	if ws := k.d.cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() && ws.Signal() == syscall.SIGKILL {
		k.kills++
		k.when[when]++
	} else if when != 4 || ws.ExitStatus() != 0 {
		k.d.t.Errorf("the daemon ended by itself: %v\n%s", k.d.cmd.ProcessState, k.d.text())
	}
	k.d.cmd = nil
}
