package follow

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"banset/cmd/internal/source"
)

var (
	churns = flag.Int("churns", 40, "how often TestChurn rotates each of its logs")
	seed   = flag.Uint64("seed", 1, "what chance begins with in TestChurn")
)

// TestChurn: logs that are rotated in all ways at random, several times within milliseconds, are read whole, and once,
// also by a reader that is killed all the time and begins again where it had last committed.
func TestChurn(t *testing.T) {
	for i, name := range []string{"calm, by number", "calm, by date", "killed, by number", "killed, by date"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &churn{
				t: t, path: filepath.Join(t.TempDir(), "b.log"), rng: rand.New(rand.NewPCG(*seed, uint64(i))),
				dated: i%2 == 1, got: map[int]int{}, came: make(chan struct{}, 1),
			}
			c.log = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
				c.mu.Lock()
				defer c.mu.Unlock()
				return c.events.Write(p)
			}), &slog.HandlerOptions{Level: slog.LevelDebug}))
			c.run(i >= 2)
		})
	}
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(p []byte) (int, error) { return w(p) }

// kept is how many older generations of a log stay.
const kept = 12

// A churn is a log, who writes and rotates it, and who reads it.
type churn struct {
	t     *testing.T
	path  string
	dated bool
	rng   *rand.Rand
	log   *slog.Logger

	file  *os.File
	late  *os.File // a rotated one that is still written to
	lines int
	today int

	end  func() // of the life; nil: there is none
	came chan struct{}

	mu        sync.Mutex
	events    strings.Builder
	got       map[int]int // lines by their numbers
	at        []source.Position
	committed []source.Position
	pending   []int // lines since then
}

// live begins a life of the reader, if there is none.
func (c *churn) live() {
	if c.end != nil {
		return
	}
	c.say("a life begins")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	c.at = slices.Clone(c.committed)
	f := New([]string{c.path}, Options{
		From: slices.Clone(c.committed), Logger: c.log, Poll: time.Hour, Since: time.Now().Add(-time.Minute),
	})
	luck := rand.New(rand.NewPCG(c.rng.Uint64(), 0))
	go func() {
		ended <- f.Run(ctx, func(ctx context.Context, chunk source.Chunk) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			for line := range strings.Lines(string(chunk.Lines)) {
				_, number, _ := strings.Cut(strings.TrimSpace(line), " line ")
				n, err := strconv.Atoi(number)
				if err != nil {
					c.t.Errorf("%q", line)
				}
				c.got[n]++
				c.pending = append(c.pending, n)
			}
			c.at = source.Advance(c.at, chunk)
			if luck.IntN(3) == 0 {
				c.commit()
			}
			ring(c.came)
			return nil
		})
	}()
	c.end = func() {
		cancel()
		if err := <-ended; err != nil {
			c.t.Error(err)
		}
	}
}

// kill ends the life, if there is one, and forgets what it had not committed.
func (c *churn) kill() {
	if c.end == nil {
		return
	}
	c.end()
	c.end = nil
	c.say("killed")
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.pending {
		c.got[n]--
	}
	c.pending = nil
}

// commit makes what was read durable; c.mu is held.
func (c *churn) commit() { c.committed, c.pending = slices.Clone(c.at), nil }

func (c *churn) run(killed bool) {
	c.live()
	defer c.kill()
	for turns := 0; turns < *churns; {
		c.put(c.open(), 1+c.rng.IntN(8))
		if c.late != nil && c.rng.IntN(2) == 0 {
			c.put(c.late, 1+c.rng.IntN(3))
		}
		if killed && c.rng.IntN(6) == 0 {
			c.kill()
		}
		if c.rng.IntN(3) == 0 {
			c.live()
		}
		if c.rng.IntN(4) == 0 {
			for range 1 + c.rng.IntN(6)/5 {
				c.rotate()
				if turns++; turns%(kept/3) == 0 {
					c.whole() // what expires before it was read is lost
				}
			}
		}
		time.Sleep(time.Duration(c.rng.IntN(20)) * time.Millisecond)
	}
	c.closeLate()
	c.put(c.open(), 1)
	c.whole()
	c.mu.Lock()
	defer c.mu.Unlock()
	var double []int
	for i, n := range c.got {
		if n > 1 {
			double = append(double, i)
		}
	}
	if len(double) > 0 {
		slices.Sort(double)
		c.t.Errorf("more than once: %v:\n%s", double, c.events.String())
	}
}

