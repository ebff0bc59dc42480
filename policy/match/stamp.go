package match

import (
	"bytes"
	"time"
)

// A layout is a way to write a time.
type layout uint8

const (
	layoutNone    layout = iota
	layoutISO            // 2016-04-15 00:21:45, 2016/04/15 00:21:45, 2016-04-15T00:21:45.123+02:00
	layoutSyslog         // Nov  5 18:12:45
	layoutAsctime        // Fri Sep 25 12:11:22.654321 2015
	layoutCLF            // 10/Oct/2000:13:55:36 -0700
	layoutEpoch          // 1700000000.123, audit(1700000000.123:42)
	layoutCustom         // what a datepattern says
)

var layoutNames = [...]string{"", "iso", "syslog", "asctime", "clf", "epoch", "datepattern"}

// A layoutSet is a set of layouts.
type layoutSet uint8

const allLayouts = layoutSet(1<<layoutISO | 1<<layoutSyslog | 1<<layoutAsctime | 1<<layoutCLF | 1<<layoutEpoch)

func (s layoutSet) has(l layout) bool { return s>>l&1 != 0 }

// A place is where in a line its stamp is.
type place uint8

const (
	placeNone  place = iota
	placeStart       // the line begins with it, but for a syslog <PRI> or a "["
	placeInner       // in brackets further on, or in audit's parentheses
	placeFree        // anywhere, found by a datepattern; not cut out
)

var placeNames = [...]string{"", "at the start of the line", "in brackets", "within the line"}

// A stamp is a time stamp found in a line.
type stamp struct {
	civil    civil
	layout   layout
	place    place
	from, to int // the stamp's text in the line
	cut      int // where the part that is cut out begins: from, or before the version of RFC 5424
}

const (
	innerWindow = 256 // bytes of a line in which a stamp in brackets is looked for
	unpinAfter  = 100 // candidate lines in a row without the pinned stamp
)

// A finder finds the stamps of one log for all jobs with the same datepattern and zone.
//
// A line's own stamp is at its start or, in other logs, in brackets further on. An attacker who writes part of a line
// can add a stamp to it but never take the line's own away. So a line with a stamp at only one of the two places is
// proof of where this log has its stamps, and pins the place; a line with both pins nothing. What is pinned counts:
//
//   - at the start: stamps in brackets are not looked at. Which layout is at the start may change from line to line (a
//     logging daemon was reconfigured): nobody but the log's writer writes there.
//   - in brackets: the first stamp of the pinned layout, anywhere in the line, so that a long text before does not hide
//     it. A line that has none but begins with a stamp proves the pin wrong.
//
// A pin at the start ends when 100 candidate lines in a row had no stamp there; a line that has one beside another in
// brackets, which an attacker may have written, does not interrupt the row.
type finder struct {
	date      *DatePattern
	zone      *time.Location
	place     place  // pinned
	layout    layout // pinned; at the start only the last one seen
	misses    int    // candidate lines in a row that had no stamp at the pinned start
	unstamped uint64 // hits without a stamp
	minute    minute

	// The line at hand.
	seen  bool
	found bool
	at    stamp
	text  []byte // the line without its stamp
	plain bool   // it is ASCII without a line end
	join  []byte // memory for text
}

// look learns all about a line. It works once a line.
func (f *finder) look(line []byte) {
	if f.seen {
		return
	}
	f.seen = true
	f.cut(line)
	f.plain = plain(f.text)
}

// cut finds the stamp of a line and makes its text.
func (f *finder) cut(line []byte) {
	f.text = line
	f.at, f.found = f.find(line)
	if !f.found || f.at.place == placeFree {
		return
	}
	if f.at.cut == 0 {
		f.text = line[f.at.to:]
		return
	}
	f.join = append(append(f.join[:0], line[:f.at.cut]...), line[f.at.to:]...)
	f.text = f.join
}

// time is the stamp's point in time, zero without one.
func (f *finder) time(now time.Time) time.Time {
	if !f.found {
		return time.Time{}
	}
	return f.minute.time(&f.at.civil, f.zone, now)
}

