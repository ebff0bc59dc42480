package configfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banset/deploy"
	"banset/policy/config"
)

// names are the files of a set.
func names(dir string, s Set) (all []string) {
	for _, f := range s.Files {
		name, err := filepath.Rel(dir, f.Name)
		if err != nil {
			name = f.Name
		}
		all = append(all, name)
	}
	return all
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	main, confd := filepath.Join(dir, "banset.yaml"), filepath.Join(dir, "conf.d")

	s, err := read("", main, confd)
	if err != nil || s.Name != Embedded || len(s.Files) != 1 || s.Files[0].Name != deploy.ConfigName {
		t.Fatalf("nothing there: %q, %v, %v", s.Name, names(dir, s), err)
	}
	if len(s.Library) == 0 {
		t.Error("the shipped filters are missing")
	}
	c, problems := s.Load()
	if c == nil || len(problems) > 0 || len(c.Policies) == 0 {
		t.Errorf("the embedded default is not right: %v", problems)
	}
	s.Files[0].Data[0]++ // the caller's own copy
	if s, err = read("", main, confd); err != nil || s.Files[0].Data[0] != deploy.Config[0] {
		t.Error("the embedded default was changed")
	}

	put(t, filepath.Join(confd, "20-b.yaml"), "max_bans: 7\n")
	put(t, filepath.Join(confd, "10-a.yaml"), "max_bans: 6\n")
	for _, other := range []string{"c.yml", "d.yaml~", ".e.yaml", "f.yaml.dpkg-dist"} {
		put(t, filepath.Join(confd, other), "nonsense\n")
	}
	put(t, filepath.Join(confd, "dir.yaml", "g.yaml"), "nonsense\n")
	s, err = read("", main, confd)
	if err != nil || s.Name != Embedded {
		t.Fatal(s.Name, err)
	}
	want := []string{s.Files[0].Name, "conf.d/10-a.yaml", "conf.d/20-b.yaml"}
	if d := cmp.Diff(want[1:], names(dir, s)[1:]); d != "" {
		t.Errorf("embedded and conf.d: %s", d)
	}

	put(t, main, "max_bans: 5\n")
	s, err = read("", main, confd)
	if err != nil || s.Name != main {
		t.Fatal(s.Name, err)
	}
	if d := cmp.Diff([]string{"banset.yaml", "conf.d/10-a.yaml", "conf.d/20-b.yaml"}, names(dir, s)); d != "" {
		t.Error(d)
	}
	if c, problems := s.Load(); c == nil || c.MaxBans != 7 {
		t.Errorf("the last file does not win: %v %v", c, problems)
	}

	// A file that was named stands alone.
	s, err = read(filepath.Join(confd, "10-a.yaml"), main, confd)
	if err != nil || len(s.Files) != 1 || s.Name != s.Files[0].Name {
		t.Error(s.Name, names(dir, s), err)
	}
	if _, err = read(filepath.Join(dir, "no.yaml"), main, confd); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a named file that is missing: %v", err)
	}
}

// What exists but can't be read is never passed over: half a configuration is none.
func TestReadUnreadable(t *testing.T) {
	dir := t.TempDir()
	main, confd := filepath.Join(dir, "banset.yaml"), filepath.Join(dir, "conf.d")
	if err := os.Symlink("banset.yaml", main); err != nil { // a loop can't be opened, not even by root
		t.Fatal(err)
	}
	if _, err := read("", main, confd); err == nil {
		t.Error("a main file that can't be opened is passed over")
	}
	if err := os.Remove(main); err != nil {
		t.Fatal(err)
	}
	put(t, confd, "a file where the directory ought to be")
	if _, err := read("", main, confd); err == nil {
		t.Error("a conf.d that can't be listed is passed over")
	}
	if err := os.Remove(confd); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(confd, "a.yaml"), "")
	if err := os.Symlink("b.yaml", filepath.Join(confd, "b.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, err := read("", main, confd); err == nil {
		t.Error("a file of conf.d that can't be opened is passed over")
	}
}

// A file that is far too large is not read to its end, and Load says so.
func TestReadTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "big.yaml")
	put(t, path, "")
	if err := os.Truncate(path, 1<<40); err != nil {
		t.Fatal(err)
	}
	s, err := Read(path)
	if err != nil || len(s.Files[0].Data) != config.MaxFile+1 {
		t.Fatal(len(s.Files[0].Data), err)
	}
	if c, problems := s.Load(); c != nil || problems.Err() == nil {
		t.Error("it is taken")
	}
}

// LoadUsed gives the same policies as Load, and the same problems.
func TestLoadUsed(t *testing.T) {
	for name, text := range map[string]string{
		"one filter":          "policies: {a: {filter: exim2, logpath: [/x]}}",
		"all filters":         string(deploy.Config),
		"an unknown filter":   "policies: {a: {filter: exim22, logpath: [/x]}}",
		"a misspelt filter":   "policies: {a: {filter: sshdd, logpath: [/x]}}",
		"a hidden name":       `policies: {a: {filter: "ssh\x64", logpath: [/x]}}`,
		"a changed filter":    "filters: {sshd: {ignoreregex: ['x <HOST>']}}\npolicies: {a: {filter: sshd, logpath: [/x]}}",
		"a hidden changed":    `{filters: {"ssh\x64": {ignoreregex: ['x <HOST>']}}, policies: {a: {filter: "ssh\x64", logpath: [/x]}}}`,
		"a filter of its own": "policies: {a: {failregex: ['from <HOST>'], logpath: [/x]}}",
		"a warning":           "policies: {}",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "banset.yaml")
			put(t, path, text)
			set, err := Read(path)
			if err != nil {
				t.Fatal(err)
			}
			want, wantProblems := set.Load()
			got, gotProblems := set.LoadUsed()
			if (want == nil) != (got == nil) || wantProblems.Format(set.Files...) != gotProblems.Format(set.Files...) {
				t.Fatalf("got %v, want %v", gotProblems, wantProblems)
			}
			if want == nil {
				return
			}
			literals := func(c *config.Config) (all []any) {
				for _, p := range c.Policies {
					all = append(all, p.Name, p.LogPath, p.Enabled, p.Filter.Literals())
				}
				return all
			}
			if diff := cmp.Diff(literals(want), literals(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
