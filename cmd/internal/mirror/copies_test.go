package mirror

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banset/nft"
	"banset/nft/nfttest"
	"banset/policy"
	"banset/policy/judge"
)

// The rows of the table "The three copies": what is seen, what it means, what the answer is.

func TestFileLineAdded(t *testing.T) {
	r := newRig(t, "")
	r.take("192.0.2.1/32", time.Hour)
	r.settled()
	r.write(r.text() + "203.0.113.5\n2001:db8::/64 # a neighbour\n198.51.100.0/24\n2001:db8:5::7\n")
	r.banned("203.0.113.5/32", true)
	for _, host := range []string{"192.0.2.1/32", "2001:db8::/64", "198.51.100.0/24", "2001:db8:5::7/128"} {
		r.banned(host, true)
	}
	if b, _ := r.ban("203.0.113.5/32"); b.Until != policy.Never {
		t.Errorf("a line without a note ends at %d, want never", b.Until)
	}
	if !strings.Contains(r.text(), "\n2001:db8::/64 # a neighbour\n") {
		t.Errorf("a person's line was changed:\n%s", r.text())
	}
}

func TestFileLineAddedInPlace(t *testing.T) {
	r := newRig(t, "")
	r.take("192.0.2.1/32", time.Hour)
	r.settled()
	f, err := os.OpenFile(r.path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, "203.0.113.5") // no end of line
	f.Close()
	r.banned("203.0.113.5/32", true)
	r.take("192.0.2.2/32", time.Hour)
	r.settled()
	if !strings.Contains(r.text(), "\n203.0.113.5\n192.0.2.2 #") {
		t.Errorf("lines ran together:\n%s", r.text())
	}
}

func TestFileLineRemoved(t *testing.T) {
	r := newRig(t, "")
	r.take("192.0.2.1/32", time.Hour)
	r.take("192.0.2.2/32", time.Hour)
	r.settled()
	var kept []string
	for line := range strings.Lines(r.text()) {
		if !strings.HasPrefix(line, "192.0.2.1 ") {
			kept = append(kept, line)
		}
	}
	r.write(strings.Join(kept, ""))
	r.banned("192.0.2.1/32", false)
	r.banned("192.0.2.2/32", true)
	r.logged("Unban 192.0.2.1")
}

func TestFileEndChanged(t *testing.T) {
	r := newRig(t, "")
	b := r.take("192.0.2.1/32", time.Hour)
	r.settled()
	end := func(at int64) string { return time.Unix(at, 0).UTC().Format("2006-01-02 15:04:05Z") }
	sooner := b.Until - 1800
	r.write(strings.Replace(r.text(), "until "+end(b.Until), "until "+end(sooner), 1))
	r.until("the new end", func(*judge.Judge) bool {
		got, _ := r.judge.Book().Get(b.Host)
		return got.Until == sooner
	})
	r.settled()
}

func TestFileMissing(t *testing.T) {
	r := newRig(t, "")
	r.take("192.0.2.1/32", time.Hour)
	r.settled()
	if err := os.Remove(r.path); err != nil {
		t.Fatal(err)
	}
	r.logged("was missing; written anew with 1 bans")
	r.settled()
	if _, ok := r.ban("192.0.2.1/32"); !ok {
		t.Error("the ban was lost with the file")
	}
}

func TestFileMostLinesGone(t *testing.T) {
	for _, what := range []string{"emptied", "cut"} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t, "")
			// All in one write: of several, a text with the first ones alone would be one from before the others.
			r.do(context.Background(), func(j *judge.Judge) {
				now := time.Now().Unix()
				for i := range 30 {
					host := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 32)
					j.Take(policy.Ban{Host: host, At: now, Until: now + 3600})
				}
			})
			r.settled()
			odd := ""
			if what == "cut" {
				lines := strings.SplitAfter(r.text(), "\n")
				odd = strings.Join(lines[:10], "")
			}
			if err := os.WriteFile(r.path, []byte(odd), 0o640); err != nil {
				t.Fatal(err)
			}
			r.logged("taken for an accident")
			r.until("written anew", func(*judge.Judge) bool { return strings.Count(r.text(), "192.0.2.") == 30 })
			r.settled()
			kept, err := filepath.Glob(r.path + ".odd-*")
			if err != nil || len(kept) != 1 {
				t.Fatalf("odd files kept: %v, %v; want one", kept, err)
			}
			if text, _ := os.ReadFile(kept[0]); string(text) != odd {
				t.Errorf("the odd file was not kept as it was:\n%s", text)
			}
		})
	}
}

