package e2e

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"banset/nft/nfttest"
)

const (
	attacker  = "203.0.113.66"
	attacker6 = "2001:db8:bad::66"
	cousin6   = "2001:db8:bad::1:2:3" // another address of the same /64
	other6    = "2001:db8:900d::7"
	bystander = "198.51.100.7"
)

func TestLogToDroppedPackets(t *testing.T) {
	h := newHost(t)
	h.neighbour(attacker)
	h.neighbour(bystander)
	h.configure("")
	h.start()
	h.mustPass(attacker, bystander)
	h.fail(attacker, 9)
	h.fail(bystander, 3)
	h.logged("[exim2-repeater] Found " + bystander)
	h.mustPass(attacker)
	h.fail(attacker, 1)
	h.logged("[exim2-repeater] Ban " + attacker + " until ")
	h.mustDrop(attacker)
	h.mustPass(bystander)

	set := nfttest.Run(t, "nft", "list", "set", "inet", "banset", "ban4")
	if !strings.Contains(set, attacker+" timeout 365d expires 364d") || !strings.Contains(set, `comment "exim2-repeater: 10 failures"`) {
		t.Errorf("nft list set:\n%s", set)
	}
	h.verified()
	if file := h.readFile("data/blocklist"); !strings.Contains(file, "\n"+attacker+" # banset/") || !strings.Contains(file, ": exim2-repeater: 10 failures\n") {
		t.Errorf("blocklist:\n%s", file)
	}
	if out := h.banset("list"); !strings.Contains(out, attacker) {
		t.Errorf("banset list:\n%s", out)
	}
	if out := h.banset("why", attacker); !strings.Contains(out, "exim2-repeater") {
		t.Errorf("banset why:\n%s", out)
	}
}

func TestOwnConnectionsToBannedHost(t *testing.T) {
	for direction, works := range map[string]bool{"original": true, "any": false} {
		t.Run(direction, func(t *testing.T) {
			h := newHost(t)
			h.neighbour(attacker)
			h.configure("nftables: {direction: " + direction + "}")
			h.start()
			h.banset("ban", attacker)
			h.mustDrop(attacker)
			if works {
				if err := h.outbound(attacker); err != nil {
					t.Errorf("the host's own connection to a banned host: %v", err)
				}
				h.mustDrop(attacker) // and it opens no door
				return
			}
			nfttest.Run(t, "nft", "list", "table", "inet", "banset")
			if strings.Contains(nfttest.Run(t, "nft", "list", "table", "inet", "banset"), "ct direction") {
				t.Error("direction any still has a rule for replies")
			}
		})
	}
}

func TestIPv6(t *testing.T) {
	h := newHost(t)
	h.neighbour(attacker6)
	h.neighbour(other6)
	h.peer.AddAddress(cousin6 + "/64")
	h.configure("")
	h.start()
	h.fail(attacker6, 5)
	h.fail(cousin6, 5) // one host: the count is of the /64
	h.logged("[exim2-repeater] Ban 2001:db8:bad::/64 until ")
	h.mustDrop(attacker6, cousin6)
	h.mustPass(other6)
	if out := h.banset("unban", attacker6); !strings.Contains(out, "2001:db8:bad::/64") {
		t.Errorf("unban of one address of the /64:\n%s", out)
	}
	h.mustPass(attacker6, cousin6)
	h.verified()
}

func TestEditFile(t *testing.T) {
	h := newHost(t)
	h.neighbour(attacker)
	h.neighbour(bystander)
	h.configure("")
	h.start()
	h.fail(attacker, 10)
	h.logged("[exim2-repeater] Ban " + attacker)
	h.mustDrop(attacker)
	h.verified()
	before := h.readFile("data/blocklist")
	h.writeFile("data/blocklist", strings.ReplaceAll(before, attacker, bystander))
	h.logged("Unban " + attacker)
	h.logged("Ban " + bystander)
	h.mustPass(attacker)
	h.mustDrop(bystander)
	h.verified()
}

func TestBanAndUnban(t *testing.T) {
	for _, daemon := range []bool{true, false} {
		name := map[bool]string{true: "with the daemon", false: "without"}[daemon]
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.neighbour(attacker)
			h.neighbour(attacker6)
			h.configure("")
			if daemon {
				h.start()
			}
			out := h.banset("ban", attacker, attacker6, "--for", "1d", "--reason", "scans \"us\"\n# much")
			if !strings.Contains(out, attacker) {
				t.Errorf("banset ban:\n%s", out)
			}
			h.mustDrop(attacker, attacker6)
			h.verified()
			if file := h.readFile("data/blocklist"); !strings.Contains(file, ": by hand: scans ?us??? much\n") {
				t.Errorf("blocklist:\n%s", file)
			}
			if out := h.banset("list", attacker); !strings.Contains(out, attacker) {
				t.Errorf("banset list:\n%s", out)
			}
			h.banset("unban", attacker, attacker6)
			h.mustPass(attacker, attacker6)
			h.verified()
			if _, _, status := h.run("list", attacker); status != 1 {
				t.Errorf("banset list of a free host: status %d, want 1", status)
			}
			if file := h.readFile("data/blocklist"); strings.Contains(file, attacker) {
				t.Errorf("blocklist:\n%s", file)
			}
		})
	}
}

