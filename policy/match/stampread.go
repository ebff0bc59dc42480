package match

import "time"

// A civil is a time as it is written.
type civil struct {
	year                    int // 0: not written
	month, day              int
	hour, minute, sec, nsec int
	zoned                   bool
	offset                  int   // seconds east of UTC, if zoned
	unix                    bool  // the time is epoch and nsec
	epoch                   int64 // seconds since 1970, if unix
}

// time is the point in time. zone is that of stamps without one; gaps and overlaps of its clock are resolved as
// [time.Date] does. A stamp without a year is the latest one that is not more than a day after now.
func (c *civil) time(zone *time.Location, now time.Time) time.Time {
	if zone == nil {
		zone = time.Local
	}
	if c.unix {
		return time.Unix(c.epoch, int64(c.nsec)).In(zone)
	}
	if c.zoned {
		if c.year != 0 {
			return c.in(c.year, time.UTC).Add(-time.Duration(c.offset) * time.Second).In(zone)
		}
	}
	if c.year != 0 {
		return c.in(c.year, zone)
	}
	limit := now.Add(24 * time.Hour)
	// Feb 29 may be eight years back, around a century's end.
	year := limit.In(zone).Year() + 1
	for range 11 {
		if c.day <= daysIn(c.month, year) {
			t := c.in(year, zone)
			if c.zoned {
				t = c.in(year, time.UTC).Add(-time.Duration(c.offset) * time.Second).In(zone)
			}
			if !t.After(limit) {
				return t
			}
		}
		year--
	}
	return time.Time{}
}

// A minute is the time of the last stamp's minute: most stamps of a log are of the same minute as the one before.
type minute struct {
	civil civil // without seconds
	now   time.Time
	at    time.Time // zero: not known
}

// time is what c.time says.
func (m *minute) time(c *civil, zone *time.Location, now time.Time) time.Time {
	if c.unix || c.sec > 59 {
		return c.time(zone, now)
	}
	key := *c
	key.sec, key.nsec = 0, 0
	if m.at.IsZero() || key != m.civil || now != m.now {
		*m = minute{civil: key, now: now, at: key.time(zone, now)}
		last := key
		last.sec = 59
		if last.time(zone, now).Sub(m.at) != 59*time.Second { // the clock was changed within it, or it is where years part
			m.at = time.Time{}
			return c.time(zone, now)
		}
	}
	return m.at.Add(time.Duration(c.sec)*time.Second + time.Duration(c.nsec))
}

func (c *civil) in(year int, zone *time.Location) time.Time {
	return time.Date(year, time.Month(c.month), c.day, c.hour, c.minute, c.sec, c.nsec, zone)
}

