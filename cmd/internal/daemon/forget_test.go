package daemon

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"banset/policy"
	"banset/policy/judge"
)

// TestForget: failures that no policy counts any more go, but not while lines may come that count with them.
func TestForget(t *testing.T) {
	start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	host := netip.MustParsePrefix("192.0.2.1/32")
	p := policy.Policy{Name: "p", MaxRetry: 3, FindTime: 10 * time.Second, BanTime: []time.Duration{time.Hour}}
	for _, tt := range []struct {
		name string
		live bool          // the failure's line was
		age  time.Duration // of the failure at the start
		at   time.Duration // after the start
		kept bool
	}{
		{"at the start, before a backlog is seen", true, time.Hour, time.Second, true},
		{"while a backlog is read", false, time.Hour, 50 * time.Second, true},
		{"after the backlog", false, time.Hour, 2 * time.Minute, false},
		{"long after", true, 0, time.Hour, false},
		{"while a late line may still come", true, 0, 4 * time.Minute, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now := start
			j := judge.New(judge.Settings{Policies: []policy.Policy{p}, IPv6Prefix: 64, MaxHosts: 10, MaxBans: 10})
			c := newCourt(j, slog.New(slog.DiscardHandler))
			c.direct, c.now = true, func() time.Time { return now }
			if err := c.do(context.Background(), func(*judge.Judge) { c.unread() }); err != nil {
				t.Fatal(err)
			}
			c.hear(finding{log: "/log", live: tt.live, hits: piecesOf(
				policy.Hit{Policy: "p", Host: host, Stamp: start.Add(-tt.age), Arrived: start, Live: tt.live},
			)})
			now = start.Add(tt.at)
			c.forget(j)
			if n, _ := j.Hosts(); n == 1 != tt.kept {
				t.Errorf("%d hosts are remembered, want it kept: %t", n, tt.kept)
			}
		})
	}
}
