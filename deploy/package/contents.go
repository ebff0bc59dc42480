package main

import (
	"bytes"
	"compress/gzip"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// A file of the package. A directory has a path that ends in a slash, and no data.
type file struct {
	path string // in the package, without the leading slash
	mode fs.FileMode
	data []byte
}

// contents is every file of the package. native is the program for this machine, which prints its own completions.
func contents(root string, r release, program, native string) ([]file, error) {
	var files []file
	var failed error
	add := func(to string, mode fs.FileMode, data []byte, err error) {
		if err != nil && failed == nil {
			failed = err
		}
		files = append(files, file{to, mode, data})
	}
	plain := func(to, from string) {
		data, err := os.ReadFile(filepath.Join(root, from))
		add(to, 0o644, data, err)
	}
	packed := func(to, from string) {
		data, err := os.ReadFile(filepath.Join(root, from))
		add(to, 0o644, compress(data), err)
	}
	data, err := os.ReadFile(program)
	add("usr/sbin/banset", 0o755, data, err)

	plain("etc/banset/banset.yaml", "deploy/banset.yaml")
	add("etc/banset/conf.d/", 0o755, nil, nil)
	plain("usr/lib/systemd/system/banset.service", "deploy/systemd/banset.service")
	plain("usr/lib/systemd/system/banset-restore.service", "deploy/systemd/banset-restore.service")
	plain("usr/lib/sysusers.d/banset.conf", "deploy/systemd/sysusers.conf")

	pages, err := filepath.Glob(filepath.Join(root, "deploy/man/*.[1-9]"))
	if err != nil {
		return nil, err
	}
	for _, page := range pages {
		name := filepath.Base(page)
		packed("usr/share/man/man"+strings.TrimPrefix(path.Ext(name), ".")+"/"+name+".gz", "deploy/man/"+name)
	}
	for shell, to := range map[string]string{
		"bash": "usr/share/bash-completion/completions/banset",
		"zsh":  "usr/share/zsh/vendor-completions/_banset",
		"fish": "usr/share/fish/vendor_completions.d/banset.fish",
	} {
		script, err := output("", native, "completion", shell)
		add(to, 0o644, []byte(script+"\n"), err)
	}

	const doc = "usr/share/doc/banset/"
	plain(doc+"copyright", "deploy/package/debian/copyright")
	plain(doc+"README.md", "README.md")
	plain(doc+"examples/reference.yaml", "deploy/reference.yaml")
	plain(doc+"examples/grafana.json", "deploy/grafana/banset.json")
	packed(doc+"changelog.gz", "deploy/CHANGELOG.md")
	changes, err := r.debianChangelog()
	add(doc+"changelog.Debian.gz", 0o644, compress(changes), err)
	plain("usr/share/lintian/overrides/banset", "deploy/package/debian/lintian-overrides")
	return files, failed
}

// compress is gzip -9n: no name, no time.
func compress(data []byte) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // fails for a bad level only
	w.Write(data)                                         // a Buffer takes everything
	w.Close()
	return b.Bytes()
}
