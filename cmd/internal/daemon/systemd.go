package daemon

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/mdlayher/sdnotify"

	"banset/policy/judge"
)

// notify tells systemd what we are up to, when it started us as a service of Type=notify (sd_notify(3)).
func (d *daemon) notify(states ...string) {
	n, err := sdnotify.New()
	if err != nil {
		return // not started by systemd
	}
	defer n.Close()
	if err := n.Notify(states...); err != nil {
		d.log.Warn(fmt.Sprintf("telling systemd: %v", err))
	}
}

// alive is the watchdog's message, with a line for `systemctl status`.
func (d *daemon) alive(bans int) {
	d.notify("WATCHDOG=1", sdnotify.Statusf("%s in the kernel", plural(bans, "ban")))
}

// watchdog is the task that tells systemd that we are alive: each time the court has answered. When it does not, or
// when nothing of us runs any more, systemd kills and restarts us; the kernel keeps the bans meanwhile.
type watchdog struct {
	every time.Duration
	do    func(context.Context, func(*judge.Judge)) error
	alive func(bans int)
}

// watchdogEvery is how often systemd wants to hear from us: twice within its time. 0: not at all. See
// sd_watchdog_enabled(3).
func watchdogEvery(getenv func(string) string) time.Duration {
	if pid := getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0 // meant for another process
	}
	usec, err := strconv.ParseUint(getenv("WATCHDOG_USEC"), 10, 53)
	if err != nil {
		return 0
	}
	return time.Duration(usec) * time.Microsecond / 2
}

func (w *watchdog) String() string         { return "watchdog" }
func (w *watchdog) Ready() <-chan struct{} { return closed }

func (w *watchdog) Run(ctx context.Context) error {
	if w.every <= 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	for {
		bans := 0
		if err := w.do(ctx, func(j *judge.Judge) { bans = j.Book().Len() }); err != nil {
			return err
		}
		w.alive(bans)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
