package daemon

import (
	"context"

	"banset/cmd/internal/control"
)

// server is the task that answers the commands.
type server struct {
	*control.Server
	daemon *daemon
}

func newServer(s *control.Server, d *daemon) *server { return &server{s, d} }

func (s *server) String() string         { return "control" }
func (s *server) Ready() <-chan struct{} { return closed }

func (s *server) Run(ctx context.Context) error {
	return s.Serve(ctx, func(ctx context.Context, _ control.Cred, r control.Request) control.Answer {
		return s.daemon.answer(ctx, r)
	})
}
