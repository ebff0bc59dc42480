package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"banset/policy"
	"banset/policy/blocklist"
	"banset/policy/judge"
	"banset/policy/ledger"
)

const (
	// lookAgain is how often the file is looked at where no event can be relied on, as on a network file system, and the
	// longest pause after something failed.
	lookAgain = 10 * time.Second
	// rareLook is how often it is looked at where events tell of everything but what they can't: a file system that is
	// mounted over the directory, a directory far behind a symbolic link that is exchanged.
	rareLook = 10 * time.Minute
	// rewritePace keeps the share of time spent on rewriting a large file small: after one that took 100 ms the next
	// comes two seconds later, but never more than the larger of mostPace and three times what it took. What ended
	// meanwhile leaves the file together. Appends do not wait.
	rewritePace = 20
	mostPace    = 5 * time.Second
	// troubledLook bounds the pause after a look or a write that failed.
	troubledLook = time.Second
	// pacedLook is how long bans are gathered for an append while a rewrite waits for its time.
	pacedLook = 25 * time.Millisecond
	// maxRaces is how often work is begun anew at once because somebody else wrote to the file at the same moment.
	maxRaces = 10
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

	name   string   // as configured
	path   string   // where that leads: a symbolic link stays one
	id     identity // of the file as we know it; the zero value for one that we don't
	wake   chan struct{}
	reread atomic.Bool // read it even if nobody touched it
	watch  *watcher
	recent recent

	existed     bool   // there was a file, or bans that were known to be in one
	swept       string // the path beside which nothing of ours lies
	torn        []byte // what a crash left of a last line of ours, until it is a comment
	accident    string // what a start found
	unsynced    bool   // the last sync failed: only a whole new file is known to be on the disk
	late        []version
	unwritten   []byte // what came to late versions and is not in the file yet
	nextRewrite time.Time

	mu       sync.Mutex
	lines    int
	problems []string
	trouble  string          // why the last look or write failed
	told     map[string]bool // problems that were logged
}

// NewFile prepares a mirror of the file at path. options is asked at every read.
func NewFile(path string, do Do, log *slog.Logger, options func() blocklist.Options, changed func(error)) *File {
	return &File{
		name: path, path: resolve(path), do: do, log: log, options: options, changed: changed,
		wake:  make(chan struct{}, 1),
		told:  make(map[string]bool),
		watch: &watcher{blind: true}, // until Run

		recent: recent{unseen: unseen},
	}
}

// resolve follows symbolic links to a file that need not be there.
func resolve(path string) string {
	for range 40 { // as the kernel does; see path_resolution(7)
		if real, err := filepath.EvalSymlinks(path); err == nil {
			return real
		}
		target, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	return path
}

func (f *File) String() string { return "blocklist" }

// Wake says that there is work. It never blocks.
func (f *File) Wake() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Status is the number of bans in the file as last read and what is wrong with it: with its lines, and with writing it.
func (f *File) Status() (lines int, problems []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.trouble != "" {
		problems = append(problems, fmt.Sprintf("blocklist: %s; %s", f.trouble, goesOn))
	}
	return f.lines, append(problems, f.problems...)
}

const goesOn = "bans go on in the kernel, and the file is made good when it can be"

// Reread makes the next look read the file even if nobody touched it: the allowlist or a policy changed.
func (f *File) Reread() {
	f.reread.Store(true)
	f.Wake()
}

// Run keeps file and book in step until ctx ends. [File.Finish] then writes what is pending.
func (f *File) Run(ctx context.Context) error {
	f.watch = newWatcher()
	defer f.watch.close()
	timer := time.NewTimer(0) // the first look is at once
	defer timer.Stop()
	backoff := time.Duration(0)
	trouble := make(map[string]bool) // what was logged of the trouble that lasts
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.wake:
		case <-f.watch.changed:
		case <-timer.C:
		}
		err := f.Sync(ctx)
		next := f.pause()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			backoff = min(max(2*backoff, 100*time.Millisecond), lookAgain)
			next = backoff
			if text := err.Error(); !trouble[text] {
				trouble[text] = true
				f.log.Error(fmt.Sprintf("blocklist: %s; %s", text, goesOn))
			}
			// What could not be written makes the judgement wake us after each look, for nothing.
			sleep(ctx, min(backoff, troubledLook))
		default:
			if len(trouble) > 0 {
				f.log.Info("blocklist: writing works again")
			}
			clear(trouble)
			backoff = 0
			if wait := time.Until(f.nextRewrite); wait > 0 {
				next = min(next, wait)
				// Work that waits for the next rewrite makes the judgement wake us after each look, for nothing.
				sleep(ctx, min(wait, pacedLook))
			}
		}
		timer.Reset(next)
	}
}

