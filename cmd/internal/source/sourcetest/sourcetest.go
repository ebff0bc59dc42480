// Package sourcetest holds any source to the contract of package source: nothing lost, nothing doubled, in order, and
// from every position on exactly the rest.
//
// Nothing here sleeps to wait for something: lines are waited for, with a deadline that only a broken source meets.
package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"banset/cmd/internal/source"
)

// A Log is one log of the kind under test, empty at first.
type Log interface {
	// Write appends text, whole lines unless the kind takes bytes as they are. Safe for concurrent use, with Rotate too.
	Write(text string)
	// Rotate rotates the log in one of the kind's ways.
	Rotate(way Way)
	// Open makes a source for this log alone that resumes from these positions.
	Open(from []source.Position) source.Source
}

// A Way is one way to rotate.
type Way struct {
	Name string
	// Late: a writer may go on in the old file for a while, so lines of old and new may come in any order.
	Late bool
	// Live: nothing is left for a reader that does not have the old file open.
	Live bool
}

// A Kind is a kind of source.
type Kind struct {
	New  func(t testing.TB) Log
	Ways []Way
	// Bytes: the log takes any bytes, so lines may be written in parts, be too long, and hold junk.
	Bytes bool
}

// deadline is how long a line may take before the source is said to have lost it.
const deadline = 20 * time.Second

// Test runs the suite.
func Test(t *testing.T, k Kind) {
	t.Run("backlog then live", func(t *testing.T) { testBacklog(t, k) })
	t.Run("waits for the handler", func(t *testing.T) { testSlow(t, k) })
	t.Run("handler error ends Run", func(t *testing.T) { testHandlerError(t, k) })
	t.Run("resume from every position", func(t *testing.T) { testEveryPosition(t, k) })
	if k.Bytes {
		t.Run("bytes", func(t *testing.T) { testBytes(t, k) })
		t.Run("parts of lines", func(t *testing.T) { testParts(t, k) })
	}
	for _, way := range k.Ways {
		t.Run(way.Name, func(t *testing.T) {
			t.Run("one by one", func(t *testing.T) { testRotateQuiet(t, k, way) })
			t.Run("while it is written", func(t *testing.T) { testRotateBusy(t, k, way, false) })
			t.Run("slow handler", func(t *testing.T) { testRotateBusy(t, k, way, true) })
			if !way.Live {
				t.Run("resume from every position", func(t *testing.T) { testEveryRotation(t, k, way) })
				t.Run("stops and crashes", func(t *testing.T) { testCrashes(t, k, way) })
			}
		})
	}
}

// A batch is what one chunk brought, and the positions a store holds after it.
type batch struct {
	lines []string
	live  bool
	held  []source.Position
}

// A reader runs a source and keeps what it delivers.
type reader struct {
	t      testing.TB
	cancel context.CancelFunc
	ended  chan error
	more   chan struct{} // rung for each batch

	mu    sync.Mutex
	batch []batch
	dead  bool
	block chan struct{} // while it is not nil, each chunk waits to receive from it
}

func start(t testing.TB, s source.Source, from []source.Position, block chan struct{}) *reader {
	ctx, cancel := context.WithCancel(context.Background())
	r := &reader{t: t, cancel: cancel, ended: make(chan error, 1), more: make(chan struct{}, 1), block: block}
	held := slices.Clone(from)
	go func() {
		r.ended <- s.Run(ctx, func(ctx context.Context, c source.Chunk) error {
			if r.block != nil {
				select {
				case <-r.block:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.dead {
				return context.Canceled
			}
			if problem := check(c); problem != "" {
				r.t.Error(problem)
			}
			held = source.Advance(held, c)
			lines := strings.Split(strings.TrimSuffix(string(c.Lines), "\n"), "\n")
			r.batch = append(r.batch, batch{lines, c.Live, slices.Clone(held)})
			select {
			case r.more <- struct{}{}:
			default:
			}
			return nil
		})
	}()
	return r
}

// check says what of the contract a chunk breaks by itself.
func check(c source.Chunk) string {
	switch {
	case len(c.Lines) == 0 || c.Lines[len(c.Lines)-1] != '\n':
		return fmt.Sprintf("a chunk of %d bytes does not end with a line's end", len(c.Lines))
	case bytes.Contains(c.Lines, []byte("\r\n")):
		return "a line ends in \\r\\n"
	case len(c.Names) == 0:
		return "a chunk has no name"
	case c.Arrived.IsZero():
		return "a chunk has no time of arrival"
	}
	for line := range bytes.Lines(c.Lines) {
		if len(line) > source.MaxLine+1 {
			return fmt.Sprintf("a line is %d bytes long", len(line))
		}
	}
	return ""
}

// lines is all that was delivered.
func (r *reader) lines() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.batch {
		all = append(all, b.lines...)
	}
	return all
}

func (r *reader) batches() []batch {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.batch)
}

