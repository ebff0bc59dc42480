package daemon

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"
)

// TestClockLook: a jump is told once, in its size; small ones are told when they add up.
func TestClockLook(t *testing.T) {
	offset := 1000 * time.Hour
	var failed error
	var jumps []time.Duration
	c := &clock{
		log:     slog.New(slog.DiscardHandler),
		changed: func(_ context.Context, jump time.Duration) { jumps = append(jumps, jump) },
		offset:  func() (time.Duration, error) { return offset, failed },
		last:    offset,
	}
	for _, step := range []time.Duration{0, time.Hour, 0, -3 * time.Hour, 600 * time.Millisecond, 600 * time.Millisecond, -10 * time.Millisecond} {
		offset += step
		c.look(t.Context())
	}
	want := []time.Duration{time.Hour, -3 * time.Hour, 1200 * time.Millisecond}
	if !slices.Equal(jumps, want) {
		t.Errorf("told %v, want %v", jumps, want)
	}
	failed = errors.New("no clock")
	offset += time.Hour
	c.look(t.Context())
	failed = nil
	c.look(t.Context())
	if len(jumps) != 4 || jumps[3] != time.Hour-10*time.Millisecond {
		t.Errorf("told %v after a clock that could not be read", jumps)
	}
}

// TestClockRuns: on the real kernel the task waits without an end and stops when it is told to. That it hears of a clock
// that is set is tried on the machines of test/debian: here nobody's clock may be touched.
func TestClockRuns(t *testing.T) {
	f, err := clockEvents()
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	c, err := newClock(slog.New(slog.DiscardHandler), func(_ context.Context, jump time.Duration) { t.Errorf("a jump of %s", jump) })
	if err != nil {
		t.Fatal(err)
	}
	looks := make(chan struct{}, 10)
	c.offset = func() (time.Duration, error) { looks <- struct{}{}; return c.last, nil }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	<-looks
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := len(looks); n != 0 {
		t.Errorf("it woke up %d times for nothing", n)
	}
}
