package follow

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"banset/cmd/internal/source"
)

// collect runs a follower and gives its chunks to a channel until the test ends.
func collect(t *testing.T, f *Follower) <-chan source.Chunk {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ch, done := make(chan source.Chunk, 1<<16), make(chan error, 1)
	go func() {
		done <- f.Run(ctx, func(_ context.Context, c source.Chunk) error {
			c.Lines = bytes.Clone(c.Lines)
			ch <- c
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return ch
}

// want waits until exactly text was delivered.
func want(t *testing.T, ch <-chan source.Chunk, text string) (last source.Chunk) {
	t.Helper()
	var got []byte
	for len(got) < len(text) {
		select {
		case last = <-ch:
			got = append(got, last.Lines...)
		case <-time.After(10 * time.Second):
			t.Fatalf("only %q of %q was delivered", got, text)
		}
	}
	if string(got) != text {
		t.Fatalf("delivered %q, want %q", got, text)
	}
	return last
}

func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func TestSmoke(t *testing.T) {
	log := filepath.Join(t.TempDir(), "a.log")
	write(t, log, "one\ntwo\n")
	ch := collect(t, New([]string{log}, Options{}))
	if c := want(t, ch, "one\ntwo\n"); c.Live {
		t.Error("backlog is live")
	}
	write(t, log, "three\n")
	if c := want(t, ch, "three\n"); !c.Live {
		t.Error("not live")
	}
	os.Rename(log, log+".1")
	write(t, log, "four\n")
	want(t, ch, "four\n")
	write(t, log+".1", "late\n")
	want(t, ch, "late\n")
	write(t, log, "five\n")
	want(t, ch, "five\n")
	b, _ := os.ReadFile(log)
	os.WriteFile(log+".1", b, 0o644)
	os.Truncate(log, 0)
	write(t, log, "six\n")
	want(t, ch, "six\n")
	os.Remove(log)
	write(t, log, "seven\n")
	want(t, ch, "seven\n")
}
