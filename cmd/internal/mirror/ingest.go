package mirror

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"os"
	"time"

	"banset/policy"
	"banset/policy/blocklist"
	"banset/policy/judge"
	"banset/policy/ledger"
)

// fewLines is how many lines may go at once and still be a person's will, whatever share of the file they are.
const fewLines = 10

// shownProblems bounds what is kept for people of a file of garbage.
const shownProblems = 20

// ingest compares the file's text with what it was last known to hold and takes the difference as a person's will,
// unless it looks like an accident: then nothing is taken and the accident is told. quiet leaves out the log lines of
// single bans, for a start.
func (f *File) ingest(j *judge.Judge, file Content, now time.Time, quiet bool) (accident string) {
	book := j.Book()
	var removed []policy.Ban
	held := 0
	for b := range book.All() {
		if !book.Filed(b.Host) || !book.Holds(ledger.File, b.Host) {
			continue
		}
		held++
		if !b.Ended(now) && !file.Has(b.Host) {
			removed = append(removed, b)
		}
	}
	switch empty := file.Empty(); {
	case !isAccident(held, len(removed), empty):
	case empty:
		return fmt.Sprintf("%s is empty, %d bans were in it", f.path, held)
	default:
		return fmt.Sprintf("%d of %d bans are gone from %s at once", len(removed), held, f.path)
	}
	for _, b := range removed {
		j.Pardon(b.Host)
		book.Settle(ledger.File, b.Host)
		f.log.Info(fmt.Sprintf("[%s] Unban %s (line removed from the blocklist)", Label(b), Host(b.Host)))
	}
	problems := f.unreadable(file.Problems())
	entries, room := file.Len(), book.Room()
	newcomers := 0
	if entries > room {
		for e := range file.Entries() {
			if _, ok := book.Get(e.Ban.Host); !ok && !e.Ban.Ended(now) {
				newcomers++
			}
		}
	}
	tooMany := max(0, newcomers-room)
	if tooMany > 0 {
		problems = append(problems, fmt.Sprintf("%s: %d bans more than max_bans: the first lines are not applied", f.path, tooMany))
	}
	for e := range file.Entries() {
		b := e.Ban
		if b.At == 0 {
			b.At = now.Unix()
		}
		old, ok := book.Get(b.Host)
		switch {
		case b.Ended(now):
			// A line that ended while nobody looked leaves the file.
			if !ok {
				book.Mark(ledger.File, b.Host)
			}
		case ok && old.Until == b.Until:
			moved := e.Ban.At != 0 && !book.Holds(ledger.File, b.Host) && !sameReason(e.Ban, old)
			book.Settle(ledger.File, b.Host)
			if moved {
				book.Mark(ledger.File, b.Host) // there is a line, and it has yet to be told why
			}
		case !book.Holds(ledger.File, b.Host) && !newer(book, e.Ban):
			// Our own change has not reached the file yet.
		case !ok && tooMany > 0:
			tooMany--
		default:
			outcome, covered, allowed := j.Take(b)
			if !allowed {
				problems = append(problems, notBanned(f.path, e, covered))
				continue
			}
			book.Settle(ledger.File, b.Host)
			if quiet {
				continue
			}
			verb := ""
			if outcome == ledger.Moved {
				verb = "now "
			}
			f.log.Info(fmt.Sprintf("[%s] Ban %s %s%s (blocklist line %d)", Label(b), Host(b.Host), verb, Until(b), e.Line))
		}
	}
	f.tell(entries, problems)
	return ""
}

// isAccident tells an accident from a person's will, for a file that was known to hold some bans and lost some of them.
func isAccident(held, removed int, empty bool) bool {
	return held > 0 && empty || removed >= fewLines && 2*removed > held
}

// unreadable says which lines can't be read.
func (f *File) unreadable(first []blocklist.Problem, total int) (problems []string) {
	for _, p := range first {
		problems = append(problems, fmt.Sprintf("%s:%d: %s: %s", f.path, p.Line, p.Text, p.Reason))
	}
	if more := total - len(problems); more > 0 {
		problems = append(problems, fmt.Sprintf("%s: %d more lines that can't be read", f.path, more))
	}
	return problems
}

// notBanned says that the allowlist keeps a line from being applied.
func notBanned(path string, e blocklist.Entry, covered netip.Prefix) string {
	return fmt.Sprintf("%s:%d: %s is not banned: ignoreip has %s", path, e.Line, Host(e.Ban.Host), Host(covered))
}

// keepOurs puts back what a text from before our last write would take back; see recent.
func (f *File) keepOurs(j *judge.Judge, file *blocklist.File, now time.Time) {
	allowed := func(host netip.Prefix) bool {
		_, ok := j.Allow().Covers(host)
		return ok
	}
	f.putBack(j.Book(), f.recent.stale(j.Book(), file, allowed, now))
}

