package nfttest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/nftables"
)

// packages names the Debian package of each program that tests run.
var packages = map[string]string{
	"nft": "nftables", "ip": "iproute2", "conntrack": "conntrack", "tcpdump": "tcpdump", "unshare": "util-linux",
}

// Command prepares a program to run in the test's namespace. If the program is missing, the test fails and says
// which Debian package has it.
func Command(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrNotFound) {
		// Of the tools of root, an ordinary user's PATH finds none on Debian.
		for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
			if _, serr := os.Stat(dir + name); serr == nil {
				path, err = dir+name, nil
				break
			}
		}
	}
	if err != nil {
		t.Fatalf("this test runs the program %s: %v (Debian package %s)", name, err, packages[name])
	}
	return exec.Command(path, args...)
}

// Run runs a program in the test's namespace and returns what it printed. If it fails, so does the test.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	return output(t, Command(t, name, args...))
}

// Nft feeds a script to `nft -f -`.
func Nft(t testing.TB, script string) {
	t.Helper()
	cmd := Command(t, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	output(t, cmd)
}

func output(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, &out, &errs)
	}
	return out.String()
}

// Clean empties the namespace of all nftables rules, now and when the test ends.
func Clean(t testing.TB) {
	t.Helper()
	Flush(t)
	t.Cleanup(func() { Flush(t) })
}

// Flush empties the namespace of all nftables rules in one transaction, as `nft flush ruleset` does, and returns at
// once. Outside a namespace that Main made it fails the test and touches nothing.
func Flush(t testing.TB) {
	t.Helper()
	if os.Getenv(inside) == "" {
		t.Fatal("nfttest outside a namespace of ours would empty the machine's ruleset: TestMain must call nfttest.Main")
	}
	c, err := nftables.New(nftables.AsLasting())
	if err == nil {
		c.FlushRuleset()
		err = c.Flush()
		go c.CloseLasting() // which waits until the kernel has freed all of it
	}
	if err != nil {
		t.Errorf("flush the namespace's ruleset: %v", err)
	}
}
