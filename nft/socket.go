package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// maxTransaction is the most bytes of one transaction, where the socket lets us send as many: maxElements of any size.
	maxTransaction = 4 << 20
	// receiveSize is the size of our receive buffer. A dump is quadratic in the number of reads, and the kernel fills
	// up to 32 KiB at a time once it has seen a reader with room for that.
	receiveSize = 64 << 10
	// queueSize is asked for as the kernel's buffer for answers: a failed transaction gets one for each message.
	queueSize = 4 << 20
	// answerSize is what an answer takes of the kernel's buffer, at most: a page and its bookkeeping.
	answerSize = 4608
	// maxFlight is the most questions that are asked at once, leastFlight what fits any buffer.
	maxFlight   = 2048
	leastFlight = 32
	// maxPorts is how many ports of former sockets we know as our own.
	maxPorts = 64
)

// ports knows the netlink ports of our command sockets, so that a watcher can tell our changes from others'.
type ports struct {
	mu  sync.Mutex
	ids []uint32
}

func (p *ports) add(id uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ids) == maxPorts {
		p.ids = p.ids[1:]
	}
	p.ids = append(p.ids, id)
}

func (p *ports) has(id uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.ids, id)
}

// A socket is a netlink socket to nf_tables for one request at a time. The kernel works a request off within sendmsg
// and has its answer in our queue when that returns; so nothing here ever waits.
//
// It is not safe for concurrent use.
type socket struct {
	conn      *netlink.Conn
	raw       syscall.RawConn
	seq       uint32
	limit     int    // bytes that one sendmsg takes
	flight    int    // questions that may be asked before the answers are read
	buf       []byte // for receiving
	ports     *ports // told of each new port; may be nil
	committed uint32 // transactions that the kernel took
	dials     int    // how often it was opened: the kernel gives a port that has become free to the next one
}

func openSocket(p *ports) (*socket, error) {
	s := &socket{ports: p, buf: make([]byte, receiveSize)}
	return s, s.dial()
}

func (s *socket) dial() error {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	s.raw, err = conn.SyscallConn()
	if err == nil {
		// Both are capped silently where we lack the right, as in a user namespace: what was really given is read back.
		err = errors.Join(conn.SetWriteBuffer(maxTransaction/2+(64<<10)), conn.SetReadBuffer(queueSize))
	}
	if err == nil {
		// An error otherwise carries the whole message that caused it, up to 64 KiB.
		err = errors.Join(conn.SetOption(netlink.CapAcknowledge, true), conn.SetOption(netlink.ExtendedAcknowledge, true))
	}
	given, room := 0, 0
	if err == nil {
		given, err = conn.WriteBuffer()
	}
	if err == nil {
		room, err = conn.ReadBuffer()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("set up a netlink socket: %w", err), conn.Close())
	}
	s.conn = conn
	s.dials++
	s.limit = min(maxTransaction, given-32) // net/netlink/af_netlink.c, netlink_sendmsg
	s.flight = max(leastFlight, min(room/answerSize, maxFlight))
	if s.ports != nil {
		s.ports.add(conn.PID())
	}
	return nil
}

func (s *socket) close() error {
	if s.conn == nil {
		return nil
	}
	err := s.conn.Close()
	s.conn = nil
	return err
}

// reopen replaces a socket whose queue can't be trusted any more. cause is returned, with what went wrong on top.
func (s *socket) reopen(cause error) error {
	s.close()
	return errors.Join(cause, s.dial())
}

func (s *socket) send(b []byte) error {
	if s.conn == nil {
		if err := s.dial(); err != nil { // a former reopen failed
			return err
		}
	}
	if len(b) > s.limit {
		return errTooBig
	}
	var err error
	if cerr := s.raw.Control(func(fd uintptr) {
		for {
			// The nfnetlink lock may make this wait for somebody else's transaction, never for a queue.
			_, err = unix.Write(int(fd), b) // without an address it is the kernel's
			if err != unix.EINTR {
				return
			}
		}
	}); cerr != nil {
		err = cerr
	}
	if err == unix.EMSGSIZE {
		return errTooBig
	}
	return err
}

var errNothing = errors.New("nothing to receive")

func (s *socket) receive() ([]byte, error) {
	var n int
	var err error
	if cerr := s.raw.Control(func(fd uintptr) {
		for {
			n, err = recv(int(fd), s.buf)
			if err != unix.EINTR {
				return
			}
		}
	}); cerr != nil {
		return nil, cerr
	}
	if err == unix.EAGAIN {
		return nil, errNothing
	}
	if err != nil {
		return nil, err
	}
	return s.buf[:n], nil
}

