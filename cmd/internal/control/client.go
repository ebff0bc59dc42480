package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// ErrNoDaemon is what Call returns when nobody listens on the socket: the request was not heard.
	ErrNoDaemon = errors.New("no daemon is running")
	// ErrNoAnswer is what Call returns when the daemon ended after it got the request, perhaps, and before it answered:
	// whether it did what was asked is not known.
	ErrNoAnswer = errors.New("the daemon ended without an answer")
)

// callTime is how long a call may take when its ctx has no deadline of its own.
const callTime = time.Minute

// dialPause is the time between two tries to connect to a daemon whose queue is full.
const dialPause = 20 * time.Millisecond

// Call asks the daemon that listens at path and returns its answer, which may hold an error of its own. The errors of
// Call are ErrNoDaemon; fs.ErrPermission, for a user who may not even ask; the ctx's, when it ends first (a ctx
// without a deadline gets a minute); ErrNoAnswer. They say what to do.
func Call(ctx context.Context, path string, req Request) (Answer, error) {
	return call(ctx, path, req, readAnswer)
}

// CallEach is Call that hands the answer's bans to each as they come, and keeps none.
func CallEach(ctx context.Context, path string, req Request, each func(Ban)) (Answer, error) {
	return call(ctx, path, req, func(r io.Reader) (Answer, error) { return readAnswerEach(r, each) })
}

func call(ctx context.Context, path string, req Request, read func(io.Reader) (Answer, error)) (Answer, error) {
	path, err := socketPath(path)
	if err != nil {
		return Answer{}, err
	}
	line, err := json.Marshal(req)
	if err != nil {
		return Answer{}, fmt.Errorf("request: %w", err)
	}
	line = append(line, '\n')
	if len(line) > MaxRequest {
		return Answer{}, fmt.Errorf("%w: ask for fewer hosts at once", errTooLong)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTime)
		defer cancel()
	}
	conn, err := dial(ctx, path)
	if err != nil {
		return Answer{}, callError(ctx, path, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()

	// A daemon that refuses answers at once and reads nothing: its answer counts, not that we could not write.
	_, writeErr := conn.Write(line)
	a, err := read(conn)
	switch {
	case err == nil:
		return a, nil
	case ctx.Err() != nil:
		return Answer{}, callError(ctx, path, ctx.Err())
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, unix.ECONNRESET):
		return Answer{}, callError(ctx, path, errors.Join(ErrNoAnswer, writeErr))
	}
	return Answer{}, callError(ctx, path, fmt.Errorf("read the answer: %w", err))
}

// dial connects to path. For a unix socket the kernel does not wait until a full queue has room (connect(2), EAGAIN).
func dial(ctx context.Context, path string) (net.Conn, error) {
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if !errors.Is(err, unix.EAGAIN) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(dialPause):
		}
	}
}

func callError(ctx context.Context, path string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%w at %s: start it with: systemctl start banset", ErrNoDaemon, path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("ask the daemon at %s: %w: run as root, or join the socket's group", path, fs.ErrPermission)
	case ctx.Err() != nil:
		return fmt.Errorf("ask the daemon at %s: %w", path, context.Cause(ctx))
	case errors.Is(err, ErrNoAnswer):
		return fmt.Errorf("ask the daemon at %s: %w: see its log", path, err)
	}
	return fmt.Errorf("ask the daemon at %s: %w", path, err)
}
