// Package hook tells programs and web addresses of bans and unbans: off the path of a ban, one event at a time for each
// hook, from a queue that has an end. A hook is handed checked values only: nothing of what a log says.
package hook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"banset/policy"
	"banset/policy/config"
)

const (
	// queueSize is how many events wait for one hook.
	queueSize = 1000
	// newsEvery is how often the log tells of one hook's failures and of its dropped events; the others are counted.
	newsEvery = time.Minute
	// lastWords is how long what is under way at the end may still take.
	lastWords = 3 * time.Second
)

// An Event is one ban or the end of one.
type Event struct {
	Unban    bool
	Host     netip.Prefix
	Policy   string // "" for a person
	Failures int
	At       int64 // seconds since the epoch: when the ban began
	Until    int64 // seconds since the epoch, or policy.Never
}

// Stats is what became of one hook's events.
type Stats struct {
	Name                          string
	OK, Failed, TimedOut, Dropped uint64
	Waiting                       int
}

// Hooks passes events on to the hooks of a configuration. Send and Stats may be called from any goroutine.
type Hooks struct {
	workers []*worker
	ready   chan struct{}
}

// worker serves one hook.
type worker struct {
	config.Hook
	log   *slog.Logger
	queue chan Event
	call  func(ctx context.Context, e Event, now time.Time) error

	ok, failed, timedOut, dropped atomic.Uint64
	lastDrop                      atomic.Int64 // seconds since the epoch; 0: never

	next time.Time // before which nothing is passed on
	news quiet     // of failures
	full quiet     // of dropped events
}

// New prepares the enabled hooks; Run starts them.
func New(hooks []*config.Hook, log *slog.Logger) *Hooks {
	h := &Hooks{ready: make(chan struct{})}
	close(h.ready)
	for _, c := range hooks {
		if !c.Enabled {
			continue
		}
		w := &worker{Hook: *c, log: log, queue: make(chan Event, queueSize)}
		if w.call = w.run; c.Webhook != "" {
			w.call = newPoster(c.Webhook).post
		}
		h.workers = append(h.workers, w)
	}
	return h
}

func (h *Hooks) String() string         { return "hooks" }
func (h *Hooks) Ready() <-chan struct{} { return h.ready }

// Send queues an event for the hooks that are to be told of it. It never blocks: an event that finds a queue full is
// dropped and counted.
func (h *Hooks) Send(e Event) {
	for _, w := range h.workers {
		if e.Unban && !w.Unban || !e.Unban && !w.Ban {
			continue
		}
		select {
		case w.queue <- e:
		default:
			w.dropped.Add(1)
			w.lastDrop.Store(time.Now().Unix())
			w.full.tell(func(n int) {
				w.log.Warn(fmt.Sprintf("hook %s: %d events wait already: %s dropped", w.Name, queueSize, plural(uint64(n), "event")))
			})
		}
	}
}

// Stats is what became of the events so far, a hook an item, in order of name.
func (h *Hooks) Stats() []Stats {
	var all []Stats
	for _, w := range h.workers {
		all = append(all, Stats{w.Name, w.ok.Load(), w.failed.Load(), w.timedOut.Load(), w.dropped.Load(), len(w.queue)})
	}
	return all
}

// dropsTold is how long a dropped event is among what is wrong.
const dropsTold = 10 * time.Minute

// Problems is what is wrong with the hooks now, for people.
func (h *Hooks) Problems(now time.Time) []string {
	var all []string
	for _, w := range h.workers {
		if at := w.lastDrop.Load(); at != 0 && now.Sub(time.Unix(at, 0)) < dropsTold {
			all = append(all, fmt.Sprintf("hook %s is too slow: %s dropped since the start", w.Name, plural(w.dropped.Load(), "event")))
		}
	}
	return all
}

// Run passes events on until ctx ends. What waits then is dropped and told.
func (h *Hooks) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, w := range h.workers {
		wg.Go(func() { w.serve(ctx) })
	}
	<-ctx.Done()
	wg.Wait()
	return nil
}

