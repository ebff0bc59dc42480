package daemon

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"banset/cmd/internal/mirror"
	"banset/cmd/internal/source"
	"banset/cmd/internal/state"
	"banset/policy"
	"banset/policy/judge"
	"banset/policy/ledger"
)

func TestBanInState(t *testing.T) {
	host := netip.MustParsePrefix("2001:db8::/64")
	for _, want := range []mirror.Remembered{
		{Ban: policy.Ban{Host: host, At: 1, Until: 2, Policy: "sshd", Failures: 5}, Filed: true},
		{Ban: policy.Ban{Host: host, At: 1, Until: policy.Never, Note: "why not"}},
		{Ban: policy.Ban{Host: host}, Gone: true},
	} {
		key, value := hostKey(host), encodeBan(want.Ban, want.Filed, want.Gone)
		if got, ok := decodeBan(key, value); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v came back as %+v, %v", want, got, ok)
		}
		for n := range value {
			decodeBan(key, value[:n]) // a cut value is refused or read, and never a panic
		}
	}
	if _, ok := decodeBan([]byte("x"), nil); ok {
		t.Error("garbage was taken for a ban")
	}
}

var seed = judge.Settings{
	Policies: []policy.Policy{{Name: "sshd", MaxRetry: 3, FindTime: time.Hour, BanTime: []time.Duration{time.Hour, policy.Forever}}},
	MaxHosts: 10, IPv6Prefix: 64,
}

// offend makes a court remember something of every kind.
func offend(c *court) {
	now := time.Now()
	for _, host := range []string{"192.0.2.1/32", "192.0.2.1/32", "192.0.2.1/32", "192.0.2.2/32"} {
		c.hear(finding{
			log: "log", live: true, next: source.Position{Path: "/log", Dev: 1, Ino: 2, Offset: 99},
			hits: piecesOf(policy.Hit{Policy: "sshd", Host: netip.MustParsePrefix(host), Stamp: now.Add(-2 * time.Hour), Arrived: now, Live: true}),
		})
	}
}

// TestStateBreaksUnderUs: the file is cut while it is in use, and all that is remembered ends up in another one.
func TestStateBreaksUnderUs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	store, err := state.Open(path, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	c := newCourt(judge.New(seed), log)
	c.direct = true
	m := newMemory(path, store, c, log)
	offend(c)
	if err := m.commit(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	c.hear(finding{log: "log", next: source.Position{Path: "/log", Dev: 1, Ino: 2, Offset: 100}})
	if err := m.commit(context.Background()); err != nil {
		t.Fatalf("commit to a file that was cut: %v", err)
	}
	if err := m.close(); err != nil {
		t.Fatal(err)
	}
	if store, err = state.Open(path, state.Options{}); err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	j := judge.New(seed)
	positions, err := load(store, j, log)
	if err != nil {
		t.Fatal(err)
	}
	bans := slices.Collect(remembered(store, log, &err))
	if err != nil {
		t.Fatal(err)
	}
	if len(bans) != 1 || bans[0].Ban.Host.String() != "192.0.2.1/32" || bans[0].Filed {
		t.Errorf("bans %+v, want that of 192.0.2.1, not in the file yet", bans)
	}
	if len(positions) != 1 || positions[0].Offset != 100 {
		t.Errorf("positions %+v, want one at 100", positions)
	}
	if got := j.Standings(netip.MustParsePrefix("192.0.2.2/32"), time.Now()); len(got) != 1 || got[0].Failures != 1 {
		t.Errorf("standings of 192.0.2.2: %+v, want one failure", got)
	}
	if got := j.Standings(netip.MustParsePrefix("192.0.2.1/32"), time.Now()); len(got) != 1 || got[0].Offences != 1 {
		t.Errorf("standings of 192.0.2.1: %+v, want one offence", got)
	}
	if j.Skew("log") < time.Hour {
		t.Errorf("skew %s, want two hours", j.Skew("log"))
	}
}

// TestDoneForgetsPosition: what a source says is over leaves the state, but not a file that got its inode since.
func TestDoneForgetsPosition(t *testing.T) {
	c := newCourt(judge.New(seed), slog.New(slog.DiscardHandler))
	old, next := source.Position{Path: "/log.1", Dev: 1, Ino: 2}, source.Position{Path: "/log", Dev: 1, Ino: 3}
	c.hear(finding{log: "log", next: old})
	c.hear(finding{log: "log", next: next, done: []source.Position{old}})
	if _, ok := c.positions[positionKey(old)]; ok || len(c.positions) != 1 {
		t.Errorf("positions %v, want that of /log alone", c.positions)
	}
	c.hear(finding{log: "log", next: next, done: []source.Position{{Path: "/gone", Dev: 1, Ino: 3}}})
	if len(c.positions) != 1 {
		t.Error("the inode's new owner was forgotten")
	}
}

// TestWaiters: who asked for a ban hears when both copies hold it, or what went wrong.
func TestWaiters(t *testing.T) {
	c := newCourt(judge.New(seed), slog.New(slog.DiscardHandler))
	host := netip.MustParsePrefix("192.0.2.1/32")
	c.judge.Take(policy.Ban{Host: host, Until: policy.Never})
	done := c.await([]netip.Prefix{host})
	work := func(copy ledger.Copy, err error) {
		c.judge.Book().Work(copy, 0)
		c.judge.Book().Done(copy, err == nil)
		c.copied(err)
	}
	work(ledger.Kernel, nil)
	select {
	case <-done:
		t.Fatal("told before the file holds it")
	default:
	}
	work(ledger.File, os.ErrPermission)
	if err := <-done; err != os.ErrPermission {
		t.Errorf("told %v, want what went wrong", err)
	}
	done = c.await([]netip.Prefix{host})
	work(ledger.File, nil)
	if err := <-done; err != nil {
		t.Errorf("told %v, want nil", err)
	}
}
