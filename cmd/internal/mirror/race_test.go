package mirror

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"banset/policy"
)

// TestWrittenBeforeTheExchange: a person writes after the daemon's last look at the file and before its new version
// takes the name. Both have their will.
func TestWrittenBeforeTheExchange(t *testing.T) {
	t.Parallel()
	for what, write := range map[string]func(t *testing.T, path string){
		"added": func(t *testing.T, path string) {
			file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer file.Close()
			if _, err := file.WriteString("203.0.113.5\n"); err != nil {
				t.Error(err)
			}
		},
		"in place": func(t *testing.T, path string) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Error(err)
			}
			inPlace(t, path, []string{string(text), "203.0.113.5\n"}, 0)
		},
		"renamed": func(t *testing.T, path string) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Error(err)
			}
			writeNew(t, path+".tmp", string(text)+"203.0.113.5\n")
			rename(t, path+".tmp", path)
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "blocklist")
			bans := []policy.Ban{seedBan("192.0.2.1/32"), seedBan("192.0.2.2/32")}
			if err := os.WriteFile(path, linesFor(bans...), 0o640); err != nil {
				t.Fatal(err)
			}
			d, err := newDesk(path, remember(bans))
			if err != nil {
				t.Fatal(err)
			}
			d.judge.Pardon(bans[0].Host)
			raced := false
			err = supervised(d.finish, func(c fileCall) syscall.Errno {
				if c.name == "rename" && !raced && strings.HasPrefix(c.path, filepath.Dir(path)) {
					raced = true
					write(t, path)
				}
				return 0
			})
			if err != nil || !raced {
				t.Fatalf("raced %v, %v", raced, err)
			}
			for host, want := range map[string]bool{"192.0.2.1/32": false, "192.0.2.2/32": true, "203.0.113.5/32": true} {
				if _, ok := d.judge.Book().Get(netip.MustParsePrefix(host)); ok != want {
					t.Errorf("%s banned: %v, want %v", host, ok, want)
				}
			}
			checkWhole(t, d, path, what)
		})
	}
}
