package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"banset/test/journaltest"
)

// journalHost is a host with a journald of its own, which the daemon takes for the machine's.
func journalHost(t *testing.T) (*host, *journaltest.Journald) {
	h := newHost(t)
	d := journaltest.NewJournald(t, true)
	h.around = d.Inside
	return h, d
}

// failure is what sshd writes about the n-th failure of a host, in journal and file.
func failure(addr string, n int) string {
	return fmt.Sprintf("Failed password for root from %s port %d ssh2", addr, 1024+n)
}

// TestJournalToDroppedPackets: what sshd tells the journal bans, and each entry counts once whatever happens to journal
// and daemon meanwhile.
func TestJournalToDroppedPackets(t *testing.T) {
	h, d := journalHost(t)
	h.configureSSH("journalmatch: [SYSLOG_IDENTIFIER=sshd]")
	sent := 0
	send := func(addr string, n int) {
		for range n {
			d.Send("MESSAGE="+failure(addr, sent), "SYSLOG_IDENTIFIER=sshd", "SYSLOG_PID=42")
			sent++
		}
	}
	const first, second = attacker, bystander
	h.neighbour(first)
	h.neighbour(second)
	send(first, 4) // before the daemon's first start
	h.start()
	h.foundSSH(first, 4)
	d.Rotate()
	send(first, 2)
	h.foundSSH(first, 6)
	h.kill()
	send(first, 1)
	d.Restart()
	send(first, 2)
	d.Rotate()
	h.start()
	h.foundSSH(first, 9)
	if !h.passes(first) {
		t.Error("banned after 9 failures of 10")
	}
	h.kill()
	h.start()
	h.foundSSH(first, 9)
	send(first, 1)
	h.logged("[sshd] Ban " + first)
	h.mustDrop(first)
	d.Crash()
	send(second, 10)
	h.logged("[sshd] Ban " + second)
	h.mustDrop(second)
	h.verified()
	if out := h.banset("status"); !strings.Contains(out, "journal: SYSLOG_IDENTIFIER=sshd") {
		t.Errorf("status does not show the journal:\n%s", out)
	}
}

// TestFileOrJournal: rsyslog writes what the journal has, then is removed, then comes back; each failure counts once.
func TestFileOrJournal(t *testing.T) {
	h, d := journalHost(t)
	h.configureSSH("journalmatch: [SYSLOG_IDENTIFIER=sshd]\n    logpath: [" + h.path("auth.log") + "]")
	const addr = attacker
	h.neighbour(addr)
	sent, rsyslog := 0, true
	send := func(n int) {
		for range n {
			d.Send("MESSAGE="+failure(addr, sent), "SYSLOG_IDENTIFIER=sshd", "SYSLOG_PID=42")
			if rsyslog {
				h.appendFile("auth.log", time.Now().Format("2006-01-02T15:04:05.000000-07:00")+" mx1 sshd[42]: "+failure(addr, sent)+"\n")
			}
			sent++
		}
	}
	send(2)
	h.start()
	h.foundSSH(addr, 2)
	send(1)
	h.foundSSH(addr, 3)
	h.stop()

	rsyslog = false
	last, err := os.Stat(h.path("auth.log"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(h.path("auth.log")); err != nil {
		t.Fatal(err)
	}
	// A file's time tells when its last line came but for a tick of the kernel's clock. No rsyslog is removed in less.
	time.Sleep(time.Until(last.ModTime().Add(50 * time.Millisecond)))
	send(1)
	h.start()
	h.logged("[sshd] reads the journal")
	h.foundSSH(addr, 4)
	send(1)
	h.foundSSH(addr, 5)

	rsyslog = true
	send(2)
	h.logged("[sshd] reads its file again")
	h.foundSSH(addr, 7)
	h.kill()
	send(2)
	h.start()
	h.foundSSH(addr, 9)
	if !h.passes(addr) {
		t.Error("banned after 9 failures of 10")
	}
	send(1)
	h.logged("[sshd] Ban " + addr)
	h.mustDrop(addr)
	h.verified()
}

// TestJournalKills: each entry counts once, however often the daemon is killed, at its start or at work, and journald is
// rotated, restarted and killed, while entries come all the time.
func TestJournalKills(t *testing.T) {
	h, d := journalHost(t)
	h.configureSSH("journalmatch: [SYSLOG_IDENTIFIER=sshd]")
	h.writeFile("banset.yaml", strings.Replace(h.readFile("banset.yaml"), "maxretry: 10\n", "maxretry: 10000\n", 1))
	sent := map[string]int{}
	total := 0
	send := func(addr string) {
		d.Send("MESSAGE="+failure(addr, total), "SYSLOG_IDENTIFIER=sshd", "SYSLOG_PID=42")
		sent[addr]++
		total++
	}
	stop := make(chan struct{})
	var sending sync.WaitGroup
	sending.Go(func() {
		for tick := time.NewTicker(2 * time.Millisecond); ; {
			select {
			case <-tick.C:
				send(fmt.Sprintf("198.51.100.%d", total%7+1))
			case <-stop:
				tick.Stop()
				return
			}
		}
	})
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 12 {
		h.startOnly()
		time.Sleep(time.Duration(rng.IntN(900)) * time.Millisecond) // where it gets to is chance
		switch n % 6 {
		case 1, 3:
			d.Rotate()
		case 4:
			d.Restart()
		case 5:
			d.Crash()
		}
		h.kill()
	}
	close(stop)
	sending.Wait()
	const last = "203.0.113.9"
	send(last)
	h.start()
	counted := func(addr string) string {
		out, _, _ := h.run("why", addr)
		for line := range strings.Lines(out) {
			if n, _, ok := strings.Cut(line, " of 10000 failures"); ok {
				return n[strings.LastIndexByte(n, ' ')+1:]
			}
		}
		return "0"
	}
	h.until("the last failure", func() bool { return counted(last) == "1" })
	for addr, want := range sent {
		if got := counted(addr); got != fmt.Sprint(want) {
			t.Errorf("%s: %s failures are counted, of %d", addr, got, want)
		}
	}
	if total < 500 {
		t.Errorf("only %d entries were sent", total)
	}
}

// configureSSH is a policy that bans after ten failures, with this source.
func (h *host) configureSSH(from string) {
	h.writeFile("banset.yaml", fmt.Sprintf(`
blocklist: %[1]s/data/blocklist
state: %[1]s/data/state.db
socket: %[1]s/banset.sock
policies:
  sshd:
    filter: sshd
    %[2]s
    maxretry: 10
    findtime: 1h
    bantime: 1h
`, h.dir, from))
}

// foundSSH waits until so many failures of a host are counted, and no more.
func (h *host) foundSSH(addr string, n int) {
	h.t.Helper()
	want := fmt.Sprintf("%d of 10 failures", n)
	var out string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) { // nobody tells
		if out, _, _ = h.run("why", addr); strings.Contains(out, want) {
			return
		}
	}
	h.t.Fatalf("why %s never says %q:\n%s", addr, want, out)
}
