package config

import (
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write what is reported into the goldens")

// now is when the goldens' samples are checked.
var now = time.Date(2026, 11, 23, 18, 12, 45, 0, time.UTC)

// TestGolden holds each mistake to what is said about it. testdata/NAME.txtar holds the files and, in want, the report.
func TestGolden(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			library, files, want := split(t, a)
			cfg, problems := Load(library, files)
			if (cfg == nil) != (problems.Err() != nil) {
				t.Errorf("config %v beside error %v", cfg, problems.Err())
			}
			if cfg != nil {
				problems = append(problems, cfg.CheckSamples(now)...)
			}
			got := problems.Format(append(library, files...)...) + "\n"
			if *update {
				writeWant(t, name, a, got)
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			for _, p := range problems {
				inside(t, p, append(library, files...))
			}
		})
	}
}

// split sorts an archive into library, files and golden.
func split(t testing.TB, a *txtar.Archive) (library, files []File, want string) {
	t.Helper()
	for _, f := range a.Files {
		data := f.Data
		if strings.HasPrefix(string(a.Comment), "quoted") && f.Name != "want" {
			data = nil
			for line := range strings.Lines(string(f.Data)) {
				s, err := strconv.Unquote(strings.TrimSpace(line))
				if err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				data = append(data, s...)
			}
		}
		switch {
		case f.Name == "want":
			want = string(f.Data)
		case strings.HasPrefix(f.Name, "library/"):
			library = append(library, File{f.Name, data})
		default:
			files = append(files, File{f.Name, data})
		}
	}
	return library, files, want
}

func writeWant(t *testing.T, name string, a *txtar.Archive, got string) {
	t.Helper()
	var kept []txtar.File
	for _, f := range a.Files {
		if f.Name != "want" {
			kept = append(kept, f)
		}
	}
	a.Files = append(kept, txtar.File{Name: "want", Data: []byte(got)})
	if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
		t.Fatal(err)
	}
}

// inside holds a problem to its promises: it lies in one of the files, and its texts are one printable line.
func inside(t *testing.T, p Problem, files []File) {
	t.Helper()
	for _, s := range []string{p.Msg, p.Hint} {
		for _, r := range s {
			if !strconv.IsPrint(r) {
				t.Errorf("not printable: %q in %q", r, s)
			}
		}
	}
	if p.Msg == "" {
		t.Error("a problem without words")
	}
	for _, f := range files {
		if f.Name != p.File {
			continue
		}
		lines := strings.Split(strings.TrimPrefix(string(f.Data), bom), "\n")
		if p.Line < 1 || p.Line > len(lines) || p.Column < 1 || p.Column > len([]rune(lines[p.Line-1]))+1 {
			t.Errorf("%s is outside of its file", p)
		}
		return
	}
	if len(files) > 0 {
		t.Errorf("%s is in no file", p)
	}
}