func (w *worker) serve(ctx context.Context) {
	dropAmbient()
	// What is under way when the daemon stops gets a moment more.
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(lastWords, cancel) })
	defer stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case e := <-w.queue:
			if w.pause(ctx) {
				w.pass(own, e)
			} else {
				w.leave(1)
			}
		}
	}
	w.leave(len(w.queue))
}

// leave takes note of events that the end of the daemon leaves over.
func (w *worker) leave(n int) {
	if n > 0 {
		w.dropped.Add(uint64(n))
		w.log.Warn(fmt.Sprintf("hook %s: stopping with %s not passed on", w.Name, plural(uint64(n), "event")))
	}
}

// burst is the part of a minute's events that may come at once.
const burst = 6

// pause waits until the rate allows another event, and reports whether ctx lasted that long. A quiet hook may be told of
// a sixth of a minute's events at once.
func (w *worker) pause(ctx context.Context) bool {
	now := time.Now()
	every := time.Minute / time.Duration(w.PerMinute)
	if w.next.Before(now) {
		w.next = now
	}
	wait := w.next.Sub(now) - max(0, time.Minute/burst-every)
	w.next = w.next.Add(every)
	if wait <= 0 {
		return true
	}
	select {
	case <-time.After(wait):
		return true
	case <-ctx.Done():
		return false
	}
}

// pass hands one event to the hook and takes note of how that went.
func (w *worker) pass(ctx context.Context, e Event) {
	ctx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	err := w.call(ctx, e, time.Now())
	switch {
	case err == nil:
		w.ok.Add(1)
		return
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		w.timedOut.Add(1)
		err = fmt.Errorf("took more than %s", policy.FormatDuration(w.Timeout))
	default:
		w.failed.Add(1)
	}
	w.news.tell(func(n int) {
		more := ""
		if n > 1 {
			more = fmt.Sprintf(" (and %s before)", plural(uint64(n-1), "other failure"))
		}
		w.log.Warn(fmt.Sprintf("hook %s: %s of %s: %v%s", w.Name, e.word(), host(e.Host), err, more))
	})
}

// quiet keeps the log from being flooded.
type quiet struct {
	mu    sync.Mutex
	until time.Time
	count int
}

// tell calls f with how often tell was called since it last did, at most once in newsEvery.
func (q *quiet) tell(f func(n int)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.count++
	now := time.Now()
	if now.Before(q.until) {
		return
	}
	f(q.count)
	q.count, q.until = 0, now.Add(newsEvery)
}

func (e Event) word() string {
	if e.Unban {
		return "unban"
	}
	return "ban"
}

// host is how people write a prefix: an address alone where it is one.
func host(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// policyName is what stands for the policy: a name, or people's, which no policy has.
func (e Event) policyName() string {
	if e.Policy == "" {
		return "by hand"
	}
	return e.Policy
}

func (e Event) end() string {
	if e.Until == policy.Never {
		return "forever"
	}
	return time.Unix(e.Until, 0).UTC().Format(time.RFC3339)
}

// seconds is what is left of the ban: -1 for ever.
func (e Event) seconds(now time.Time) int64 {
	switch {
	case e.Unban:
		return 0
	case e.Until == policy.Never:
		return -1
	}
	return max(0, e.Until-now.Unix())
}

// value is what stands for a placeholder. All of them are numbers, words of ours, addresses, or a policy's name.
func (e Event) value(name string, now time.Time) string {
	switch name {
	case "event":
		return e.word()
	case "addr":
		return host(e.Host)
	case "policy":
		return e.policyName()
	case "failures":
		return strconv.Itoa(e.Failures)
	case "end":
		return e.end()
	case "seconds":
		return strconv.FormatInt(e.seconds(now), 10)
	}
	return ""
}

// Same reports whether two configurations have the same hooks, so that those that run may go on.
func Same(a, b []*config.Hook) bool {
	return slices.EqualFunc(a, b, func(a, b *config.Hook) bool {
		return a.Name == b.Name && a.Enabled == b.Enabled && a.Ban == b.Ban && a.Unban == b.Unban && a.Webhook == b.Webhook &&
			a.Timeout == b.Timeout && a.PerMinute == b.PerMinute && slices.Equal(a.Command, b.Command)
	})
}

func plural(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
