// Command package builds the Debian packages, banset_VERSION_ARCH.deb, from this tree:
//
//	go run ./deploy/package [-o DIR] [-version VERSION] [ARCH...]
//
// It needs Go and dpkg-deb. The same sources, version and Go make the same bytes, on any machine.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	out := flag.String("o", ".", "`directory` for the packages")
	version := flag.String("version", "", "Debian `version`; default: that of deploy/CHANGELOG.md")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: go run ./deploy/package [-o DIR] [-version VERSION] [ARCH...]   (default: amd64 arm64)")
		flag.PrintDefaults()
	}
	flag.Parse()
	arches := flag.Args()
	if len(arches) == 0 {
		arches = []string{"amd64", "arm64"}
	}
	if err := build(*out, *version, arches); err != nil {
		fmt.Fprintln(os.Stderr, "package:", err)
		os.Exit(1)
	}
}

// build makes a package for each architecture and names it on stdout.
func build(out, version string, arches []string) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	r, err := readRelease(root, version)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "banset-package-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	// The program's own completions are the same for every architecture, and only this machine's program runs here.
	native := filepath.Join(work, "banset")
	if err := compile(root, native, "", r.version); err != nil {
		return err
	}
	for _, arch := range arches {
		program := filepath.Join(work, "banset-"+arch)
		if err := compile(root, program, arch, r.version); err != nil {
			return err
		}
		files, err := contents(root, r, program, native)
		if err != nil {
			return err
		}
		deb := filepath.Join(out, fmt.Sprintf("banset_%s_%s.deb", r.version, arch))
		if err := pack(deb, filepath.Join(work, "tree-"+arch), arch, r, files); err != nil {
			return err
		}
		fmt.Println(deb)
	}
	return nil
}
