package nft

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

var (
	// ErrMissing says that our table, or the set that was named, is not in the kernel: Ensure or Replace puts it back.
	ErrMissing = errors.New("the nftables table or set is missing")
	// ErrFull says that a set holds as many elements as Config.Size lets it.
	ErrFull = errors.New("the nftables set is full")
	// ErrOverlap says that a range overlaps another one in its set.
	ErrOverlap = errors.New("the range overlaps another one in the nftables set")
	// errTooBig says that a transaction is larger than the socket takes.
	errTooBig = errors.New("the transaction is larger than the socket's buffer")
	// errLost says that the answer to a request was lost, so that nobody knows what became of it.
	errLost = errors.New("the kernel's answer was lost")
)

// A kernelError is what the kernel said of one message. It unwraps to the errno, so errors.Is works with
// [io/fs.ErrPermission] and the errnos of golang.org/x/sys/unix.
type kernelError struct {
	errno unix.Errno
	index int    // the message in its batch; 0 is the begin of the batch, and so the batch as a whole
	text  string // the kernel's own words, often empty
}

func (e *kernelError) Error() string {
	if e.text != "" {
		return fmt.Sprintf("%v (%s)", e.errno, e.text)
	}
	return e.errno.Error()
}

func (e *kernelError) Unwrap() error { return e.errno }

// A permissionError tells which right is missing. It unwraps to EPERM, and so is [io/fs.ErrPermission].
type permissionError struct {
	err   error
	owned bool // the table belongs to another program
	table string
}

func (e *permissionError) Error() string {
	if e.owned {
		return fmt.Sprintf("table inet %s is owned by another running program (nftables owner flag): stop that program", e.table)
	}
	return "not permitted: this needs the capability CAP_NET_ADMIN (run as root, or give the service AmbientCapabilities=CAP_NET_ADMIN)"
}

func (e *permissionError) Unwrap() error { return e.err }

func isErrno(err error, errno unix.Errno) bool { return errors.Is(err, errno) }
