// Package nfttest gives the tests of a package a private network namespace, so that they meet the real kernel and
// touch nothing of the machine. Use it as
//
//	func TestMain(m *testing.M) { nfttest.Main(m) }
//
// It works for root and, where the system allows user namespaces, for everybody. It never skips: a test that did not
// run proves nothing.
package nfttest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inside marks the test binary that runs in the namespace; processes that it starts inherit it.
const inside = "NFTTEST_NAMESPACE"

// Main runs the tests of m in a network namespace of their own, with the loopback interface up, by starting the test
// binary again. It does not return.
func Main(m *testing.M) {
	if os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	os.Exit(again())
}

// again starts the test binary with the same arguments in a new namespace and returns its exit status.
func again() int {
	exe, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "nfttest:", err)
		return 1
	}
	cmd := exec.Command(exe, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET,
		Pdeathsig:  unix.SIGKILL,
	}
	if !mayUnshare() {
		a := cmd.SysProcAttr
		a.Cloneflags |= unix.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	err = cmd.Start()
	if err != nil {
		fmt.Fprintf(os.Stderr, "nfttest: no private network namespace: %v\n%s", err, advice)
		return 1
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, "nfttest:", err)
		return 1
	}
	return 0
}

const advice = `These tests need a network namespace of their own. Run them as root, or let everybody make user namespaces:
	sysctl -w kernel.unprivileged_userns_clone=1              (Debian)
	sysctl -w user.max_user_namespaces=10000
	sysctl -w kernel.apparmor_restrict_unprivileged_userns=0  (Ubuntu)
In a container they need --cap-add SYS_ADMIN,NET_ADMIN, or a seccomp profile that allows unshare.
`

// mayUnshare reports whether this process may make a network namespace without a user namespace around it.
func mayUnshare() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

func init() {
	if os.Getenv(inside) == "" {
		return
	}
	if err := loopbackUp(); err != nil {
		fmt.Fprintf(os.Stderr, "nfttest: bring up lo in the namespace: %v\n%s", err, advice)
		os.Exit(1)
	}
}

// loopbackUp brings lo up in the thread's namespace.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

// InUserNamespace reports whether the tests run in a user namespace: without rights outside it, where the kernel
// caps socket buffers.
func InUserNamespace() bool {
	p, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(p)), " ") != "0 0 4294967295"
}