// recv reads one datagram without waiting; the socket is a non-blocking one. One that fills b may have been cut, which
// is an error.
func recv(fd int, b []byte) (int, error) {
	n, err := unix.Read(fd, b)
	if err != nil {
		return 0, err
	}
	if n == len(b) {
		return 0, unix.EMSGSIZE
	}
	return n, nil
}

// transact sends a finished batch and returns the first error of it that the kernel reports. Whatever else goes wrong
// leaves a fresh socket behind.
func (s *socket) transact(b *batch) (err error) {
	defer func() {
		if err == nil {
			s.committed++
		}
	}()
	first := s.next(b.n)
	last := b.n - 2 // the message before the batch's end
	b.number(first, last)
	if err := s.send(b.b); err != nil {
		if err == errTooBig {
			return err
		}
		return s.reopen(fmt.Errorf("send to nftables: %w", err))
	}
	var failed error
	for {
		p, err := s.receive()
		if err == errNothing && failed != nil {
			return failed
		}
		if err == errNothing {
			return s.reopen(errLost)
		}
		if err != nil {
			return s.reopen(fmt.Errorf("%w: %w", errLost, err))
		}
		for h, p := range messages(p) {
			i := h.Seq - first
			if h.Type != unix.NLMSG_ERROR || i >= uint32(b.n) {
				continue // of an earlier request
			}
			if err := ackError(h, p, int(i)); err != nil && failed == nil {
				failed = err
			}
			// Errors come in the order of the messages, that of a failed commit before all of them.
			if int(i) == last {
				return failed
			}
		}
	}
}

// next reserves n sequence numbers.
func (s *socket) next(n int) uint32 {
	first := s.seq + 1
	s.seq += uint32(n)
	return first
}

// ask sends one request, which is all of w, and hands each message of its answer to f until that returns an error.
//
// Other requests than dumps ask for an acknowledgement too: for the end of a range that has none, Linux 6.18 sends
// nothing else, neither an element nor an error.
func (s *socket) ask(ctx context.Context, w *wire, dump bool, f func(header, []byte) error) error {
	seq, ack := s.next(1), 0
	if dump {
		ack = -1
	}
	w.number(seq, ack)
	if err := s.send(w.b); err != nil {
		return s.reopen(fmt.Errorf("send to nftables: %w", err))
	}
	for {
		p, err := s.receive()
		if err == nil && ctx.Err() != nil {
			err = ctx.Err()
		}
		if err == errNothing {
			return s.reopen(errLost)
		}
		if err != nil {
			return s.reopen(err)
		}
		for h, p := range messages(p) {
			switch {
			case h.Seq != seq:
				continue
			case h.Type == unix.NLMSG_ERROR:
				return ackError(h, p, 0)
			case h.Type == unix.NLMSG_DONE:
				if n := errnoOf(p); n != 0 {
					return &kernelError{errno: n}
				}
				return nil
			}
			if err := f(h, p); err != nil {
				return s.reopen(err) // the rest of the answer is still to come
			}
		}
	}
}

// askAll sends up to flight requests for one thing each, and tells f which of them is there, by its number from 0.
func (s *socket) askAll(w *wire, f func(i int, there bool)) error {
	n := w.n
	first := s.next(n)
	w.number(first, -1)
	if err := s.send(w.b); err != nil {
		return s.reopen(fmt.Errorf("send to nftables: %w", err))
	}
	var failed error
	for answers := 0; answers < n; {
		p, err := s.receive()
		if err != nil {
			return s.reopen(fmt.Errorf("%w: %w", errLost, err))
		}
		for h, p := range messages(p) {
			i := h.Seq - first
			if i >= uint32(n) {
				continue
			}
			answers++
			switch {
			case h.Type != unix.NLMSG_ERROR:
				f(int(i), true)
			case errnoOf(p) == unix.ENOENT:
				f(int(i), false)
			case failed == nil:
				failed = ackError(h, p, int(i))
			}
		}
	}
	return failed
}

// ackError reads an acknowledgement: nil when all went well.
func ackError(h header, p []byte, index int) error {
	n := errnoOf(p)
	if n == 0 {
		return nil
	}
	e := &kernelError{errno: n, index: index}
	// With NETLINK_CAP_ACK only the header of our message is repeated, and then come the kernel's remarks.
	if h.Flags&unix.NLM_F_ACK_TLVS != 0 && len(p) > 4+headerLen {
		e.text = clean(getString(attr(p[4+headerLen:], unix.NLMSGERR_ATTR_MSG)))
	}
	return e
}

// errnoOf is the error number that an acknowledgement, or the end of a dump, begins with.
func errnoOf(p []byte) unix.Errno {
	if len(p) < 4 {
		return unix.EBADMSG
	}
	return unix.Errno(-int32(binary.NativeEndian.Uint32(p)))
}