func TestFileGarbage(t *testing.T) {
	r := newRig(t, "")
	r.take("192.0.2.1/32", time.Hour)
	r.settled()
	garbage := "999.1.1.1\n\x00\xff\x1b[31m\nhost.example.org\n"
	r.write(r.text() + garbage + "203.0.113.9\n")
	r.banned("203.0.113.9/32", true)
	r.banned("192.0.2.1/32", true)
	if !strings.Contains(r.text(), garbage) {
		t.Errorf("lines that can't be read must stay:\n%q", r.text())
	}
	if _, problems := r.file.Status(); len(problems) != 3 || !strings.Contains(problems[0], "999.1.1.1") {
		t.Errorf("problems %q, want three, the first about 999.1.1.1", problems)
	}
}

func TestKernelElementAdded(t *testing.T) {
	r := newRig(t, "")
	nftRun(t, "add", "element", "inet", "banset", "ban4", "{ 203.0.113.5 timeout 2h }")
	r.banned("203.0.113.5/32", true)
	b, _ := r.ban("203.0.113.5/32")
	if left := b.Left(time.Now()); left < 119*time.Minute || left > 121*time.Minute {
		t.Errorf("adopted with %s left, want two hours", left)
	}
	nftRun(t, "add", "element", "inet", "banset", "net4", "{ 198.51.100.0-198.51.100.2 }")
	r.banned("198.51.100.0/31", true)
	r.banned("198.51.100.2/32", true)
	if b, _ := r.ban("198.51.100.0/31"); b.Until != policy.Never {
		t.Errorf("adopted until %d, want never", b.Until)
	}
	nftRun(t, "add", "element", "inet", "banset", "ban6", `{ 2001:db8:7:: timeout 1h comment "why not" }`)
	r.banned("2001:db8:7::/64", true)
	if b, _ := r.ban("2001:db8:7::/64"); b.Note != "why not" {
		t.Errorf("note %q, want the element's comment", b.Note)
	}
	r.logged("(nft[")
}

func TestKernelElementsDeleted(t *testing.T) {
	r := newRig(t, "")
	for _, host := range []string{"192.0.2.1/32", "192.0.2.2/32", "2001:db8::/64", "198.51.100.0/24"} {
		r.take(host, time.Hour)
	}
	r.settled()
	nftRun(t, "delete", "element", "inet", "banset", "ban4", "{ 192.0.2.1 }")
	r.banned("192.0.2.1/32", false)
	r.logged("Unban 192.0.2.1 (nft[")
	nftRun(t, "flush", "set", "inet", "banset", "ban4")
	r.banned("192.0.2.2/32", false)
	nftRun(t, "delete", "element", "inet", "banset", "net4", "{ 198.51.100.0/24 }")
	r.banned("198.51.100.0/24", false)
	r.banned("2001:db8::/64", true)
}

// accidents are ways to take our things away that nobody means as an unban.
var accidents = map[string]string{
	"flush ruleset":                   "flush ruleset",
	"delete table":                    "delete table inet banset",
	"delete a rule":                   "delete rule inet banset prerouting handle $RULE",
	"flush chain":                     "flush chain inet banset prerouting",
	"delete chain":                    "flush chain inet banset prerouting; delete chain inet banset prerouting",
	"delete a set":                    "flush chain inet banset prerouting; delete set inet banset ban4",
	"reload that begins with a flush": "flush ruleset; add table inet filter; add chain inet filter input { type filter hook input priority 0; }",
}

