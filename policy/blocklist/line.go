package blocklist

import (
	"bytes"
	"math"
	"time"

	"banset/policy"
)

// MaxLine is the longest line that may hold an address, in bytes.
const MaxLine = 64 << 10

// A line is what one line of the file says.
type line struct {
	key
	kind      Kind // 0: no ban
	problem   trouble
	at, until int64
	head      []byte // white space and ADDR
	// note is the reason of one of ours, the text of one of fail2ban's, or a person's note; remark is a person's
	// text behind the reason of ours.
	note, remark []byte
	word         []byte // what the problem is about
}

// A trouble is what is wrong with a line; none is nothing.
type trouble uint8

const (
	none      trouble = iota
	badHost           // no address
	tooLong           // longer than MaxLine
	badStamp          // banset/ or fail2ban/ and no time: banned without end
	badEnd            // no end after "until": banned without end
	stripNote         // text without '#' after the address
)

var bom = []byte("\xef\xbb\xbf")

// read reads one line, its end included.
func (l *line) read(b []byte, opts *Options) {
	// Most lines are ours and as we wrote them: no space before the address.
	i := 0
	if len(b) > 0 && (b[0] < '0' || b[0] > 'f') {
		if bytes.HasPrefix(b, bom) { // the start of a file from elsewhere, or of one appended to ours
			i = len(bom)
		}
		for i < len(b) && isSpace(b[i]) {
			i++
		}
	}
	if i == len(b) || b[i] == '#' {
		return
	}
	if len(b) > MaxLine {
		l.problem, l.word = tooLong, b[i:]
		return
	}
	start := i
	for i < len(b) && !isSpace(b[i]) && b[i] != '#' {
		i++
	}
	l.head = b[:i]
	var ok bool
	if l.key, ok = parseHost(b[start:i]); !ok {
		l.problem, l.word = badHost, b[start:i]
		return
	}
	l.kind, l.until = Hand, policy.Never
	rest := trim(b[i:])
	switch {
	case len(rest) == 0:
	case rest[0] != '#':
		l.note, l.problem, l.word = rest, stripNote, rest
	default:
		l.readNote(trim(rest[1:]), opts)
	}
}

func (l *line) readNote(note []byte, opts *Options) {
	if stamp, ok := cutFold(note, "banset/"); ok {
		if !l.readOurs(stamp, opts) {
			l.note, l.word, l.until = note, note, policy.Never
		}
		return
	}
	if stamp, ok := cutFold(note, "fail2ban/"); ok {
		at, n := readTime(stamp, opts.Location)
		text, ok := reason(stamp[n:])
		if n == 0 || !ok {
			l.note, l.problem, l.word = note, badStamp, note
			return
		}
		l.kind, l.at, l.until, l.note = Fail2ban, at, after(at, opts.LegacyBan), text
		return
	}
	l.note = note
	// A person's own end. Text that only begins with the word is a note like any other.
	if rest, ok := cutFold(note, "until "); ok {
		if end, n := readEnd(trim(rest), opts.Location); n > 0 {
			if text, ok := reason(trim(rest)[n:]); ok {
				l.until, l.note = end, text
			}
		}
	}
}

// readOurs reads what follows "banset/".
func (l *line) readOurs(b []byte, opts *Options) bool {
	at, n := readTime(b, opts.Location)
	if n == 0 {
		l.problem = badStamp
		return false
	}
	until := policy.Never
	b = trim(b[n:])
	if rest, ok := cutFold(b, "until"); ok {
		rest = trim(rest)
		if until, n = readEnd(rest, opts.Location); n == 0 {
			l.problem = badEnd
			return false
		}
		b = rest[n:]
	}
	if i := bytes.IndexByte(b, '#'); i >= 0 {
		b, l.remark = b[:i], trim(b[i+1:])
	}
	text, ok := reason(b)
	if !ok {
		l.problem, l.remark = badEnd, nil
		return false
	}
	l.kind, l.at, l.until, l.note = Ours, at, until, text
	return true
}

// reason is the text behind a time: nothing, or a colon and the reason.
func reason(b []byte) (text []byte, ok bool) {
	b = trim(b)
	if len(b) == 0 {
		return nil, true
	}
	if b[0] != ':' {
		return nil, false
	}
	return trim(b[1:]), true
}

// failures reads the reason of most bans, "NAME: N failures". n is 0 for any other.
func failures(b []byte) (name []byte, n int) {
	i := bytes.Index(b, []byte(": "))
	if i <= 0 || i > policy.MaxName {
		return nil, 0
	}
	name, b = b[:i], b[i+2:]
	digits := 0
	for digits < len(b) && digits < 9 && '0' <= b[digits] && b[digits] <= '9' {
		n = n*10 + int(b[digits]-'0')
		digits++
	}
	if digits == 0 || b[0] == '0' || string(b[digits:]) != " failures" || !policy.ValidName(string(name)) {
		return nil, 0
	}
	return name, n
}

// after is the end of a ban of length d from at.
func after(at int64, d time.Duration) int64 {
	s := int64(d / time.Second)
	if d == policy.Forever || at > math.MaxInt64-s {
		return policy.Never
	}
	return at + s
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f'
}

// trim cuts white space from both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isSpace(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

// cutFold cuts a prefix (in lower case) off b, whatever its case there.
func cutFold(b []byte, prefix string) ([]byte, bool) {
	if len(b) < len(prefix) {
		return b, false
	}
	for i := range len(prefix) {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != prefix[i] {
			return b, false
		}
	}
	return b[len(prefix):], true
}
