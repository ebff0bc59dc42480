package mirror

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"banset/nft"
	"banset/nft/nfttest"
	"banset/policy"
	"banset/policy/judge"
	"banset/policy/ledger"
)

// TestFight: another program deletes the table again and again. It is repaired, but not as fast as it is deleted; the
// log names the program and is not flooded; and soon after the fight everything stands.
func TestFight(t *testing.T) {
	for name, script := range map[string]string{
		"delete table": "add table inet banset\ndelete table inet banset\n", "flush ruleset": "flush ruleset\n",
		"flush chain": "add table inet banset\nflush table inet banset\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "")
			r.take("192.0.2.1/32", time.Hour)
			r.take("198.51.100.0/24", time.Hour)
			r.settled()
			before, began := r.kernel.Healings(), time.Now()
			undone := 0
			for r.kernel.Healings() < before+freeRepairs+2 {
				nfttest.Nft(t, script)
				undone++
			}
			healed, took := r.kernel.Healings()-before, time.Since(began)
			if most := freeRepairs + 1 + int(took/repairPause); healed > most || undone < 2*healed {
				t.Errorf("%d repairs of %d deletions in %s, want at most %d", healed, undone, took, most)
			}
			r.until("everything stands", func(j *judge.Judge) bool {
				report, err := r.keeper.Check(context.Background())
				return err == nil && len(report.Changes) == 0
			})
			r.settled()
			if text := r.log.String(); strings.Count(text, "find out what keeps changing the table") != 1 ||
				!strings.Contains(text, "kernel: nft[") || strings.Count(text, "put back") > freeRepairs+1 {
				t.Errorf("the log ought to name the program, and tell of the fight once:\n%s", text)
			}
		})
	}
}

// TestLostEvents: the socket overflows while the reader is held up. What was done meanwhile is found by a dump: what is
// missing is put back, since nobody knows why, and what is new is adopted.
func TestLostEvents(t *testing.T) {
	r := newRig(t, "")
	for _, host := range []string{"192.0.2.1/32", "192.0.2.2/32", "198.51.100.0/24", "203.0.113.0/25", "2001:db8::/64"} {
		r.take(host, time.Hour)
	}
	r.settled()
	config := kernelConfig()
	config.Table = "other"
	other, err := nft.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	nft := func(args ...string) { t.Helper(); nftRun(t, args...) }

	r.mu.Lock() // the judge's goroutine is busy, so the watcher waits for it with the first event, and the socket fills
	nft("add", "element", "inet", "banset", "ban4", "{ 203.0.113.200 }")
	flood(t, other)
	nft("delete", "element", "inet", "banset", "ban4", "{ 192.0.2.1 }")
	nft("delete", "element", "inet", "banset", "net4", "{ 198.51.100.0/24 }")
	nft("add", "element", "inet", "banset", "ban4", "{ 203.0.113.201 timeout 1h }")
	nft("add", "element", "inet", "banset", "net6", "{ 2001:db8:7::/48 }")
	r.mu.Unlock()

	r.logged("events were lost")
	for _, host := range []string{"203.0.113.201/32", "2001:db8:7::/48", "203.0.113.200/32"} {
		r.banned(host, true)
	}
	for _, host := range []string{"192.0.2.1/32", "192.0.2.2/32", "198.51.100.0/24", "203.0.113.0/25", "2001:db8::/64"} {
		r.banned(host, true)
	}
	nft("get", "element", "inet", "banset", "ban4", "{ 192.0.2.1 }")
	nft("get", "element", "inet", "banset", "net4", "{ 198.51.100.77 }")

	// And from here on events count again.
	nft("delete", "element", "inet", "banset", "ban4", "{ 192.0.2.1 }")
	r.banned("192.0.2.1/32", false)
}

// TestLostEventsOfAnAccident: the accident itself is among what was lost.
func TestLostEventsOfAnAccident(t *testing.T) {
	r := newRig(t, "")
	r.take("192.0.2.1/32", time.Hour)
	r.take("198.51.100.0/24", time.Hour)
	r.settled()
	config := kernelConfig()
	config.Table = "other"
	other, err := nft.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := r.kernel.Healings()
	r.mu.Lock()
	nftRun(t, "add", "element", "inet", "banset", "ban4", "{ 203.0.113.200 }")
	flood(t, other)
	nfttest.Nft(t, "flush ruleset")
	r.mu.Unlock()
	r.logged("events were lost")
	r.until("healed", func(*judge.Judge) bool { return r.kernel.Healings() > before })
	r.settled()
	for _, host := range []string{"192.0.2.1/32", "198.51.100.0/24"} {
		if _, ok := r.ban(host); !ok {
			t.Errorf("%s was lost", host)
		}
	}
}

// watchBuffer is the rig's: small enough to overflow soon, large enough for what other tests do.
const watchBuffer = 1 << 20

// flood makes more events in a table of somebody's than the watcher's socket holds.
func flood(t *testing.T, other *nft.Keeper) {
	t.Helper()
	for round := range 3 {
		changes := make([]nft.Change, 10_000)
		for i := range changes {
			a := netip.AddrFrom4([4]byte{10, byte(round), byte(i >> 8), byte(i)})
			changes[i] = nft.Change{Element: nft.Element{Set: nft.Ban4, First: a, Last: a, Comment: fmt.Sprint("flood ", i)}}
		}
		if err := other.Apply(t.Context(), changes); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMostActiveFirst: what is put back begins with the hosts that failed last.
func TestMostActiveFirst(t *testing.T) {
	r := newRig(t, "")
	now := time.Now().Unix()
	for i := range 10 {
		host := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 32)
		r.do(t.Context(), func(j *judge.Judge) { j.Take(policy.Ban{Host: host, At: now - int64(i), Until: now + 3600}) })
	}
	r.settled()
	var bans []ledger.Place
	r.do(t.Context(), func(j *judge.Judge) {
		j.Book().Touch(netip.MustParsePrefix("192.0.2.7/32"), now+1)
		bans = j.Book().Latest()
	})
	var order []byte
	if err := r.kernel.everything(t.Context(), bans, func(e nft.Element) bool {
		order = append(order, e.First.As4()[3])
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if want := []byte{7, 0, 1, 2, 3, 4, 5, 6, 8, 9}; !bytes.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
}
