package match

import (
	"fmt"
	"strings"
)

// A DatePattern is a compiled `datepattern`: how to find and read the time stamp of a line. Immutable.
type DatePattern struct {
	src     string
	layouts layoutSet // for the words; empty for none
	program []directive
	anchor  bool // only at the start of the line
	bracket bool // only right after a "["
}

// String is the pattern as it was written.
func (d *DatePattern) String() string { return d.src }

// A directive is a %-letter, or with verb 0 a literal byte, or with verb ' ' any room.
type directive struct {
	verb byte
	lit  byte
}

// A DateError says what is wrong with a datepattern.
type DateError struct {
	Offset int    // in bytes
	Msg    string // what is wrong and what to do
}

func (e *DateError) Error() string { return e.Msg }

// dateWords are the datepatterns that are a word.
var dateWords = []struct {
	name    string
	layouts layoutSet
}{
	{"iso", 1 << layoutISO}, {"syslog", 1 << layoutSyslog}, {"asctime", 1 << layoutAsctime},
	{"clf", 1 << layoutCLF}, {"epoch", 1 << layoutEpoch}, {"none", 0},
}

// verbs are the letters of strptime that are understood. %T, %F, %R and %D are written out before.
const verbs = "YmdeHMSfzZbBhyjIpaAs"

var longVerbs = map[byte]string{'T': "%H:%M:%S", 'F': "%Y-%m-%d", 'R': "%H:%M", 'D': "%m/%d/%y"}

const allowedDates = `allowed are the words iso, syslog, asctime, clf, epoch, none, or text with ` +
	`%Y %m %d %H %M %S %f %z %Z %b %B %y %j %I %p %a %A %e %T %F %s %% and ^ for the start of the line`

// CompileDate compiles a datepattern; nil, nil for "" (find out by yourself). The error is a *DateError.
//
// A word names one of the layouts that are found automatically, and none says that lines have no stamp. Anything else
// is strptime's language: %Y %m %d %e (day, padded with a space) %H %M %S %f (fraction) %z (Z, +0200, +02:00) %Z
// (UTC and GMT are read, other names stand for the policy's zone) %b %B (month by name) %y %j (day of the year) %I %p
// (twelve hours) %a %A %T %F %R %D %s (seconds since 1970) %%; room stands for any spaces and tabs; other text, with or
// without a backslash before punctuation, for itself. "^" at the front holds the stamp to the start of the line;
// without it the first one in the line's first 256 bytes counts. It is cut out of the line if it begins it or follows
// a "[".
func CompileDate(pattern string) (*DatePattern, error) {
	if pattern == "" {
		return nil, nil
	}
	names := make([]string, 0, len(dateWords))
	for _, w := range dateWords {
		if w.name == pattern {
			return &DatePattern{src: pattern, layouts: w.layouts}, nil
		}
		names = append(names, w.name)
	}
	if !strings.Contains(pattern, "%") {
		msg := fmt.Sprintf("no datepattern %q", clip(pattern, 40))
		if near := nearest(strings.ToLower(pattern), names); near != "" {
			msg += "; did you mean " + near + "?"
		} else {
			msg += ";"
		}
		return nil, &DateError{0, msg + " " + allowedDates}
	}
	d := &DatePattern{src: pattern}
	text := pattern
	if strings.HasPrefix(text, "^") {
		d.anchor, text = true, text[1:]
	}
	if err := d.compile(text, len(pattern)-len(text)); err != nil {
		return nil, err
	}
	if err := d.complete(); err != nil {
		return nil, err
	}
	if n := len(d.program); d.program[0].lit == '[' && d.program[n-1].lit == ']' {
		d.program, d.bracket = d.program[1:n-1], true
	}
	return d, nil
}

