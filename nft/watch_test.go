package nft

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"banset/nft/nfttest"
)

// watch starts a Watch and returns the channel of its transactions. The watch ends with the test, without an error.
func watch(t *testing.T, k *Keeper) <-chan Transaction {
	t.Helper()
	// Room for all that a test makes: f never waits for the test.
	transactions := make(chan Transaction, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- k.Watch(ctx, func() { close(ready) }, func(x Transaction) error {
			transactions <- x
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Watch: %v", err)
		}
	})
	<-ready
	return transactions
}

// tell is a transaction in one line.
func tell(x Transaction) string {
	switch {
	case x.Lost:
		return "lost"
	case x.Own:
		return "own"
	}
	all := []string{x.Program + ":"}
	for _, e := range x.Events {
		text := e.Kind.String()
		switch e.Kind {
		case ElementAdded, ElementDeleted:
			text += " " + e.Element.String()
			if e.Element.Comment != "" {
				text += fmt.Sprintf(" %q", e.Element.Comment)
			}
		default:
			text = strings.TrimRight(text+" "+e.Name, " ")
		}
		all = append(all, text)
	}
	return strings.Join(all, "\n\t")
}

func TestWatch(t *testing.T) {
	k := ready(t)
	nfttest.Nft(t, "add table inet other; add set inet other ban4 { type ipv4_addr; }; add table ip banset; "+
		"add set ip banset ban4 { type ipv4_addr; }")
	transactions := watch(t, k)
	for _, step := range []struct {
		do   any // for nft -f, or changes for Apply
		want string
	}{
		{[]Change{add("198.51.100.7", time.Hour)}, "own"},
		{"add element inet other ban4 { 192.0.2.1 }; delete table inet other", ""},
		{"add element ip banset ban4 { 192.0.2.1 }; delete table ip banset", ""},
		{`add element inet banset ban4 { 192.0.2.1 timeout 1h comment "bad" }`, "nft:\n\telement added ban4 192.0.2.1 \"bad\""},
		{"add element inet banset ban4 { 192.0.2.2, 192.0.2.3 }; delete element inet banset ban4 { 192.0.2.2, 198.51.100.7 }",
			"nft:\n\telement added ban4 192.0.2.2\n\telement added ban4 192.0.2.3\n\telement deleted ban4 192.0.2.2\n\telement deleted ban4 198.51.100.7"},
		{"add element inet banset ban6 { 2001:db8:7:: }", "nft:\n\telement added ban6 2001:db8:7::"},
		{"add element inet banset net4 { 10.0.0.0/8 timeout 1h, 11.0.0.0/8, 12.0.0.1-12.0.0.7 }",
			"nft:\n\telement added net4 10.0.0.0-10.255.255.255\n\telement added net4 11.0.0.0-11.255.255.255\n\telement added net4 12.0.0.1-12.0.0.7"},
		{"delete element inet banset net4 { 11.0.0.0/8 }; add element inet banset net4 { 11.1.0.0/16 }",
			"nft:\n\telement added net4 11.1.0.0-11.1.255.255\n\telement deleted net4 11.0.0.0-11.255.255.255"},
		{"add element inet banset net4 { 240.0.0.0/4 }", "nft:\n\telement added net4 240.0.0.0-255.255.255.255"},
		{"delete element inet banset net4 { 240.0.0.0/4 }", "nft:\n\telement deleted net4 240.0.0.0-255.255.255.255"},
		{"add element inet banset net6 { ff00::/8, 2001:db8::/32 }",
			"nft:\n\telement added net6 2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff\n\telement added net6 ff00::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{[]Change{del("10.0.0.0/8"), add("192.0.2.0/24", 0)}, "own"},
		{"flush set inet banset net6",
			"nft:\n\telement deleted net6 2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff\n\telement deleted net6 ff00::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"flush chain inet banset prerouting", "nft:" + strings.Repeat("\n\trule deleted prerouting", 9)},
		{"delete set inet banset ban6; add set inet banset mine { type ipv4_addr; }; add element inet banset mine { 192.0.2.1 }",
			"nft:\n\tset deleted ban6\n\tset added mine"},
		{"delete chain inet banset prerouting; add chain inet banset my", "nft:\n\tchain deleted prerouting\n\tchain added my"},
		{"ensure", "own"},
		{"insert rule inet banset my accept", "nft:\n\trule added my"},
		{"flush ruleset", "nft:" + strings.Repeat("\n\trule deleted prerouting", 9) + "\n\trule deleted my" +
			"\n\tset deleted ban4\n\tset deleted net4\n\tset deleted net6\n\tset deleted mine\n\tset deleted ban6" +
			"\n\tchain deleted my\n\tchain deleted prerouting\n\ttable deleted"},
		{"add table inet banset", "nft:\n\ttable added"},
		{"replace", "own"},
	} {
		switch do := step.do.(type) {
		case []Change:
			apply(t, k, do...)
		case string:
			switch do {
			case "ensure":
				ensure(t, k)
			case "replace":
				if err := k.Replace(ctx, func(func(Element) bool) {}); err != nil {
					t.Fatal(err)
				}
			default:
				nfttest.Nft(t, strings.ReplaceAll(do, "; ", "\n"))
			}
		}
		if step.want == "" {
			continue // it would show up as the next one
		}
		x := <-transactions
		if got := tell(x); sorted(got) != sorted(step.want) {
			t.Errorf("%v: %s\nwant %s", step.do, got, step.want)
		}
		if x.PID == 0 || x.Program == "" {
			t.Errorf("%v: by nobody: %+v", step.do, x)
		}
	}
}

// sorted is s without the order of its lines: in what order an object's parts go is the kernel's affair.
func sorted(s string) string {
	all := strings.Split(s, "\n")
	return strings.Join(all[:1], "") + fmt.Sprint(sortedLines(all[1:]))
}

func TestWatchTellsOneTransaction(t *testing.T) {
	k := ready(t)
	transactions := watch(t, k)
	// Another Keeper is somebody else.
	other := another(t)
	apply(t, other, many(2000, host4)...)
	if n := len((<-transactions).Events); n != 2000 {
		t.Errorf("%d events of 2000 new hosts", n)
	}
	apply(t, other, many(2000, host4)...)
	x := <-transactions
	added, deleted := 0, 0
	for _, e := range x.Events {
		switch e.Kind {
		case ElementAdded:
			added++
		case ElementDeleted:
			deleted++
		}
	}
	if x.Own || x.Lost || added != 2000 || deleted != 2000 {
		t.Errorf("own %v, lost %v, %d added, %d deleted", x.Own, x.Lost, added, deleted)
	}
}

// A range that gets another timeout is told by its first half only.
func TestWatchTellsOfUpdates(t *testing.T) {
	k := ready(t)
	apply(t, k, add("10.0.0.0/8", time.Hour), add("240.0.0.0/4", time.Hour), add("198.51.100.7", time.Hour))
	before := genID(t, k)
	transactions := watch(t, k)
	nfttest.Nft(t, "add element inet banset net4 { 10.0.0.0/8 timeout 2h }\n"+
		"add element inet banset ban4 { 198.51.100.7 timeout 2h }\nadd element inet banset ban4 { 192.0.2.1 }")
	if genID(t, k) == before {
		t.Fatal("no transaction")
	}
	want := "nft:\n\telement added ban4 198.51.100.7\n\telement added ban4 192.0.2.1\n\telement added net4 10.0.0.0-10.255.255.255"
	if e, _ := get(t, k, Ban4, "198.51.100.7"); e.Timeout == time.Hour {
		want = "nft:\n\telement added ban4 192.0.2.1" // before Linux 6.12 nothing was updated
	}
	if got := tell(<-transactions); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// What does not fit the buffer is told as lost, and the watch goes on.
func TestWatchLost(t *testing.T) {
	k := ready(t)
	k.watchQueue = 4096
	block, blocked := make(chan struct{}), make(chan struct{})
	var all []string
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ready, done := make(chan struct{}), make(chan error)
	last := make(chan struct{})
	var once sync.Once
	go func() {
		first := true
		done <- k.Watch(ctx, func() { close(ready) }, func(x Transaction) error {
			if first {
				first = false
				close(blocked)
				<-block
			}
			all = append(all, tell(x))
			if strings.Contains(all[len(all)-1], "192.0.2.99") {
				once.Do(func() { close(last) })
			}
			return nil
		})
	}()
	<-ready
	nfttest.Nft(t, "add element inet banset ban4 { 192.0.2.1 }")
	<-blocked
	other := another(t)
	apply(t, other, many(5000, host4)...)
	close(block)
	// The queue takes nothing until it has been read out.
	for i := 0; ; i++ {
		apply(t, other, add("192.0.2.99", 0))
		select {
		case <-last:
		default:
			continue
		}
		break
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Watch: %v", err)
	}
	lost := 0
	for _, text := range all {
		if text == "lost" {
			lost++
		}
	}
	if lost == 0 || all[0] != "nft:\n\telement added ban4 192.0.2.1" {
		t.Errorf("%d lost of %d: %.200q", lost, len(all), all)
	}
}

func TestWatchEnds(t *testing.T) {
	k := ready(t)
	stop := errors.New("stop")
	err := k.Watch(ctx, func() { apply(t, k, add("198.51.100.7", 0)) }, func(Transaction) error { return stop })
	if err != stop {
		t.Errorf("Watch: %v, want what f returned", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := k.Watch(ended, nil, nil); err != nil {
		t.Errorf("Watch with an ended context: %v", err)
	}
}

func TestEndedContext(t *testing.T) {
	k := ready(t)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for name, err := range map[string]error{
		"Apply":   k.Apply(ended, []Change{add("198.51.100.7", 0)}),
		"Replace": k.Replace(ended, func(func(Element) bool) {}),
		"Remove":  k.Remove(ended),
		"Dump":    k.Dump(ended, Ban4, func(Element) error { return nil }),
		"Ensure":  func() error { _, err := k.Ensure(ended); return err }(),
		"Check":   func() error { _, err := k.Check(ended); return err }(),
		"Get":     func() error { _, _, err := k.Get(ended, Ban4, elem("198.51.100.7", 0).First); return err }(),
		"Count":   func() error { _, err := k.Count(ended, Ban4); return err }(),
		"Dropped": func() error { _, _, err := k.Dropped(ended); return err }(),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r, err := k.Check(ctx); err != nil || len(r.Changes) > 0 {
		t.Errorf("after all: %v, %v", r, err)
	}
}
