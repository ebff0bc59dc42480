package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// moduleRoot is the directory of go.mod.
func moduleRoot() (string, error) {
	mod, err := output("", "go", "env", "GOMOD")
	if err != nil {
		return "", err
	}
	if !filepath.IsAbs(mod) || filepath.Base(mod) != "go.mod" {
		return "", errors.New("not inside the module: run it in the tree of banset")
	}
	return filepath.Dir(mod), nil
}

// compile builds the static program for an architecture ("": this machine's). Nothing of this machine gets into it:
// no path, no setting of its environment, no state of a repository.
func compile(root, to, arch, version string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.release="+version,
		"-o", to, "./cmd/banset")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0")
	if arch != "" {
		cmd.Env = append(cmd.Env, "GOOS=linux", "GOARCH="+arch)
	}
	return run(cmd)
}

// output runs a command and returns what it prints, without the white space at the end.
func output(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := run(cmd); err != nil {
		return "", err
	}
	return strings.TrimSpace(out.String()), nil
}

// run runs a command whose messages are part of the error.
func run(cmd *exec.Cmd) error {
	var messages bytes.Buffer
	cmd.Stderr = &messages
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, messages.Bytes())
	}
	return nil
}