func TestStopAndStartAgain(t *testing.T) {
	h := newHost(t)
	h.neighbour(attacker)
	h.neighbour(bystander)
	h.configure("")
	h.start()
	h.fail(attacker, 10)
	h.fail(bystander, 9)
	h.logged("[exim2-repeater] Ban " + attacker)
	h.stop()
	h.mustDrop(attacker) // stop leaves set and rules
	h.start()
	h.mustDrop(attacker)
	h.fail(bystander, 1) // the nine from before the stop still count
	h.logged("[exim2-repeater] Ban " + bystander)
	h.mustDrop(bystander)
	h.verified()

	h.kill()
	nfttest.Run(t, "nft", "flush", "ruleset") // as a reboot does
	h.mustPass(attacker)
	h.start()
	h.mustDrop(attacker, bystander)
	if set := nfttest.Run(t, "nft", "list", "set", "inet", "banset", "ban4"); !strings.Contains(set, attacker+" timeout 365d expires 364d") {
		t.Errorf("restored with another end:\n%s", set)
	}
	h.verified()
}

// TestBanAgainAndCrash: what was acknowledged last holds, however little the state had time to learn of it.
func TestBanAgainAndCrash(t *testing.T) {
	h := newHost(t)
	h.neighbour(attacker)
	h.neighbour(bystander)
	h.configure("")
	h.start()
	for range 5 {
		h.banset("ban", attacker)
		h.banset("ban", bystander)
		h.banset("unban", attacker)
		h.banset("ban", attacker)
		h.banset("unban", bystander)
		h.kill()
		h.start()
		h.mustDrop(attacker)
		h.mustPass(bystander)
		h.verified()
		h.banset("unban", attacker)
	}
}

func TestReload(t *testing.T) {
	h := newHost(t)
	h.neighbour(attacker)
	h.neighbour(bystander)
	h.configure("")
	h.start()
	h.fail(attacker, 10)
	h.logged("[exim2-repeater] Ban " + attacker)

	good := h.readFile("banset.yaml")
	h.writeFile("banset.yaml", strings.Replace(good, "maxretry: 10", "maxretry: ten\n    maxtry: 3", 1))
	out, errs, status := h.run("reload")
	if status != 1 || !strings.Contains(out+errs, "banset.yaml:") || !strings.Contains(out+errs, "maxtry") {
		t.Errorf("reload of a bad configuration: status %d\n%s%s", status, out, errs)
	}
	h.mustDrop(attacker)
	h.verifiedWith(good)

	h.writeFile("banset.yaml", strings.Replace(good, "maxretry: 10", "maxretry: 2", 1))
	h.cmd.Process.Signal(syscall.SIGHUP)
	h.logged("reloaded")
	h.fail(bystander, 2)
	h.logged("[exim2-repeater] Ban " + bystander)
	h.mustDrop(bystander)
	h.verified()
}

// TestReloadAtOnce: a reload that comes while the daemon starts waits for the end of the start, and each line still counts
// once.
func TestReloadAtOnce(t *testing.T) {
	h := newHost(t)
	h.configure("")
	h.startOnly()
	for deadline := time.Now().Add(patience); ; {
		if _, _, status := h.run("reload"); status == 0 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("no reload in %s:\n%s", patience, h.logText())
		}
	}
	h.logged("ready: ")
	h.logged("reloaded")
	h.fail(attacker, 9)
	h.fail(bystander, 10)
	h.logged("[exim2-repeater] Ban " + bystander)
	if log := h.logText(); strings.Contains(log, "Ban "+attacker) || strings.Index(log, "ready: ") > strings.Index(log, "reloaded") {
		t.Errorf("lines counted twice, or the reload was before the start's end:\n%s", log)
	}
	h.verified()
}

// verifiedWith puts a good configuration back first.
func (h *host) verifiedWith(config string) {
	h.t.Helper()
	h.writeFile("banset.yaml", config)
	h.verified()
}

