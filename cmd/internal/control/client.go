package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoDaemon says that nobody answers at the socket.
var ErrNoDaemon = errors.New("no daemon answers")

// longest is how long a request may take when ctx has no deadline of its own.
const longest = time.Minute

// Call has the daemon at path do a request. The error is [ErrNoDaemon] when there is none, an fs.ErrPermission when
// the socket may not be used; what the daemon itself refused stands in the answer.
func Call(ctx context.Context, path string, r Request) (a Answer, err error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, longest)
		defer cancel()
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOTDIR):
		return a, fmt.Errorf("%s: %w", path, ErrNoDaemon)
	case err != nil:
		return a, fmt.Errorf("calling the daemon: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	b, err := json.Marshal(r)
	if err != nil {
		return a, fmt.Errorf("writing the request: %w", err)
	}
	if _, err = conn.Write(append(b, '\n')); err == nil {
		err = json.NewDecoder(bufio.NewReaderSize(conn, 64<<10)).Decode(&a)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return a, fmt.Errorf("waiting for the daemon at %s: %w", path, err)
	}
	return a, nil
}
