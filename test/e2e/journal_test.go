package e2e

import (
	"fmt"
	"os"
	"strings"
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
	if err := os.Remove(h.path("auth.log")); err != nil {
		t.Fatal(err)
	}
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