// pause is how long it is until the next look that nothing asked for.
func (f *File) pause() time.Duration {
	next := rareLook
	if f.watch.partly() {
		next = lookAgain
	}
	for _, v := range f.late {
		next = min(next, max(0, time.Until(v.since.Add(lateWriters)))+time.Millisecond)
	}
	return next
}

// Sync reads what somebody else wrote and does the file's pending work, but for what waits for the next rewrite.
func (f *File) Sync(ctx context.Context) error {
	var err error
	for range maxRaces {
		// Their will comes first: after a race everything begins anew.
		if err = f.sync(ctx); !errors.Is(err, errRaced) {
			break
		}
		f.id = identity{}
	}
	if ctx.Err() != nil {
		return err
	}
	f.mu.Lock()
	f.trouble = ""
	if err != nil {
		f.trouble = err.Error()
	}
	f.mu.Unlock()
	if err != nil {
		return errors.Join(err, f.do(ctx, func(*judge.Judge) { f.changed(err) }))
	}
	return nil
}

func (f *File) sync(ctx context.Context) error {
	if path := resolve(f.name); path != f.path {
		f.path, f.id = path, identity{}
	}
	if f.reread.Swap(false) {
		f.id = identity{}
	}
	f.watch.follow(f.path, f.name)
	if f.swept != f.path {
		// What a crash left of a write. Nobody else has a name for it.
		if err := os.Remove(hidden(f.path)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		f.swept = f.path
	}
	if err := f.readIfChanged(ctx); err != nil {
		return err
	}
	if err := f.takeLate(); err != nil {
		return err
	}
	if err := f.append(ctx); err != nil {
		return err
	}
	if time.Now().Before(f.nextRewrite) {
		return nil
	}
	return f.rewrite(ctx)
}

// Finish does all pending work, the last time.
func (f *File) Finish(ctx context.Context) error {
	f.nextRewrite = time.Time{}
	return f.Sync(ctx)
}

// readIfChanged takes in what people wrote.
func (f *File) readIfChanged(ctx context.Context) error {
	id, err := identify(f.path)
	if err == nil && id == f.id {
		return nil
	}
	f.noteReaders()
	text, id, err := f.readSettled(ctx)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return f.missing(ctx)
	case errors.Is(err, errOdd):
		return f.setAside(ctx, err.Error())
	case err != nil:
		return err
	}
	if f.torn != nil {
		if text, id, err = f.mend(text, id); err != nil {
			return err
		}
	}
	if f.unsynced {
		// Nothing counts as held before a whole new file is known to be on the disk.
		if id, err = f.replace(text, text, id); err != nil {
			return err
		}
		f.unsynced = false
	}
	f.existed = true
	if odd := f.accident; odd != "" {
		f.accident = ""
		return f.setAside(ctx, odd)
	}
	lines := parsed{blocklist.Parse(text, f.options())}
	var accident string
	if err := f.do(ctx, func(j *judge.Judge) {
		now := time.Now()
		f.keepOurs(j, lines.File, now)
		if accident = f.ingest(j, lines, now, false); accident == "" {
			f.changed(nil) // lines that we owed may be there already
		}
	}); err != nil {
		return err
	}
	if accident != "" {
		return f.setAside(ctx, accident)
	}
	f.know(id)
	return nil
}

