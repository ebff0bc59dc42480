package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"banset/policy"
	"banset/policy/judge"
)

// A ban ends when the wall clock says so: that is what the blocklist has, what people read and what holds across a
// reboot. The kernel counts its timeouts down by another clock, which does not know when the wall clock is set and
// stands still while the machine sleeps. So whenever the two part, each element gets its end anew.

// parted is how far the clocks may part before anything is done about it.
const parted = time.Second

// clock is the task that notices when the wall clock is set, forward or back, or the machine wakes up. It waits for the
// kernel to tell and wakes up for nothing else.
type clock struct {
	log     *slog.Logger
	changed func(ctx context.Context, jump time.Duration)
	ready   chan struct{}
	offset  func() (time.Duration, error)
	last    time.Duration // the offset at which the kernel has its timeouts
}

// newClock takes the clocks as they are now for those by which the kernel's timeouts are reckoned from here on.
func newClock(log *slog.Logger, changed func(context.Context, time.Duration)) (*clock, error) {
	c := &clock{log: log, changed: changed, ready: make(chan struct{}), offset: wallOffset}
	close(c.ready)
	var err error
	c.last, err = c.offset()
	return c, err
}

// wallOffset is how far the wall clock is ahead of the one that stands still while the machine sleeps.
func wallOffset() (time.Duration, error) {
	var wall, monotonic unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &wall); err != nil {
		return 0, fmt.Errorf("reading the clock: %w", err)
	}
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &monotonic); err != nil {
		return 0, fmt.Errorf("reading the clock: %w", err)
	}
	return time.Duration(wall.Nano() - monotonic.Nano()), nil
}

func (c *clock) String() string         { return "clock" }
func (c *clock) Ready() <-chan struct{} { return c.ready }

func (c *clock) Run(ctx context.Context) error {
	f, err := clockEvents()
	if err != nil {
		c.log.Warn(fmt.Sprintf("clock: %v; when the clock is set, restart the daemon", err))
		<-ctx.Done()
		return nil
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		c.look(ctx) // also what happened before the events were asked for
		var expired [8]byte
		_, err := f.Read(expired[:])
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil || errors.Is(err, unix.ECANCELED):
		default:
			return fmt.Errorf("waiting for the clock to be set: %w", err)
		}
	}
}

// look compares the clocks.
func (c *clock) look(ctx context.Context) {
	now, err := c.offset()
	if err != nil {
		c.log.Error(fmt.Sprintf("clock: %v", err))
		return
	}
	if jump := now - c.last; jump.Abs() >= parted {
		c.last = now
		c.changed(ctx, jump)
	}
}

// clockEvents is a timer that never expires; reading it fails with ECANCELED whenever the wall clock has been set or
// the machine has woken up. See timerfd_create(2).
func clockEvents() (*os.File, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("making a timer: %w", err)
	}
	never := unix.ItimerSpec{Value: unix.Timespec{Sec: math.MaxInt32 << 2}} // in the year 2242
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &never, nil); err != nil &&
		!errors.Is(err, unix.ECANCELED) { // set at this very moment, and armed all the same
		unix.Close(fd)
		return nil, fmt.Errorf("setting a timer: %w", err)
	}
	return os.NewFile(uintptr(fd), "timerfd"), nil
}

// clockChanged puts the ends of all bans in the kernel right. What is over by the new time ends with the next look at
// the book.
func (d *daemon) clockChanged(ctx context.Context, jump time.Duration) {
	ahead, word := jump, "ahead"
	if jump < 0 {
		ahead, word = -jump, "back"
	}
	d.log.Warn(fmt.Sprintf("clock: it went %s by %s (it was set, or the machine slept): bans end by the new time",
		word, policy.FormatDuration(ahead.Round(time.Second))))
	early := 0
	// Whatever runs in the court makes it look for bans that are over, and at when the next one will be.
	d.court.do(ctx, func(j *judge.Judge) {
		now := d.court.now()
		for b := range j.Book().All() {
			if b.Until != policy.Never && b.At > now.Add(time.Minute).Unix() {
				early++
			}
		}
	})
	if early > 0 {
		d.log.Warn(fmt.Sprintf("clock: %s began in what is the future now, and last as long as the blocklist says: banset list shows them",
			plural(early, "ban")))
	}
	d.mu.Lock()
	k := d.kernel
	d.mu.Unlock()
	k.ClockSet()
}
