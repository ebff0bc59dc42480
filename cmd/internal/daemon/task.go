package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// A task is one long-running part of the daemon. Run returns nil when ctx ends, after it did its last work, or the
// error that ends the daemon. Ready is closed when the tasks after it may start.
type task interface {
	Run(ctx context.Context) error
	Ready() <-chan struct{}
	String() string
}

// tasks runs a list of tasks that start one after the other and stop in the opposite order.
type tasks struct {
	fail chan error // the first error of any

	mu      sync.Mutex
	running []*running
}

type running struct {
	task   task
	cancel context.CancelFunc
	ended  chan struct{}
}

func newTasks() *tasks { return &tasks{fail: make(chan error, 1)} }

// start runs a task and returns when it is ready, when it ended, or when ctx is over.
func (ts *tasks) start(ctx context.Context, t task) error {
	// The task outlives ctx: only stop ends it, in its turn.
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &running{task: t, cancel: cancel, ended: make(chan struct{})}
	var result error
	go func() {
		defer close(r.ended)
		if err := t.Run(own); err != nil && !errors.Is(err, context.Canceled) {
			result = fmt.Errorf("%s: %w", t, err)
			select {
			case ts.fail <- result:
			default:
			}
		}
	}()
	ts.mu.Lock()
	ts.running = append(ts.running, r)
	ts.mu.Unlock()
	select {
	case <-t.Ready():
		return nil
	case <-r.ended:
		return result
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop ends a task and waits for its last work.
func (ts *tasks) stop(t task) {
	ts.mu.Lock()
	var found *running
	for i, r := range ts.running {
		if r.task == t {
			found = r
			ts.running = append(ts.running[:i:i], ts.running[i+1:]...)
			break
		}
	}
	ts.mu.Unlock()
	if found != nil {
		found.cancel()
		<-found.ended
	}
}

// stopAll ends every task, the last one first.
func (ts *tasks) stopAll() {
	for {
		ts.mu.Lock()
		n := len(ts.running)
		if n == 0 {
			ts.mu.Unlock()
			return
		}
		last := ts.running[n-1].task
		ts.mu.Unlock()
		ts.stop(last)
	}
}
