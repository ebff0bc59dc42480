package follow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banset/cmd/internal/source"
)

// BenchmarkBacklog reads a file that was there before: DESIGN wants about the speed of grep.
func BenchmarkBacklog(b *testing.B) {
	log := filepath.Join(b.TempDir(), "a.log")
	line := "2026-11-23 18:12:45 login authenticator failed for (User) [192.0.2.1]: 535 Incorrect authentication data\n"
	content := strings.Repeat(line, 64<<20/len(line))
	must(b, os.WriteFile(log, []byte(content), 0o644))
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		left := len(content)
		enough := errors.New("enough")
		err := New([]string{log}, Options{}).Run(context.Background(), func(_ context.Context, c source.Chunk) error {
			if left -= len(c.Lines); left == 0 {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) {
			b.Fatal(err)
		}
	}
}

// BenchmarkLine is the time from a line's write to its handler, on an idle log.
func BenchmarkLine(b *testing.B) {
	for _, mode := range []string{"tail", "blocks"} {
		b.Run(mode, func(b *testing.B) {
			log := filepath.Join(b.TempDir(), "a.log")
			write(b, log, "first\n")
			f := New([]string{log}, Options{})
			f.noTail = mode == "blocks"
			ctx, cancel := context.WithCancel(context.Background())
			came, ended := make(chan time.Time, 1), make(chan error, 1)
			go func() {
				ended <- f.Run(ctx, func(context.Context, source.Chunk) error { came <- time.Now(); return nil })
			}()
			<-came
			w, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
			must(b, err)
			defer w.Close()
			var total time.Duration
			for b.Loop() {
				time.Sleep(2 * time.Millisecond) // an idle log: that is what is measured
				begun := time.Now()
				_, err := w.WriteString("2026-11-23 18:12:45 failed for [192.0.2.1]\n")
				must(b, err)
				total += (<-came).Sub(begun)
			}
			b.ReportMetric(float64(total.Microseconds())/float64(b.N), "µs/line")
			cancel()
			if err := <-ended; err != nil {
				b.Error(err)
			}
		})
	}
}

// BenchmarkFirstLine is the time from a start to the first line of a log with twelve compressed generations, when the
// file that was being read was deleted: it is looked for in all of them. A daemon that is killed all the time must get
// as far as that.
func BenchmarkFirstLine(b *testing.B) {
	dir := b.TempDir()
	log := filepath.Join(dir, "a.log")
	for i := range 12 {
		plain := filepath.Join(dir, fmt.Sprintf("a.log.%d", i+1))
		write(b, plain, strings.Repeat(fmt.Sprintf("%02d 2026-11-23 18:12:45 failed for user from [192.0.2.1]\n", i), 4000))
		pack(b, plain, plain+[]string{".gz", ".zst", ".xz"}[i%3])
	}
	write(b, log, "first\n")
	gone := source.Position{Path: log, Dev: 1, Ino: 1, Offset: 64, Head: bytes.Repeat([]byte("x"), 64), Tail: bytes.Repeat([]byte("x"), 64)}
	enough := errors.New("enough")
	for b.Loop() {
		err := New([]string{log}, Options{From: []source.Position{gone}}).Run(context.Background(), func(_ context.Context, c source.Chunk) error {
			return enough
		})
		if !errors.Is(err, enough) {
			b.Fatal(err)
		}
	}
}
