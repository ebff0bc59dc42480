package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
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
	runtime.GOMAXPROCS(runtime.NumCPU() + 1) // for whoever looks
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
	runtime.GOMAXPROCS(runtime.NumCPU() + 1)
	log, keeper := working(b)
	var took []time.Duration
	const n = 10_000
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		var text []byte
		for j := range n {
			text = fmt.Appendf(text, "failed from 10.%d.%d.%d\n", i, j>>8, j&255) // 240 KB: one read takes them
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

// TestBurst: 10,000 bans that one write to the log earns reach the kernel in one transaction.
func TestBurst(t *testing.T) {
	nfttest.Clean(t)
	log, keeper := working(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const n = 10_000
	var transactions []int // how many elements each brought
	seen, listening, ended := 0, make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- keeper.Watch(ctx, func() { close(listening) }, func(x nft.Transaction) error {
			if x.Lost {
				return errors.New("events were lost")
			}
			transactions = append(transactions, len(x.Events))
			if seen += len(x.Events); seen >= n {
				cancel()
			}
			return nil
		})
	}()
	<-listening
	var text []byte
	stamp := time.Now().Format("2006-01-02 15:04:05 ")
	long := strings.Repeat("x", 100) // as long as lines of a mail server are
	for i := range n {
		text = fmt.Appendf(text, "%s%s: failed from 10.9.%d.%d\n", stamp, long, i>>8, i&255)
	}
	if _, err := log.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if len(transactions) != 1 || transactions[0] != n {
		t.Errorf("%v elements came in a transaction each, want [%d]", transactions, n)
	}
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
	b.ReportMetric(us(took[len(took)/2]), "µs-median")
	b.ReportMetric(us(took[len(took)*99/100]), "µs-p99")
	b.ReportMetric(us(took[len(took)-1]), "µs-max")
}

// working is the log that a daemon follows, which bans at the first failure, and a look into its table.
func working(b testing.TB) (log *os.File, keeper *nft.Keeper) {
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
	out, err := os.Create(filepath.Join(dir, "daemon.log"))
	if err != nil {
		b.Fatal(err)
	}
	logger, flush := NewLogger(out, false)
	go func() {
		ended <- Run(ctx, Options{
			Load: func() (*config.Config, error) { return cfg, nil }, Config: "test", Version: "test",
			Log: logger, Ready: func() { close(ready) },
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
		flush()
		out.Close()
		keeper.Close()
		log.Close()
	})
	return log, keeper
}
