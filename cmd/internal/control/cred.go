package control

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Cred says which process is at the other end, as the kernel knows it (SO_PEERCRED): it can't be made up. It is what
// the process was when it connected.
type Cred struct {
	UID, GID uint32
	PID      int32 // 0: in a PID namespace that is out of sight
}

// String is for the log: "UID 0, PID 815 (banset)".
func (c Cred) String() string { return fmt.Sprintf("UID %d, %s", c.UID, program(c.PID)) }

// program names a process for people.
func program(pid int32) string {
	if pid <= 0 {
		return "a process out of sight"
	}
	comm, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(int(pid)), "comm"))
	if err != nil {
		return fmt.Sprintf("PID %d", pid)
	}
	// A process chooses its own name: it could hold anything.
	return fmt.Sprintf("PID %d (%s)", pid, strings.Trim(strconv.QuoteToASCII(strings.TrimSpace(string(comm))), `"`))
}

// A right is what an operation takes.
type right int

const (
	anybody right = iota // whoever the socket's group lets in
	owner                // root, or the user whom the daemon runs as
)

// rights lists every operation.
var rights = map[Op]right{
	OpStatus: anybody,
	OpList:   anybody,
	OpWhy:    anybody,
	OpBan:    owner,
	OpUnban:  owner,
	OpReload: owner,
	OpFlush:  owner,
}

// errDenied says that the client lacks a right, and which.
var errDenied = errors.New("permission denied")

// allow decides whether c may do op. gid is the socket's group, groups are the peer's supplementary ones.
//
// The kernel lets connect whoever may write the socket file. That is asked again here, so that a socket whose mode
// somebody widened still tells nobody but its group.
func allow(c Cred, groups []uint32, gid uint32, op Op) error {
	if owns(c) {
		return nil
	}
	if c.GID != gid && !slices.Contains(groups, gid) {
		return fmt.Errorf("%w: you must be root, or in the group of the socket", errDenied)
	}
	if rights[op] == owner {
		return fmt.Errorf("%w: only root may %s", errDenied, op)
	}
	return nil
}

// owns reports whether c may do everything.
func owns(c Cred) bool { return c.UID == 0 || c.UID == uint32(os.Geteuid()) }

// peer asks the kernel who is at the other end of conn.
func peer(conn *net.UnixConn) (c Cred, groups []uint32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Cred{}, nil, err
	}
	var ucred *unix.Ucred
	ctlErr := raw.Control(func(fd uintptr) {
		if ucred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			groups, err = peerGroups(fd)
		}
	})
	if err = errors.Join(ctlErr, err); err != nil {
		return Cred{}, nil, fmt.Errorf("ask for the peer's credentials: %w", err)
	}
	return Cred{UID: ucred.Uid, GID: ucred.Gid, PID: ucred.Pid}, groups, nil
}

// peerGroups reads SO_PEERGROUPS (socket(7), Linux 4.13), for which x/sys has no function: an array of gid_t. The kernel
// answers ERANGE with the size it needs.
func peerGroups(fd uintptr) ([]uint32, error) {
	groups := make([]uint32, 64)
	for {
		size := uint32(len(groups) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == 0:
			return groups[:size/4], nil
		case errno == unix.ERANGE && int(size/4) > len(groups):
			groups = make([]uint32, size/4)
		default:
			return nil, errno
		}
	}
}
