package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"banset/cmd/internal/mirror"
	"banset/cmd/internal/state"
	"banset/nft"
	"banset/nft/nfttest"
	"banset/policy"
	"banset/policy/config"
)

func TestMain(m *testing.M) { nfttest.Main(m) }

// TestRestore: the short way leaves the kernel as the long way does, through a book, and is taken when it can be.
func TestRestore(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	line := func(host string, left time.Duration) string {
		return fmt.Sprintf("%s # banset/%s until %s: sshd: 5 failures\n", host, stamp(now.Add(-time.Hour)), stamp(now.Add(left)))
	}
	known := func(host string, left time.Duration, filed bool) mirror.Remembered {
		return mirror.Remembered{Filed: filed, Ban: policy.Ban{Host: netip.MustParsePrefix(host), At: now.Add(-time.Hour).Unix(),
			Until: now.Add(left).Unix(), Policy: "sshd", Failures: 5}}
	}
	gone := func(host string) mirror.Remembered {
		return mirror.Remembered{Gone: true, Ban: policy.Ban{Host: netip.MustParsePrefix(host)}}
	}
	many := func(n int) (text string, all []mirror.Remembered) {
		for i := range n {
			host := fmt.Sprintf("198.51.100.%d", i)
			text += line(host, 24*time.Hour)
			all = append(all, known(host+"/32", 24*time.Hour, true))
		}
		return text, all
	}
	twelve, twelveKnown := many(12)
	tests := []struct {
		name  string
		text  string // "-": no file
		state []mirror.Remembered
		short bool
	}{
		{"nothing", "", nil, true},
		{"no file", "-", twelveKnown, false},
		{"hosts", line("192.0.2.1", time.Hour) + line("2001:db8:0:1::/64", 24*time.Hour), nil, true},
		{"by hand", "192.0.2.1\n192.0.2.2 # why not\n192.0.2.3 # until " + stamp(now.Add(time.Hour)) + ": a while\n", nil, true},
		{"fail2ban", "192.0.2.1 # fail2ban/" + now.Add(-time.Hour).Format(time.DateTime) + ": auto-add\n", nil, true},
		{"ended", line("192.0.2.1", -time.Minute) + line("192.0.2.2", time.Hour), nil, true},
		{"ranges", line("192.0.2.0/24", time.Hour) + line("192.0.2.128/25", 2*time.Hour) + line("2001:db8::/32", time.Hour) +
			line("2001:db8:0:2::7", time.Hour), nil, true},
		{"allowed", line("203.0.113.9", time.Hour) + line("203.0.0.0/16", time.Hour) + line("2001:db8:9::/64", time.Hour), nil, true},
		{"bad line", "what is this\n" + line("192.0.2.1", time.Hour), nil, true},
		{"no end of line", line("192.0.2.1", time.Hour) + "192.0.2.7 # a person", nil, true},
		{"torn", line("192.0.2.1", time.Hour) + "192.0.2.77 # ban", nil, false},
		{"address alone at the end", line("192.0.2.1", time.Hour) + "192.0.2.7", nil, false},
		{"host twice", line("192.0.2.1", 2*time.Hour) + line("192.0.2.1", time.Hour), nil, false},
		{"range twice", line("192.0.2.0/24", 2*time.Hour) + line("192.0.2.0/24", time.Hour), nil, false},
		{"too many", func() string { text, _ := many(maxBans + 1); return text }(), nil, false},
		{"as remembered", twelve, twelveKnown, true},
		{"line added", twelve + line("192.0.2.1", time.Hour), twelveKnown, true},
		{"line taken out", twelve[strings.Index(twelve, "\n")+1:], twelveKnown, true},
		{"most lines taken out", twelve[:strings.Index(twelve, "\n")+1], twelveKnown, false},
		{"emptied", "", twelveKnown[:1], false},
		{"end moved", line("192.0.2.1", time.Hour), []mirror.Remembered{known("192.0.2.1/32", 2*time.Hour, true)}, true},
		{"not filed yet", twelve, append(slices.Clone(twelveKnown), known("192.0.2.1/32", time.Hour, false)), false},
		{"not filed, and over", twelve, append(slices.Clone(twelveKnown), known("192.0.2.1/32", -time.Minute, false)), true},
		{"lifted, line still there", twelve, append(slices.Clone(twelveKnown[1:]), gone("198.51.100.0/32")), false},
		{"lifted", twelve, append(slices.Clone(twelveKnown), gone("192.0.2.1/32")), true},
	}
	for _, tt := range tests {
		t.Run(strings.NewReplacer(" ", "-", ",", "").Replace(tt.name), func(t *testing.T) {
			var log bytes.Buffer
			ll := slog.New(slog.NewTextHandler(&log, nil))
			dir := t.TempDir()
			try := func(restore func(context.Context, *config.Config, *slog.Logger) (int, error)) (string, int, error) {
				nfttest.Clean(t)
				cfg := restorable(t, dir, tt.text, tt.state)
				n, err := restore(t.Context(), cfg, ll)
				return kernelHas(t, cfg), n, err
			}
			want, wantN, err := try(func(ctx context.Context, cfg *config.Config, ll *slog.Logger) (int, error) {
				return restoreAll(ctx, cfg, ll, false)
			})
			if err != nil {
				t.Fatal(err)
			}
			got, n, err := try(func(ctx context.Context, cfg *config.Config, ll *slog.Logger) (int, error) {
				n, _, err := restoreLines(ctx, cfg, ll)
				return n, err
			})
			if (err == nil) != tt.short {
				t.Fatalf("the short way: %v", err)
			}
			if err == nil && (got != want || n != wantN) {
				t.Errorf("the short way: %d bans:\n%s\nwant %d:\n%s", n, got, wantN, want)
			}
			if err != nil && !errors.Is(err, mirror.ErrNotPlain) && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the short way: %v", err)
			}
			if got, n, err := try(Restore); err != nil || got != want || n != wantN {
				t.Errorf("%d bans, %v:\n%s\nwant %d:\n%s\nlog:\n%s", n, err, got, wantN, want, log.String())
			}
		})
	}
}