func TestKernelAccidents(t *testing.T) {
	for name, script := range accidents {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "")
			for _, host := range []string{"192.0.2.1/32", "2001:db8::/64", "198.51.100.0/24", "2001:db8:8::/48"} {
				r.take(host, time.Hour)
			}
			r.settled()
			listing := nftRun(t, "-a", "list", "chain", "inet", "banset", "prerouting")
			for line := range strings.Lines(listing) {
				if _, handle, ok := strings.Cut(line, "@ban4 "); ok {
					_, handle, _ = strings.Cut(handle, "# handle ")
					script = strings.ReplaceAll(script, "$RULE", strings.TrimSpace(handle))
				}
			}
			before := r.kernel.Healings()
			nfttest.Nft(t, strings.ReplaceAll(script, "; ", "\n"))
			r.until("healed", func(*judge.Judge) bool { return r.kernel.Healings() > before })
			r.logged("put back")
			r.settled()
			for _, host := range []string{"192.0.2.1/32", "2001:db8::/64", "198.51.100.0/24", "2001:db8:8::/48"} {
				if _, ok := r.ban(host); !ok {
					t.Errorf("%s was lost", host)
				}
			}
			if !strings.Contains(r.log.String(), "kernel: nft[") {
				t.Error("the log does not name the program")
			}
		})
	}
}

// TestKernelSavedListingLoaded: the table comes anew from somebody else's file, elements and all: ours replaces it.
func TestKernelSavedListingLoaded(t *testing.T) {
	r := newRig(t, "")
	r.take("192.0.2.1/32", time.Hour)
	r.settled()
	saved := nftRun(t, "list", "ruleset")
	r.do(context.Background(), func(j *judge.Judge) { j.Pardon(r.judge.Book().Sorted()[0].Host) })
	r.take("192.0.2.2/32", time.Hour)
	r.settled()
	before := r.kernel.Healings()
	nfttest.Nft(t, "flush ruleset\n"+saved)
	r.until("healed", func(*judge.Judge) bool { return r.kernel.Healings() > before })
	r.settled()
	if _, ok := r.ban("192.0.2.1/32"); ok {
		t.Error("an element of the saved listing was adopted")
	}
	if _, ok := r.ban("192.0.2.2/32"); !ok {
		t.Error("the ban that was made since is lost")
	}
}

func TestBanEndsByItself(t *testing.T) {
	r := newRig(t, "")
	b := r.take("192.0.2.1/32", 2*time.Second)
	r.settled()
	// The court has a timer for this; here the test is it.
	timer := time.AfterFunc(time.Until(time.Unix(b.Until, 0)), func() { r.do(context.Background(), func(*judge.Judge) {}) })
	defer timer.Stop()
	r.banned("192.0.2.1/32", false)
	if strings.Contains(r.text(), "192.0.2.1") {
		t.Errorf("an ended ban stays in the file:\n%s", r.text())
	}
}

func TestWholeIPv6AddressInBan6(t *testing.T) {
	r := newRig(t, "")
	nftRun(t, "add", "element", "inet", "banset", "ban6", "{ 2001:db8::7 }")
	r.banned("2001:db8::7/128", true)
	if got := nftRun(t, "list", "set", "inet", "banset", "ban6"); strings.Contains(got, "2001:db8::7") {
		t.Errorf("it still stands in ban6, where it matches nothing:\n%s", got)
	}
	if got := nftRun(t, "list", "set", "inet", "banset", "net6"); !strings.Contains(got, "2001:db8::7") {
		t.Errorf("it is not in net6:\n%s", got)
	}
}

func TestAllowlistedAddressAnywhere(t *testing.T) {
	r := newRig(t, "198.51.100.9\n192.0.2.1\n", "198.51.100.0/24")
	r.banned("192.0.2.1/32", true)
	if _, ok := r.ban("198.51.100.9/32"); ok {
		t.Error("the file's line for an allowlisted address was applied")
	}
	if _, problems := r.file.Status(); len(problems) != 1 || !strings.Contains(problems[0], "198.51.100.9") {
		t.Errorf("problems %q, want one about 198.51.100.9", problems)
	}
	nftRun(t, "add", "element", "inet", "banset", "ban4", "{ 198.51.100.8 }")
	r.logged("Not banned 198.51.100.8")
	r.settled()
	if got := nftRun(t, "list", "set", "inet", "banset", "ban4"); strings.Contains(got, "198.51.100.8") {
		t.Errorf("an allowlisted address stands in the kernel:\n%s", got)
	}
	if !strings.Contains(r.text(), "198.51.100.9\n") {
		t.Errorf("the line for an allowlisted address must stay:\n%s", r.text())
	}
	// The wide ban is cut around what is allowed.
	r.take("198.51.0.0/16", time.Hour)
	r.settled()
	if got := nftRun(t, "list", "set", "inet", "banset", "net4"); !strings.Contains(got, "198.51.0.0-198.51.99.255") {
		t.Errorf("the wide ban is not cut around the allowlist:\n%s", got)
	}
}

