package main

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"banset/nft"
)

// The demo shows a set as nft would, down to the blanks.
func TestListSet(t *testing.T) {
	var out bytes.Buffer
	status, err := inPrivateRoom([]string{listCheckArg}, &out, &out)
	if err != nil || status != 0 {
		t.Fatalf("status %d, error %v\n%s", status, err, &out)
	}
}

func TestNftDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", time.Microsecond: "0s", 4 * time.Millisecond: "4ms", time.Minute: "1m", 25*time.Hour + 1: "1d1h",
		365*day - 32*time.Millisecond: "364d23h59m59s968ms",
	} {
		if got := nftDuration(d); got != want {
			t.Errorf("nftDuration(%v) = %s, want %s", d, got, want)
		}
	}
}

// listCheck is run by TestListSet inside the private namespaces: it compares the set as the demo shows it with
// what nft prints.
func listCheck() error {
	ctx := context.Background()
	k, err := nft.Open(nft.Config{
		Table: "banset", Hook: "prerouting", Priority: -190, Direction: "original", Verdict: "drop", IPv6Prefix: 64, Size: 131072,
	})
	if err != nil {
		return err
	}
	defer k.Close()
	if _, err := k.Ensure(ctx); err != nil {
		return err
	}
	var changes []nft.Change
	for i, a := range []string{"203.0.113.66", "192.0.2.1", "198.51.100.7"} {
		addr := netip.MustParseAddr(a)
		e := nft.Element{Set: nft.Ban4, First: addr, Last: addr, Timeout: time.Duration(i) * 25 * time.Hour}
		if i != 1 {
			e.Comment = "exim2-repeater: 10 failures"
		}
		changes = append(changes, nft.Change{Element: e})
	}
	if err := k.Apply(ctx, changes); err != nil {
		return err
	}
	// What is left of a ban changes between the two looks.
	left := regexp.MustCompile(`expires [0-9a-z]+`)
	ours, err := listSet(ctx, k)
	if err != nil {
		return err
	}
	theirs, err := exec.Command("nft", "list", "set", "inet", "banset", "ban4").Output()
	if err != nil {
		return fmt.Errorf("nft list set (Debian package nftables): %w", err)
	}
	if o, n := left.ReplaceAllString(ours, "expires"), left.ReplaceAllString(string(theirs), "expires"); o != n {
		return fmt.Errorf("ours:\n%s\nnft's:\n%s", o, n)
	}
	return nil
}
