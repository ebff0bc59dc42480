package mirror

import (
	"net/netip"
	"time"

	"banset/policy"
	"banset/policy/blocklist"
	"banset/policy/hosts"
	"banset/policy/ledger"
)

// A text that is saved may be older than it looks: a person opened the file, the daemon wrote to it, and the person
// saves what they had on the screen. Their text then takes back what the daemon wrote since, and that is nobody's
// will. These are the rules, host by host, for a line that a saved text has as it was before our last change to it:
//
//  1. Nobody read the file between that change and the save: the person can't have seen it. The change is put back.
//  2. The text has that change or a later one of ours, of any host, or nobody read the file in the staleFor before that
//     change: the person has seen it. It is their will.
//  3. Somebody read the file both before the change and after it, so neither is sure. When the text differs in other
//     hosts as well, there is another reason why it was saved, and the change is put back, once. Saved like that again
//     it is the person's will, but for one that was saved before they can have seen that it is back; and so it is when
//     nothing else differs, or staleFor after the change.
//
// A host's line may have changed more than once. A text that has it as it was before the last of these changes, or before
// the first, is from before that one; and that it is as it is now says nothing, because so it may have been before.
//
// Reading is seen by inotify's IN_ACCESS. Where there is no inotify, it is taken that somebody reads all the time.

// staleFor is how long a text may have been on somebody's screen for the rules 2 and 3.
const staleFor = 15 * time.Minute

// unseen is how long after a change was put back nobody can have seen that and saved another text.
const unseen = 2 * time.Second

// maxRecent bounds the changes that are remembered.
const maxRecent = 1 << 16

// recent remembers our last changes to the file's lines.
type recent struct {
	write uint64                   // counts our writes
	reads map[uint64]time.Time     // when somebody may have read the file as it was after that write; the last of each
	lines *hosts.Table[recentLine] // nil: none
	began time.Time                // what recentLine.at counts from

	unseen time.Duration
}

// maxReads bounds the writes whose readers are remembered.
const maxReads = 256

// A recentLine takes 92 bytes with its host: a flood brings as many as are remembered.
type recentLine struct {
	was      ending        // what the file had of the host before the last change
	old      ending        // and before the first one of those that followed each other within staleFor
	at       time.Duration // of the last change, since recent.began
	write    uint64        // the last change's
	first    uint64        // the first one's
	restored bool          // put back by rule 3
}

// changed reports in which write the file's line of the host was changed from how the text has it; 0: in none of ours.
func (l *recentLine) changed(inFile, ours ending) uint64 {
	switch {
	case inFile == ours:
	case inFile == l.was:
		return l.write
	case inFile == l.old:
		return l.first
	}
	return 0
}

// tells reports whether a text that has the line as it is now was written after the change.
func (l *recentLine) tells(ours ending) bool { return l.first == l.write && ours != l.was }

// ending is what counts of a host's line: whether there is one, and its end.
type ending struct {
	line  bool
	until int64
}

// wasRead notes that somebody may have read all that we wrote.
func (r *recent) wasRead(now time.Time) {
	if r.reads == nil || len(r.reads) >= maxReads {
		// The last one alone keeps the rules on the side of the person.
		r.reads = make(map[uint64]time.Time)
	}
	r.reads[r.write] = now
}

// readers reports whether somebody read the file lately as it was before a write, and ever after it.
func (r *recent) readers(write uint64, now time.Time) (before, after bool) {
	for v, at := range r.reads {
		after = after || v >= write
		before = before || v < write && now.Sub(at) < staleFor
	}
	return before, after
}

// wrote notes a write of ours that changed the line of each host from what before says. The write has just been done,
// and who read the file before it has been noted.
func (r *recent) wrote(now time.Time, before map[netip.Prefix]ending) {
	r.write++
	if r.began.IsZero() {
		r.began = now
	}
	if r.lines == nil || r.lines.Len()+len(before) > maxRecent {
		old := r.lines
		r.lines = hosts.New[recentLine]()
		if old != nil && old.Len()+len(before) <= 2*maxRecent {
			for slot := range old.Slots() {
				l := old.At(slot)
				if _, after := r.readers(l.write, now); !after {
					*r.lines.At(r.lines.Insert(old.Key(slot))) = *l
				}
			}
		}
	}
	for host, was := range before {
		key := hosts.KeyOf(host, 0)
		slot := r.lines.Find(key)
		if slot == 0 {
			slot = r.lines.Insert(key)
		}
		l := r.lines.At(slot)
		if l.first == 0 || now.Sub(r.began)-l.at >= staleFor {
			l.old, l.first = was, r.write
		}
		l.was, l.at, l.write = was, now.Sub(r.began), r.write
	}
}

