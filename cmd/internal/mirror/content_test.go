package mirror

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banset/policy/blocklist"
)

// TestContent holds the file that is read again for every look to the one in memory.
func TestContent(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	words := []string{"", "# a comment", "192.0.2.%d", "2001:db8:%d::/64", "2001:db8::%d", "198.51.100.%d/31 # until 2099-01-01",
		"203.0.113.%d # banset/2026-11-23 18:12:45Z until 2027-11-23 18:12:45Z: p: 10 failures", "no address %d", "192.0.2.%d # fail2ban/2016-04-15 00:21:45: auto"}
	path := filepath.Join(t.TempDir(), "blocklist")
	plain := 0
	for range 500 {
		var text strings.Builder
		lines := rng.IntN(8)
		if rng.IntN(50) == 0 {
			lines = 20_000 // more than one piece
		}
		for i := range lines {
			line := words[rng.IntN(len(words))]
			if strings.Contains(line, "%d") {
				line = fmt.Sprintf(line, rng.IntN(9))
			}
			if lines > 100 { // no host twice
				line = fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)
			}
			text.WriteString(line + "\n")
		}
		if rng.IntN(20) == 0 {
			text.WriteString("192.0.2.77")
		}
		if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := openFile(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		want := parsed{blocklist.Parse([]byte(text.String()), blocklist.Options{})}
		twice := false
		seen := make(map[netip.Prefix]bool)
		blocklist.NewScanner(blocklist.Options{}).Scan([]byte(text.String()), func(e *blocklist.Entry) {
			twice = twice || seen[e.Ban.Host]
			seen[e.Ban.Host] = true
		})
		unended := text.Len() > 0 && !strings.HasSuffix(text.String(), "\n")
		got, err := readLines(file, blocklist.Options{})
		if errors.Is(err, errNotThatPlain) && (twice || unended) {
			continue
		}
		if err != nil || twice || unended {
			t.Fatalf("%q: error %v", text.String(), err)
		}
		plain++
		if got.Len() != want.Len() || got.Empty() != want.Empty() {
			t.Fatalf("%q: %d hosts, empty %v", text.String(), got.Len(), got.Empty())
		}
		if a, b := slices.Collect(got.Entries()), slices.Collect(want.Entries()); !slices.Equal(a, b) {
			t.Fatalf("%q: entries\n%v, want\n%v", text.String(), a, b)
		}
		for range got.Entries() {
			break // an early end is none of a change
		}
		a, n := got.Problems()
		if b, m := want.Problems(); n != m || !slices.Equal(a, b) {
			t.Fatalf("%q: problems %v, want %v", text.String(), a, b)
		}
		for host := range seen {
			if !got.Has(host) {
				t.Fatalf("%q: %v is not there", text.String(), host)
			}
		}
		for _, host := range []string{"192.0.2.200/32", "192.0.2.0/31", "2001:db8:ff::/64"} {
			if p := netip.MustParsePrefix(host); got.Has(p) != want.Has(p) {
				t.Fatalf("%q: has %v: %v", text.String(), p, got.Has(p))
			}
		}
		if got.changed != nil {
			t.Fatal(got.changed)
		}
		if err := os.WriteFile(path, []byte(text.String()+"192.0.2.99\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for range got.Entries() {
		}
		if !errors.Is(got.changed, errRaced) {
			t.Fatalf("after a change: %v", got.changed)
		}
	}
	if plain < 100 {
		t.Errorf("only %d texts were plain", plain)
	}
}
