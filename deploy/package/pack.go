package main

import (
	"crypto/md5"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"
)

// pack writes the files to the directory tree, which must not exist, and makes a package of it.
func pack(deb, tree, arch string, r release, files []file) error {
	// What dpkg-deb packs are the modes that it finds: no umask may change them.
	mkdir := func(dir string) error {
		for at := range prefixes(dir) {
			path := filepath.Join(tree, at)
			if err := os.Mkdir(path, 0o755); err != nil && !os.IsExist(err) {
				return err
			}
			if err := os.Chmod(path, 0o755); err != nil {
				return err
			}
		}
		return nil
	}
	put := func(f file) error {
		if dir, ok := strings.CutSuffix(f.path, "/"); ok {
			return mkdir(dir)
		}
		if err := mkdir(filepath.Dir(f.path)); err != nil {
			return err
		}
		path := filepath.Join(tree, f.path)
		if err := os.WriteFile(path, f.data, f.mode); err != nil {
			return err
		}
		return os.Chmod(path, f.mode)
	}
	control, err := controlFiles(arch, r, files)
	if err != nil {
		return err
	}
	for _, f := range append(control, files...) {
		if err := put(f); err != nil {
			return err
		}
	}
	// One thread, because the size of the machine must not show, and xz because every dpkg reads it.
	cmd := exec.Command("dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1", "--build", tree, deb)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+strconv.FormatInt(r.time.Unix(), 10))
	return run(cmd)
}

// prefixes yields "", a, a/b, a/b/c for a/b/c.
func prefixes(dir string) func(func(string) bool) {
	return func(yield func(string) bool) {
		if !yield("") {
			return
		}
		for i := range dir {
			if dir[i] == '/' && !yield(dir[:i]) {
				return
			}
		}
		yield(dir)
	}
}

//go:embed debian
var scripts embed.FS

// controlFiles is what dpkg itself reads of a package.
func controlFiles(arch string, r release, files []file) ([]file, error) {
	var conffiles, sums strings.Builder
	size := 0
	sorted := slices.Clone(files)
	slices.SortFunc(sorted, func(a, b file) int { return strings.Compare(a.path, b.path) })
	for _, f := range sorted {
		if strings.HasSuffix(f.path, "/") {
			size++
			continue
		}
		size += (len(f.data) + 1023) / 1024
		if strings.HasPrefix(f.path, "etc/") {
			conffiles.WriteString("/" + f.path + "\n")
		} else {
			fmt.Fprintf(&sums, "%x  %s\n", md5.Sum(f.data), f.path)
		}
	}
	text, err := scripts.ReadFile("debian/control")
	if err != nil {
		return nil, err
	}
	t, err := template.New("control").Option("missingkey=error").Parse(string(text))
	if err != nil {
		return nil, err
	}
	var control strings.Builder
	if err := t.Execute(&control, map[string]any{
		"Version": r.version, "Arch": arch, "Maintainer": maintainer, "InstalledSize": size,
	}); err != nil {
		return nil, err
	}
	out := []file{
		{"DEBIAN/control", 0o644, []byte(control.String())},
		{"DEBIAN/conffiles", 0o644, []byte(conffiles.String())},
		{"DEBIAN/md5sums", 0o644, []byte(sums.String())},
	}
	for _, name := range []string{"postinst", "prerm", "postrm"} {
		script, err := scripts.ReadFile("debian/" + name)
		if err != nil {
			return nil, err
		}
		out = append(out, file{"DEBIAN/" + name, 0o755, script})
	}
	return out, nil
}