// stale returns the hosts whose line in the file is as it was before our last change, but not by anybody's will.
// allowed tells the hosts whose lines stay in the file without being applied.
func (r *recent) stale(book *ledger.Ledger, file *blocklist.File, allowed func(netip.Prefix) bool, now time.Time) []netip.Prefix {
	if r.lines == nil {
		return nil
	}
	seen := uint64(0) // the last write that the text has something of
	type change struct {
		slot  uint32
		write uint64
	}
	var back []change
	for slot := range r.lines.Slots() {
		l, host := r.lines.At(slot), r.lines.Key(slot).Host()
		if !book.Holds(ledger.File, host) {
			continue // what we know of it is not what was there
		}
		switch inFile, ours := endingIn(file, host), endingOf(book, host); {
		case inFile == ours && l.tells(ours):
			seen = max(seen, l.write)
		case inFile.line && inFile.until <= now.Unix():
			// A ban that is over leaves the file, whoever put its line there.
		default:
			if write := l.changed(inFile, ours); write > 0 {
				back = append(back, change{slot, write})
			}
		}
	}
	var sure, doubtful []netip.Prefix
	for _, c := range back {
		l, host := r.lines.At(c.slot), r.lines.Key(c.slot).Host()
		if c.write <= seen {
			continue
		}
		switch before, after := r.readers(c.write, now); {
		case !after:
			sure = append(sure, host)
		case before && now.Sub(r.began)-l.at < staleFor && (!l.restored || now.Sub(r.began)-l.at < r.unseen):
			doubtful = append(doubtful, host)
		}
	}
	if len(doubtful) > 0 && otherChanges(book, file, allowed, now, sure, doubtful) {
		for _, host := range doubtful {
			r.lines.At(r.lines.Find(hosts.KeyOf(host, 0))).restored = true
		}
		return append(sure, doubtful...)
	}
	return sure
}

// otherChanges reports whether the file differs from what it was known to hold in hosts that are in none of the lists.
func otherChanges(book *ledger.Ledger, file *blocklist.File, allowed func(netip.Prefix) bool, now time.Time, lists ...[]netip.Prefix) bool {
	explained := make(map[netip.Prefix]bool)
	for _, list := range lists {
		for _, host := range list {
			explained[host] = true
		}
	}
	for b := range book.All() {
		if !explained[b.Host] && !b.Ended(now) && book.Filed(b.Host) && book.Holds(ledger.File, b.Host) &&
			endingIn(file, b.Host) != (ending{true, b.Until}) {
			return true
		}
	}
	for e := range file.Entries() {
		host := e.Ban.Host
		if _, ok := book.Get(host); ok || explained[host] || e.Ban.Ended(now) || !book.Holds(ledger.File, host) || allowed(host) {
			continue
		}
		return true
	}
	return false
}

func endingIn(file *blocklist.File, host netip.Prefix) ending {
	e, ok := file.Lookup(host)
	if !ok {
		return ending{}
	}
	return ending{true, e.Ban.Until}
}

func endingOf(book *ledger.Ledger, host netip.Prefix) ending {
	b, ok := book.Get(host)
	if !ok {
		return ending{}
	}
	return ending{true, b.Until}
}

// linesOf is what the file has of the hosts of a piece of work, before it is done.
func linesOf(file *blocklist.File, bans []policy.Ban, gone []netip.Prefix) map[netip.Prefix]ending {
	before := make(map[netip.Prefix]ending, len(bans)+len(gone))
	for _, b := range bans {
		before[b.Host] = endingIn(file, b.Host)
	}
	for _, host := range gone {
		if was := endingIn(file, host); was.line {
			before[host] = was
		}
	}
	return before
}
