package deploy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testdata/FILTER.log is what the real programs wrote, on Debian 12 and 13, while clients of ours failed to log in with
// ordinary and with hostile names: one line of each shape, behind the host that it counts for ("-": nobody) and a tab.
// The clients were 192.0.2.7, 2001:db8::7 and, for Exim, 203.0.113.9; any other address is what they wrote.
func TestRecorded(t *testing.T) {
	c := load(t)
	files, err := filepath.Glob("testdata/*.log")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 8 {
		t.Errorf("%d recorded logs, want 8", len(files))
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".log")
		t.Run(name, func(t *testing.T) {
			f := c.Filters[name]
			if f == nil {
				t.Fatal("there is no such filter")
			}
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			l := newLog(f)
			hits := 0
			for text := range strings.Lines(string(data)) {
				want, line, ok := strings.Cut(strings.TrimSuffix(text, "\n"), "\t")
				if !ok {
					t.Fatalf("no tab in %q", text)
				}
				got := "-"
				for _, m := range l.scan(line) {
					got = m.Host.Addr().String()
					hits++
					if m.Stamp.IsZero() {
						t.Errorf("no stamp is read in\n%s", line)
					}
				}
				if got != want {
					t.Errorf("counts for %s, want %s:\n%s", got, want, line)
				}
			}
			if hits == 0 {
				t.Error("no line counts")
			}
		})
	}
}
