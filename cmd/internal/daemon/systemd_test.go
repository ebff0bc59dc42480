package daemon

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"banset/policy/judge"
)

// TestWatchdog: systemd hears from us while the court answers, and only then.
func TestWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCourt(judge.New(judge.Settings{}), slog.New(slog.NewTextHandler(io.Discard, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		go func() { ended <- c.Run(ctx) }()
		var heard atomic.Int32
		w := &watchdog{30 * time.Second, c.do, func(int) { heard.Add(1) }}
		go func() { ended <- w.Run(ctx) }()
		expect := func(want int32, when string) {
			t.Helper()
			synctest.Wait()
			if got := heard.Load(); got != want {
				t.Errorf("%s: systemd heard %d times, not %d", when, got, want)
			}
		}
		expect(1, "at the start")
		time.Sleep(5 * time.Minute)
		expect(11, "after 5 minutes")

		hang := make(chan struct{})
		go c.do(ctx, func(*judge.Judge) { <-hang })
		synctest.Wait()
		time.Sleep(5 * time.Minute)
		expect(11, "while the court hangs")

		close(hang)
		expect(13, "when it goes on") // and a tick waits
		time.Sleep(30 * time.Second)
		expect(14, "and then")
		cancel()
		for range 2 {
			if err := <-ended; err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
}

func TestWatchdogEvery(t *testing.T) {
	for _, test := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"", "", 0},
		{"60000000", "", 30 * time.Second},
		{"60000000", strconv.Itoa(os.Getpid()), 30 * time.Second},
		{"60000000", "1", 0},
		{"soon", "", 0},
		{"-1", "", 0},
		{"1", "", 500 * time.Nanosecond},
	} {
		env := map[string]string{"WATCHDOG_USEC": test.usec, "WATCHDOG_PID": test.pid}
		if got := watchdogEvery(func(k string) string { return env[k] }); got != test.want {
			t.Errorf("WATCHDOG_USEC=%q WATCHDOG_PID=%q: %v, not %v", test.usec, test.pid, got, test.want)
		}
	}
}