// await waits until enough says so of what was delivered.
func (r *reader) await(what string, enough func(lines []string) bool) {
	r.t.Helper()
	r.awaitOr(what, enough, nil)
}

// An account is all lines there are, and those that came before this reader.
type account struct{ before, all []string }

// awaitAll waits for as many lines as there are, and says which one is missing if they do not come.
func (r *reader) awaitAll(a account) {
	r.t.Helper()
	r.awaitOr("all lines", func(lines []string) bool { return len(a.before)+len(lines) >= len(a.all) }, &a)
}

func (r *reader) awaitOr(what string, enough func(lines []string) bool, missing *account) {
	r.t.Helper()
	timeout := time.NewTimer(deadline)
	defer timeout.Stop()
	for !enough(r.lines()) {
		select {
		case <-r.more:
		case err := <-r.ended:
			r.ended <- err
			r.t.Fatalf("the source ended (%v) before %s", err, what)
		case <-timeout.C:
			lines := r.lines()
			if missing != nil {
				same(r.t, slices.Concat(missing.before, lines), missing.all, true)
			}
			r.t.Fatalf("no %s: %d lines, the last %q", what, len(lines), clip(lines[max(0, len(lines)-3):]))
		}
	}
}

// awaitMore waits for a batch.
func (r *reader) awaitMore() {
	r.t.Helper()
	select {
	case <-r.more:
	case <-time.After(deadline):
		lines := r.lines()
		r.t.Fatalf("nothing comes after %d lines, the last %q", len(lines), clip(lines[max(0, len(lines)-3):]))
	}
}

func (r *reader) awaitLine(line string) {
	r.t.Helper()
	r.await(fmt.Sprintf("line %.60q", line), func(lines []string) bool { return slices.Contains(lines, line) })
}

// stop ends the source; chunks that the handler has not taken yet are as if they had never come.
func (r *reader) stop() {
	r.t.Helper()
	r.mu.Lock()
	r.dead = true
	r.mu.Unlock()
	r.cancel()
	select {
	case err := <-r.ended:
		// A killed handler's own error may win against the end of the context.
		if err != nil && !errors.Is(err, context.Canceled) {
			r.t.Errorf("Run: %v", err)
		}
	case <-time.After(deadline):
		r.t.Fatal("Run does not end")
	}
}

func clip(lines []string) []string {
	short := make([]string, len(lines))
	for i, l := range lines {
		short[i] = fmt.Sprintf("%.60s", l)
	}
	return short
}

// same compares lines, in order or as a bag.
func same(t testing.TB, got, want []string, anyOrder bool) {
	t.Helper()
	if anyOrder {
		got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	}
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Fatalf("%d lines, want %d: %.60q is missing", len(got), len(want), want[i])
		case i >= len(want):
			t.Fatalf("%d lines, want %d: %.60q is too much", len(got), len(want), got[i])
		case got[i] != want[i]:
			t.Fatalf("line %d of %d (want %d) is %.60q, want %.60q; before it %q", i, len(got), len(want), got[i], want[i],
				clip(got[max(0, i-3):i]))
		}
	}
}

// numbered makes n lines that can be told apart, from number first on.
func numbered(first, n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprintf("2026-11-23 18:12:45 %08d login failed for (user) [192.0.2.%d]", first+i, (first+i)%250)
	}
	return lines
}

func writeAll(l Log, lines []string) {
	for _, line := range lines {
		l.Write(line + "\n")
	}
}

func testBacklog(t *testing.T, k Kind) {
	l := k.New(t)
	all := numbered(0, 3000)
	writeAll(l, all[:2000])
	r := start(t, l.Open(nil), nil, nil)
	defer r.stop()
	r.awaitLine(all[1999])
	for _, b := range r.batches() {
		if b.live {
			t.Fatal("a chunk of the backlog says that it is live")
		}
	}
	before := len(r.batches())
	writeAll(l, all[2000:2999])
	r.awaitLine(all[2998])
	l.Write(all[2999] + "\n")
	r.awaitLine(all[2999])
	same(t, r.lines(), all, false)
	for _, b := range r.batches()[before:] {
		if !b.live {
			t.Fatal("a line that was written while the source followed is not live")
		}
	}
}

