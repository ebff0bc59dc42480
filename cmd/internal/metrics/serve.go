package metrics

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// socketMode is that of a unix socket: the daemon's group may read the figures.
	socketMode = 0o660
	// maxConnections bounds what local people can take of the daemon's descriptors.
	maxConnections = 16
	// scrapeTime is how long one answer may take.
	scrapeTime = 10 * time.Second
)

// Listen listens on an address with a port, or, where it begins with a slash, on a unix socket, whose mode is 0660. A
// socket that nobody listens on any more is replaced; any other file there is left alone.
func Listen(address string) (net.Listener, error) {
	if !strings.HasPrefix(address, "/") {
		return net.Listen("tcp", address)
	}
	switch info, err := os.Lstat(address); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("listen on %s: %w and no socket: remove it, or take another path", address, fs.ErrExist)
	default:
		if conn, err := net.DialTimeout("unix", address, time.Second); err == nil {
			conn.Close()
			return nil, fmt.Errorf("listen on %s: somebody else listens there: take another path", address)
		}
		if err := os.Remove(address); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", address)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(address, socketMode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Serve answers on l until ctx ends, and closes it. An error says that it can't go on.
func (m *Metrics) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           m.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      scrapeTime + 5*time.Second,
		IdleTimeout:       2 * time.Minute, // longer than most scrape intervals
		MaxHeaderBytes:    8 << 10,
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	err := server.Serve(&fewConnections{Listener: l, room: make(chan struct{}, maxConnections), over: ctx.Done()})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (m *Metrics) handler() http.Handler {
	mux := http.NewServeMux()
	busy := make(chan struct{}, 1)
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), scrapeTime)
		defer cancel()
		select {
		case busy <- struct{}{}: // two at once would cost the judgement twice
			defer func() { <-busy }()
		case <-ctx.Done():
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		all, err := m.gather(ctx)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		promhttp.HandlerFor(all, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "banset: the figures are at /metrics")
	})
	return mux
}

// fewConnections accepts no more connections at once than there is room for.
type fewConnections struct {
	net.Listener
	room chan struct{}
	over <-chan struct{}
}

func (l *fewConnections) Accept() (net.Conn, error) {
	select {
	case l.room <- struct{}{}:
	case <-l.over:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.room
		return nil, err
	}
	return &roomConn{Conn: conn, leave: sync.OnceFunc(func() { <-l.room })}, nil
}

// roomConn gives its room back when it is first closed.
type roomConn struct {
	net.Conn
	leave func()
}

func (c *roomConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
