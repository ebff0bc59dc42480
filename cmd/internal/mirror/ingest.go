package mirror

import (
	"fmt"
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
func (f *File) ingest(j *judge.Judge, file *blocklist.File, now time.Time, quiet bool) (accident string) {
	book := j.Book()
	var removed []policy.Ban
	held := 0
	for b := range book.All() {
		if !book.Filed(b.Host) || !book.Holds(ledger.File, b.Host) {
			continue
		}
		held++
		if _, ok := file.Lookup(b.Host); !ok && !b.Ended(now) {
			removed = append(removed, b)
		}
	}
	switch {
	case held > 0 && len(file.Bytes()) == 0:
		return fmt.Sprintf("%s is empty, %d bans were in it", f.path, held)
	case len(removed) >= fewLines && 2*len(removed) > held:
		return fmt.Sprintf("%d of %d bans are gone from %s at once", len(removed), held, f.path)
	}
	for _, b := range removed {
		j.Pardon(b.Host)
		book.Settle(ledger.File, b.Host)
		f.log.Info(fmt.Sprintf("[%s] Unban %s (line removed from the blocklist)", Label(b), Host(b.Host)))
	}
	var problems []string
	unreadable, total := file.Problems()
	for _, p := range unreadable {
		problems = append(problems, fmt.Sprintf("%s:%d: %s: %s", f.path, p.Line, p.Text, p.Reason))
	}
	if more := total - len(problems); more > 0 {
		problems = append(problems, fmt.Sprintf("%s: %d more lines that can't be read", f.path, more))
	}
	entries, room := 0, book.Room()
	newcomers := 0
	for e := range file.Entries() {
		entries++
		if _, ok := book.Get(e.Ban.Host); !ok && !e.Ban.Ended(now) {
			newcomers++
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
			book.Settle(ledger.File, b.Host)
		case ok && !book.Holds(ledger.File, b.Host), !ok && !book.Holds(ledger.File, b.Host):
			// Our own change has not reached the file yet.
		case !ok && tooMany > 0:
			tooMany--
		default:
			outcome, covered, allowed := j.Take(b)
			if !allowed {
				problems = append(problems, fmt.Sprintf("%s:%d: %s is not banned: ignoreip has %s", f.path, e.Line, Host(b.Host), Host(covered)))
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

// A Remembered is what the state knows of a ban and of its line in the file.
type Remembered struct {
	Ban   policy.Ban
	Filed bool // the file was known to hold exactly this
	Gone  bool // the ban was lifted; the file may still hold its line
}

// Load fills an empty book at a start, before anything runs: with what the state remembers, and then with what the
// file says. A file that vanished loses nothing, a line that somebody took out while nobody looked is a pardon.
func (f *File) Load(j *judge.Judge, remembered []Remembered, now time.Time) error {
	book := j.Book()
	for _, r := range remembered {
		switch {
		case r.Gone:
			book.Mark(ledger.File, r.Ban.Host)
			book.Mark(ledger.Kernel, r.Ban.Host)
		case r.Ban.Ended(now):
			book.Mark(ledger.File, r.Ban.Host)
		default:
			if _, _, ok := j.Take(r.Ban); ok && r.Filed {
				book.Settle(ledger.File, r.Ban.Host)
			}
		}
	}
	f.existed = len(remembered) > 0
	text, id, err := readFile(f.path)
	if err != nil {
		owed(book)
		return err
	}
	f.existed = true
	if accident := f.ingest(j, blocklist.Parse(text, f.options()), now, true); accident != "" {
		kept, err := keepBeside(f.path)
		if err != nil {
			return err
		}
		f.log.Warn(fmt.Sprintf("blocklist: %s: taken for an accident, no ban is lifted; that file is kept as %s", accident, kept))
		owed(book)
		return nil
	}
	f.know(id)
	return nil
}

// owed says that the file has to be told of every ban.
func owed(book *ledger.Ledger) {
	for b := range book.All() {
		book.Mark(ledger.File, b.Host)
	}
}

// wholeBook is a file's text with all bans, the oldest first.
func wholeBook(book *ledger.Ledger) []byte {
	text := []byte(blocklist.Header)
	bans := book.Sorted()
	for i := len(bans) - 1; i >= 0; i-- {
		text = blocklist.AppendLine(text, bans[i])
	}
	return text
}
