package blocklist

import (
	"time"

	"banset/policy"
)

// The last and the first second that four digits of a year can name.
const (
	lastStamp  int64 = 253402300799
	firstStamp int64 = -62167219200
)

// readEnd reads "forever" or a time and returns how many bytes it takes, or 0.
func readEnd(b []byte, loc *time.Location) (end int64, n int) {
	if rest, ok := cutFold(b, "forever"); ok && (len(rest) == 0 || isEnd(rest[0])) {
		return policy.Never, len("forever")
	}
	return readTime(b, loc)
}

// isEnd reports whether c may follow a time.
func isEnd(c byte) bool { return isSpace(c) || c == ':' || c == '#' }

// readTime reads a time at the start of b: YYYY-MM-DD, with " HH:MM" or " HH:MM:SS" (or 'T' for the space), and with
// Z or +HH:MM when it is not of loc. It returns the bytes it takes, or 0.
func readTime(b []byte, loc *time.Location) (sec int64, n int) {
	if len(b) < 10 || b[4] != '-' || b[7] != '-' {
		return 0, 0
	}
	year, ok1 := number(b[0:4])
	month, ok2 := number(b[5:7])
	day, ok3 := number(b[8:10])
	if !ok1 || !ok2 || !ok3 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) {
		return 0, 0
	}
	var hour, minute, second int
	n = 10
	if clock := b[n:]; len(clock) >= 6 && (clock[0] == ' ' || clock[0] == 'T' || clock[0] == 't') && clock[3] == ':' {
		hour, ok1 = number(clock[1:3])
		minute, ok2 = number(clock[4:6])
		if !ok1 || !ok2 || hour > 23 || minute > 59 {
			return 0, 0
		}
		n += 6
		if len(clock) >= 9 && clock[6] == ':' {
			if s, ok := number(clock[7:9]); ok {
				if s > 59 {
					return 0, 0
				}
				second, n = s, n+3
			}
		}
	}
	offset, zone := readZone(b[n:])
	n += zone
	if n < len(b) && !isEnd(b[n]) {
		return 0, 0
	}
	if zone == 0 && loc != time.UTC {
		return time.Date(year, time.Month(month), day, hour, minute, second, 0, loc).Unix(), n
	}
	sec = (((daysBefore(year, month, day))*24+int64(hour))*60+int64(minute))*60 + int64(second)
	return sec - int64(offset), n
}

// readZone reads Z or +HH:MM and returns the seconds east of UTC.
func readZone(b []byte) (offset, n int) {
	if len(b) == 0 {
		return 0, 0
	}
	switch b[0] {
	case 'Z', 'z':
		return 0, 1
	case '+', '-':
		if len(b) < 6 || b[3] != ':' {
			return 0, 0
		}
		h, ok1 := number(b[1:3])
		m, ok2 := number(b[4:6])
		if !ok1 || !ok2 || h > 23 || m > 59 {
			return 0, 0
		}
		if offset = (h*60 + m) * 60; b[0] == '-' {
			offset = -offset
		}
		return offset, 6
	}
	return 0, 0
}

// number reads digits, all of b.
func number(b []byte) (v int, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + int(c-'0')
	}
	return v, true
}

func daysIn(year, month int) int {
	switch {
	case month == 2 && year%4 == 0 && (year%100 != 0 || year%400 == 0):
		return 29
	case month == 2:
		return 28
	case month == 4 || month == 6 || month == 9 || month == 11:
		return 30
	}
	return 31
}

// daysBefore counts the days from the epoch to a date of the proleptic Gregorian calendar. The year is taken to begin
// in March, so that the leap day is its last.
func daysBefore(year, month, day int) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	y := int64(year) + 400 // never negative
	return y*365 + y/4 - y/100 + y/400 + int64((153*(month-3)+2)/5+day-1) - (719468 + 146097)
}

// appendStamp writes a second since the epoch as "2026-11-23 18:12:45Z". What four digits of a year can't name
// becomes the nearest that they can.
func appendStamp(dst []byte, sec int64) []byte {
	sec = min(max(sec, firstStamp), lastStamp)
	days, rest := sec/86400, int(sec%86400)
	if rest < 0 {
		days, rest = days-1, rest+86400
	}
	days += 719468 + 146097
	era, doe := days/146097, days%146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := int(doe - (365*yoe + yoe/4 - yoe/100))
	mp := (5*doy + 2) / 153
	day, month := doy-(153*mp+2)/5+1, mp+3
	year := int(yoe + era*400 - 400)
	if month > 12 {
		month -= 12
		year++
	}
	dst = append2(append2(dst, year/100), year%100)
	dst = append2(append(dst, '-'), month)
	dst = append2(append(dst, '-'), day)
	dst = append2(append(dst, ' '), rest/3600)
	dst = append2(append(dst, ':'), rest/60%60)
	dst = append2(append(dst, ':'), rest%60)
	return append(dst, 'Z')
}

// append2 writes two digits.
func append2(dst []byte, v int) []byte { return append(dst, byte('0'+v/10), byte('0'+v%10)) }
