// Package metrics shows the daemon's figures to Prometheus. They are read when somebody asks for them and cost the path
// of a line nothing; only a ban does something for them, one observation.
package metrics

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"banset/cmd/internal/source"
)

// A Snapshot is the daemon's figures at one moment. Labels come from the configuration and from names of files, never
// from what a log says.
type Snapshot struct {
	Version   string
	Started   time.Time
	Loaded    time.Time // the configuration in force
	ReloadBad bool      // the last reload was refused
	Problems  int       // of status

	Hosts, MaxHosts int
	LostHosts       uint64 // forgotten for want of room
	MaxBans         int
	LostBans        uint64 // ended for want of room
	Healings        int
	Pending         map[string]int // bans that a copy of the book has yet to be told of, by copy
	Dropped         uint64         // packets
	DroppedBytes    uint64

	Policies []Policy
	Logs     []Log
	Hooks    []Hook
}

// A Policy is what one policy did since the start; the name "by hand" is people's.
type Policy struct {
	Name                   string
	Failures, Bans, Unbans uint64
	Standing               int // bans now
}

// A Log is one log.
type Log struct {
	source.Status
	Skew time.Duration
}

// A Hook is what became of the events for one hook since the start.
type Hook struct {
	Name                          string
	OK, Failed, TimedOut, Dropped uint64
	Waiting                       int // now
}

// maxLogs bounds the logs that have figures of their own. The others are added up as "others".
const maxLogs = 256

// Metrics is the daemon's side of it.
type Metrics struct {
	registry *prometheus.Registry
	landed   prometheus.Histogram
	snapshot func(context.Context) (Snapshot, error)
	now      func() time.Time
}

// New makes metrics that ask for a snapshot at every scrape. snapshot may be called from several goroutines.
func New(snapshot func(context.Context) (Snapshot, error)) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), snapshot: snapshot, now: time.Now}
	m.landed = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "banset_line_to_ban_seconds",
		Help:    "Time from reading a live line to its ban standing in the kernel.",
		Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5},
	})
	m.registry.MustRegister(m.landed)
	return m
}

// Landed counts a ban that stands in the kernel this long after its line was read. It allocates nothing.
func (m *Metrics) Landed(d time.Duration) { m.landed.Observe(d.Seconds()) }

// A family is one metric with its help and its labels.
type family struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func counter(name, help string, labels ...string) family {
	return family{prometheus.NewDesc("banset_"+name, help, labels, nil), prometheus.CounterValue}
}

func gauge(name, help string, labels ...string) family {
	return family{prometheus.NewDesc("banset_"+name, help, labels, nil), prometheus.GaugeValue}
}

var (
	buildInfo    = gauge("build_info", "1, labelled by the version that runs.", "version")
	started      = gauge("start_time_seconds", "When the daemon started, in seconds since the epoch.")
	loaded       = gauge("config_loaded_time_seconds", "When the configuration in force was read, in seconds since the epoch.")
	reloadGood   = gauge("config_reload_successful", "1 when the last reload was taken, 0 when it was refused.")
	problems     = gauge("problems", "Things that banset status calls wrong.")
	failures     = counter("failures_total", "Failures found.", "policy")
	bans         = counter("bans_total", "Bans given, and bans whose end was moved.", "policy")
	unbans       = counter("unbans_total", "Bans that ended, however they did.", "policy")
	standing     = gauge("bans", "Bans that stand.", "policy")
	maxBans      = gauge("max_bans", "The most bans there may be.")
	lostBans     = counter("evicted_bans_total", "Bans that had to end early because max_bans was reached.")
	hosts        = gauge("tracked_hosts", "Hosts whose failures are counted.")
	maxHosts     = gauge("max_hosts", "The most hosts whose failures are counted.")
	lostHosts    = counter("evicted_hosts_total", "Hosts whose failures were forgotten because max_hosts was reached.")
	healings     = counter("healings_total", "Times that something of ours had gone from the kernel and was put back.")
	drift        = gauge("drift_bans", "Bans and unbans that a copy of the book does not have yet.", "copy")
	dropped      = counter("dropped_packets_total", "Packets of banned hosts dropped, since the rules were made.")
	droppedBytes = counter("dropped_bytes_total", "Bytes of the packets dropped, since the rules were made.")
	logUp        = gauge("log_up", "1 when the log is read, 0 when it is missing or unreadable.", "log")
	logLines     = counter("log_lines_total", "Lines read.", "log")
	logBytes     = counter("log_bytes_total", "Bytes read.", "log")
	logCut       = counter("log_cut_lines_total", "Lines longer than 64 KiB, whose rest was not looked at.", "log")
	logRotations = counter("log_rotations_total", "Rotations seen.", "log")
	logBacklog   = gauge("log_backlog_bytes", "Bytes still to be read before lines are read as they are written.", "log")
	logQuiet     = gauge("log_last_line_seconds", "Seconds since the last line was read; absent before the first.", "log")
	logSkew      = gauge("log_skew_seconds", "How far the time stamps of the log are behind its lines' arrival; 0 within a minute.", "log")
	hookEvents   = counter("hook_events_total", "Events by what became of them: ok, failed, timeout, dropped.", "hook", "result")
	hookWaiting  = gauge("hook_waiting", "Events that wait for the hook.", "hook")
)

