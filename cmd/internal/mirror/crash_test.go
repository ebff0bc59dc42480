package mirror

import (
	"context"
	"net/netip"
	"os"
	"testing"
	"time"

	"banset/policy"
	"banset/policy/blocklist"
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
	r.start([]Remembered{
		{Ban: policy.Ban{Host: bans[0].Host, At: at - 100, Until: at - 50, Policy: "sshd", Failures: 3}}, // has ended
		{Ban: policy.Ban{Host: bans[1].Host, At: at - 100}, Gone: true},
	})
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

// TestStartFindsNewerBanInFile: a crash came when the file had a new ban, and the state only the end of the one before.
func TestStartFindsNewerBanInFile(t *testing.T) {
	at := time.Now().Unix() - 20
	host := func(s string) netip.Prefix { return netip.MustParsePrefix(s) }
	bans := []policy.Ban{
		{Host: host("192.0.2.1/32"), At: at, Until: at + 3600, Policy: "sshd", Failures: 3},
		{Host: host("192.0.2.2/32"), At: at, Until: at + 3600, Policy: "sshd", Failures: 3},
		{Host: host("192.0.2.3/32"), At: at, Until: at + 3600, Policy: "sshd", Failures: 3},
		{Host: host("192.0.2.6/32"), At: at, Until: at + 3600, Policy: "sshd", Failures: 3},
		{Host: host("192.0.2.7/32"), At: at, Until: at + 3600, Policy: "sshd", Failures: 3},
		{Host: host("192.0.2.4/32"), At: at, Until: at + 3600, Policy: "sshd", Failures: 3},
	}
	// Its failure came late, and the state has a ban of another policy that it took the place of.
	other := policy.Ban{Host: host("192.0.2.8/32"), At: at, Until: at + 7200, Policy: "slow", Failures: 60}
	longer := policy.Ban{Host: host("192.0.2.5/32"), At: at - 10, Until: at + 7200, Policy: "sshd", Failures: 9}
	r := newRig(t, "")
	r.do(context.Background(), func(j *judge.Judge) {
		j.Book().Enter(policy.Ban{Host: longer.Host, At: at, Until: at + 3600, Policy: "sshd", Failures: 3})
		for _, b := range append(bans, other) {
			j.Book().Enter(b)
		}
	})
	r.settled()
	r.stop()
	r.start([]Remembered{
		{Ban: policy.Ban{Host: other.Host, At: at + 1, Until: at + 60, Policy: "sshd", Failures: 3}},
		{Ban: policy.Ban{Host: bans[0].Host, At: at - 100}, Gone: true},
		{Ban: policy.Ban{Host: bans[1].Host, At: at - 100, Until: at - 50, Policy: "sshd", Failures: 3}, Filed: true},
		{Ban: policy.Ban{Host: bans[2].Host, At: at - 100, Until: at + 100, Policy: "sshd", Failures: 3}}, // its line had to move
		// The line that earned it came late: it began before the one that is over.
		{Ban: policy.Ban{Host: bans[3].Host, At: at + 2, Until: at + 4, Policy: "soon", Failures: 3}, Filed: true},
		{Ban: policy.Ban{Host: bans[4].Host, At: at + 2, Until: at + 4}, Gone: true},
		{Ban: policy.Ban{Host: bans[5].Host, At: at, Until: at + 3600}, Gone: true}, // this very ban was lifted
		{Ban: longer}, // its failure came late, and the crash before the file had it
	})
	if got, _ := r.ban("192.0.2.5/32"); got != longer {
		t.Errorf("%+v, want the longer ban %+v", got, longer)
	}
	if got, _ := r.ban("192.0.2.8/32"); got != other {
		t.Errorf("%+v, want the longer ban of another policy %+v", got, other)
	}
	for i, want := range bans {
		if got, ok := r.ban(want.Host.String()); ok != (i < 5) || ok && got != want {
			t.Errorf("%s: %+v %v, want the ban of the file: %v", want.Host, got, ok, i < 5)
		}
	}
	r.verify()
}

// TestStartKeepsWhatTheFileHasYetToBeTold: a ban that was found in the kernel alone got a line with the beginning that
// its timeout told; then its failure was read again, and the crash came when the state had that and the file had not.
func TestStartKeepsWhatTheFileHasYetToBeTold(t *testing.T) {
	r := newRig(t, "")
	at := time.Now().Unix()
	host := netip.MustParsePrefix("192.0.2.1/32")
	found := policy.Ban{Host: host, At: at - 6, Until: at + 3600, Policy: "sshd", Failures: 4}
	earned := found
	earned.At = at
	r.do(context.Background(), func(j *judge.Judge) { j.Book().Enter(found) })
	r.settled()
	r.stop()
	r.start([]Remembered{{Ban: earned}})
	r.settled()
	if text, want := r.text(), blocklist.Header+string(blocklist.AppendLine(nil, earned)); text != want {
		t.Errorf("the file says\n%swant\n%s", text, want)
	}
	r.verify()
}
