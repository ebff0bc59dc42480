package follow

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRotationNames(t *testing.T) {
	for _, tt := range []struct {
		base, name string
		sibling    bool
		known      bool
		num        int
		date       string
	}{
		{"mail.log", "mail.log", false, false, 0, ""},
		{"mail.log", "mail.log.1", true, true, 1, ""},
		{"mail.log", "mail.log.12.gz", true, true, 12, ""},
		{"mail.log", "mail.log-20261123", true, true, -1, "20261123"},
		{"mail.log", "mail.log-20261123.zst", true, true, -1, "20261123"},
		{"mail.log", "mail.log.2026-11-23_18:00.xz", true, true, -1, "202611231800"},
		{"mail.log", "mail-20261123.log", true, true, -1, "20261123"},
		{"mail.log", "mail-20261123.log.gz", true, true, -1, "20261123"},
		{"mail.log", "mail.1.log", true, false, 1, ""},
		{"mail.log", "mail-8080.log", true, false, 8080, ""},
		{"mail.log", "mail.log-1", true, false, 1, ""},
		{"mail.log", "mail.log.old", true, true, -1, ""},
		{"mail.log", "mail.log.gz", true, true, -1, ""},
		{"mail.log", "mail.logger", true, false, -1, ""},
		{"mail.log", "mail.log.1.tmp", true, false, -1, ""},
		{"mail.log", "mail.err", false, false, 0, ""},
		{"mail.log", "exim.log.1", false, false, 0, ""},
		{"mainlog", "mainlog.01", true, true, 1, ""},
	} {
		s, ok := rotation(tt.base, tt.name)
		if ok != tt.sibling || ok && (s.known != tt.known || s.num != tt.num || s.date != tt.date) {
			t.Errorf("%s of %s: %+v, %v", tt.name, tt.base, s, ok)
		}
		// rotatedFrom is its inverse, for names that are rotations beyond doubt.
		if got := slices.Contains(rotatedFrom("/d/"+tt.name), "/d/"+tt.base); got != (ok && s.known) {
			t.Errorf("rotatedFrom(%s) = %q", tt.name, rotatedFrom("/d/"+tt.name))
		}
	}
}

func TestSiblingsInOrder(t *testing.T) {
	for _, tt := range []struct{ name, files, want string }{
		{"numbers, whatever the times", "l.1@1 l.2@2 l.10.gz@3 l.9.gz@4", "l.10.gz l.9.gz l.2 l.1"},
		{"dates", "l-20261121@3 l-20261122.gz@2 l-20261123@1", "l-20261121 l-20261122.gz l-20261123"},
		{"mixed: times", "l.1@3 l-20261122@9 l.old@5", "l-20261122 l.old l.1"},
		{"one of them is being compressed", "l.1@1 l.1.gz@1 l.2.gz@2", "l.2.gz l.1"},
		{"others come first", "l.1@9 lx@1", "lx l.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for f := range strings.FieldsSeq(tt.files) {
				name, ago, _ := strings.Cut(f, "@")
				write(t, filepath.Join(dir, name), name)
				old(t, filepath.Join(dir, name), time.Duration(ago[0]-'0')*time.Hour)
			}
			must(t, os.Mkdir(filepath.Join(dir, "l.3"), 0o755))
			var got []string
			for _, s := range siblings(filepath.Join(dir, "l")) {
				got = append(got, filepath.Base(s.path))
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