// collector shows one snapshot.
type collector struct {
	s   *Snapshot
	now time.Time
}

// Describe yields nothing: which labels there are is known only at the scrape.
func (c collector) Describe(chan<- *prometheus.Desc) {}

func (c collector) Collect(out chan<- prometheus.Metric) {
	put := func(f family, value float64, labels ...string) {
		for i, l := range labels {
			// The name of a file may be any bytes, and one bad label would spoil the whole answer.
			labels[i] = strings.ToValidUTF8(l, "?")
		}
		out <- prometheus.MustNewConstMetric(f.desc, f.kind, value, labels...)
	}
	s := c.s
	put(buildInfo, 1, s.Version)
	put(started, seconds(s.Started))
	put(loaded, seconds(s.Loaded))
	put(reloadGood, truth(!s.ReloadBad))
	put(problems, float64(s.Problems))
	put(maxBans, float64(s.MaxBans))
	put(lostBans, float64(s.LostBans))
	put(hosts, float64(s.Hosts))
	put(maxHosts, float64(s.MaxHosts))
	put(lostHosts, float64(s.LostHosts))
	put(healings, float64(s.Healings))
	for name, n := range s.Pending {
		put(drift, float64(n), name)
	}
	put(dropped, float64(s.Dropped))
	put(droppedBytes, float64(s.DroppedBytes))
	for _, p := range s.Policies {
		put(failures, float64(p.Failures), p.Name)
		put(bans, float64(p.Bans), p.Name)
		put(unbans, float64(p.Unbans), p.Name)
		put(standing, float64(p.Standing), p.Name)
	}
	for _, l := range bounded(s.Logs) {
		put(logUp, truth(l.State == source.Following || l.State == source.Reading), l.Name)
		put(logLines, float64(l.Lines), l.Name)
		put(logBytes, float64(l.Bytes), l.Name)
		put(logCut, float64(l.Cut), l.Name)
		put(logRotations, float64(l.Rotated), l.Name)
		put(logBacklog, float64(l.Backlog), l.Name)
		put(logSkew, l.Skew.Seconds(), l.Name)
		if !l.LastLine.IsZero() {
			put(logQuiet, c.now.Sub(l.LastLine).Seconds(), l.Name)
		}
	}
	for _, h := range s.Hooks {
		put(hookEvents, float64(h.OK), h.Name, "ok")
		put(hookEvents, float64(h.Failed), h.Name, "failed")
		put(hookEvents, float64(h.TimedOut), h.Name, "timeout")
		put(hookEvents, float64(h.Dropped), h.Name, "dropped")
		put(hookWaiting, float64(h.Waiting), h.Name)
	}
}

// bounded adds up the logs beyond maxLogs, and those whose names differ only in what a label can't show.
func bounded(logs []Log) []Log {
	var kept []Log
	at := make(map[string]int)
	for _, l := range logs {
		l.Name = strings.ToValidUTF8(l.Name, "?")
		if _, ok := at[l.Name]; !ok && len(kept) >= maxLogs {
			l.Name = "others"
		}
		i, ok := at[l.Name]
		if !ok {
			at[l.Name] = len(kept)
			kept = append(kept, l)
			continue
		}
		k := &kept[i]
		k.Lines += l.Lines
		k.Bytes += l.Bytes
		k.Cut += l.Cut
		k.Rotated += l.Rotated
		k.Backlog += l.Backlog
		if l.LastLine.After(k.LastLine) {
			k.LastLine = l.LastLine
		}
		if l.Skew.Abs() > k.Skew.Abs() {
			k.Skew = l.Skew
		}
		if l.State == source.Waiting || l.State == source.Unreadable {
			k.State = l.State
		}
	}
	return kept
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// gather asks for a snapshot and makes metrics of it.
func (m *Metrics) gather(ctx context.Context) (prometheus.Gatherer, error) {
	s, err := m.snapshot(ctx)
	if err != nil {
		return nil, fmt.Errorf("the daemon does not answer: %w", err)
	}
	one := prometheus.NewRegistry()
	if err := one.Register(collector{&s, m.now()}); err != nil {
		return nil, err
	}
	return prometheus.Gatherers{m.registry, one}, nil
}
