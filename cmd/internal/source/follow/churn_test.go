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
	"strings"
	"sync"
	"testing"
	"time"

	"banset/cmd/internal/source"
)

var (
	churns = flag.Int("churns", 40, "how often TestChurn rotates its logs")
	seed   = flag.Uint64("seed", 1, "what chance begins with in TestChurn")
)

// TestChurn: logs that are rotated in all ways at random, several times within milliseconds, are read whole, and once.
func TestChurn(t *testing.T) {
	for i := range 4 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			churn(t, rand.New(rand.NewPCG(*seed, uint64(i))))
		})
	}
}

func churn(t *testing.T, rng *rand.Rand) {
	const kept = 12
	dir := t.TempDir()
	path := filepath.Join(dir, "b.log")
	var mu sync.Mutex
	got := map[int]int{} // lines, by their numbers
	came := make(chan struct{}, 1)
	var events strings.Builder
	log := slog.New(slog.NewTextHandler(&locked{mu: &mu, w: &events}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	f := New([]string{path}, Options{Logger: log, Poll: time.Hour, Since: time.Now().Add(-time.Second)})
	go func() {
		ended <- f.Run(ctx, func(_ context.Context, c source.Chunk) error {
			mu.Lock()
			for line := range strings.Lines(string(c.Lines)) {
				var n int
				_, text, _ := strings.Cut(line, " ")
				if _, err := fmt.Sscanf(text, "line %d", &n); err != nil {
					t.Errorf("%q", line)
				}
				got[n]++
			}
			mu.Unlock()
			ring(came)
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	<-f.Looked()

	lines, today := 0, 0
	var file, late *os.File
	say := func(format string, a ...any) { log.Debug("writer: " + fmt.Sprintf(format, a...)) }
	put := func(w *os.File, n int) {
		var b strings.Builder
		for range n {
			lines++
			fmt.Fprintf(&b, "%s line %d\n", time.Now().Format("2006-01-02T15:04:05.000000-07:00"), lines)
		}
		text := b.String()
		if rng.IntN(10) == 0 {
			cut := rng.IntN(len(text))
			_, err := w.WriteString(text[:cut])
			must(t, err)
			text = text[cut:]
			time.Sleep(time.Duration(rng.IntN(30)) * time.Millisecond)
		}
		_, err := w.WriteString(text)
		must(t, err)
		say("%d lines to %s, the last %d", n, filepath.Base(w.Name()), lines)
	}
	open := func() {
		if file == nil {
			var err error
			file, err = os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
			must(t, err)
		}
	}
	closeLate := func() {
		if late != nil {
			must(t, late.Close())
			late = nil
		}
	}
	all := func() []string {
		names, err := filepath.Glob(path + "-*")
		must(t, err)
		slices.Sort(names)
		return names
	}
	compress := func(name string) {
		ext := []string{".gz", ".zst", ".xz"}[rng.IntN(3)]
		pack(t, name, name+ext)
	}
	older := func() {
		names := all()
		for _, name := range names[:max(0, len(names)-1)] {
			if filepath.Ext(name) == ".log-"+name[max(0, len(name)-8):] {
				compress(name)
			}
		}
	}
	rotate := func() {
		closeLate()
		open()
		put(file, 1+rng.IntN(3))
		for names := all(); len(names) >= kept; names = names[1:] {
			must(t, os.Remove(names[0]))
		}
		today++
		to := path + "-" + time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, today).Format("20060102")
		kind := rng.IntN(5)
		say("rotation %d to %s", kind, filepath.Base(to))
		switch kind {
		case 0, 1:
			file.Close()
			file = nil
			must(t, os.Rename(path, to))
			if kind == 1 {
				open()
			}
			older()
		case 2:
			must(t, os.Rename(path, to))
			late, file = file, nil
			older()
		case 3:
			file.Close()
			file = nil
			must(t, os.Rename(path, to))
			compress(to)
		case 4:
			src, err := os.Open(path)
			must(t, err)
			dst, err := os.Create(to)
			must(t, err)
			_, err = io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, 8<<10))
			must(t, err)
			must(t, dst.Close())
			src.Close()
			must(t, os.Truncate(path, 0))
			older()
		}
		say("rotation done")
	}
	whole := func() {
		for after := time.After(deadline); ; {
			mu.Lock()
			n := len(got)
			mu.Unlock()
			if n == lines {
				return
			}
			select {
			case <-came:
			case <-after:
				mu.Lock()
				defer mu.Unlock()
				var lost []int
				for i := range lines {
					if got[i+1] == 0 {
						lost = append(lost, i+1)
					}
				}
				t.Fatalf("lost: %v:\n%s", lost, events.String())
			}
		}
	}
	for turns := 0; turns < *churns; {
		open()
		put(file, 1+rng.IntN(8))
		if late != nil && rng.IntN(2) == 0 {
			put(late, 1+rng.IntN(3))
		}
		if rng.IntN(4) == 0 {
			for range 1 + rng.IntN(6)/5 {
				rotate()
				if turns++; turns%(kept/3) == 0 {
					open() // what came and went is looked for when there is a log again
					whole()
				}
			}
		}
		time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
	}
	closeLate()
	open()
	put(file, 1)
	whole()
	mu.Lock()
	defer mu.Unlock()
	var double []int
	for i, n := range got {
		if n != 1 {
			double = append(double, i)
		}
	}
	if len(double) > 0 {
		slices.Sort(double)
		t.Errorf("more than once: %v:\n%s", double, events.String())
	}
}

// locked is a writer that several goroutines share.
type locked struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
