package control

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Handler does what a request asks for. Its operation and hosts are valid and the client may ask for it. Several
// calls may run at once. ctx ends when the daemon stops; the handler must then return soon, for Serve waits for it.
type Handler func(ctx context.Context, who Cred, req Request) Answer

const (
	// requestTime is how long a client may take to send its request, answerTime to take its answer (of a million bans
	// perhaps: some 150 MB).
	requestTime = 10 * time.Second
	answerTime  = 60 * time.Second
	// stopTime is how long an answer may still take once the daemon stops.
	stopTime = 2 * time.Second

	// Connections at once; those above are told so. Whoever only may look can't take the places of the owner.
	maxOwners = 48
	maxOthers = 16

	// acceptPause is how long to wait when the process is out of descriptors or memory.
	acceptPause = 50 * time.Millisecond
)

// Serve answers requests until ctx ends or the server is closed, then finishes what it has begun, closes the server and
// returns nil. Any other end is an error. It may be called once.
func (s *Server) Serve(ctx context.Context, h Handler) error {
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	var running sync.WaitGroup
	err := s.accept(ctx, func(conn *net.UnixConn, who Cred, groups []uint32, done func()) {
		running.Go(func() {
			defer done()
			s.answer(ctx, conn, who, groups, h)
		})
	})
	running.Wait()
	if closeErr := s.Close(); err == nil {
		err = closeErr
	}
	return err
}

// accept hands each connection to serve, which must not wait and must call done at the connection's end.
func (s *Server) accept(ctx context.Context, serve func(conn *net.UnixConn, who Cred, groups []uint32, done func())) error {
	for {
		conn, err := s.ln.AcceptUnix()
		switch {
		case err == nil:
		case errors.Is(err, net.ErrClosed):
			return nil
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOBUFS),
			errors.Is(err, unix.ENOMEM), errors.Is(err, unix.ECONNABORTED):
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		default:
			return advise("accept on", s.path, err)
		}
		who, groups, err := peer(conn)
		if err != nil {
			refuse(conn, err.Error())
			continue
		}
		n := s.place(who)
		if n == nil {
			refuse(conn, "the daemon has too many connections: try again")
			continue
		}
		serve(conn, who, groups, func() {
			s.mu.Lock()
			*n--
			s.mu.Unlock()
		})
	}
}

// place counts a connection of who, or returns nil when there are too many.
func (s *Server) place(who Cred) *int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, most := &s.others, maxOthers
	if owns(who) {
		n, most = &s.owners, maxOwners
	}
	if *n >= most {
		return nil
	}
	*n++
	return n
}

// refuse answers a client without hearing it. So short a text always fits into the socket's buffer: it never waits.
func refuse(conn *net.UnixConn, text string) {
	_ = conn.SetWriteDeadline(time.Now().Add(requestTime))
	_ = writeAnswer(conn, Answer{Error: text})
	_ = conn.Close()
}

// answer serves one connection. What goes wrong with it is the client's to see.
func (s *Server) answer(ctx context.Context, conn *net.UnixConn, who Cred, groups []uint32, h Handler) {
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(s.requestTime))
	stopReading := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
	req, err := readRequest(conn)
	stopReading()
	if errors.Is(err, io.EOF) {
		return // somebody looked whether we live
	}

	a := Answer{}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
		a.Error = "the daemon is stopping"
	case errors.Is(err, os.ErrDeadlineExceeded):
		a.Error = "the request took too long"
	case err != nil:
		a.Error = err.Error()
	default:
		if err := s.allow(who, groups, req.Op); err != nil {
			a.Error, a.Denied = err.Error(), true
		} else {
			a = h(ctx, who, req)
		}
	}

	_ = conn.SetWriteDeadline(time.Now().Add(s.answerTime))
	stopWriting := context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Now().Add(stopTime)) })
	defer stopWriting()
	_ = writeAnswer(conn, a)
}

// allow decides by the group that the socket has now: an administrator may change it.
func (s *Server) allow(who Cred, groups []uint32, op Op) error {
	if owns(who) {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Lstat(s.path, &st); err != nil {
		return errDenied
	}
	return allow(who, groups, st.Gid, op)
}
