package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"banset/policy"
	"banset/policy/config"
	"banset/policy/judge"
	"banset/policy/match"
)

// attackLog is a log of n lines, each of which is a failure of one of hosts hosts.
func attackLog(n, hosts int) []byte {
	var b bytes.Buffer
	r := rand.New(rand.NewPCG(1, 1))
	at := time.Now().Add(-24 * time.Hour).UTC()
	for range n {
		at = at.Add(time.Duration(r.IntN(100)) * time.Millisecond)
		h := r.IntN(hosts)
		fmt.Fprintf(&b, "%s login authenticator failed for (User) [198.%d.%d.%d]: 535 Incorrect authentication data (set_id=user%d@example.org)\n",
			at.Format("2006-01-02 15:04:05"), 18+h>>16&1, h>>8&255, h&255, r.IntN(100))
	}
	return b.Bytes()
}

// BenchmarkAttack reads a backlog of nothing but failures from a file, matches, counts and bans: all that a daemon does
// but the kernel and the files that it writes. The time to look at is that of the processor: several goroutines work.
func BenchmarkAttack(b *testing.B) {
	const lines = 500_000
	for _, hosts := range []int{1000, 20_000, 130_000} {
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) {
			name := filepath.Join(b.TempDir(), "mainlog")
			if err := os.WriteFile(name, attackLog(lines, hosts), 0o666); err != nil {
				b.Fatal(err)
			}
			filter, problems := match.Compile([]string{`\[<HOST>\]: 535 Incorrect authentication data`}, nil)
			if problems != nil {
				b.Fatal(problems)
			}
			p := &config.Policy{Enabled: true, Filter: filter, LogPath: []string{name}, Zone: time.UTC, Policy: policy.Policy{
				Name: "exim2", MaxRetry: 10, FindTime: 8760 * time.Hour, BanTime: []time.Duration{8760 * time.Hour}}}
			log := slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelWarn}))
			b.ReportAllocs()
			for b.Loop() {
				c := newCourt(judge.New(judge.Settings{
					Policies: []policy.Policy{p.Policy}, IPv6Prefix: 64, MaxHosts: 1_000_000, MaxBans: 1_000_000,
					Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
				}), log)
				ctx, cancel := context.WithCancel(context.Background())
				over := make(chan error, 2)
				go func() { over <- c.Run(ctx) }()
				l := newLogs(c, log, []*config.Policy{p}, nil, time.Time{})
				reading, stop := context.WithCancel(ctx)
				go func() { over <- l.Run(reading) }()
				for {
					found := uint64(0)
					if err := c.do(ctx, func(*judge.Judge) { found = c.stat("exim2").found }); err != nil {
						b.Fatal(err)
					}
					if found == lines {
						break
					}
					time.Sleep(time.Millisecond)
				}
				stop()
				<-over
				cancel()
				<-over
			}
			b.ReportMetric(lines*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}