func testSlow(t *testing.T, k Kind) {
	l := k.New(t)
	all := numbered(0, 5000)
	block := make(chan struct{})
	r := start(t, l.Open(nil), nil, block)
	defer r.stop()
	l.Write(all[0] + "\n")
	block <- struct{}{} // taken: the handler has the first line, and soon waits with the next
	writeAll(l, all[1:])
	close(block)
	r.awaitLine(all[len(all)-1])
	same(t, r.lines(), all, false)
}

func testHandlerError(t *testing.T, k Kind) {
	l := k.New(t)
	writeAll(l, numbered(0, 3))
	broken := errors.New("broken")
	ended := make(chan error, 1)
	s := l.Open(nil)
	go func() {
		ended <- s.Run(t.Context(), func(context.Context, source.Chunk) error { return broken })
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, broken) {
			t.Fatalf("Run: %v, want the handler's error", err)
		}
	case <-time.After(deadline):
		t.Fatal("Run goes on after its handler's error")
	}
}

func testEveryPosition(t *testing.T, k Kind) {
	l := k.New(t)
	all := numbered(0, 30)
	r := start(t, l.Open(nil), nil, nil)
	for _, line := range all {
		l.Write(line + "\n")
		r.awaitLine(line)
	}
	r.stop()
	resumeAll(t, l, r.batches(), all, false)
}

// resumeAll resumes behind every batch and wants exactly the rest of all, and then a new line.
func resumeAll(t *testing.T, l Log, batches []batch, all []string, anyOrder bool) {
	t.Helper()
	var done []string
	for i, b := range batches {
		done = append(done, b.lines...)
		r := start(t, l.Open(b.held), b.held, nil)
		line := numbered(1_000_000+i, 1)[0]
		l.Write(line + "\n")
		all = append(all, line)
		r.awaitAll(account{before: done, all: all})
		r.stop()
		if anyOrder {
			same(t, append(r.lines(), done...), all, true)
		} else {
			same(t, r.lines(), all[len(done):], false)
		}
	}
}

func testBytes(t *testing.T, k Kind) {
	l := k.New(t)
	long := strings.Repeat("x", source.MaxLine)
	in := []string{
		"plain\n", "\n", "dos\r\n", "\r\n", "many\r\r\r\n", "inner\rcr\n", "nul\x00\x00\x01\xff\xfe\n",
		long + "\n", long + "y\n", "after\n", long + "\r\n", strings.Repeat("z", 3<<20) + "\n", "end\n",
	}
	want := []string{
		"plain", "", "dos", "", "many", "inner\rcr", "nul\x00\x00\x01\xff\xfe",
		long, long, "after", long, strings.Repeat("z", source.MaxLine), "end",
	}
	for _, backlog := range []bool{true, false} {
		s := l.Open(nil)
		var r *reader
		if backlog {
			l.Write(strings.Join(in, ""))
			r = start(t, s, nil, nil)
			r.awaitLine("end")
			same(t, r.lines(), want, false)
		} else {
			l = k.New(t)
			s = l.Open(nil)
			r = start(t, s, nil, nil)
			for i, line := range in {
				l.Write(line)
				r.await(fmt.Sprintf("line %d", i), func(lines []string) bool { return len(lines) > i })
			}
			same(t, r.lines(), want, false)
		}
		r.stop()
		var cut uint64
		for _, st := range s.Status() {
			cut += st.Cut
		}
		if cut != 3 {
			t.Errorf("%d lines cut, want 3", cut)
		}
		resumeAll(t, l, r.batches(), want, false)
	}
}

func testParts(t *testing.T, k Kind) {
	l := k.New(t)
	r := start(t, l.Open(nil), nil, nil)
	defer r.stop()
	l.Write("first\nsec")
	r.awaitLine("first")
	for range 300 {
		l.Write("o")
	}
	l.Write("nd\nthird\nhalf")
	second := "sec" + strings.Repeat("o", 300) + "nd"
	r.awaitLine("third")
	same(t, r.lines(), []string{"first", second, "third"}, false)
	held := r.batches()[len(r.batches())-1].held
	r.stop()

	// The half is read anew after a stop, and whole.
	r2 := start(t, l.Open(held), held, nil)
	l.Write(" and half\n")
	r2.awaitLine("half and half")
	same(t, r2.lines(), []string{"half and half"}, false)

	// A line without end is cut while it grows, and resumed within.
	endless := strings.Repeat("e", source.MaxLine)
	l.Write(endless + "ee")
	r2.awaitLine(endless)
	held = r2.batches()[len(r2.batches())-1].held
	l.Write(endless)
	r2.stop()
	r3 := start(t, l.Open(held), held, nil)
	defer r3.stop()
	l.Write(endless + "\nnext\n")
	r3.awaitLine("next")
	same(t, r3.lines(), []string{"next"}, false)
	r.ended <- nil
}