// setAside answers an accident: the odd file is kept beside, and the whole book written anew.
func (f *File) setAside(ctx context.Context, accident string) error {
	kept, err := keepBeside(f.path)
	if err != nil {
		return err
	}
	f.log.Warn(fmt.Sprintf("blocklist: %s: taken for an accident, no ban is lifted; that file is kept as %s", accident, kept))
	return f.writeAnew(ctx)
}

// mend makes what a crash left of a line of ours a comment.
func (f *File) mend(text []byte, id identity) ([]byte, identity, error) {
	from := len(text) - len(f.torn)
	if from < 0 || !bytes.Equal(text[from:], f.torn) {
		f.torn = nil // somebody put it right
		return text, id, nil
	}
	better := mended(text, from)
	id, err := f.replace(better, text, id)
	if err != nil {
		return nil, identity{}, err
	}
	f.log.Warn(fmt.Sprintf("blocklist: the last line was cut off by a crash: %.80q is not applied and now a comment", f.torn))
	f.torn = nil
	return better, id, nil
}

// missing answers that there is no file.
func (f *File) missing(ctx context.Context) error {
	if f.existed {
		if missing, err := f.stillMissing(ctx); err != nil {
			return err
		} else if !missing {
			return errRaced
		}
	}
	return f.writeAnew(ctx)
}

// writeAnew writes the whole book to a new file.
func (f *File) writeAnew(ctx context.Context) error {
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
	var id identity
	f.watch.ourWrite(func() { id, err = createFile(f.path, bans) })
	if doErr := f.done(ctx, err); doErr != nil || err != nil {
		return errors.Join(err, doErr)
	}
	if f.existed {
		f.log.Warn(fmt.Sprintf("blocklist: %s was missing; written anew with %d bans", f.path, n))
	} else {
		f.log.Info(fmt.Sprintf("blocklist: %s begun", f.path))
	}
	f.existed = true
	f.know(id)
	f.setLines(n)
	return nil
}

// done tells the book how the work went that was taken from it.
func (f *File) done(ctx context.Context, err error) error {
	if errors.Is(err, errUnsynced) {
		f.unsynced, f.id = true, identity{}
	}
	// What was taken is given back even if it is time to end: Finish does what this one did not.
	return f.do(context.WithoutCancel(ctx), func(j *judge.Judge) {
		j.Book().Done(ledger.File, err == nil)
		if !errors.Is(err, errRaced) {
			f.changed(err)
		}
	})
}

// know says that we know all that the file has.
func (f *File) know(id identity) {
	f.id = id
	if id == (identity{}) {
		f.Wake() // but for what came with our write
		return
	}
	f.watch.known()
}

// noteReaders notes who read the file before the write that comes.
func (f *File) noteReaders() {
	if at, ok := f.watch.wasRead(); ok {
		f.recent.wasRead(at)
	}
}

func (f *File) setLines(lines int) {
	f.mu.Lock()
	f.lines = lines
	f.mu.Unlock()
}