// daysIn is how many days a month has; 29 for a February without a year.
func daysIn(month, year int) int {
	switch month {
	case 2:
		if year == 0 || year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// valid reports whether such a day and time exists. A second of 60 is let through: clocks do write it.
func (c *civil) valid() bool {
	return 1 <= c.month && c.month <= 12 && 1 <= c.day && c.day <= daysIn(c.month, c.year) &&
		c.hour < 24 && c.minute < 60 && c.sec <= 60 && (c.year == 0 || c.year >= 1970)
}

// read reads a stamp of one of the layouts at the start of b. n is its length, 0 if there is none: then c is arbitrary. The
// next byte is neither a letter nor a digit.
func (c *civil) read(b []byte, layouts layoutSet) (l layout, n int) {
	if len(b) < 10 {
		return
	}
	switch {
	case isDigit(b[0]) && (b[2] == '/' || b[1] == '/'):
		l = layoutCLF
	case isDigit(b[0]) && (b[4] == '-' || b[4] == '/'):
		l = layoutISO
	case isDigit(b[0]):
		l = layoutEpoch
	case isLetter(b[0]) && weekday(b) != 0:
		l = layoutAsctime
	case isLetter(b[0]):
		l = layoutSyslog
	default:
		return
	}
	if !layouts.has(l) {
		return layoutNone, 0
	}
	*c = civil{}
	switch l {
	case layoutCLF:
		n = c.clf(b)
	case layoutISO:
		n = c.iso(b)
	case layoutEpoch:
		n = c.seconds(b)
	case layoutAsctime:
		n = c.asctime(b)
	case layoutSyslog:
		n = c.syslog(b)
	}
	if n > 0 && n < len(b) && isWord(b[n]) {
		n = 0
	}
	if n == 0 {
		l = layoutNone
	}
	return l, n
}

// iso reads 2016-04-15 00:21:45 and its kin: "T" or a space between, "-" or "/" in the date, a fraction after "."
// or ",", a zone with or without a space before it.
func (c *civil) iso(b []byte) (n int) {
	if len(b) < 19 || b[4] != '-' && b[4] != '/' || b[7] != b[4] || b[10] != 'T' && b[10] != ' ' {
		return 0
	}
	var ok [4]bool
	c.year, ok[0] = digits(b[0:4])
	c.month, ok[1] = digits(b[5:7])
	c.day, ok[2] = digits(b[8:10])
	n, ok[3] = c.clock(b[11:])
	if !ok[0] || !ok[1] || !ok[2] || !ok[3] || c.year == 0 || !c.valid() {
		return 0
	}
	n += 11
	n += c.fraction(b[n:])
	return n + c.zone(b[n:])
}

// clf reads 10/Oct/2000:13:55:36 -0700; the zone may be missing, a fraction be there.
func (c *civil) clf(b []byte) (n int) {
	n = 1
	if b[1] != '/' {
		n = 2
	}
	if len(b) < n+18 || b[n] != '/' || b[n+4] != '/' || b[n+9] != ':' {
		return 0
	}
	var ok [3]bool
	c.day, ok[0] = digits(b[:n])
	c.month = month(b[n+1:])
	c.year, ok[1] = digits(b[n+5 : n+9])
	m, ok2 := c.clock(b[n+10:])
	ok[2] = ok2
	if !ok[0] || !ok[1] || !ok[2] || c.year == 0 || !c.valid() {
		return 0
	}
	n += 10 + m
	n += c.fraction(b[n:])
	return n + c.zone(b[n:])
}

// syslog reads Nov  5 18:12:45, with a fraction if there is one.
func (c *civil) syslog(b []byte) (n int) {
	n, ok := c.monthDayClock(b)
	if !ok || !c.valid() {
		return 0
	}
	return n + c.fraction(b[n:])
}

// asctime reads Fri Sep 25 12:11:22.654321 2015. The weekday is not checked against the date.
func (c *civil) asctime(b []byte) (n int) {
	if len(b) < 24 || weekday(b) == 0 || b[3] != ' ' {
		return 0
	}
	n, ok := c.monthDayClock(b[4:])
	if !ok {
		return 0
	}
	n += 4
	n += c.fraction(b[n:])
	if len(b) < n+5 || b[n] != ' ' {
		return 0
	}
	if c.year, ok = digits(b[n+1 : n+5]); !ok || c.year == 0 || !c.valid() {
		return 0
	}
	return n + 5
}

// monthDayClock reads Nov  5 18:12:45. The day is padded with a space or a zero, or not at all.
func (c *civil) monthDayClock(b []byte) (n int, ok bool) {
	if len(b) < 14 {
		return 0, false
	}
	if c.month = month(b); c.month == 0 || b[3] != ' ' {
		return 0, false
	}
	n = 4
	if b[n] == ' ' {
		n++
	}
	m := n
	for m < n+2 && isDigit(b[m]) {
		m++
	}
	if c.day, ok = digits(b[n:m]); !ok || n == 5 && m == 7 || b[m] != ' ' || len(b) < m+9 {
		return 0, false
	}
	n, ok = c.clock(b[m+1:])
	return n + m + 1, ok
}

const (
	minEpoch = 1_000_000_000 // 2001-09-09: ten digits from here on
	maxEpoch = 4_102_444_800 // 2100-01-01: a larger number is something else
)

// seconds reads ten digits, with a fraction if there is one.
func (c *civil) seconds(b []byte) (n int) {
	if len(b) < 10 {
		return 0
	}
	for n < 10 {
		if !isDigit(b[n]) {
			return 0
		}
		c.epoch = c.epoch*10 + int64(b[n]-'0')
		n++
	}
	if c.epoch < minEpoch || c.epoch >= maxEpoch {
		return 0
	}
	c.unix = true
	if n < len(b) && b[n] == '.' {
		m := c.fraction(b[n:])
		if m == 0 {
			return 0 // 1700000000.example.org
		}
		n += m
	}
	if n < len(b) && b[n] != ' ' && b[n] != '\t' && b[n] != ':' && b[n] != ']' && b[n] != ',' {
		return 0
	}
	return n
}

// clock reads 18:12:45, eight bytes.
func (c *civil) clock(b []byte) (n int, ok bool) {
	if len(b) < 8 || b[2] != ':' || b[5] != ':' {
		return 0, false
	}
	var o [3]bool
	c.hour, o[0] = digits(b[0:2])
	c.minute, o[1] = digits(b[3:5])
	c.sec, o[2] = digits(b[6:8])
	return 8, o[0] && o[1] && o[2]
}

// fraction reads .123 or ,123 and returns how long it is; digits below the nanosecond are passed over.
func (c *civil) fraction(b []byte) int {
	if len(b) < 2 || b[0] != '.' && b[0] != ',' || !isDigit(b[1]) {
		return 0
	}
	unit := 100_000_000
	n := 1
	for n < len(b) && isDigit(b[n]) {
		c.nsec += int(b[n]-'0') * unit
		unit /= 10
		n++
	}
	return n
}

// zone reads Z, +02:00 or +0200, the last two and UTC and GMT also after a space, and returns how long it is. Other
// names are not read: they mean different zones in different places.
func (c *civil) zone(b []byte) int {
	n := 0
	if len(b) > 1 && b[0] == ' ' {
		n = 1
	}
	rest := b[n:]
	switch {
	case len(rest) == 0:
		return 0
	case n == 0 && rest[0] == 'Z':
		n = 1
	case len(rest) >= 3 && (string(rest[:3]) == "UTC" || string(rest[:3]) == "GMT"):
		n += 3
	case rest[0] == '+' || rest[0] == '-':
		m := 3
		if len(rest) > 3 && rest[3] == ':' {
			m = 4
		}
		if len(rest) < m+2 {
			return 0
		}
		h, ok := digits(rest[1:3])
		minute, ok2 := digits(rest[m : m+2])
		if !ok || !ok2 || h > 23 || minute > 59 {
			return 0
		}
		c.offset = (h*60 + minute) * 60
		if rest[0] == '-' {
			c.offset = -c.offset
		}
		n += m + 2
	default:
		return 0
	}
	if n < len(b) && isWord(b[n]) {
		c.offset = 0
		return 0
	}
	c.zoned = true
	return n
}

// digits reads a number that is all of b.
func digits(b []byte) (v int, ok bool) {
	for _, c := range b {
		if !isDigit(c) {
			return 0, false
		}
		v = v*10 + int(c-'0')
	}
	return v, len(b) > 0
}

const (
	monthNames   = "JanFebMarAprMayJunJulAugSepOctNovDec"
	weekdayNames = "SunMonTueWedThuFriSat"
)

// month is the month that b begins with, 1 to 12, or 0.
func month(b []byte) int { return threeLetters(b, monthNames) }

// weekday is the day of the week that b begins with, 1 for Sunday, or 0.
func weekday(b []byte) int { return threeLetters(b, weekdayNames) }

func threeLetters(b []byte, names string) int {
	if len(b) < 3 {
		return 0
	}
	for i := 0; i < len(names); i += 3 {
		if b[0] == names[i] && b[1] == names[i+1] && b[2] == names[i+2] {
			return i/3 + 1
		}
	}
	return 0
}