// putBack makes the file's lines of hosts what the book says, after a text was saved from before it did.
func (f *File) putBack(book *ledger.Ledger, hosts []netip.Prefix) {
	if len(hosts) > 0 {
		f.log.Warn(fmt.Sprintf("blocklist: a text was saved from before our last %s; what it would take back is put back, "+
			"and to take it back indeed, do it again", count(len(hosts), "change")))
	}
	for i, host := range hosts {
		book.Mark(ledger.File, host)
		book.Mark(ledger.State, host) // after a crash it must not be taken for a person's will
		if i >= shownProblems {
			continue
		}
		if b, ok := book.Get(host); ok {
			f.log.Info(fmt.Sprintf("[%s] Ban %s %s is kept", Label(b), Host(host), Until(b)))
		} else {
			f.log.Info(fmt.Sprintf("[by hand] %s stays unbanned", Host(host)))
		}
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// tell keeps the problems for status and logs those that are new.
func (f *File) tell(entries int, problems []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(problems); n > shownProblems {
		problems = append(problems[:shownProblems:shownProblems], fmt.Sprintf("%s: and %d more", f.path, n-shownProblems))
	}
	f.lines, f.problems = entries, problems
	now := make(map[string]bool, len(problems))
	for _, p := range problems {
		now[p] = true
		if !f.told[p] {
			f.log.Warn("blocklist: " + p)
		}
	}
	f.told = now
}

// sameReason reports whether two bans of one host began at one time and were earned alike.
func sameReason(a, b policy.Ban) bool {
	return a.At == b.At && a.Policy == b.Policy && a.Failures == b.Failures
}

// newer reports whether a line of the file, of a host that the file has yet to be told of, is of a later ban than what
// the book knows of that host: then it is no older state of ours, but a ban that a crash let only the file remember.
func newer(book *ledger.Ledger, line policy.Ban) bool {
	// Failures come out of order, so a ban may begin before the one that it takes the place of. Bans of one policy don't, and
	// none but a person's ends before that.
	if b, ok := book.Get(line.Host); ok {
		return line.Until > b.Until && (line.At > b.At || b.Policy != "" && line.Policy != b.Policy)
	}
	at, until := book.Past(line.Host)
	return at != 0 && line.At > at || until != 0 && line.Until > until
}

// A Remembered is what the state knows of a ban and of its line in the file.
type Remembered struct {
	Ban   policy.Ban
	Filed bool // the file was known to hold exactly this
	// Gone: the ban was lifted; the file may still hold its line. Of Ban only Host counts, and At and Until where they are
	// known.
	Gone bool
}

// Load fills an empty book at a start, before anything runs: with what the state remembers, and then with what the
// file says. A file that vanished loses nothing, a line that somebody took out while nobody looked is a pardon. A file
// that can't be read now is reported, and read when it can be. The error is an [os.ErrNotExist], or nil.
//
// remembered may be asked for a second time.
func (f *File) Load(j *judge.Judge, remembered iter.Seq[Remembered], now time.Time) error {
	book := j.Book()
	known := false
	for r := range remembered {
		known = true
		switch {
		case r.Gone:
			book.Over(r.Ban.Host, r.Ban.At, r.Ban.Until)
			book.Mark(ledger.Kernel, r.Ban.Host)
		case r.Ban.Ended(now):
			book.Over(r.Ban.Host, r.Ban.At, r.Ban.Until)
		default:
			if _, _, ok := j.Take(r.Ban); !ok {
				continue
			}
			if r.Filed {
				book.Settle(ledger.File, r.Ban.Host)
			}
			book.Settle(ledger.State, r.Ban.Host) // it is from there
		}
	}
	f.existed = known
	err := f.loadLines(j, remembered, known, now)
	if err == nil {
		return nil
	}
	owed(book)
	if errors.Is(err, os.ErrNotExist) {
		return err
	}
	f.existed = true
	f.mu.Lock()
	f.trouble = err.Error() // the first look logs it
	f.mu.Unlock()
	return nil
}

// loadLines is the file's part of a start. An error says that it could not be read.
func (f *File) loadLines(j *judge.Judge, remembered iter.Seq[Remembered], known bool, now time.Time) error {
	file, err := openFile(f.path)
	if err != nil {
		return err
	}
	defer file.Close()
	before, err := file.Stat()
	if err != nil {
		return err
	}
	if before.Size() <= tooLarge {
		lines, err := readLines(file, f.options())
		if err == nil {
			f.existed = true
			f.takeLines(j, lines, now)
			id := identityOf(before)
			if after, err := file.Stat(); err == nil && identityOf(after) == id && lines.changed == nil && f.accident == "" {
				f.id = id // otherwise the first look reads it
			}
			return nil
		}
		if err != errNotThatPlain {
			return fmt.Errorf("reading %s: %w", f.path, err)
		}
	}
	text, id, err := readAll(file)
	if err != nil {
		return err
	}
	book := j.Book()
	f.existed = true
	if from, torn := tornFrom(text, f.options(), known); torn {
		f.torn, text, id = text[from:], text[:from], identity{}
		for r := range remembered {
			// Should the disk have lost what it had taken, the line is no will of a person either.
			if bytes.HasPrefix(blocklist.AppendLine(nil, r.Ban), f.torn) {
				book.Mark(ledger.File, r.Ban.Host)
				book.Mark(ledger.State, r.Ban.Host)
			}
		}
	}
	f.id = id
	f.takeLines(j, parsed{blocklist.Parse(text, f.options())}, now)
	return nil
}

// takeLines takes in what a start found in the file.
func (f *File) takeLines(j *judge.Judge, file Content, now time.Time) {
	if accident := f.ingest(j, file, now, true); accident != "" {
		f.accident, f.id = accident, identity{} // the first look sets it aside
		owed(j.Book())
	}
}

// owed says that the file has to be told of every ban.
func owed(book *ledger.Ledger) {
	for b := range book.All() {
		book.Mark(ledger.File, b.Host)
		book.Mark(ledger.State, b.Host) // after a crash its absence must not be taken for a person's will
	}
}

// wholeBook is a file's text with all bans, the oldest first.
func wholeBook(book *ledger.Ledger) []byte {
	text := []byte(blocklist.Header)
	for b := range book.Earliest() {
		text = blocklist.AppendLine(text, b)
	}
	return text
}
