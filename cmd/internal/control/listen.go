package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrRunning is what Listen returns when another daemon answers on the socket, or is about to.
var ErrRunning = errors.New("another daemon is running")

const (
	socketMode = 0o660
	lockSuffix = ".lock"
)

// A Server is the daemon's socket. Clients may connect from Listen on; they are answered by Serve.
type Server struct {
	path string
	info fs.FileInfo // of the socket's file
	ln   *net.UnixListener
	lock *os.File

	closing  sync.Once
	closeErr error

	mu             sync.Mutex
	owners, others int // connections now

	requestTime, answerTime time.Duration // see server.go; tests shorten them
}

// Listen makes the socket at path, and its directory (0755) if there is none. A socket that a dead daemon left is
// replaced; if a daemon lives, the error is ErrRunning and names it. A file that is no socket is left alone.
//
// The socket's mode is 0660 and its group is what the system gives it: the daemon's own, or the directory's if that has
// the set-group-ID bit.
func Listen(path string) (*Server, error) {
	path, err := socketPath(path)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, advise("make the directory of", path, err)
	}
	// Between finding out that a socket is dead and replacing it, another daemon could do the same, and take ours for
	// dead. Hence a lock, which the daemon holds as long as it lives. Only its owner can open it.
	lock, err := takeLock(path)
	if err != nil {
		return nil, advise("lock", path, err)
	}
	s := &Server{path: path, lock: lock, requestTime: requestTime, answerTime: answerTime}
	if err := s.bind(); err != nil {
		_ = s.Close()
		return nil, advise("listen on", path, err)
	}
	return s, nil
}

// bind makes the socket's file: first with no rights for anybody else, then with the group's.
func (s *Server) bind() error {
	switch fi, err := os.Lstat(s.path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case fi.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%w and no socket: remove it, or set socket to another path", fs.ErrExist)
	default:
		if err := running(s.path); err != nil {
			return err
		}
		if err := os.Remove(s.path); err != nil {
			return err
		}
	}
	var err error
	if s.ln, err = listenClosed(s.path); err != nil {
		return err
	}
	s.ln.SetUnlinkOnClose(false) // not without looking whose it is
	if s.info, err = os.Lstat(s.path); err != nil {
		return err
	}
	return os.Chmod(s.path, socketMode)
}

// listenClosed makes a socket that only its owner may connect to, from the first moment: its file gets the mode of the
// socket (unix(7)). To change the process's umask instead would reach into what other goroutines do.
func listenClosed(path string) (*net.UnixListener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		ctlErr := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(ctlErr, err)
	}}
	ln, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	return ln.(*net.UnixListener), nil
}

// running returns ErrRunning if somebody listens at path, nil if nobody does.
func running(path string) error {
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		defer conn.Close()
		if c, _, err := peer(conn.(*net.UnixConn)); err == nil {
			return fmt.Errorf("%w: %s", ErrRunning, program(c.PID))
		}
		return ErrRunning
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, unix.EAGAIN), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w, but does not answer", ErrRunning)
	}
	return err
}

// takeLock locks the file beside the socket.
func takeLock(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path+lockSuffix, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			// Its last holder may have removed it between our open and lock: then it keeps nobody out.
			own, err1 := f.Stat()
			there, err2 := os.Lstat(path + lockSuffix)
			if err1 == nil && err2 == nil && os.SameFile(own, there) {
				return f, nil
			}
			f.Close()
			continue
		}
		f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, err
		}
		if err := running(path); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: it just starts or stops", ErrRunning)
	}
}

// Path is the socket's absolute path.
func (s *Server) Path() string { return s.path }

// Close removes the socket, if it is still ours, and ends Serve. A second call does nothing and returns the same.
func (s *Server) Close() error {
	s.closing.Do(func() {
		if s.ln != nil {
			if s.info != nil {
				if there, err := os.Lstat(s.path); err == nil && os.SameFile(there, s.info) {
					s.closeErr = os.Remove(s.path)
				}
			}
			s.closeErr = errors.Join(s.closeErr, s.ln.Close())
		}
		// Removed while locked: who opened it before finds out that it is gone.
		if own, err := s.lock.Stat(); err == nil {
			if there, err := os.Lstat(s.path + lockSuffix); err == nil && os.SameFile(there, own) {
				_ = os.Remove(s.path + lockSuffix)
			}
		}
		s.closeErr = errors.Join(s.closeErr, s.lock.Close())
	})
	return s.closeErr
}

// advise wraps err with what was being done to the socket and, where there is something to do about it, what.
func advise(doing, path string, err error) error {
	advice := ""
	switch {
	case errors.Is(err, ErrRunning):
		advice = ": stop it first"
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.ENOTDIR):
		advice = ": set socket to another path"
	case errors.Is(err, fs.ErrPermission):
		advice = ": run as root, or set socket to a path of your own"
	}
	return fmt.Errorf("%s socket %s: %w%s", doing, path, err, advice)
}
