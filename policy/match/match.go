// Package match turns a log line into the host that failed and the time when it did.
//
// A line goes through four steps: a required literal is looked for (most lines end here, without an allocation), the
// time stamp is found and cut out, the failregexes are tried in order, and a hit is dropped again if an ignoreregex
// matches too. All patterns run on Go's regexp: linear time whatever an attacker writes.
//
// A stamp that begins the line (a syslog <PRI> or a "[" may come first) or stands in [brackets] is cut out before the
// patterns see the line: "Nov  5 18:12:45 mail sshd[7]: x" becomes " mail sshd[7]: x", and `h - - [10/Oct/2000:13:55:36
// -0700] "GET /"` becomes `h - - [] "GET /"`. Of audit(1700000000.123:42) there remains audit(:42).
//
// The text at a host tag is read strictly, with net/netip, and never a part of something longer: 999.1.1.1, 1.2.3.4.5,
// 1.2.3.4.example.org and 010.2.3.4 name no host, nor do multicast, broadcast and unspecified addresses. An IPv6
// address with a port but without brackets is told from a longer address only if it has all its groups, or the port
// five digits.
package match

import (
	"net/netip"
	"time"

	"banset/policy"
)

// A Filter is a compiled list of failregexes and ignoreregexes. It is immutable and safe for concurrent use.
type Filter struct {
	fail   []pattern
	ignore []pattern
}

// A PatternError says what is wrong with one pattern of a filter.
type PatternError struct {
	Ignore bool   // in ignoreregex, not failregex
	Index  int    // which one of the list, from 0
	Offset int    // where in the pattern, in bytes; -1 when that is not known
	Msg    string // what is wrong and what to do
}

func (e *PatternError) Error() string { return e.Msg }

// A Job is one policy's use of a filter on a log.
type Job struct {
	Policy string
	Filter *Filter
	Date   *DatePattern   // nil: found automatically
	Zone   *time.Location // of stamps that carry none; nil: time.Local

	NoFields bool // Match.Fields is not wanted
}

// MaxField is the most text of a [policy.Field] in bytes; what is longer is cut at a rune's end.
const MaxField = 512

// A Match is one line that a job's filter says is a failure.
type Match struct {
	Job     int            // index of the job
	Pattern int            // index of the failregex
	Host    netip.Prefix   // see policy.Hit
	Stamp   time.Time      // zero: the line has none that could be read
	Fields  []policy.Field // the named groups that matched some text, in the pattern's order; each at most MaxField bytes
	Line    []byte         // the line without its end; the chunk's memory
}
