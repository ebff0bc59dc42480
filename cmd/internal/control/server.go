package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxRequest bounds one request, in bytes.
	maxRequest = 1 << 20
	// maxConns bounds the connections served at once.
	maxConns = 32
	// slowest is how long a client may take to send its request or to take a piece of its answer.
	slowest = 10 * time.Second
	// maxPath is the longest path of a unix socket, in bytes; see unix(7).
	maxPath = 107
)

// A Cred is who is at the other end of a connection, as the kernel tells it (SO_PEERCRED, unix(7)).
type Cred struct {
	UID, GID uint32
	PID      int32
}

// A Handler answers one request of a caller that may make it. It is called from several goroutines at once.
type Handler func(context.Context, Cred, Request) Answer

// A Server answers requests on a unix socket.
type Server struct {
	listener *net.UnixListener
	path     string
	info     os.FileInfo
}

// Listen makes the socket at path: mode 0660, in a directory that is made if need be. A socket that nobody answers on
// is taken over; one that somebody does is an error.
func Listen(path string) (*Server, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("socket %s: the path is longer than %d bytes: choose a shorter one", path, maxPath)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("making the directory of the socket: %w", err)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("socket %s: something that is not a socket has that name", path)
		}
		conn, err := net.Dial("unix", path)
		if err == nil {
			conn.Close()
			return nil, fmt.Errorf("socket %s: another daemon answers there", path)
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			return nil, fmt.Errorf("socket %s: %w", path, err)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("removing a socket that nobody answers on: %w", err)
		}
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // Close looks first whose it is
	s := &Server{listener: listener, path: path}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if s.info, err = os.Lstat(path); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close ends listening and removes the socket, if it is still ours. It may be called more than once.
func (s *Server) Close() error {
	if info, err := os.Lstat(s.path); err == nil && (s.info == nil || os.SameFile(info, s.info)) {
		os.Remove(s.path)
	}
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Serve answers requests until ctx ends, and then until those under way are answered.
func (s *Server) Serve(ctx context.Context, h Handler) error {
	stop := context.AfterFunc(ctx, func() { s.listener.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	room := make(chan struct{}, maxConns)
	for {
		conn, err := s.listener.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			// Out of descriptors: it passes, and bans go on meanwhile.
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			conn.Close()
			return nil
		}
		wg.Go(func() {
			defer func() { <-room }()
			defer conn.Close()
			serve(ctx, conn, h)
		})
	}
}

// serve answers the one request of a connection. Who does not take the answer does not get it.
func serve(ctx context.Context, conn *net.UnixConn, h Handler) {
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	out := bufio.NewWriterSize(&patient{conn}, 64<<10)
	encoder := json.NewEncoder(out)
	encoder.Encode(answer(ctx, conn, h))
	out.Flush()
}

func answer(ctx context.Context, conn *net.UnixConn, h Handler) Answer {
	cred, err := peer(conn)
	if err != nil {
		return Answer{Error: fmt.Sprintf("asking the kernel who you are: %v", err)}
	}
	conn.SetReadDeadline(time.Now().Add(slowest))
	if ctx.Err() != nil {
		return Answer{Error: "the daemon is stopping"}
	}
	line, err := bufio.NewReader(io.LimitReader(conn, maxRequest)).ReadBytes('\n')
	if err != nil {
		return Answer{Error: fmt.Sprintf("no request in one line of at most %d bytes came", maxRequest)}
	}
	var r Request
	if err := json.Unmarshal(line, &r); err != nil {
		return Answer{Error: fmt.Sprintf("the request can't be read: %v", err)}
	}
	if !may(cred, r.Op) {
		return Answer{Error: fmt.Sprintf("user %d may not %s: that takes root", cred.UID, r.Op), Denied: true}
	}
	return h(ctx, cred, r)
}

// may says who may ask for what: root and the daemon's own user for everything, and whom the socket's mode lets in
// beside them for a look.
func may(c Cred, op Op) bool {
	switch op {
	case OpStatus, OpList, OpWhy:
		return true
	}
	return c.UID == 0 || c.UID == uint32(os.Geteuid())
}

func peer(conn *net.UnixConn) (Cred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Cred{}, err
	}
	var c *unix.Ucred
	var sockErr error
	if err := raw.Control(func(fd uintptr) {
		c, sockErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return Cred{}, err
	}
	if sockErr != nil {
		return Cred{}, sockErr
	}
	return Cred{UID: c.Uid, GID: c.Gid, PID: c.Pid}, nil
}

// patient gives the client a while for each piece of an answer: a long list is fine, a client that stopped is not.
type patient struct{ conn *net.UnixConn }

func (p *patient) Write(b []byte) (int, error) {
	if err := p.conn.SetWriteDeadline(time.Now().Add(slowest)); err != nil {
		return 0, err
	}
	return p.conn.Write(b)
}