const maxBans = 200

func stamp(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05Z") }

// restorable is a configuration with a blocklist and a state.
func restorable(t *testing.T, dir, text string, remembered []mirror.Remembered) *config.Config {
	t.Helper()
	for _, name := range []string{"blocklist", "state.db"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	cfg, problems := config.Load(nil, []config.File{{Name: "banset.yaml", Data: fmt.Appendf(nil,
		"blocklist: %[1]s/blocklist\nstate: %[1]s/state.db\nsocket: %[1]s/socket\nmax_bans: %[2]d\nignoreip: [203.0.113.0/28, '2001:db8:9::7']\n"+
			"policies: {sshd: {failregex: ['from <HOST>$'], logpath: [%[1]s/log], bantime: 1d}}\n", dir, maxBans)}})
	if cfg == nil {
		t.Fatal(problems)
	}
	if text != "-" {
		if err := os.WriteFile(cfg.Blocklist, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if remembered != nil {
		store, err := state.Open(cfg.State, state.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var changes []state.Change
		for _, r := range remembered {
			changes = append(changes, state.Change{Bucket: state.Lines, Key: hostKey(r.Ban.Host), Value: encodeBan(r.Ban, r.Filed, r.Gone)})
		}
		if err := errors.Join(store.Commit(changes), store.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return cfg
}

// kernelHas is all that the sets hold, one element a line, its times rounded.
func kernelHas(t *testing.T, cfg *config.Config) string {
	t.Helper()
	keeper, err := nft.Open(KernelConfig(cfg))
	if err != nil {
		t.Fatal(err)
	}
	defer keeper.Close()
	lines := make(map[string]bool)
	for _, set := range nft.Sets {
		if err := keeper.Dump(t.Context(), set, func(e nft.Element) error {
			left := "forever"
			if e.Timeout > 0 {
				left = e.Expires.Round(20 * time.Second).String()
			}
			lines[fmt.Sprintf("%v %s of %v: %s", e, left, e.Timeout.Round(20*time.Second), e.Comment)] = true
			return nil
		}); err != nil && !errors.Is(err, nft.ErrMissing) {
			t.Fatal(err)
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(lines)), "\n")
}

// TestRestoreBesideADaemon: whoever holds the state puts back by itself what is missing.
func TestRestoreBesideADaemon(t *testing.T) {
	nfttest.Clean(t)
	cfg := restorable(t, t.TempDir(), "192.0.2.1\n", nil)
	store, err := state.Open(cfg.State, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if _, err := Restore(t.Context(), cfg, slog.New(slog.DiscardHandler)); !errors.Is(err, state.ErrInUse) {
		t.Errorf("%v, want %v", err, state.ErrInUse)
	}
	if out := nfttest.Run(t, "nft", "list", "tables"); out != "" {
		t.Errorf("it made %s", out)
	}
}
