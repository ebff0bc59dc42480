package daemon

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"banset/policy"
	"banset/policy/judge"
	"banset/policy/ledger"
)

// The kernel gets a ban before the file, the state and the log are so much as woken; one that can't be had does not keep
// the ban from the disk.
func TestKernelFirst(t *testing.T) {
	for _, stuck := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := policy.Policy{Name: "p", MaxRetry: 1, FindTime: time.Hour, BanTime: []time.Duration{time.Hour}}
			log := &countingHandler{Handler: slog.DiscardHandler}
			c := newCourt(judge.New(judge.Settings{Policies: []policy.Policy{p}, IPv6Prefix: 64, MaxHosts: 100, MaxBans: 100}), slog.New(log))
			var kernel, file, state atomic.Int32 // times woken
			c.wakeKernel, c.wakeFile, c.wakeState = func() { kernel.Add(1) }, func() { file.Add(1) }, func() { state.Add(1) }
			others := func() bool { return file.Load()+state.Load()+log.n.Load() > 0 }
			ctx, cancel := context.WithCancel(t.Context())
			go c.Run(ctx)
			defer func() { cancel(); <-c.over }()

			now := time.Now()
			c.foundLive <- finding{live: true, hits: piecesOf(policy.Hit{Policy: "p", Host: netip.MustParsePrefix("192.0.2.1/32"), Stamp: now, Arrived: now, Live: true})}
			synctest.Wait()
			if kernel.Load() == 0 || others() {
				t.Fatal("the kernel's mirror was not woken, or others were")
			}
			if stuck {
				time.Sleep(kernelFirst)
				synctest.Wait()
			} else {
				c.do(ctx, func(j *judge.Judge) { j.Book().Work(ledger.Kernel, 0) })
				synctest.Wait()
				if others() {
					t.Fatal("others were woken while the kernel is told")
				}
				c.do(ctx, func(j *judge.Judge) { j.Book().Done(ledger.Kernel, true) })
				synctest.Wait()
				if d := time.Since(now); d > 0 {
					t.Errorf("it took %v", d)
				}
			}
			if file.Load() == 0 || state.Load() == 0 || log.n.Load() == 0 {
				t.Errorf("stuck %v: file woken %d times, state %d, lines logged %d", stuck, file.Load(), state.Load(), log.n.Load())
			}
		})
	}
}

// The first part of a burst is judged at once and banned together with the rest, but never waits for ever.
func TestBurstIsOne(t *testing.T) {
	for _, broken := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := policy.Policy{Name: "p", MaxRetry: 1, FindTime: time.Hour, BanTime: []time.Duration{time.Hour}}
			c := newCourt(judge.New(judge.Settings{Policies: []policy.Policy{p}, IPv6Prefix: 64, MaxHosts: 100, MaxBans: 100}), slog.New(slog.DiscardHandler))
			var woken []time.Duration
			began := time.Now()
			c.wakeKernel = func() { woken = append(woken, time.Since(began)) }
			ctx, cancel := context.WithCancel(t.Context())
			go c.Run(ctx)
			defer func() { cancel(); <-c.over }()
			part := func(host string, more bool) {
				now := time.Now()
				c.foundLive <- finding{live: true, more: more, hits: piecesOf(
					policy.Hit{Policy: "p", Host: netip.MustParsePrefix(host), Stamp: now, Arrived: now, Live: true})}
				synctest.Wait()
			}
			part("192.0.2.1/32", true)
			time.Sleep(burstWaits / 2)
			part("192.0.2.2/32", true)
			c.found <- finding{} // a backlog's, of another log, does not end it
			synctest.Wait()
			standing := 0
			c.do(ctx, func(j *judge.Judge) { standing = j.Book().Len() })
			if standing != 2 || len(woken) > 0 {
				t.Fatalf("%d bans stand, the kernel's mirror was woken after %v", standing, woken)
			}
			want := burstWaits / 2
			if broken {
				want = burstWaits
				time.Sleep(burstWaits)
				synctest.Wait()
			} else {
				part("192.0.2.3/32", false)
			}
			if len(woken) == 0 || woken[0] != want {
				t.Errorf("broken off %v: the kernel's mirror was woken after %v, want %v", broken, woken, want)
			}
		})
	}
}

// countingHandler counts log lines.
type countingHandler struct {
	slog.Handler
	n atomic.Int32
}

func (h *countingHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h *countingHandler) Handle(context.Context, slog.Record) error {
	h.n.Add(1)
	return nil
}
