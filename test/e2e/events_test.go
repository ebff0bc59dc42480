package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banset/nft/nfttest"
	"banset/test/e2e/program"
)

// event is a row of the README's table: what happens, and what becomes of bans and counts. do makes it happen and
// looks at what is particular to it; before it attacker is banned and bystander has nine failures, after it the
// attacker must be out and bystander's tenth failure a ban.
type event struct {
	what, bans, counts string
	do                 func(*host)
}

var events = []event{
	{"stop and start", "hold, also while it is stopped", "go on", func(h *host) {
		h.stop()
		h.mustDrop(attacker)
		h.start()
	}},
	{"upgrade", "hold", "go on", func(h *host) {
		h.stop()
		h.mustDrop(attacker)
		// Another file is another program to the kernel, and takes the set over.
		h.binary = h.path("banset-next")
		build, err := program.Build()
		if err != nil {
			h.t.Fatal(err)
		}
		if out, err := exec.Command("cp", build, h.binary).CombinedOutput(); err != nil {
			h.t.Fatalf("cp: %v\n%s", err, out)
		}
		h.start()
	}},
	{"`kill -9` and start", "hold", "go on", func(h *host) {
		h.kill()
		h.mustDrop(attacker)
		h.start()
	}},
	{"`nft flush ruleset`", "put back at once; the log names the program", "go on", func(h *host) {
		nfttest.Run(h.t, "nft", "flush", "ruleset")
		h.logged("put back 1 ban")
		h.logged("kernel: nft[")
	}},
	{"log rotated: renamed, copied and truncated, deleted", "hold", "go on", func(h *host) {
		for _, how := range []string{
			"mv mainlog mainlog.1 && touch mainlog",
			"cp mainlog mainlog.1 && truncate -s 0 mainlog",
			"rm mainlog && touch mainlog",
		} {
			cmd := exec.Command("sh", "-c", how)
			cmd.Dir = h.dir
			if out, err := cmd.CombinedOutput(); err != nil {
				h.t.Fatalf("%s: %v\n%s", how, err, out)
			}
			h.fail(other, 1) // one line of each generation
			h.found++
			h.until(fmt.Sprintf("%d failures of %s", h.found, other), func() bool {
				out, _, _ := h.run("why", other)
				return strings.Contains(out, fmt.Sprintf("%d of 10", h.found))
			})
		}
	}},
	{"reboot", "back with the time that is left, by `banset restore` before the network is up", "go on", func(h *host) {
		h.kill()
		nfttest.Run(h.t, "nft", "flush", "ruleset")
		if out := h.banset("restore"); !strings.Contains(out, "1 ban ") {
			h.t.Errorf("banset restore: %s", out)
		}
		set := nfttest.Run(h.t, "nft", "list", "set", "inet", "banset", "ban4")
		if !strings.Contains(set, attacker+" timeout 365d expires 364d") {
			h.t.Errorf("restored with another end:\n%s", set)
		}
		h.mustDrop(attacker)
		h.start()
	}},
	{"disk full", "hold, and new ones go to the kernel; the file is made good when there is room", "go on", func(h *host) {
		fill := exec.Command("sh", "-c", "head -c 100M /dev/zero > "+filepath.Join(h.inside(), "fill"))
		if err := fill.Run(); err == nil {
			h.t.Fatal("the disk does not fill")
		}
		h.neighbour(late)
		// More than the last page of the file has room for.
		for i := range 60 {
			h.fail(fmt.Sprintf("198.18.0.%d", i), 10)
		}
		h.fail(late, 10)
		h.logged("[exim2-repeater] Ban " + late)
		h.mustDrop(attacker, late)
		h.logged("blocklist: ")
		if out, _, _ := h.run("status"); !strings.Contains(out, "WRONG") || !strings.Contains(out, "no space left") {
			h.t.Errorf("banset status with a full disk:\n%s", out)
		}
		if err := os.Remove(filepath.Join(h.inside(), "fill")); err != nil {
			h.t.Fatal(err)
		}
		h.logged("blocklist: writing works again")
		h.until("the file is made good", func() bool {
			text, _ := os.ReadFile(filepath.Join(h.inside(), "blocklist"))
			return strings.Contains(string(text), "\n"+late+" # ")
		})
	}},
	{"blocklist deleted", "hold, and it is written anew", "go on", func(h *host) {
		if err := os.Remove(filepath.Join(h.inside(), "blocklist")); err != nil {
			h.t.Fatal(err)
		}
		h.logged("written anew with 1 bans")
	}},
}

const (
	other = "198.51.100.99"
	late  = "203.0.113.99"
)

// TestEvents produces the README's table, a row a subtest.
func TestEvents(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		row := fmt.Sprintf("| %s | %s | %s |\n", e.what, e.bans, e.counts)
		t.Run(strings.NewReplacer(" ", "_", "`", "", ",", "", ":", "").Replace(e.what), func(t *testing.T) {
			if !strings.Contains(string(readme), row) {
				t.Errorf("the README's table has no row\n%s", row)
			}
			h := newHost(t)
			h.small = e.what == "disk full"
			h.neighbour(attacker)
			h.neighbour(bystander)
			h.configure("")
			h.start()
			h.fail(attacker, 10)
			h.fail(bystander, 9)
			h.logged("[exim2-repeater] Ban " + attacker)
			h.until("nine failures of "+bystander, func() bool {
				out, _, _ := h.run("why", bystander)
				return strings.Contains(out, "9 of 10")
			})
			h.verified()
			e.do(h)
			h.mustDrop(attacker)
			h.mustPass(bystander)
			h.fail(bystander, 1)
			h.logged("[exim2-repeater] Ban " + bystander)
			h.mustDrop(bystander)
			h.verified()
		})
	}
}

// until asks again and again: for what no event tells a test from outside.
func (h *host) until(what string, cond func() bool) {
	h.t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("never came: %s\nlog:\n%s", what, h.logText())
		}
	}
}
