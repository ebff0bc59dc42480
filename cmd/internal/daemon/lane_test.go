package daemon

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"banset/cmd/internal/source"
	"banset/policy"
	"banset/policy/config"
	"banset/policy/judge"
	"banset/policy/match"
)

// However much a backlog found that is still to be judged, a live line of another log is next. What one log sent is
// judged in its order.
func TestBacklogDelaysNoLiveLog(t *testing.T) {
	filter, problems := match.Compile([]string{`failed for <HOST>`}, nil)
	if problems != nil {
		t.Fatal(problems)
	}
	p := &config.Policy{Enabled: true, Filter: filter, LogPath: []string{"/a", "/b"}, Zone: time.UTC,
		Policy: policy.Policy{Name: "p", MaxRetry: 100, FindTime: time.Hour, BanTime: []time.Duration{time.Hour}}}
	c := newCourt(judge.New(judge.Settings{Policies: []policy.Policy{p.Policy}, IPv6Prefix: 64, MaxHosts: 100, MaxBans: 100}),
		slog.New(slog.DiscardHandler))
	l := newLogs(c, slog.New(slog.DiscardHandler), []*config.Policy{p}, nil, time.Time{})
	at := int64(0)
	chunk := func(log string, live bool, host string) {
		t.Helper()
		at++
		if err := l.chunk(context.Background(), source.Chunk{
			Names: []string{log}, Live: live, Arrived: time.Now(), Lines: []byte("failed for " + host + "\n"),
			Next: source.Position{Path: log, Ino: uint64(log[1]), Offset: at},
		}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	heard := func() []string {
		got = nil
		from := c.recent.next
		for len(c.found) > 0 {
			f := <-c.found
			c.hearLive() // as Run does
			c.hear(f)
		}
		c.hearLive()
		for i := from; i != c.recent.next; i++ {
			got = append(got, c.recent.ring[i].host.Addr().String())
		}
		return got
	}
	want := func(hosts ...string) {
		t.Helper()
		if got := heard(); !slices.Equal(got, hosts) {
			t.Errorf("judged %v, want %v", got, hosts)
		}
		for _, log := range []string{"/a", "/b"} {
			if pos, ok := c.positions[positionKey(source.Position{Path: log, Ino: uint64(log[1])})]; ok && pos.Offset > at {
				t.Errorf("%s: the place is %d", log, pos.Offset)
			}
		}
	}
	chunk("/a", false, "192.0.2.1")
	chunk("/a", false, "192.0.2.2")
	chunk("/b", true, "192.0.2.3") // goes first
	want("192.0.2.3", "192.0.2.1", "192.0.2.2")

	chunk("/a", false, "192.0.2.4")
	chunk("/a", true, "192.0.2.5") // behind its own backlog
	chunk("/b", true, "192.0.2.6")
	want("192.0.2.6", "192.0.2.4", "192.0.2.5")

	chunk("/a", true, "192.0.2.7") // its backlog was heard: live from now on
	chunk("/b", false, "192.0.2.8")
	chunk("/a", false, "192.0.2.9") // the rest of a rotated file, but behind what was live
	want("192.0.2.7", "192.0.2.9", "192.0.2.8")
	if a := c.positions[positionKey(source.Position{Path: "/a", Ino: 'a'})]; a.Offset != at {
		t.Errorf("the place in /a is %d, want that of the last chunk, %d", a.Offset, at)
	}
	if _, ok := c.judge.Book().Get(netip.MustParsePrefix("192.0.2.1/32")); ok {
		t.Error("a ban")
	}
}

// What could not be sent does not wait: the log's next live lines are live.
func TestNotSent(t *testing.T) {
	c := newCourt(judge.New(judge.Settings{}), slog.New(slog.DiscardHandler))
	over, cancel := context.WithCancel(t.Context())
	cancel()
	log := []*lane{new(lane)}
	for range cap(c.found) {
		c.found <- finding{}
	}
	if err := c.send(over, finding{}, log); err == nil {
		t.Fatal("sent")
	}
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := c.send(soon, finding{live: true}, log); err != nil || len(c.foundLive) != 1 {
		t.Errorf("%d live findings, %v", len(c.foundLive), err)
	}
}
