package mirror

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banset/policy"
	"banset/policy/blocklist"
)

// TestTornLine: a crash leaves the beginning of a line of ours, cut at any byte. It is never read as another address
// or another end, and the ban that the logs or the state bring again stands in the end.
func TestTornLine(t *testing.T) {
	t.Parallel()
	known := seedBan("192.0.2.1/32")
	for i, b := range []policy.Ban{
		seedBan("198.51.100.123/32"), seedBan("2001:db8:12:34::/64"), seedBan("198.51.100.0/24"),
		{Host: netip.MustParsePrefix("192.0.2.12/32"), At: known.At, Until: policy.Never, Note: "a person's reason"},
	} {
		line := blocklist.AppendLine(nil, b)
		t.Run(b.Host.String(), func(t *testing.T) {
			t.Parallel()
			// Every byte of the first; of the others those around the address, and some.
			for cut := 1; cut < len(line); cut++ {
				if i > 0 && cut > 22 && cut%7 != 0 {
					continue
				}
				for _, remembered := range [][]policy.Ban{{known}, {known, b}} {
					path := filepath.Join(t.TempDir(), "blocklist")
					if err := os.WriteFile(path, append(linesFor(known), line[:cut]...), 0o640); err != nil {
						t.Fatal(err)
					}
					when := fmt.Sprintf("%q, remembered %v", line[:cut], len(remembered) > 1)
					d, err := newDesk(path, remember(remembered))
					if err != nil {
						t.Fatal(err)
					}
					check := func() {
						t.Helper()
						for got := range d.judge.Book().All() {
							switch {
							case got.Host == known.Host:
							case got.Host != b.Host || got.At != b.At || got.Until != b.Until:
								t.Errorf("%s: banned %+v", when, got)
							}
						}
					}
					check()
					if err := d.finish(); err != nil {
						t.Fatal(err)
					}
					check()
					if _, ok := d.judge.Book().Get(b.Host); !ok && len(remembered) > 1 {
						t.Errorf("%s: the ban that the state has is lost", when)
					}
					d.judge.Take(b)
					if err := d.finish(); err != nil {
						t.Fatal(err)
					}
					checkWhole(t, d, path, when)
				}
			}
		})
	}
}

// TestUnfinishedLineOfAPerson: what can't be a beginning of ours is a person's, also at a start.
func TestUnfinishedLineOfAPerson(t *testing.T) {
	t.Parallel()
	complete := strings.TrimSuffix(string(blocklist.AppendLine(nil, seedBan("203.0.113.5/32"))), "\n")
	for _, tt := range []struct {
		line    string
		started bool // there was a start before
		banned  bool
	}{
		{"203.0.113.5", false, true},
		{"203.0.113.5", true, false}, // half of 203.0.113.55?
		{"203.0.113.5 # a neighbour", true, true},
		{"203.0.113.5 # until 2099-01-01: a neighbour", true, true},
		{"203.0.113.5 # fail2ban/2026-01-01 00:00:00: auto-add", true, true},
		{complete, true, true},
		{complete[:len(complete)-1], true, false},
		{"203.0.113.5 # banset/2026-11-23 18:12:45Z", true, false},
		{"203.0.113.5\x00\x00\x00", true, false},
		{"\x00\x00\x00\x00", true, false},
	} {
		path := filepath.Join(t.TempDir(), "blocklist")
		if err := os.WriteFile(path, append(linesFor(), tt.line...), 0o640); err != nil {
			t.Fatal(err)
		}
		var remembered []Remembered
		if tt.started {
			remembered = []Remembered{{Ban: seedBan("192.0.2.1/32")}}
		}
		d, err := newDesk(path, remembered)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.finish(); err != nil {
			t.Fatal(err)
		}
		if _, ok := d.judge.Book().Get(netip.MustParsePrefix("203.0.113.5/32")); ok != tt.banned {
			t.Errorf("%q, started before %v: banned %v, want %v", tt.line, tt.started, ok, tt.banned)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if torn := bytes.Contains(text, []byte("# banset: this line was cut off by a crash")); torn == tt.banned {
			t.Errorf("%q: a comment tells of it: %v\n%s", tt.line, torn, text)
		}
		checkWhole(t, d, path, tt.line)
	}
}

// BenchmarkRewrite takes one line out of a file of many, the dear case: the whole file is written.
func BenchmarkRewrite(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "blocklist")
			text := []byte(blocklist.Header)
			for i := range n {
				ban := seedBan("192.0.2.1/32")
				ban.Host = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
				text = blocklist.AppendLine(text, ban)
			}
			if err := os.WriteFile(path, text, 0o640); err != nil {
				b.Fatal(err)
			}
			d, err := newDesk(path, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			var paced time.Duration
			i := 0
			for b.Loop() {
				d.judge.Pardon(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32))
				if err := d.finish(); err != nil {
					b.Fatal(err)
				}
				paced += time.Until(d.file.nextRewrite)
				i++
			}
			b.ReportMetric(paced.Seconds()/float64(i), "s-to-next")
		})
	}
}