// compile appends the directives of text, which begins at base in the pattern.
func (d *DatePattern) compile(text string, base int) error {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '%' && i+1 == len(text):
			return &DateError{base + i, `the datepattern ends in "%"; write %% for a plain one`}
		case c == '%':
			i++
			v := text[i]
			switch {
			case v == '%' && i+1 < len(text) && strings.IndexByte(verbs+"TFRD", text[i+1]) >= 0:
				return &DateError{base + i - 1, fmt.Sprintf("%%%%%c would be a plain %%; fail2ban's files double it, here it is %%%c",
					text[i+1], text[i+1])}
			case v == '%':
				d.program = append(d.program, directive{lit: '%'})
			case longVerbs[v] != "":
				if err := d.compile(longVerbs[v], base+i); err != nil {
					return err
				}
			case strings.IndexByte(verbs, v) >= 0:
				if v == 'h' {
					v = 'b'
				}
				d.program = append(d.program, directive{verb: v})
			default:
				msg := fmt.Sprintf("no directive %q", text[i-1:i+1])
				if other := swapCase(v); strings.IndexByte(verbs+"TFRD", other) >= 0 {
					msg += fmt.Sprintf("; did you mean %%%c?", other)
				} else {
					msg += ";"
				}
				return &DateError{base + i - 1, msg + " " + allowedDates}
			}
		case c == ' ' || c == '\t':
			if n := len(d.program); n == 0 || d.program[n-1].verb != ' ' {
				d.program = append(d.program, directive{verb: ' '})
			}
		case c == '\\' && i+1 < len(text) && !isWord(text[i+1]):
			i++
			d.program = append(d.program, directive{lit: text[i]})
		case c == '\\' || strings.IndexByte("(){}*+?|^$", c) >= 0:
			return &DateError{base + i, fmt.Sprintf(`a datepattern is no regular expression; write \%c for a plain %q`, c, string(c))}
		default:
			d.program = append(d.program, directive{lit: c})
		}
	}
	return nil
}

// complete reports what a pattern lacks to name a point in time. Only the year may be missing.
func (d *DatePattern) complete() error {
	var has [256]bool
	for _, p := range d.program {
		if p.verb != 0 && p.verb != ' ' && has[p.verb] {
			return &DateError{0, fmt.Sprintf("%%%c is there twice", p.verb)}
		}
		has[p.verb] = true
	}
	day := has['j'] || (has['d'] || has['e']) && (has['m'] || has['b'] || has['B'])
	hour := has['H'] || has['I'] && has['p']
	switch {
	case has['s']:
		return nil
	case !day:
		return &DateError{0, "the datepattern has no day: write %m or %b and %d, or %j, or %s"}
	case !hour && has['I']:
		return &DateError{0, "the datepattern has %I, an hour of twelve, but no %p; write %H for an hour of 24"}
	case !hour || !has['M']:
		return &DateError{0, "the datepattern has no time of day: write %H:%M:%S"}
	case has['j'] && !has['Y'] && !has['y']:
		return &DateError{0, "the datepattern has %j, the day of the year, but no year: write %Y"}
	}
	return nil
}

func swapCase(c byte) byte {
	if isLetter(c) {
		return c ^ 0x20
	}
	return 0
}

// find looks for the stamp from left to right.
func (d *DatePattern) find(line []byte, s *stamp) bool {
	p := priority(line)
	if !d.bracket {
		if c, n := d.read(line[p:]); n > 0 {
			*s = stamp{c, layoutCustom, placeStart, p, p + n, p}
			return true
		}
	}
	for i := p; i < len(line) && i < innerWindow; i++ {
		bracketed := i > 0 && line[i-1] == '['
		if d.anchor && i > p && (i > p+1 || !bracketed) {
			break
		}
		if i > 0 && isWord(line[i-1]) || d.bracket && !bracketed {
			continue
		}
		c, n := d.read(line[i:])
		switch {
		case n == 0 || d.bracket && (i+n == len(line) || line[i+n] != ']'):
		case bracketed && i == p+1:
			*s = stamp{c, layoutCustom, placeStart, i, i + n, i}
			return true
		case bracketed:
			*s = stamp{c, layoutCustom, placeInner, i, i + n, i}
			return true
		default:
			*s = stamp{c, layoutCustom, placeFree, i, i + n, i}
			return true
		}
	}
	return false
}

