package exact

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// kept is how many older generations of a log stay.
const kept = 12

// A logfile is a log and the program that writes and rotates it.
type logfile struct {
	t        *testing.T
	path     string
	policies []string // that read it
	layout   string   // of its time stamps
	off      time.Duration
	dated    bool // rotated files are named by date, not number
	rotate   []func(*logfile)
	prefix4  netip.Prefix // its hosts; no other log has them
	prefix6  netip.Prefix
	readers  []*daemon
	mercy    *atomic.Int32 // how many logs wait for so long that the daemon may live until it has read them

	rng      *rand.Rand
	file     *os.File
	failures []failure
	lines    int
	turned   map[string]int // rotations, by kind
	today    int            // of dated names
	late     *os.File       // the rotated file that somebody still writes to
	campaign netip.Addr     // who attacks now, and
	left     int            // for how many lines
}

// Groups of hosts within a log's prefix: the last number of their addresses.
const (
	attackers = 60  // 1 to 60: come in campaigns
	passers   = 220 // 61 to 220: now and then a failure
	future    = 230 // 221 to 230: their stamps are ahead of the clock
	latecomer = 240 // 231 to 240: only in lines that are written to a file after it was rotated
	sentinel  = 254 // the last line
)

// write runs the program until stop says so: lives is how often daemons were started, and sets the pace of rotation.
func (l *logfile) write(stop *atomic.Bool, lives *atomic.Int64) {
	next, turns := lives.Load()+1, 0
	for !stop.Load() {
		n := 1 + l.rng.IntN(8)
		if l.rng.IntN(100) == 0 {
			n = 300 + l.rng.IntN(900)
		}
		l.append(n)
		if l.late != nil {
			l.appendLate(1 + l.rng.IntN(3))
		}
		if now := lives.Load(); now >= next {
			if turns++; turns%(kept/3) == 0 {
				// What expires unread is lost for every reader: a daemon that lives for moments has to get that far.
				l.awaitCommit()
			}
			for range 1 + l.rng.IntN(6)/5 {
				l.closeLate()
				l.append(1 + l.rng.IntN(3))
				l.rotate[l.rng.IntN(len(l.rotate))](l)
			}
			next = now + 1 + l.rng.Int64N(4)
		}
		time.Sleep(time.Duration(l.rng.IntN(20)) * time.Millisecond)
	}
	l.closeLate()
	l.put(l.line(l.host(sentinel), 0))
	l.close()
}

// must ends the writer, and with it the test, on an error that is none of banset's.
func (l *logfile) must(err error) {
	if err != nil {
		l.t.Errorf("%s: %v", l.path, err)
		runtime.Goexit()
	}
}

// host is a host of the log; some are IPv6 and fail under several addresses of one /64.
func (l *logfile) host(n int) netip.Addr {
	if n <= attackers && n%5 == 0 || !l.prefix4.IsValid() {
		a := l.prefix6.Addr().As16()
		a[7] = byte(n)
		a[15] = byte(1 + l.rng.IntN(200))
		return netip.AddrFrom16(a)
	}
	a := l.prefix4.Addr().As4()
	a[3] = byte(n)
	return netip.AddrFrom4(a)
}

// line is one failure as the log has it.
func (l *logfile) line(host netip.Addr, ahead time.Duration) string {
	now := time.Now()
	text := now.Add(ahead + l.off).Format(l.layout)
	stamp, err := time.ParseInLocation(l.layout, text, time.Local)
	l.must(err)
	if stamp.Year() == 0 {
		stamp = stamp.AddDate(now.Year(), 0, 0)
	}
	l.failures = append(l.failures, failure{host, stamp, now})
	l.lines++
	return fmt.Sprintf("%s mail auth[%d]: login failed for user%d from %s\n", text, l.lines, l.rng.IntN(1000), host)
}

func (l *logfile) junk() string {
	l.lines++
	text := time.Now().Add(l.off).Format(l.layout)
	switch l.rng.IntN(6) {
	case 0:
		return fmt.Sprintf("%s mail auth[%d]: login failed for user7 from nowhere\n", text, l.lines)
	case 1:
		return fmt.Sprintf("%s mail auth[%d]: login failed for user7 from %s.example.org\n", text, l.lines, l.host(1))
	case 2:
		return fmt.Sprintf("%s mail queue[%d]: %s\n", text, l.lines, strings.Repeat("x", l.rng.IntN(3000)))
	case 3:
		return "\n"
	}
	return fmt.Sprintf("%s mail auth[%d]: login of user%d from %s\n", text, l.lines, l.rng.IntN(9), l.host(2))
}

// next is the line that the program logs next.
func (l *logfile) next() string {
	switch n := l.rng.IntN(100); {
	case n < 20:
		return l.junk()
	case n < 30:
		return l.line(l.host(attackers+1+l.rng.IntN(passers-attackers)), -l.delay())
	case n < 32:
		return l.line(l.host(passers+1+l.rng.IntN(future-passers)), time.Duration(l.rng.IntN(15_000))*time.Millisecond)
	}
	if l.left == 0 {
		l.campaign, l.left = l.host(1+l.rng.IntN(attackers)), 1+l.rng.IntN(12)
	}
	l.left--
	return l.line(l.campaign, -l.delay())
}

// delay is how old a line is when it reaches the log.
func (l *logfile) delay() time.Duration {
	if l.rng.IntN(10) > 0 {
		return 0
	}
	return time.Duration(l.rng.IntN(4000)) * time.Millisecond
}

// append writes n lines, sometimes with a pause within one of them.
func (l *logfile) append(n int) {
	var text strings.Builder
	for range n {
		text.WriteString(l.next())
	}
	l.put(text.String())
}

func (l *logfile) put(text string) {
	if l.file == nil {
		f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			l.t.Error(err)
			return
		}
		l.file = f
	}
	if l.rng.IntN(10) == 0 {
		cut := l.rng.IntN(len(text))
		_, err := l.file.WriteString(text[:cut])
		l.must(err)
		text = text[cut:]
		time.Sleep(time.Duration(l.rng.IntN(30)) * time.Millisecond)
	}
	_, err := l.file.WriteString(text)
	l.must(err)
}

func (l *logfile) appendLate(n int) {
	for range n {
		_, err := l.late.WriteString(l.line(l.host(future+1+l.rng.IntN(latecomer-future)), 0))
		l.must(err)
	}
	if l.rng.IntN(4) == 0 {
		l.closeLate()
	}
}

func (l *logfile) closeLate() {
	if l.late != nil {
		l.late.Close()
		l.late = nil
	}
}

func (l *logfile) close() {
	if l.file != nil {
		l.must(l.file.Close())
		l.file = nil
	}
}
