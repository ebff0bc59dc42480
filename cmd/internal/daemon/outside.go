package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"banset/cmd/internal/control"
	"banset/cmd/internal/hook"
	"banset/cmd/internal/metrics"
	"banset/cmd/internal/mirror"
	"banset/policy"
	"banset/policy/config"
	"banset/policy/judge"
	"banset/policy/ledger"
)

// outside is what the daemon shows and tells to others: figures, and bans to hooks. Nothing that goes wrong with it
// stops the daemon. What a reload replaces is guarded by daemon.reloading.
type outside struct {
	figures *metrics.Metrics
	server  *metricsServer // nil: nobody is to have the figures
	hooks   *hook.Hooks
	trouble string // why nobody has the figures though somebody is to
	refused bool   // the last reload
}

// metricsServer is the task that answers Prometheus.
type metricsServer struct {
	*metrics.Metrics
	listener net.Listener
	log      *slog.Logger
}

func (s *metricsServer) String() string         { return "metrics" }
func (s *metricsServer) Ready() <-chan struct{} { return closed }

func (s *metricsServer) Run(ctx context.Context) error {
	if err := s.Serve(ctx, s.listener); err != nil {
		s.log.Error(fmt.Sprintf("metrics: %v; there are none until a restart", err))
	}
	return nil
}

// goOutside begins to show figures and to tell the hooks. What stands in the book by now is not told.
func (d *daemon) goOutside(ctx context.Context) error {
	d.outside.figures = metrics.New(d.snapshot)
	if err := d.changeHooks(ctx, nil, d.current().Hooks); err != nil {
		return err
	}
	return d.changeMetrics(ctx, d.current().Metrics)
}

// changeOutside goes over to the hooks and metrics of another configuration.
func (d *daemon) changeOutside(ctx context.Context, old, next *config.Config) error {
	if !hook.Same(old.Hooks, next.Hooks) {
		if err := d.changeHooks(ctx, d.outside.hooks, next.Hooks); err != nil {
			return err
		}
	}
	if old.Metrics != next.Metrics || d.outside.trouble != "" {
		return d.changeMetrics(ctx, next.Metrics)
	}
	return nil
}

func (d *daemon) changeHooks(ctx context.Context, old *hook.Hooks, next []*config.Hook) error {
	hooks := hook.New(next, d.log)
	if err := d.court.do(ctx, func(*judge.Judge) { d.court.tell(hooks, d.outside.figures.Landed) }); err != nil {
		return err
	}
	d.outside.hooks = hooks
	if old != nil {
		d.tasks.stop(old)
	}
	return d.tasks.start(ctx, hooks)
}

func (d *daemon) changeMetrics(ctx context.Context, next config.Metrics) error {
	if d.outside.server != nil {
		d.tasks.stop(d.outside.server)
		d.outside.server = nil
	}
	d.outside.trouble = ""
	if next.Listen == "" {
		return nil
	}
	l, err := metrics.Listen(next.Listen)
	if err != nil {
		d.outside.trouble = fmt.Sprintf("metrics: %v; put it right and reload", err)
		d.log.Error(d.outside.trouble)
		return nil
	}
	d.log.Info(fmt.Sprintf("metrics: on %s", next.Listen))
	d.outside.server = &metricsServer{d.outside.figures, l, d.log}
	return d.tasks.start(ctx, d.outside.server)
}

// snapshot is the daemon's figures for one scrape.
func (d *daemon) snapshot(ctx context.Context) (metrics.Snapshot, error) {
	cfg := d.current()
	status, err := d.overview(ctx)
	if err != nil {
		return metrics.Snapshot{}, err
	}
	s := metrics.Snapshot{
		Version: status.Version, Started: status.Started, Loaded: status.ConfigFrom, Problems: len(status.Problems),
		Hosts: status.Hosts, MaxHosts: cfg.MaxHosts, MaxBans: cfg.MaxBans, Healings: status.Healings, Dropped: status.Dropped,
	}
	for _, l := range status.Logs {
		s.Logs = append(s.Logs, metrics.Log{Status: l.Status, Skew: l.Skew})
	}
	d.reloading.Lock()
	s.ReloadBad = d.outside.refused
	d.reloading.Unlock()
	for _, x := range status.Hooks {
		s.Hooks = append(s.Hooks, metrics.Hook(x))
	}
	err = d.court.do(ctx, func(j *judge.Judge) {
		book := j.Book()
		_, s.LostHosts = j.Hosts()
		s.LostBans = book.Evicted()
		s.Pending = map[string]int{
			"kernel": book.Pending(ledger.Kernel), "blocklist": book.Pending(ledger.File), "state": book.Pending(ledger.State),
		}
		for _, p := range cfg.Policies {
			if p.Enabled || book.Of(p.Name) > 0 {
				s.Policies = append(s.Policies, d.court.figures(p.Name))
			}
		}
		s.Policies = append(s.Policies, d.court.figures(""))
	})
	return s, err
}

// outsideStatus adds what status says of metrics and hooks.
func (d *daemon) outsideStatus(s *control.Status) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	if d.outside.refused {
		s.Problems = append(s.Problems, "the last reload was refused: banset check says why")
	}
	if d.outside.trouble != "" {
		s.Problems = append(s.Problems, d.outside.trouble)
	}
	if h := d.outside.hooks; h != nil {
		s.Problems = append(s.Problems, h.Problems(time.Now())...)
		for _, x := range h.Stats() {
			s.Hooks = append(s.Hooks, control.HookStatus(x))
		}
	}
}

// maxLanding bounds the bans whose way into the kernel is timed.
const maxLanding = 1 << 16

// tell makes the court tell the hooks of every change of the book from now on, and landed of how long a ban took from
// its line into the kernel. Call it within do.
func (c *court) tell(h *hook.Hooks, landed func(time.Duration)) {
	c.landed = landed
	c.judge.Book().Heed = func(b policy.Ban, gone bool) {
		s := c.stat(b.Policy)
		if gone {
			s.ended++
		} else {
			s.given++
		}
		h.Send(hook.Event{Unban: gone, Host: b.Host, Policy: b.Policy, Failures: b.Failures, At: b.At, Until: b.Until})
	}
}

// land takes note of the bans that stand in the kernel by now.
func (c *court) land() {
	book, now := c.judge.Book(), time.Since(c.began)
	for x := range c.landing.take(c.landing.len()) {
		host := x.host.Host()
		if _, ok := book.Get(host); !ok {
			continue // lifted meanwhile
		}
		if book.Holds(ledger.Kernel, host) {
			c.landed(now - x.arrived)
		} else {
			c.landing.add(*x)
		}
	}
}

// figures is what one policy did; "" is people.
func (c *court) figures(name string) metrics.Policy {
	p := metrics.Policy{Name: mirror.Label(policy.Ban{Policy: name}), Standing: c.judge.Book().Of(name)}
	if s := c.stats[name]; s != nil {
		p.Failures, p.Bans, p.Unbans = s.found, s.given, s.ended
	}
	return p
}