// whole waits until all lines were read, and commits that.
func (c *churn) whole() {
	c.t.Helper()
	c.live()
	c.open() // what came and went is looked for when there is a log again
	for after := time.After(deadline); ; {
		c.mu.Lock()
		var lost []int
		for i := range c.lines {
			if c.got[i+1] == 0 {
				lost = append(lost, i+1)
			}
		}
		if len(lost) == 0 {
			c.commit()
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		select {
		case <-c.came:
		case <-after:
			c.mu.Lock()
			defer c.mu.Unlock()
			c.t.Fatalf("lost: %v:\n%s", lost, c.events.String())
		}
	}
}

func (c *churn) say(format string, a ...any) { c.log.Debug("writer: " + fmt.Sprintf(format, a...)) }

func (c *churn) open() *os.File {
	if c.file == nil {
		var err error
		c.file, err = os.OpenFile(c.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		must(c.t, err)
	}
	return c.file
}

// put writes n lines, sometimes with a pause within one of them.
func (c *churn) put(w *os.File, n int) {
	var b strings.Builder
	for range n {
		c.lines++
		fmt.Fprintf(&b, "%s%s line %d\n", time.Now().Format(time.RFC3339Nano), strings.Repeat(" ", c.rng.IntN(600)), c.lines)
	}
	text := b.String()
	if c.rng.IntN(10) == 0 {
		cut := c.rng.IntN(len(text))
		_, err := w.WriteString(text[:cut])
		must(c.t, err)
		text = text[cut:]
		time.Sleep(time.Duration(c.rng.IntN(30)) * time.Millisecond)
	}
	_, err := w.WriteString(text)
	must(c.t, err)
	c.say("%d lines to %s, the last %d", n, filepath.Base(w.Name()), c.lines)
}

func (c *churn) closeLate() {
	if c.late != nil {
		must(c.t, c.late.Close())
		c.late = nil
	}
}

func (c *churn) close() {
	must(c.t, c.file.Close())
	c.file = nil
}

// rotate rotates in one of the ways. The writer holds still meanwhile, and deletes nothing that nobody has committed.
func (c *churn) rotate() {
	c.closeLate()
	c.put(c.open(), 1+c.rng.IntN(3))
	kind := c.rng.IntN(6)
	if kind == 5 {
		c.whole()
		c.say("delete")
		c.close()
		must(c.t, os.Remove(c.path))
		return
	}
	to := c.makeRoom()
	c.say("rotation %d to %s", kind, filepath.Base(to))
	switch kind {
	case 0, 1, 2, 3:
		if kind == 2 {
			c.late, c.file = c.file, nil // it is written to for a while
		} else {
			c.close()
		}
		must(c.t, os.Rename(c.path, to))
		if kind == 1 {
			c.open()
		}
		if kind == 3 {
			c.pack(to)
		}
	case 4:
		src, err := os.Open(c.path)
		must(c.t, err)
		dst, err := os.Create(to)
		must(c.t, err)
		_, err = io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, 2<<10))
		must(c.t, err)
		must(c.t, dst.Close())
		must(c.t, src.Close())
		must(c.t, os.Truncate(c.path, 0))
	}
	if names := c.generations(); kind != 3 && len(names) > 1 {
		for _, name := range names[:len(names)-1] {
			if _, packed := cutPacked(name); packed == "" {
				c.pack(name)
			}
		}
	}
	c.say("rotation done")
}

func (c *churn) pack(name string) {
	pack(c.t, name, name+[]string{".gz", ".zst", ".xz"}[c.rng.IntN(3)])
}

// makeRoom gives the name for the youngest of the older generations.
func (c *churn) makeRoom() string {
	for names := c.generations(); len(names) >= kept; names = names[1:] {
		must(c.t, os.Remove(names[0]))
	}
	if c.dated {
		c.today++
		return c.path + "-" + time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, c.today).Format("20060102")
	}
	for _, name := range c.generations() { // the oldest first
		plain, packed := cutPacked(name)
		must(c.t, os.Rename(name, fmt.Sprintf("%s.%d%s", c.path, c.number(plain)+1, packed)))
	}
	return c.path + ".1"
}

func (c *churn) number(plain string) int {
	n, err := strconv.Atoi(plain[len(c.path)+1:])
	must(c.t, err)
	return n
}

// generations are the rotated files, the oldest first.
func (c *churn) generations() []string {
	names, err := filepath.Glob(c.path + "?[0-9]*")
	must(c.t, err)
	slices.SortFunc(names, func(a, b string) int {
		a, _ = cutPacked(a)
		b, _ = cutPacked(b)
		if c.dated {
			return c.number(a) - c.number(b)
		}
		return c.number(b) - c.number(a)
	})
	return names
}
