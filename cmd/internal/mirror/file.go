package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"banset/policy/blocklist"
	"banset/policy/judge"
	"banset/policy/ledger"
)

const (
	// lookAgain is how often the file is looked at when no event came: a network file system has none.
	lookAgain = 10 * time.Second
	// rewritePace keeps the share of time spent on rewriting a large file small: after one that took a second the next
	// comes three seconds later. Appends do not wait for it.
	rewritePace = 3
)

// File mirrors the book in the blocklist file and reads what people write there. One goroutine runs it.
//
// It keeps no copy of the text: what the file was last known to hold is the book, but for those hosts that the book
// says the file has yet to be told of.
type File struct {
	do  Do
	log *slog.Logger
	// changed is called in the judgement's goroutine after a write, with what went wrong, nil when nothing did.
	changed func(error)
	options func() blocklist.Options

	path string
	id   identity // of the file as we know it; the zero value for one that we don't
	wake chan struct{}

	existed     bool // there was a file, or bans that were known to be in one
	lastRewrite time.Duration
	nextRewrite time.Time

	mu       sync.Mutex
	lines    int
	problems []string
	told     map[string]bool // problems that were logged
}

// NewFile prepares a mirror of the file at path. options is asked at every read.
func NewFile(path string, do Do, log *slog.Logger, options func() blocklist.Options, changed func(error)) *File {
	// A symbolic link stays one: what it points to is replaced.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return &File{
		path: path, do: do, log: log, options: options, changed: changed,
		wake: make(chan struct{}, 1),
		told: make(map[string]bool),
	}
}

func (f *File) String() string { return "blocklist" }

// Wake says that there is work. It never blocks.
func (f *File) Wake() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Status is the number of bans in the file as last read and what is wrong with it.
func (f *File) Status() (lines int, problems []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lines, append([]string(nil), f.problems...)
}

// Reread makes the next look read the file even if nobody touched it: the allowlist or a policy changed.
func (f *File) Reread() {
	f.mu.Lock()
	f.id = identity{}
	f.mu.Unlock()
	f.Wake()
}

// Run keeps file and book in step until ctx ends, and then writes what is pending.
func (f *File) Run(ctx context.Context) error {
	events, stop := watchDir(filepath.Dir(f.path), filepath.Base(f.path))
	defer stop()
	timer := time.NewTimer(0) // the first look is at once
	defer timer.Stop()
	backoff := time.Duration(0)
	trouble := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.wake:
		case <-events:
		case <-timer.C:
		}
		err := f.Sync(ctx)
		next := lookAgain
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			backoff = min(max(2*backoff, 100*time.Millisecond), lookAgain)
			next = backoff
			if text := err.Error(); text != trouble {
				trouble = text
				f.log.Error(fmt.Sprintf("blocklist: %s; bans go on in the kernel, and the file is made good when it can be", text))
			}
		default:
			if trouble != "" {
				f.log.Info("blocklist: writing works again")
			}
			trouble, backoff = "", 0
			if wait := time.Until(f.nextRewrite); wait > 0 {
				next = min(next, wait)
			}
		}
		timer.Reset(next)
	}
}

// Sync reads what somebody else wrote and does the file's pending work, but for what waits for the next rewrite.
func (f *File) Sync(ctx context.Context) error {
	err := f.readIfChanged(ctx)
	if err == nil {
		err = f.append(ctx)
	}
	if err == nil && time.Now().After(f.nextRewrite) {
		err = f.rewrite(ctx)
	}
	if err != nil && ctx.Err() == nil {
		return errors.Join(err, f.do(ctx, func(*judge.Judge) { f.changed(err) }))
	}
	return err
}

// Finish does all pending work, the last time.
func (f *File) Finish(ctx context.Context) error {
	f.nextRewrite = time.Time{}
	return f.Sync(ctx)
}

// readIfChanged takes in what people wrote.
func (f *File) readIfChanged(ctx context.Context) error {
	f.mu.Lock()
	known := f.id
	f.mu.Unlock()
	id, err := identify(f.path)
	if errors.Is(err, os.ErrNotExist) {
		return f.missing(ctx)
	}
	if err != nil {
		return err
	}
	if id == known {
		return nil
	}
	// A second look at a file that somebody is still writing in place would take the half for a will.
	text, id, err := readSettled(ctx, f.path)
	if errors.Is(err, os.ErrNotExist) {
		return f.missing(ctx)
	}
	if err != nil {
		return err
	}
	parsed := blocklist.Parse(text, f.options())
	var accident string
	if err := f.do(ctx, func(j *judge.Judge) { accident = f.ingest(j, parsed, time.Now(), false) }); err != nil {
		return err
	}
	if accident != "" {
		kept, err := keepBeside(f.path)
		if err != nil {
			return err
		}
		f.log.Warn(fmt.Sprintf("blocklist: %s: taken for an accident, no ban is lifted; that file is kept as %s", accident, kept))
		return f.missing(ctx)
	}
	f.know(id)
	return nil
}

