package follow

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banset/cmd/internal/source"
)

// What was written before it is read is one burst, up to its bound: each chunk but its last says that more follows. Lines
// of a trickle, and those after a truncation within a burst, do not.
func TestBurst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("old\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := New([]string{path}, Options{Poll: time.Hour})
	ctx, cancel := context.WithCancel(context.Background())
	taken, on, ended := make(chan source.Chunk), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- f.Run(ctx, func(_ context.Context, c source.Chunk) error {
			c.Lines = bytes.Clone(c.Lines)
			taken <- c
			<-on
			return nil
		})
	}()
	defer func() { cancel(); close(on); <-ended }()
	next := func() source.Chunk {
		t.Helper()
		select {
		case c := <-taken:
			return c
		case <-time.After(deadline):
			t.Fatal("nothing comes")
			return source.Chunk{}
		}
	}
	write := func(text string, flags int) {
		t.Helper()
		w, err := os.OpenFile(path, os.O_WRONLY|flags, 0)
		if err == nil {
			_, err = w.WriteString(text)
		}
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
	if c := next(); c.Live || c.More {
		t.Errorf("the backlog: live %v, more %v", c.Live, c.More)
	}
	burst := strings.Repeat("a line of a burst\n", (burstSize+3*blockSize)/18)
	write(burst+"no end", os.O_APPEND) // while the handler is at work
	size, bursts := 0, 0
	for have := 0; have < len(burst); {
		on <- struct{}{}
		c := next()
		have += len(c.Lines)
		size += len(c.Lines)
		if !c.Live || size > burstSize+blockSize {
			t.Fatalf("live %v, a burst of %d bytes", c.Live, size)
		}
		if size < burstSize-100 && c.More != (have < len(burst)) {
			t.Errorf("after %d bytes, %d of this burst: more %v", have, size, c.More)
		}
		if !c.More {
			size = 0
			bursts++
		}
	}
	if bursts != 2 || size != 0 {
		t.Errorf("%d bursts, and %d bytes of one without an end", bursts, size)
	}
	write(" now\n", os.O_APPEND)
	on <- struct{}{}
	if c := next(); c.More || string(c.Lines) != "no end now\n" {
		t.Errorf("%q, more %v", c.Lines, c.More)
	}
	write(burst, os.O_APPEND)
	on <- struct{}{}
	if c := next(); !c.More {
		t.Error("no burst")
	}
	write("new\n", os.O_TRUNC)
	on <- struct{}{}
	if c := next(); c.More || string(c.Lines) != "new\n" {
		t.Errorf("after a truncation: %.20q, more %v", c.Lines, c.More)
	}
}
