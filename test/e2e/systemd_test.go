package e2e

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSystemd: what a service manager hears of the daemon (sd_notify(3)): that it is ready only when it protects, that
// it lives, when it reads its configuration anew, and that it stops.
func TestSystemd(t *testing.T) {
	h := newHost(t)
	h.configure("")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: h.path("notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadBuffer(1 << 20); err != nil {
		t.Fatal(err)
	}
	h.env = []string{"NOTIFY_SOCKET=" + h.path("notify"), fmt.Sprintf("WATCHDOG_USEC=%d", (100 * time.Millisecond).Microseconds())}
	// hear reads messages up to one with the text, and returns those before.
	hear := func(text string) (before []string) {
		t.Helper()
		conn.SetReadDeadline(time.Now().Add(patience))
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatalf("%s was not heard: %v; before it: %q", text, err, before)
			}
			message := string(buf[:n])
			if strings.Contains(message, text) {
				return before
			}
			before = append(before, message)
		}
	}
	h.start()
	for _, m := range hear("READY=1") {
		if !strings.HasPrefix(m, "WATCHDOG=1\nSTATUS=") {
			t.Errorf("before it is ready it says %q", m)
		}
	}
	hear("WATCHDOG=1")
	hear("WATCHDOG=1\nSTATUS=0 bans in the kernel")
	h.banset("reload")
	hear("RELOADING=1")
	hear("READY=1")
	h.writeFile("banset.yaml", "nonsense: 1\n")
	h.cmd.Process.Signal(syscall.SIGHUP)
	hear("RELOADING=1") // also when it is refused: what runs stays ready
	hear("READY=1")
	hear("WATCHDOG=1")
	h.stop()
	hear("STOPPING=1")
}