// missing writes the whole book to a new file.
func (f *File) missing(ctx context.Context) error {
	var bans []byte
	n := 0
	err := f.do(ctx, func(j *judge.Judge) {
		book := j.Book()
		book.Work(ledger.File, 0)
		bans, n = wholeBook(book), book.Len()
	})
	if err != nil {
		return err
	}
	id, err := replaceFile(f.path, bans, identity{})
	if errors.Is(err, errRaced) {
		return f.raced(ctx)
	}
	if doErr := f.do(ctx, func(j *judge.Judge) {
		j.Book().Done(ledger.File, err == nil)
		if err == nil {
			for b := range j.Book().All() {
				if j.Book().Holds(ledger.File, b.Host) {
					j.Book().Settle(ledger.File, b.Host)
				}
			}
		}
		f.changed(err)
	}); doErr != nil {
		return doErr
	}
	if err != nil {
		return err
	}
	if f.existed {
		f.log.Warn(fmt.Sprintf("blocklist: %s was missing; written anew with %d bans", f.path, n))
	} else {
		f.log.Info(fmt.Sprintf("blocklist: %s begun", f.path))
	}
	f.existed = true
	f.know(id)
	f.mu.Lock()
	f.lines = n
	f.mu.Unlock()
	return nil
}

// raced gives the work back and looks again at once: somebody wrote since the last look, and their will comes first.
func (f *File) raced(ctx context.Context) error {
	f.know(identity{})
	f.Wake()
	return f.do(ctx, func(j *judge.Judge) { j.Book().Done(ledger.File, false) })
}

func (f *File) know(id identity) {
	f.mu.Lock()
	f.id = id
	f.mu.Unlock()
}

// append adds the bans that have no line yet: the common case, one write and one sync for all that came together.
func (f *File) append(ctx context.Context) error {
	var text []byte
	n := 0
	err := f.do(ctx, func(j *judge.Judge) {
		for _, b := range j.Book().Fresh() {
			text = blocklist.AppendLine(text, b)
			n++
		}
	})
	if err != nil || n == 0 {
		return err
	}
	f.mu.Lock()
	known := f.id
	f.mu.Unlock()
	id, err := appendFile(f.path, text, known)
	if errors.Is(err, errRaced) {
		return f.raced(ctx)
	}
	if doErr := f.do(ctx, func(j *judge.Judge) {
		j.Book().Done(ledger.File, err == nil)
		f.changed(err)
	}); doErr != nil {
		return doErr
	}
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.id = id
	f.lines += n
	f.mu.Unlock()
	return nil
}

// rewrite takes out what ended and puts right what moved.
func (f *File) rewrite(ctx context.Context) error {
	work := false
	if err := f.do(ctx, func(j *judge.Judge) { work = j.Book().Waiting(ledger.File) > 0 }); err != nil || !work {
		return err
	}
	began := time.Now()
	text, id, err := readFile(f.path)
	if err != nil {
		return err
	}
	f.mu.Lock()
	known := f.id
	f.mu.Unlock()
	if id != known {
		return f.raced(ctx)
	}
	parsed := blocklist.Parse(text, f.options())
	same := false
	if err := f.do(ctx, func(j *judge.Judge) {
		bans, gone := j.Book().Work(ledger.File, 0)
		added, appended := parsed.Edit(bans, gone)
		same = appended && len(added) == 0
	}); err != nil {
		return err
	}
	if !same {
		id, err = replaceFile(f.path, parsed.Bytes(), id)
	}
	if errors.Is(err, errRaced) {
		return f.raced(ctx)
	}
	if doErr := f.do(ctx, func(j *judge.Judge) {
		j.Book().Done(ledger.File, err == nil)
		f.changed(err)
	}); doErr != nil {
		return doErr
	}
	if err != nil {
		return err
	}
	f.lastRewrite = time.Since(began)
	f.nextRewrite = time.Now().Add(rewritePace * f.lastRewrite)
	f.mu.Lock()
	f.id = id
	f.lines = parsed.Len()
	f.mu.Unlock()
	return nil
}
