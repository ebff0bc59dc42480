package mirror

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"banset/policy"
	"banset/policy/judge"
	"banset/policy/ledger"
)

// TestEndWithinAPiece: it is time to end while a mirror is busy with a ban that it has taken from the book. Kernel and file
// have it afterwards.
func TestEndWithinAPiece(t *testing.T) {
	for busy, name := range map[ledger.Copy]string{ledger.Kernel: "kernel", ledger.File: "file"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "")
			ended := make(chan struct{})
			r.mu.Lock()
			r.taken = func(c ledger.Copy) {
				if c == busy {
					r.taken = nil
					r.quit()
					close(ended)
				}
			}
			r.mu.Unlock()
			at := time.Now().Unix()
			b := policy.Ban{Host: netip.MustParsePrefix("192.0.2.7/32"), At: at, Until: at + 3600, Policy: "sshd", Failures: 3}
			r.do(context.Background(), func(j *judge.Judge) { j.Book().Enter(b) })
			<-ended
			r.stop()
			if text := r.text(); !strings.Contains(text, "192.0.2.7 ") {
				t.Errorf("the file says\n%s", text)
			}
			if text := nftRun(t, "list", "set", "inet", kernelConfig().Table, "ban4"); !strings.Contains(text, "192.0.2.7 ") {
				t.Errorf("the kernel has\n%s", text)
			}
		})
	}
}

// TestEndBeforeARepair: it is time to end just after the ruleset was flushed. The bans are in the kernel afterwards.
func TestEndBeforeARepair(t *testing.T) {
	r := newRig(t, "192.0.2.7\n192.0.2.8\n")
	r.mu.Lock() // so that the repair is not over before
	nftRun(t, "flush", "ruleset")
	r.kernel.ask(repair{why: "the ruleset was flushed", anew: true})
	r.quit()
	r.mu.Unlock()
	r.stop()
	if text := nftRun(t, "list", "set", "inet", kernelConfig().Table, "ban4"); !strings.Contains(text, "192.0.2.8") {
		t.Errorf("the kernel has\n%s", text)
	}
}
