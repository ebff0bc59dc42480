package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// inPrivateRoom runs this program again with args, in network and mount namespaces of its own, and returns its exit
// status. Who is not root becomes root of a user namespace for it, which gives no right outside. The child dies with
// its parent.
func inPrivateRoom(args []string, stdout, stderr io.Writer) (int, error) {
	// Pdeathsig is sent when the thread that started the child ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = "banset"
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS,
		Pdeathsig:  unix.SIGKILL,
	}
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}}
	}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("making private namespaces: %w", namespaceAdvice(err))
	}
	return exitFine, nil
}

// errNoNamespaces says that the kernel does not give this user namespaces.
var errNoNamespaces = errors.New("not allowed here; allow it (sysctl kernel.unprivileged_userns_clone=1, " +
	"user.max_user_namespaces above 0), or run the demo as root")

// namespaceAdvice names the setting that is in the way.
func namespaceAdvice(err error) error {
	switch {
	case errors.Is(err, unix.EPERM) && os.Geteuid() == 0:
		return errors.New("not allowed here, not even for root: a container without CAP_SYS_ADMIN; run the demo outside of it")
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EUSERS), errors.Is(err, unix.EACCES):
		return errNoNamespaces
	}
	return err
}

// furnishRoom gives the private mount namespace, in which the caller must be, an empty /tmp of its own, in memory.
func furnishRoom() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keeping mounts private: %w", namespaceAdvice(err))
	}
	if err := unix.Mount("banset-demo", "/tmp", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=16m,mode=0700"); err != nil {
		return fmt.Errorf("mounting a private /tmp: %w", namespaceAdvice(err))
	}
	return nil
}
