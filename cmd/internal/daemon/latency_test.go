package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"banset/nft"
	"banset/nft/nfttest"
	"banset/policy/config"
)

// BenchmarkLineToBan measures the time from the write of a log line to the element in the kernel's set, with a pause
// before each line, as an idle machine has it:
//
//	go test -run '^$' -bench LineToBan -benchtime 500x ./cmd/internal/daemon
//
// Looking for the element takes 15 µs a time, so the figures are that coarse.
func BenchmarkLineToBan(b *testing.B) {
	nfttest.Clean(b)
	log, keeper := working(b)
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		host := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
		line := fmt.Appendf(nil, "%s host sshd[1]: failed from %s\n", time.Now().Format("2006-01-02 15:04:05"), host)
		time.Sleep(5 * time.Millisecond)
		b.StartTimer()
		began := time.Now()
		if _, err := log.Write(line); err != nil {
			b.Fatal(err)
		}
		for {
			if _, found, err := keeper.Get(b.Context(), nft.Ban4, host); err != nil {
				b.Fatal(err)
			} else if found {
				break
			}
		}
		took = append(took, time.Since(began))
	}
	report(b, took)
}

// BenchmarkBurst writes 10,000 lines that each ban a host at once, and waits for the last.
func BenchmarkBurst(b *testing.B) {
	nfttest.Clean(b)
	log, keeper := working(b)
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		const n = 10_000
		var text []byte
		for j := range n {
			text = fmt.Appendf(text, "%s host sshd[1]: failed from 10.%d.%d.%d\n", time.Now().Format("2006-01-02 15:04:05"), i, j>>8, j&255)
		}
		time.Sleep(100 * time.Millisecond)
		b.StartTimer()
		began := time.Now()
		if _, err := log.Write(text); err != nil {
			b.Fatal(err)
		}
		for {
			if got, err := keeper.Count(b.Context(), nft.Ban4); err != nil {
				b.Fatal(err)
			} else if got == n*(i+1) {
				break
			}
		}
		took = append(took, time.Since(began))
	}
	report(b, took)
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
	b.ReportMetric(us(took[len(took)/2]), "µs-median")
	b.ReportMetric(us(took[len(took)*99/100]), "µs-p99")
	b.ReportMetric(us(took[len(took)-1]), "µs-max")
}

// working is the log that a daemon follows, which bans at the first failure, and a look into its table.
func working(b *testing.B) (log *os.File, keeper *nft.Keeper) {
	b.Helper()
	dir := b.TempDir()
	cfg, problems := config.Load(nil, []config.File{{Name: "banset.yaml", Data: fmt.Appendf(nil,
		"blocklist: %[1]s/blocklist\nstate: %[1]s/state.db\nsocket: %[1]s/socket\nignoreip: [127.0.0.0/8]\n"+
			"policies: {sshd: {failregex: ['failed from <HOST>$'], logpath: [%[1]s/log], maxretry: 1, bantime: 1d}}\n", dir)}})
	if cfg == nil {
		b.Fatal(problems)
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{
			Load: func() (*config.Config, error) { return cfg, nil }, Config: "test", Version: "test",
			Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Ready: func() { close(ready) },
		})
	}()
	select {
	case <-ready:
	case err := <-ended:
		b.Fatal(err)
	}
	if keeper, err = nft.Open(KernelConfig(cfg)); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
		keeper.Close()
		log.Close()
	})
	return log, keeper
}
