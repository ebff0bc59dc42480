package mirror

import (
	"context"
	"net/netip"
	"os"
	"testing"
	"time"

	"banset/policy"
	"banset/policy/judge"
)

// TestStartFindsBanInKernelAlone: a crash came when the kernel had the ban, and before file and state had it.
func TestStartFindsBanInKernelAlone(t *testing.T) {
	r := newRig(t, "")
	at := time.Now().Unix() - 20
	bans := []policy.Ban{
		{Host: netip.MustParsePrefix("192.0.2.1/32"), At: at, Until: at + 3600, Policy: "sshd", Failures: 3},
		{Host: netip.MustParsePrefix("2001:db8:5::/64"), At: at, Until: at + 600, Policy: "sshd", Failures: 4},
		{Host: netip.MustParsePrefix("192.0.2.3/32"), At: at, Until: policy.Never, Policy: "sshd", Failures: 3},
	}
	enter := func() {
		r.do(context.Background(), func(j *judge.Judge) {
			for _, b := range bans {
				j.Book().Enter(b)
			}
		})
		r.settled()
	}
	enter()
	r.stop()
	if err := os.Remove(r.path); err != nil {
		t.Fatal(err)
	}
	r.start(nil)
	for _, want := range bans[:2] {
		if got, ok := r.ban(want.Host.String()); !ok || got != want {
			t.Errorf("found in the kernel as %+v, want %+v", got, want)
		}
	}
	if got, ok := r.ban("192.0.2.3/32"); !ok || got.Until != policy.Never {
		t.Errorf("found in the kernel as %+v, want a ban that never ends", got)
	}
	enter() // the lines are read again
	for _, want := range bans {
		if got, _ := r.ban(want.Host.String()); got != want {
			t.Errorf("earned again: %+v, want %+v", got, want)
		}
	}
	r.verify()
}