// read reads the pattern at the start of b. n is the length, 0 if it is not there.
func (d *DatePattern) read(b []byte) (c civil, n int) {
	var twelve, pm, epoch bool
	yearDay := 0
	for _, p := range d.program {
		rest := b[n:]
		m := 0
		switch p.verb {
		case 0:
			if len(rest) > 0 && rest[0] == p.lit {
				m = 1
			}
		case ' ':
			for m < len(rest) && (rest[m] == ' ' || rest[m] == '\t') {
				m++
			}
		case 'Y':
			c.year, m = number(rest, 4, 4)
		case 'y':
			if c.year, m = number(rest, 2, 2); c.year >= 69 {
				c.year += 1900
			} else {
				c.year += 2000
			}
		case 'm':
			c.month, m = number(rest, 1, 2)
		case 'b':
			c.month, m = name(rest, monthNames, nil)
		case 'B':
			c.month, m = name(rest, monthNames, fullMonths)
		case 'd', 'e':
			if len(rest) > 1 && rest[0] == ' ' && isDigit(rest[1]) {
				c.day, m = number(rest[1:], 1, 1)
				m++
			} else {
				c.day, m = number(rest, 1, 2)
			}
		case 'j':
			if yearDay, m = number(rest, 1, 3); yearDay == 0 {
				return c, 0
			}
		case 'H':
			c.hour, m = number(rest, 1, 2)
		case 'I':
			if c.hour, m = number(rest, 1, 2); c.hour < 1 || c.hour > 12 {
				return c, 0
			}
			twelve = true
		case 'p':
			if len(rest) < 2 || rest[1]|0x20 != 'm' || rest[0]|0x20 != 'a' && rest[0]|0x20 != 'p' {
				return c, 0
			}
			pm, m = rest[0]|0x20 == 'p', 2
		case 'M':
			c.minute, m = number(rest, 1, 2)
		case 'S':
			c.sec, m = number(rest, 1, 2)
		case 'f':
			m = c.nanoseconds(rest)
		case 'a':
			_, m = name(rest, weekdayNames, nil)
		case 'A':
			_, m = name(rest, weekdayNames, fullWeekdays)
		case 'z':
			m = c.zone(rest)
			if m > 0 && rest[0] == ' ' {
				m = 0
			}
		case 'Z':
			m = c.zoneName(rest)
		case 's':
			var e civil
			e, m = readEpochDigits(rest)
			c.unix, c.epoch, epoch = true, e.epoch, true
		}
		if m == 0 {
			return c, 0
		}
		n += m
	}
	if n < len(b) && isWord(b[n]) && isWord(b[n-1]) {
		return c, 0
	}
	if epoch {
		return c, n
	}
	if twelve {
		c.hour %= 12
		if pm {
			c.hour += 12
		}
	}
	if yearDay > 0 {
		c.month = 1
		for yearDay > daysIn(c.month, c.year) {
			yearDay -= daysIn(c.month, c.year)
			if c.month++; c.month > 12 {
				return c, 0
			}
		}
		c.day = yearDay
	}
	if !c.valid() {
		return c, 0
	}
	return c, n
}

// number reads between least and most digits.
func number(b []byte, least, most int) (v, n int) {
	for n < len(b) && n < most && isDigit(b[n]) {
		v = v*10 + int(b[n]-'0')
		n++
	}
	if n < least {
		return 0, 0
	}
	return v, n
}

// nanoseconds reads %f: the digits of a fraction of a second.
func (c *civil) nanoseconds(b []byte) (n int) {
	unit := 100_000_000
	for n < len(b) && isDigit(b[n]) {
		c.nsec += int(b[n]-'0') * unit
		unit /= 10
		n++
	}
	return n
}

// zoneName reads %Z: the letters of a zone's name, which is understood if it is that of UTC.
func (c *civil) zoneName(b []byte) (n int) {
	for n < len(b) && n < 6 && isLetter(b[n]) {
		n++
	}
	if s := string(b[:n]); s == "UTC" || s == "GMT" || s == "Z" {
		c.zoned, c.offset = true, 0
	}
	return n
}

var (
	fullMonths = []string{"January", "February", "March", "April", "May", "June", "July", "August", "September",
		"October", "November", "December"}
	fullWeekdays = []string{"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"}
)

// name reads one of the full names, if there are any, or of the three-letter ones, without regard to case.
func name(b []byte, short string, full []string) (v, n int) {
	for i, f := range full {
		if len(b) >= len(f) && strings.EqualFold(string(b[:len(f)]), f) {
			return i + 1, len(f)
		}
	}
	if len(b) < 3 {
		return 0, 0
	}
	for i := 0; i < len(short); i += 3 {
		if strings.EqualFold(string(b[:3]), short[i:i+3]) {
			return i/3 + 1, 3
		}
	}
	return 0, 0
}

// readEpochDigits reads the ten digits of a plausible number of seconds.
func readEpochDigits(b []byte) (c civil, n int) {
	v, n := number(b, 10, 10)
	if n == 0 || v < minEpoch || v >= maxEpoch {
		return c, 0
	}
	c.epoch = int64(v)
	return c, n
}

// clip cuts a text for a message.
func clip(s string, most int) string {
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