// append adds the bans that have no line yet: the common case, one write and one sync for all that came together.
func (f *File) append(ctx context.Context) error {
	var text []byte
	added := make(map[netip.Prefix]ending)
	err := f.do(ctx, func(j *judge.Judge) {
		for _, b := range j.Book().Fresh() {
			text = blocklist.AppendLine(text, b)
			added[b.Host] = ending{}
		}
	})
	if err != nil || len(added) == 0 {
		return err
	}
	if !f.endsLine() {
		// A person's last line has no end: ours must not become a part of it.
		text = append([]byte{'\n'}, text...)
	}
	f.noteReaders()
	id := f.id
	f.watch.ourWrite(func() { id, err = appendFile(f.path, text, id) })
	if errors.Is(err, os.ErrPermission) {
		// Somebody put a file here that is not ours to write to. The directory may be: a new file takes its place.
		if err := f.do(context.WithoutCancel(ctx), func(j *judge.Judge) { j.Book().Done(ledger.File, false) }); err != nil {
			return err
		}
		return f.rewrite(ctx)
	}
	if err == nil {
		f.recent.wrote(time.Now(), added)
	}
	if doErr := f.done(ctx, err); doErr != nil || err != nil {
		return errors.Join(err, doErr)
	}
	f.id = id
	if id == (identity{}) {
		f.Wake()
	}
	f.mu.Lock()
	f.lines += len(added)
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
	var bans []policy.Ban
	var gone []netip.Prefix
	if err := f.do(ctx, func(j *judge.Judge) { bans, gone = j.Book().Work(ledger.File, 0) }); err != nil {
		return err
	}
	id := f.id
	next, before, more, err := f.draft(bans, gone)
	if err == nil && next != nil {
		if id, err = f.exchange(next.file, next.old, id); err == nil {
			f.recent.wrote(time.Now(), before)
		}
	}
	if doErr := f.done(ctx, err); doErr != nil || err != nil {
		return errors.Join(err, doErr)
	}
	took := time.Since(began)
	f.nextRewrite = time.Now().Add(min(rewritePace*took, max(mostPace, 3*took)))
	f.id = id
	if id == (identity{}) {
		f.Wake()
	}
	f.mu.Lock()
	f.lines += more
	f.mu.Unlock()
	return nil
}

// A draft is a version of the file that is to take its place.
type draft struct {
	file *os.File
	old  digest // of the file that it was made from
}

// draft writes the file's next version, nil when it need not change, and tells what the file has of the hosts, and how
// many hosts more it will have. It reads the file that we know, twice and in pieces: a large one is never in memory.
// errRaced when it is another one.
func (f *File) draft(bans []policy.Ban, gone []netip.Prefix) (next *draft, before map[netip.Prefix]ending, more int, err error) {
	f.watch.ourRead(func() {
		file, openErr := openFile(f.path)
		if errors.Is(openErr, os.ErrNotExist) {
			openErr = errRaced
		}
		if err = openErr; err != nil {
			return
		}
		defer file.Close()
		known := func() error {
			info, err := file.Stat()
			if err == nil && identityOf(info) != f.id {
				err = errRaced
			}
			return err
		}
		if err = known(); err != nil {
			return
		}
		r := blocklist.NewRewriter(bans, gone, f.options())
		old, readErr := readPieces(file, func(p []byte) error { r.Look(p); return nil })
		if err = readErr; err != nil {
			return
		}
		before = linesOf(r.Found(), bans, gone)
		change := false
		if change, more = r.Edit(); !change {
			err = known()
			return
		}
		made, fillErr := prepare(f.path, func(w io.Writer) error {
			var out []byte
			again, err := readPieces(file, func(p []byte) error {
				out = r.Rewrite(out[:0], p)
				_, err := w.Write(out)
				return err
			})
			if err == nil && again != old {
				err = errRaced
			}
			if err == nil {
				_, err = w.Write(r.Rest(out[:0]))
			}
			return err
		})
		if err = fillErr; err == nil {
			next = &draft{made, old}
		}
	})
	return next, before, more, err
}

// replace writes a text in the place of the file that we know, old with the identity id.
func (f *File) replace(text, old []byte, id identity) (identity, error) {
	next, err := prepare(f.path, written(text))
	if err != nil {
		return identity{}, err
	}
	return f.exchange(next, digestOf(old), id)
}

// exchange is replaceFile for the file that we know.
func (f *File) exchange(next *os.File, old digest, id identity) (identity, error) {
	f.noteReaders()
	var left *os.File
	var err error
	f.watch.ourWrite(func() { id, left, err = replaceFile(f.path, next, old, id) })
	f.keepLate(left)
	f.swept = "" // should the old version's last name not have gone
	if errors.Is(err, errUnsynced) {
		f.unsynced, f.id = true, identity{}
	}
	return id, err
}
