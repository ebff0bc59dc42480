package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// These tests stop the writer at every system call that touches the file system, for real: the thread that writes has
// a seccomp filter which hands each such call to another thread of the process before the kernel does it, and that one
// lets it be done, makes it fail, or kills the process. See seccomp_unotify(2).

// fileCalls are the system calls by which a thread can change a file or learn that it is safe.
var fileCalls = map[int]string{
	unix.SYS_OPENAT: "open", unix.SYS_WRITE: "write", unix.SYS_PWRITE64: "write", unix.SYS_FSYNC: "sync", unix.SYS_FDATASYNC: "sync",
	unix.SYS_FTRUNCATE: "truncate", unix.SYS_RENAMEAT: "rename", unix.SYS_RENAMEAT2: "rename", unix.SYS_LINKAT: "link",
	unix.SYS_UNLINKAT: "unlink", unix.SYS_FCHMOD: "chmod", unix.SYS_FCHOWN: "chown", unix.SYS_MKDIRAT: "mkdir",
	unix.SYS_SYMLINKAT: "symlink", unix.SYS_CLOSE: "close",
}

// A fileCall is one such call, before it is done.
type fileCall struct {
	name string
	path string // of the file it is about: what an argument says, or what the descriptor leads to
}

// supervised runs f in a thread whose file calls verdict decides: 0 lets the call be done, an error makes it fail.
// verdict runs in another thread, and may end the process.
func supervised(f func() error, verdict func(fileCall) syscall.Errno) error {
	listener := make(chan int, 1)
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and ends with this goroutine: the filter stays for the thread's life
		fd, err := superviseThread()
		if err != nil {
			listener <- -1
			result <- err
			return
		}
		listener <- fd
		result <- f()
	}()
	var mu sync.Mutex // the caller sees what verdict did
	if fd := <-listener; fd >= 0 {
		go judgeCalls(fd, func(c fileCall) syscall.Errno {
			mu.Lock()
			defer mu.Unlock()
			return verdict(c)
		})
	}
	err := <-result
	mu.Lock()
	defer mu.Unlock()
	return err
}

// superviseThread puts the calling thread's file calls under supervision and returns the listener.
func superviseThread() (int, error) {
	wakes, err := wakeDescriptors()
	if err != nil {
		return 0, err
	}
	// if (fd == one of the wakes && nr == write) return ALLOW; if (nr == one of them) return USER_NOTIF; return ALLOW
	const offsetNr, offsetArg0 = 0, 16 // struct seccomp_data, little endian
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	equal := func(k uint32, yes, no int) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: uint8(yes), Jf: uint8(no)}
	}
	var program []unix.SockFilter
	for _, fd := range wakes {
		program = append(program, load(offsetArg0), equal(uint32(fd), 0, 3), load(offsetNr), equal(unix.SYS_WRITE, 0, 1),
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	}
	program = append(program, load(offsetNr))
	left := len(fileCalls)
	for nr := range fileCalls {
		program = append(program, equal(uint32(nr), left, 0))
		left--
	}
	program = append(program,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF})
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, err
	}
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	// A signal, as the Go runtime sends them, must not make the thread ask twice.
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return 0, fmt.Errorf("seccomp: %w", errno)
	}
	return int(fd), nil
}

// wakeDescriptors returns the descriptors by which the Go runtime wakes its own poller. It writes to them from inside the
// scheduler, where the thread can't be stopped: to wait for a verdict there, while the collector stops all others, is to
// wait for ever.
func wakeDescriptors() ([]int, error) {
	time.AfterFunc(time.Hour, func() {}).Stop() // the poller exists from the first timer on
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	var fds []int
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.Contains(to, "[eventfd]") {
			fd, err := strconv.Atoi(e.Name())
			if err != nil {
				return nil, err
			}
			fds = append(fds, fd)
		}
	}
	if len(fds) == 0 {
		return nil, errors.New("the runtime's poller has no eventfd")
	}
	return fds, nil
}

// judgeCalls answers the notifications of a listener.
func judgeCalls(listener int, verdict func(fileCall) syscall.Errno) {
	defer unix.Close(listener)
	for {
		poll := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err == unix.EINTR {
			continue
		} else if err != nil || poll[0].Revents&unix.POLLIN == 0 {
			return // the thread is gone
		}
		// struct seccomp_notif: id, pid, flags, then seccomp_data: nr, arch, ip, args[6].
		var notif [80]byte
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&notif))); errno != 0 {
			continue // it was interrupted before we heard of it, and asks again
		}
		nr := int(int32(binary.NativeEndian.Uint32(notif[16:])))
		arg := func(i int) uint64 { return binary.NativeEndian.Uint64(notif[32+8*i:]) }
		call := fileCall{name: fileCalls[nr]}
		switch nr {
		case unix.SYS_OPENAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_LINKAT, unix.SYS_UNLINKAT, unix.SYS_MKDIRAT:
			call.path = stringAt(arg(1))
		default:
			call.path, _ = os.Readlink("/proc/self/fd/" + strconv.FormatUint(arg(0), 10))
		}
		errno := verdict(call)
		// struct seccomp_notif_resp: id, val, error, flags.
		var resp [24]byte
		copy(resp[:8], notif[:8])
		if errno == 0 {
			binary.NativeEndian.PutUint32(resp[20:], unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE)
		} else {
			binary.NativeEndian.PutUint32(resp[16:], uint32(-int32(errno)))
		}
		unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&resp)))
	}
}

// stringAt reads a string of this process by the address that a call was given.
func stringAt(addr uint64) string {
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		return ""
	}
	defer mem.Close()
	var buf [512]byte
	n, _ := mem.ReadAt(buf[:], int64(addr))
	s, _, _ := strings.Cut(string(buf[:n]), "\x00")
	return s
}

// stopAt returns a verdict that kills the process with SIGKILL before the nth call that is about the directory, from 1.
func stopAt(n int, dir string) func(fileCall) syscall.Errno {
	return func(c fileCall) syscall.Errno {
		if !strings.HasPrefix(c.path, dir) {
			return 0
		}
		if n--; n == 0 {
			// What is under way, nothing is done any more in this process: the thread waits for our answer.
			unix.Kill(unix.Getpid(), unix.SIGKILL)
			select {}
		}
		return 0
	}
}
