package main

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// suites are the releases and what Debian's archive calls them.
var suites = map[string]string{"12": "bookworm", "13": "trixie"}

//go:embed image.sh all:guest
var recipe embed.FS

// fingerprint changes with everything an image is made of but the archive.
func fingerprint() (string, error) {
	h := sha256.New()
	err := fs.WalkDir(recipe, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := recipe.ReadFile(path)
		fmt.Fprintf(h, "%s %d\n%s", path, len(data), data)
		return err
	})
	return hex.EncodeToString(h.Sum(nil))[:10], err
}

// imageDir is where the image of a release is kept: disk, vmlinuz, initrd.
func (o *options) imageDir(release string) (string, error) {
	sum, err := fingerprint()
	return filepath.Join(o.cache, "debian-"+release+"-"+sum), err
}

// image makes the image of a release unless there is one.
func (o *options) image(release string) error {
	dir, err := o.imageDir(release)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "disk")); err == nil {
		return nil
	}
	mirror := o.mirror
	if mirror == "" {
		mirror = aptMirror()
	}
	note("Debian %s: an image is made in %s", release, dir)
	old, err := filepath.Glob(filepath.Join(o.cache, "debian-"+release+"-*"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "banset-recipe-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := os.CopyFS(work, recipe); err != nil {
		return err
	}
	cmd := exec.Command("sh", filepath.Join(work, "image.sh"), suites[release], mirror, dir, filepath.Join(work, "guest"))
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("image.sh: %w\n%s", err, lastLines(string(text), 20))
	}
	return nil
}

// aptMirror is the archive that apt uses on this host, or Debian's own.
func aptMirror() string {
	out, err := exec.Command("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian",
		"Label: Debian").Output()
	if uri, _, _ := strings.Cut(string(out), "\n"); err == nil && uri != "" {
		return strings.TrimSuffix(uri, "/")
	}
	return "http://deb.debian.org/debian"
}

// Versions of the two packages that a run makes.
const (
	oldVersion = "0.0.1~test1"
	newVersion = "0.0.1~test2"
)

// packages makes dir/packages.tar, a disk for the machines: the package, old.deb and new.deb.
func packages(dir string) error {
	note("two packages are made")
	for name, version := range map[string]string{"old.deb": oldVersion, "new.deb": newVersion} {
		out := filepath.Join(dir, version)
		if err := os.Mkdir(out, 0o755); err != nil {
			return err
		}
		cmd := exec.Command("go", "run", "banset/deploy/package", "-o", out, "-version", version, "amd64")
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, text)
		}
		debs, err := filepath.Glob(filepath.Join(out, "*.deb"))
		if err != nil {
			return err
		}
		if len(debs) != 1 {
			return errors.New("not one package in " + out)
		}
		if err := os.Rename(debs[0], filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if out, err := exec.Command("tar", "-C", dir, "-cf", filepath.Join(dir, "packages.tar"), "old.deb", "new.deb").CombinedOutput(); err != nil {
		return fmt.Errorf("tar: %w\n%s", err, out)
	}
	return nil
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
