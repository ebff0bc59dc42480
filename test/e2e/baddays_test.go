package e2e

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"banset/nft/nfttest"
)

// tzif is a zone file of one offset, in seconds, as tzfile(5) has it.
func tzif(offset int32) string {
	block := "TZif2" + strings.Repeat("\x00", 15)
	for _, n := range []uint32{0, 0, 0, 0, 1, 5} {
		block += string(binary.BigEndian.AppendUint32(nil, n))
	}
	block += string(binary.BigEndian.AppendUint32(nil, uint32(offset))) + "\x00\x00ZONE\x00"
	return block + block + "\n\n"
}

// TestTimeZone: when the system's zone is changed, stamps are read in it from then on, without a restart.
func TestTimeZone(t *testing.T) {
	if tz, set := os.LookupEnv("TZ"); set {
		os.Unsetenv("TZ")
		defer os.Setenv("TZ", tz)
	}
	h := newHost(t)
	h.etc = h.path("etc")
	if err := os.Mkdir(h.etc, 0o755); err != nil {
		t.Fatal(err)
	}
	zone := func(hours int32) {
		t.Helper()
		// As timedatectl does it: made beside the old one and moved over it.
		h.writeFile("etc/localtime.new", tzif(hours*3600))
		if err := os.Rename(h.path("etc/localtime.new"), h.path("etc/localtime")); err != nil {
			t.Fatal(err)
		}
	}
	zone(0)
	h.configure("")
	h.writeFile("mainlog", "")
	h.start()
	// An Exim of five hours further east.
	fail := func(addr string) {
		h.appendFile("mainlog", fmt.Sprintf("%s login authenticator failed for (User) [%s]: 535 Incorrect authentication data\n",
			time.Now().UTC().Add(5*time.Hour).Format("2006-01-02 15:04:05"), addr))
	}
	wrong := func() bool {
		out, _, _ := h.run("status")
		return strings.Contains(out, "time stamps are off by 5h")
	}
	fail(attacker)
	h.until("status says that the stamps are off", wrong)
	zone(5)
	h.logged("time zone: it is ZONE now")
	fail(attacker)
	h.until("the stamps are right", func() bool { return !wrong() })
	for range 8 {
		fail(attacker)
	}
	h.logged("[exim2-repeater] Ban " + attacker)
	if strings.Contains(h.logText(), "11 failures") || !strings.Contains(h.logText(), "(10 failures)") {
		t.Error("a line counted twice or not at all")
	}
	h.verified()
}

// TestLocale: neither language nor zone of its environment change what the daemon reads and writes.
func TestLocale(t *testing.T) {
	h := newHost(t)
	h.env = []string{"LC_ALL=tr_TR.UTF-8", "LANG=ar_SA.UTF-8", "LANGUAGE=de", "TZ=Asia/Kathmandu"}
	h.configure("")
	h.writeFile("mainlog", "")
	h.start()
	kathmandu := time.FixedZone("", 5*3600+45*60)
	for range 10 {
		h.appendFile("mainlog", fmt.Sprintf("%s login authenticator failed for (User) [%s]: 535 Incorrect authentication data\n",
			time.Now().In(kathmandu).Format("2006-01-02 15:04:05"), attacker))
	}
	h.logged("[exim2-repeater] Ban " + attacker + " until ")
	h.until("the line of the blocklist", func() bool {
		return strings.Contains(h.readFile("data/blocklist"), "\n"+attacker+" # banset/"+time.Now().UTC().Format("2006-01-02"))
	})
	if out := h.banset("status"); !strings.HasPrefix(out, "nothing is wrong\n") {
		t.Errorf("status:\n%s", out)
	}
	h.env = nil
	h.stop()
	h.start()
	h.verified()
}

// TestFrozen: a daemon that stood still, as one does while its machine sleeps, makes up for what it missed: a log that
// was rotated twice, a ban that ended, a ruleset that was flushed, a blocklist that was edited.
func TestFrozen(t *testing.T) {
	h := newHost(t)
	h.neighbour(attacker)
	h.neighbour(bystander)
	h.neighbour(late)
	h.configure("")
	h.writeFile("mainlog", "")
	h.start()
	h.fail(attacker, 10)
	h.fail(bystander, 4)
	h.logged("[exim2-repeater] Ban " + attacker)
	h.banset("ban", other, "--for", "1s")
	if err := h.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// No two lines alike: a file that repeats the end of another could be its copy.
	n := 0
	fail := func() {
		for range 2 {
			n++
			h.appendFile("mainlog", fmt.Sprintf("%s login authenticator failed for (User) [%s]: 535 Incorrect authentication data (set_id=%d)\n",
				time.Now().Format("2006-01-02 15:04:05"), bystander, n))
		}
	}
	rotate := func(from, to string) {
		t.Helper()
		if err := os.Rename(h.path(from), h.path(to)); err != nil {
			t.Fatal(err)
		}
	}
	fail()
	rotate("mainlog", "mainlog.1")
	fail()
	rotate("mainlog.1", "mainlog.2")
	rotate("mainlog", "mainlog.1")
	fail()
	h.appendFile("data/blocklist", late+"\n")
	nfttest.Run(t, "nft", "flush", "ruleset")
	time.Sleep(1100 * time.Millisecond) // until the ban is over: real time, by which the kernel counts
	if err := h.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	h.logged("[exim2-repeater] Ban " + bystander)
	h.logged("[by hand] Ban " + late)
	h.logged("[by hand] Unban " + other + " (time over)")
	h.until("verify finds nothing", func() bool { _, _, status := h.run("verify"); return status == 0 })
	h.mustDrop(attacker, bystander, late)
	if !strings.Contains(h.logText(), "Ban "+bystander) || strings.Count(h.logText(), "Found "+bystander) != 10 {
		t.Errorf("%d failures of %s were counted, want 10", strings.Count(h.logText(), "Found "+bystander), bystander)
	}
}