func (f *finder) find(line []byte) (stamp, bool) {
	layouts := allLayouts
	if f.date != nil {
		if f.date.program != nil {
			s, ok := f.date.find(line)
			if ok {
				f.place, f.layout = s.place, s.layout
			}
			return s, ok
		}
		if layouts = f.date.layouts; layouts == 0 {
			return stamp{}, false
		}
	}
	switch f.place {
	case placeStart:
		s, ok := atStart(line, layouts)
		if ok {
			f.layout = s.layout
			if f.misses > 0 {
				if _, both := inBrackets(line, layouts, innerWindow); !both {
					f.misses = 0
				}
			}
			return s, true
		}
		if f.misses++; f.misses < unpinAfter {
			return stamp{}, false
		}
		if s, ok = inBrackets(line, layouts, innerWindow); ok {
			f.place, f.layout, f.misses = placeInner, s.layout, 0
		}
		return s, ok
	case placeInner:
		if s, ok := inBrackets(line, 1<<f.layout, len(line)); ok {
			return s, true
		}
		if s, ok := atStart(line, layouts); ok {
			f.place, f.layout = placeStart, s.layout
			return s, true
		}
		s, ok := inBrackets(line, layouts, innerWindow)
		if ok {
			f.layout = s.layout
		}
		return s, ok
	}
	start, atBegin := atStart(line, layouts)
	inner, within := inBrackets(line, layouts, innerWindow)
	switch {
	case atBegin && within:
		return start, true
	case atBegin:
		f.place, f.layout = placeStart, start.layout
		return start, true
	case within:
		f.place, f.layout = placeInner, inner.layout
		return inner, true
	}
	return stamp{}, false
}

// atStart reads the stamp that a line begins with, after a syslog <PRI>, or after a "[".
func atStart(line []byte, layouts layoutSet) (stamp, bool) {
	p := priority(line)
	from := p
	if p > 0 && bytes.HasPrefix(line[p:], []byte("1 ")) { // RFC 5424's version, cut out with the stamp
		from += 2
	}
	if p == 0 && len(line) > 0 && line[0] == '[' {
		p, from = 1, 1
	}
	c, l, n := readStamp(line[from:], layouts)
	if n == 0 {
		return stamp{}, false
	}
	return stamp{c, l, placeStart, from, from + n, p}, true
}

// priority is the length of the <PRI> that a syslog message begins with on the wire, or 0.
func priority(line []byte) int {
	if len(line) < 3 || line[0] != '<' {
		return 0
	}
	n := 1
	for n < len(line) && n < 4 && isDigit(line[n]) {
		n++
	}
	if n == 1 || n == len(line) || line[n] != '>' {
		return 0
	}
	return n + 1
}

// inBrackets reads the first stamp in [brackets], or in audit(...), whose opening is not the line's first byte and in
// its first limit bytes. A layout that says more wins over an epoch, which may be any number.
func inBrackets(line []byte, layouts layoutSet, limit int) (stamp, bool) {
	head := line[:min(limit, len(line))]
	var weak stamp
	for i := 1; i < len(head); i++ {
		n := bytes.IndexByte(head[i:], '[')
		if n < 0 {
			break
		}
		i += n
		c, l, n := readStamp(line[i+1:], layouts)
		switch {
		case n == 0:
		case l != layoutEpoch:
			return stamp{c, l, placeInner, i + 1, i + 1 + n, i + 1}, true
		case weak.layout == layoutNone && i+1+n < len(line) && line[i+1+n] == ']':
			weak = stamp{c, l, placeInner, i + 1, i + 1 + n, i + 1}
		}
	}
	if weak.layout == layoutNone && layouts.has(layoutEpoch) {
		if n := bytes.Index(head, []byte("audit(")); n >= 0 {
			from := n + len("audit(")
			if c, n := readEpoch(line[from:]); n > 0 && from+n < len(line) && line[from+n] == ':' {
				weak = stamp{c, layoutEpoch, placeInner, from, from + n, from}
			}
		}
	}
	return weak, weak.layout != layoutNone
}
