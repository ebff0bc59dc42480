package main

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banset/nft/nfttest"
	"banset/test/e2e/program"
)

func TestMain(m *testing.M) { nfttest.Main(m) }

// testRelease is a release at a fixed time.
func testRelease(t *testing.T, root string) release {
	t.Helper()
	t.Setenv("SOURCE_DATE_EPOCH", "1795478400")
	r, err := readRelease(root, "1.2.3-1")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// makeDeb makes a package for arch. To it the program is bytes like any others; here they are few, to be quick.
func makeDeb(t *testing.T, arch string) string {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	native, err := program.Build()
	if err != nil {
		t.Fatal(err)
	}
	r := testRelease(t, root)
	dir := t.TempDir()
	bytes := filepath.Join(dir, "program")
	if err := os.WriteFile(bytes, []byte("a program for "+arch), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := contents(root, r, bytes, native)
	if err != nil {
		t.Fatal(err)
	}
	deb := filepath.Join(dir, "banset.deb")
	if err := pack(deb, filepath.Join(dir, "tree"), arch, r, files); err != nil {
		t.Fatal(err)
	}
	return deb
}

func dpkgDeb(t *testing.T, args ...string) string {
	t.Helper()
	out, err := output("", "dpkg-deb", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var sizeAndTime = regexp.MustCompile(`(?m)^(\S+ \S+) +\d+ \S+ \S+ \.`)

// TestContents: each file with its owner and mode. When something is added or goes away on purpose, so does its line.
func TestContents(t *testing.T) {
	want, err := os.ReadFile("testdata/contents.txt")
	if err != nil {
		t.Fatal(err)
	}
	list := dpkgDeb(t, "--contents", makeDeb(t, "amd64"))
	got := sizeAndTime.ReplaceAllString(list, "$1 ") + "\n"
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the package holds (-testdata/contents.txt +this package):\n%s", diff)
	}
	for line := range strings.Lines(list) {
		if !strings.Contains(line, " 2026-11-24 ") {
			t.Errorf("not at the release's time: %s", line)
		}
	}
}

// TestSameBytes: nothing of the machine, the moment or the place gets into a package.
func TestSameBytes(t *testing.T) {
	read := func(deb string) []byte {
		data, err := os.ReadFile(deb)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	first := read(makeDeb(t, "arm64"))
	old := syscall.Umask(0o077)
	t.Cleanup(func() { syscall.Umask(old) })
	t.Setenv("TZ", "Asia/Kolkata")
	t.Setenv("LC_ALL", "C")
	if !bytes.Equal(first, read(makeDeb(t, "arm64"))) {
		t.Error("two packages of the same files differ")
	}
}

// TestControl: what dpkg reads.
func TestControl(t *testing.T) {
	deb := makeDeb(t, "arm64")
	for field, want := range map[string]string{
		"Package": "banset", "Version": "1.2.3-1", "Architecture": "arm64", "Maintainer": maintainer,
	} {
		if got := dpkgDeb(t, "--field", deb, field); got != want {
			t.Errorf("%s is %q, not %q", field, got, want)
		}
	}
	dir := t.TempDir()
	dpkgDeb(t, "--control", deb, dir)
	if got, err := os.ReadFile(filepath.Join(dir, "conffiles")); err != nil || string(got) != "/etc/banset/banset.yaml\n" {
		t.Errorf("conffiles: %q, %v", got, err)
	}
	tree := filepath.Join(t.TempDir(), "tree")
	dpkgDeb(t, "--extract", deb, tree)
	sums, err := os.ReadFile(filepath.Join(dir, "md5sums"))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(sums, []byte("\n")); n < 10 {
		t.Errorf("only %d sums", n)
	}
	for line := range strings.Lines(string(sums)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		data, err := os.ReadFile(filepath.Join(tree, name))
		if err != nil || fmt.Sprintf("%x", md5.Sum(data)) != sum {
			t.Errorf("%s is not what md5sums says: %v", name, err)
		}
	}
	for _, script := range []string{"postinst", "prerm", "postrm"} {
		if err := run(exec.Command("sh", "-n", filepath.Join(dir, script))); err != nil {
			t.Error(err)
		}
	}
	if err := run(exec.Command("bash", "-n", filepath.Join(tree, "usr/share/bash-completion/completions/banset"))); err != nil {
		t.Error(err)
	}
}

// TestPurgeTakesTable: purge has neither our program nor nft, and takes our table out of the kernel, and no other.
func TestPurgeTakesTable(t *testing.T) {
	nfttest.Clean(t)
	text, err := scripts.ReadFile("debian/postrm")
	if err != nil {
		t.Fatal(err)
	}
	// Never run all of it: on a host that has banset it would lose its bans.
	function := regexp.MustCompile(`(?ms)^delete_table\(\) \{\n.*?^\}\n`).Find(text)
	if function == nil {
		t.Fatal("postrm has no function delete_table")
	}
	nfttest.Nft(t, `add table inet banset
		add set inet banset ban4 { type ipv4_addr; flags timeout; }
		add element inet banset ban4 { 192.0.2.1 timeout 1h }
		add chain inet banset prerouting { type filter hook prerouting priority -190; }
		add rule inet banset prerouting ip saddr @ban4 drop
		add table inet bansets
		add table ip banset`)
	for range 2 { // the second time there is none
		if err := run(exec.Command("sh", "-euc", string(function)+"delete_table banset")); err != nil {
			t.Fatal(err)
		}
		if got, want := nfttest.Run(t, "nft", "list", "tables"), "table inet bansets\ntable ip banset\n"; got != want {
			t.Errorf("tables: %q, want %q", got, want)
		}
	}
}

func TestReadRelease(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "deploy"), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(root, "deploy", "CHANGELOG.md"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const older = "\n## 0.1.0 (2026-12-01)\n\nThe first.\n\n- One\n  and more.\n- Two.\n"
	for _, test := range []struct{ name, text, epoch, given, version, time string }{
		{"released", "# Changes\n" + older, "", "", "0.1.0-1", "2026-12-01T00:00:00Z"},
		{"rebuilt", "# Changes\n" + older, "1795478400", "", "0.1.0-1", "2026-11-24T00:00:00Z"},
		{"not yet", "# Changes\n\n## 0.2.0 (unreleased)\n\n- New.\n" + older, "1795478400", "", "0.2.0~20261124.000000-1", "2026-11-24T00:00:00Z"},
		{"given", "# Changes\n\n## 0.2.0 (unreleased)\n\n- New.\n" + older, "1795478400", "7-2", "7-2", "2026-11-24T00:00:00Z"},
		{"none", "# Changes\n", "", "", "", ""},
		{"bad date", "## 0.1.0 (soon)\n", "", "", "", ""},
		{"bad epoch", "## 0.1.0 (unreleased)\n", "soon", "", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			write(test.text)
			t.Setenv("SOURCE_DATE_EPOCH", test.epoch)
			r, err := readRelease(root, test.given)
			if test.version == "" {
				if err == nil {
					t.Errorf("taken as %+v", r)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := r.time.Format(time.RFC3339); r.version != test.version || got != test.time {
				t.Errorf("%s of %s, want %s of %s", r.version, got, test.version, test.time)
			}
		})
	}
}

func TestDebianChangelog(t *testing.T) {
	r := release{version: "0.2.0-1", time: time.Unix(1795478400, 0).UTC(), changes: parseChanges(`# Changes

## 0.2.0 (unreleased)

Words before the list.

- A line that is much longer than what fits into one line of Debian's changelog, which
  has eighty columns.
- Short.

## 0.1.0 (2026-06-30)

- The first version.
`)}
	got, err := r.debianChangelog()
	if err != nil {
		t.Fatal(err)
	}
	want := `banset (0.2.0-1) unstable; urgency=medium

  * A line that is much longer than what fits into one line of Debian's
    changelog, which has eighty columns.
  * Short.

 -- ` + maintainer + `  Tue, 24 Nov 2026 00:00:00 +0000

banset (0.1.0-1) unstable; urgency=medium

  * The first version.

 -- ` + maintainer + `  Tue, 30 Jun 2026 00:00:00 +0000
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
