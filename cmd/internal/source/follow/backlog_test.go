package follow

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banset/cmd/internal/source"
)

// While the reader of one log's backlog stands still, lines of other logs are delivered as they are written, and other
// backlogs are read.
func TestBacklogHoldsUpNobody(t *testing.T) {
	dir := t.TempDir()
	huge, live, other := filepath.Join(dir, "huge.log"), filepath.Join(dir, "live.log"), filepath.Join(dir, "other.log")
	write(t, huge, strings.Repeat("a line of a long backlog\n", 100_000))
	write(t, other, strings.Repeat("a line of another backlog\n", 50_000))
	write(t, live, "old\n")
	f := New([]string{huge, live, other}, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	came, release, stuck := make(chan source.Chunk), make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		first := true
		ended <- f.Run(ctx, func(ctx context.Context, c source.Chunk) error {
			if c.Names[0] == huge {
				if first {
					first = false
					close(stuck)
					<-release
				}
				return nil
			}
			c.Lines = []byte(string(c.Lines))
			select {
			case came <- c:
			case <-ctx.Done():
			}
			return nil
		})
	}()
	<-stuck
	rest, seen := 50_000, 0 // lines of the other backlog; those of the live log
	written := 0
	for rest > 0 || seen < 5 {
		select {
		case c := <-came:
			n := strings.Count(string(c.Lines), "\n")
			if c.Names[0] == other {
				rest -= n
				break
			}
			if seen += n; seen > written && seen < 5 {
				written++
				write(t, live, "one more\n")
			}
		case <-time.After(deadline):
			t.Fatalf("%d lines of the other backlog and %d of the live log are missing", rest, 5-seen)
		}
	}
	close(release)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