func TestAllowlist(t *testing.T) {
	h := newHost(t)
	h.neighbour(attacker)
	h.neighbour(bystander)
	h.configure("ignoreip: [self, " + bystander + "]")
	h.start()
	h.fail(bystander, 20)
	h.fail(nfttest.Here4, 20) // this host itself
	h.fail(attacker, 10)
	h.logged("[exim2-repeater] Ban " + attacker)
	h.mustPass(bystander)
	if log := h.logText(); strings.Contains(log, "Ban "+bystander) || strings.Contains(log, "Ban "+nfttest.Here4) {
		t.Errorf("an allowlisted host was banned:\n%s", log)
	}
	if _, errs, status := h.run("ban", bystander); status == 0 {
		t.Errorf("a ban of an allowlisted host: status 0, %s", errs)
	}
	h.configure("ignoreip: [self, 203.0.113.0/24]")
	h.banset("reload")
	h.logged("Unban " + attacker)
	h.mustPass(attacker)
	h.verified()
}

func TestReject(t *testing.T) {
	h := newHost(t)
	h.neighbour(attacker)
	h.configure("nftables: {verdict: reject}")
	h.start()
	if err := h.connect(attacker); err != nil {
		t.Fatalf("before the ban: %v", err)
	}
	h.banset("ban", attacker)
	if err := h.connect(attacker); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a banned host connects: %v, want connection refused", err)
	}
	h.verified()
}

func TestHookAndCounters(t *testing.T) {
	h := newHost(t)
	h.neighbour(attacker)
	h.configure("nftables: {hook: input, priority: -5, counters: true, table: other}")
	h.start()
	h.banset("ban", attacker)
	err := h.connect(bystanderOf(h))
	if err != nil {
		t.Errorf("a free host: %v", err)
	}
	out := nfttest.Run(t, "nft", "list", "table", "inet", "other")
	for _, want := range []string{"hook input priority filter - 5", "chain input", attacker + " counter packets"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	h.verified()
}

func bystanderOf(h *host) string {
	h.neighbour(bystander)
	return bystander
}

func TestBadConfig(t *testing.T) {
	h := newHost(t)
	h.configure("ipv6_prefix: 400\nnftable: {}")
	h.startOnly()
	<-h.exited
	if status := h.cmd.ProcessState.ExitCode(); status != 1 {
		t.Errorf("run with a bad configuration: status %d, want 1", status)
	}
	for _, want := range []string{"banset.yaml:5:14: ", "banset.yaml:6:1: ", "nftables"} {
		if !strings.Contains(h.logText(), want) {
			t.Errorf("no %q in\n%s", want, h.logText())
		}
	}
	if out, err := nfttest.Command(t, "nft", "list", "ruleset").Output(); err != nil || len(out) > 0 {
		t.Errorf("it changed the kernel: %v\n%s", err, out)
	}
	h.cmd = nil
}

func TestSeedFile(t *testing.T) {
	h := newHost(t)
	const seed = "122.154.29.30"
	h.configure("")
	line := seed + " # fail2ban/2016-04-15 00:21:45: auto-add for repeat offender\n"
	h.writeFile("data/blocklist", line)
	h.start()
	// A year from 2016 is over: the line is honoured, and its ban has ended.
	if out, err := nfttest.Command(t, "nft", "get", "element", "inet", "banset", "ban4", "{ "+seed+" }").CombinedOutput(); err == nil {
		t.Errorf("a ban that ended in 2017 was restored:\n%s", out)
	}
	h.stop()
	h.writeFile("banset.yaml", strings.ReplaceAll(h.readFile("banset.yaml"), "bantime: 31536000", "bantime: forever"))
	h.writeFile("data/blocklist", line)
	h.start()
	nfttest.Run(t, "nft", "get", "element", "inet", "banset", "ban4", "{ "+seed+" }")
	if file := h.readFile("data/blocklist"); !strings.HasPrefix(file, line) {
		t.Errorf("the seed's line was changed:\n%s", file)
	}
	h.verified()
}

func TestHostileLog(t *testing.T) {
	h := newHost(t)
	h.neighbour(attacker)
	h.configure("")
	h.start()
	h.appendFile("mainlog", "\x00\x01\xff\xfe junk [999.1.1.1]: 535 Incorrect authentication data\n")
	h.appendFile("mainlog", strings.Repeat("A", 3<<20)+"\n")
	h.appendFile("mainlog", strings.Repeat("x", 5<<20)) // a line that does not end
	h.appendFile("mainlog", "\n")
	h.fail(attacker, 10)
	h.logged("[exim2-repeater] Ban " + attacker)
	h.mustDrop(attacker)
	h.verified()
	if strings.Contains(h.logText(), "999.1") {
		t.Errorf("999.1.1.1 was found:\n%s", h.logText())
	}
}