// TestStartTakesNothingAway: what stands is adopted, and a second start changes nothing that is right.
func TestStartTakesNothingAway(t *testing.T) {
	r := newRig(t, "")
	r.take("192.0.2.1/32", time.Hour)
	r.take("198.51.100.0/24", time.Hour)
	r.settled()
	r.stop()
	nftRun(t, "add", "element", "inet", "banset", "ban4", "{ 203.0.113.5 timeout 1h }")
	before := nftRun(t, "-a", "list", "chain", "inet", "banset", "prerouting")
	r.start(nil)
	r.banned("203.0.113.5/32", true)
	r.banned("192.0.2.1/32", true)
	if after := nftRun(t, "-a", "list", "chain", "inet", "banset", "prerouting"); after != before {
		t.Errorf("a start made the rules anew:\n%s\nwant\n%s", after, before)
	}
}

func TestStartFindsLineRemoved(t *testing.T) {
	r := newRig(t, "")
	b := r.take("192.0.2.1/32", time.Hour)
	r.take("192.0.2.2/32", time.Hour)
	r.settled()
	r.stop()
	var kept []string
	for line := range strings.Lines(r.text()) {
		if !strings.HasPrefix(line, "192.0.2.1 ") {
			kept = append(kept, line)
		}
	}
	r.write(strings.Join(kept, ""))
	r.start([]Remembered{{Ban: b, Filed: true}})
	r.banned("192.0.2.1/32", false)
	r.banned("192.0.2.2/32", true)
}

func TestStartFindsFileGone(t *testing.T) {
	r := newRig(t, "")
	b := r.take("192.0.2.1/32", time.Hour)
	r.settled()
	r.stop()
	if err := os.Remove(r.path); err != nil {
		t.Fatal(err)
	}
	nfttest.Nft(t, "flush ruleset")
	r.start([]Remembered{{Ban: b, Filed: true}})
	r.banned("192.0.2.1/32", true)
	if !strings.Contains(r.text(), "192.0.2.1 #") {
		t.Errorf("the file was not written anew:\n%s", r.text())
	}
}

// TestSeedFile: the owner's file as fail2ban left it.
func TestSeedFile(t *testing.T) {
	r := newRig(t, "122.154.29.30 # fail2ban/2016-04-15 00:21:45: auto-add for repeat offender\n")
	r.banned("122.154.29.30/32", true)
	if !strings.HasPrefix(r.text(), "122.154.29.30 # fail2ban/2016-04-15 00:21:45: auto-add for repeat offender\n") {
		t.Errorf("the seed's line was changed:\n%s", r.text())
	}
	nftRun(t, "get", "element", "inet", "banset", "ban4", "{ 122.154.29.30 }")
}

// TestStartLooksUpLargeSets: of a set that is too large to list, the book's bans are looked up: what is right is left
// alone, what is missing or ends at another time is put right.
func TestStartLooksUpLargeSets(t *testing.T) {
	r := newRig(t, "")
	for i := range 5 {
		r.take(fmt.Sprintf("192.0.2.%d/32", i), time.Hour)
	}
	r.settled()
	r.stop()
	nftRun(t, "delete", "element", "inet", "banset", "ban4", "{ 192.0.2.1, 192.0.2.2 }")
	nftRun(t, "add", "element", "inet", "banset", "ban4", "{ 192.0.2.2 timeout 5m }")

	other, err := nft.Open(kernelConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	listening, ended := make(chan struct{}), make(chan error, 1)
	touched := make(map[string]bool)
	go func() {
		ended <- other.Watch(ctx, func() { close(listening) }, func(x nft.Transaction) error {
			for _, e := range x.Events {
				touched[e.Element.First.String()] = true
			}
			return nil
		})
	}()
	<-listening
	defer func(n int) { dumpable = n }(dumpable)
	dumpable = 0
	r.start(nil)
	r.logged("too many to list")
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if len(touched) != 2 || !touched["192.0.2.1"] || !touched["192.0.2.2"] {
		t.Errorf("the start touched %v, want 192.0.2.1 and 192.0.2.2", touched)
	}
}
