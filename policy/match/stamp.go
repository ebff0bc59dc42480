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
	f.found = f.find(line, &f.at)
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

// find finds the stamp of a line, and moves the pin.
func (f *finder) find(line []byte, s *stamp) bool {
	layouts := allLayouts
	if f.date != nil {
		if f.date.program != nil {
			ok := f.date.find(line, s)
			if ok {
				f.place, f.layout = s.place, s.layout
			}
			return ok
		}
		if layouts = f.date.layouts; layouts == 0 {
			return false
		}
	}
	switch f.place {
	case placeStart:
		if s.atStart(line, layouts) {
			f.layout = s.layout
			if f.misses > 0 && !new(stamp).inBrackets(line, layouts, innerWindow) {
				f.misses = 0
			}
			return true
		}
		if f.misses++; f.misses < unpinAfter {
			return false
		}
		ok := s.inBrackets(line, layouts, innerWindow)
		if ok {
			f.place, f.layout, f.misses = placeInner, s.layout, 0
		}
		return ok
	case placeInner:
		if s.inBrackets(line, 1<<f.layout, len(line)) {
			return true
		}
		if s.atStart(line, layouts) {
			f.place, f.layout = placeStart, s.layout
			return true
		}
		ok := s.inBrackets(line, layouts, innerWindow)
		if ok {
			f.layout = s.layout
		}
		return ok
	}
	var inner stamp
	within := inner.inBrackets(line, layouts, innerWindow)
	switch {
	case s.atStart(line, layouts):
		if !within {
			f.place, f.layout = placeStart, s.layout
		}
		return true
	case within:
		*s = inner
		f.place, f.layout = placeInner, s.layout
	}
	return within
}

// atStart reads the stamp that a line begins with, after a syslog <PRI>, or after a "[".
func (s *stamp) atStart(line []byte, layouts layoutSet) bool {
	p := priority(line)
	from := p
	if p > 0 && bytes.HasPrefix(line[p:], []byte("1 ")) { // RFC 5424's version, cut out with the stamp
		from += 2
	}
	if p == 0 && len(line) > 0 && line[0] == '[' {
		p, from = 1, 1
	}
	l, n := s.civil.read(line[from:], layouts)
	s.put(l, placeStart, from, n, p)
	return n > 0
}

// put says where the stamp is that was read into s.
func (s *stamp) put(l layout, p place, from, n, cut int) {
	s.layout, s.place, s.from, s.to, s.cut = l, p, from, from+n, cut
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
func (s *stamp) inBrackets(line []byte, layouts layoutSet, limit int) bool {
	head := line[:min(limit, len(line))]
	var weak stamp
	for i := 1; i < len(head); i++ {
		n := bytes.IndexByte(head[i:], '[')
		if n < 0 {
			break
		}
		i += n
		l, n := s.civil.read(line[i+1:], layouts)
		s.put(l, placeInner, i+1, n, i+1)
		switch {
		case n == 0:
		case l != layoutEpoch:
			return true
		case weak.layout == layoutNone && i+1+n < len(line) && line[i+1+n] == ']':
			weak = *s
		}
	}
	if weak.layout == layoutNone && layouts.has(layoutEpoch) {
		if n := bytes.Index(head, []byte("audit(")); n >= 0 {
			from := n + len("audit(")
			weak.civil = civil{}
			if n := weak.civil.seconds(line[from:]); n > 0 && from+n < len(line) && line[from+n] == ':' {
				weak.put(layoutEpoch, placeInner, from, n, from)
			}
		}
	}
	*s = weak
	return weak.layout != layoutNone
}
