package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// peers are the programs that are run, and the Debian package of each.
var peers = []struct{ program, pkg string }{
	{"/usr/bin/grep", "grep"},
	{"/usr/bin/rg", "ripgrep"},
	{"/usr/bin/fail2ban-regex", "fail2ban"},
	{"/usr/share/doc/python3-pyinotify", "python3-pyinotify"}, // without it fail2ban looks at a log once a second
	{"/usr/libexec/sshguard/sshg-parser", "sshguard"},
	{"/usr/sbin/nft", "nftables"},
	{"/usr/sbin/iptables-restore", "iptables"},
	{"/usr/sbin/ip", "iproute2"},
	{"/usr/bin/taskset", "util-linux"},
}

// has reports whether a peer is here to be compared with.
func (b *bench) has(pkg string) bool {
	if b.quick {
		return false
	}
	for _, p := range peers {
		if p.pkg == pkg {
			_, err := os.Stat(p.program)
			if err != nil {
				b.say("%s is not here: not compared", pkg)
			}
			return err == nil
		}
	}
	return false
}

// policyFile is what Debian's packages ask before they start a daemon.
const policyFile = "/usr/sbin/policy-rc.d"

// installPeers installs what is missing by apt, and sees to it that no daemon is started by that.
func installPeers(note io.Writer) (err error) {
	var need []string
	for _, p := range peers {
		if _, err := os.Stat(p.program); err != nil {
			need = append(need, p.pkg)
		}
	}
	if len(need) == 0 {
		return nil
	}
	old, err := os.ReadFile(policyFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		defer func() { err = errors.Join(err, os.Remove(policyFile)) }()
	case err != nil:
		return err
	default:
		defer func() { err = errors.Join(err, os.WriteFile(policyFile, old, 0o755)) }()
	}
	if err := os.WriteFile(policyFile, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
		return err
	}
	fmt.Fprintf(note, "installing %s\n", strings.Join(need, " "))
	for _, args := range [][]string{{"update", "-qq"}, append([]string{"install", "-y", "-qq", "--no-install-recommends"}, need...)} {
		cmd := exec.Command("apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", args[0], err, lastLines(out.String()))
		}
	}
	return nil
}

// machine says in one line where and with what was measured.
func machine() string {
	var parts []string
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, model, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				parts = append(parts, fmt.Sprintf("%s, %d CPUs", strings.TrimSpace(model), runtime.NumCPU()))
				break
			}
		}
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		parts = append(parts, "Linux "+kernelNumber(string(text)))
	}
	if text, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled"); err == nil {
		if _, rest, ok := strings.Cut(string(text), "["); ok {
			chosen, _, _ := strings.Cut(rest, "]")
			parts = append(parts, "transparent huge pages: "+chosen)
		}
	}
	parts = append(parts, runtime.Version())
	for _, p := range peers {
		if p.pkg == "util-linux" || p.pkg == "iproute2" || strings.HasPrefix(p.pkg, "python3") {
			continue
		}
		version, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", p.pkg).Output()
		if err == nil && len(version) > 0 {
			parts = append(parts, p.pkg+" "+string(version))
		}
	}
	return fmt.Sprintf("Measured %s on %s.", time.Now().UTC().Format("2006-01-02 15:04Z"), strings.Join(parts, "; "))
}

// kernelNumber is the version without what a vendor adds to it.
func kernelNumber(release string) string {
	number, _, _ := strings.Cut(strings.TrimSpace(release), "-")
	return number
}
