package e2e

import "testing"

// TestNobodyReadsTheLog: when journald goes away, its end of the daemon's stderr goes, too. The daemon bans on.
func TestNobodyReadsTheLog(t *testing.T) {
	h := newHost(t)
	h.configure("")
	h.writeFile("mainlog", "")
	h.around = func(args ...string) []string {
		// sed goes when it has heard that the daemon is ready.
		return append([]string{"bash", "-c", `exec "$@" 2> >(exec sed /ready:/q >&2)`, "bash"}, args...)
	}
	h.start()
	for _, addr := range []string{attacker, bystander} {
		h.neighbour(addr)
		h.fail(addr, 10)
		h.until("the ban of "+addr, func() bool {
			_, _, status := h.run("why", addr)
			return status == 0
		})
		h.mustDrop(addr)
	}
	h.verified()
	h.banset("status")
}
