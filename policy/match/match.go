// Package match turns a log line into the host that failed and the time when it did.
//
// A line goes through four steps: a required literal is looked for (most lines end here, without an allocation), the
// time stamp is found and cut out, the failregexes are tried in order, and a hit is dropped again if an ignoreregex
// matches too. All patterns run on Go's regexp: linear time whatever an attacker writes.
package match

import (
	"net/netip"
	"time"

	"banset/policy"
)

// A Filter is a compiled list of failregexes and ignoreregexes. It is immutable and safe for concurrent use.
type Filter struct{}

// A PatternError says what is wrong with one pattern of a filter.
type PatternError struct {
	Ignore bool   // in ignoreregex, not failregex
	Index  int    // which one of the list, from 0
	Offset int    // where in the pattern, in bytes; -1 when that is not known
	Msg    string // what is wrong and what to do
}

func (e *PatternError) Error() string { return e.Msg }

// Compile compiles a filter. All problems are returned at once.
func Compile(failregex, ignoreregex []string) (*Filter, []*PatternError) { panic("stub") }

// A DatePattern is a compiled `datepattern`: how to find and read the time stamp of a line. Immutable.
type DatePattern struct{}

// CompileDate compiles a datepattern; nil, nil for "" (find out by yourself).
func CompileDate(pattern string) (*DatePattern, error) { panic("stub") }

// A Job is one policy's use of a filter on a log.
type Job struct {
	Policy string
	Filter *Filter
	Date   *DatePattern   // nil: found automatically
	Zone   *time.Location // of stamps that carry none; nil: time.Local
}

// A Scanner runs jobs over the chunks of one log and remembers what the log's time stamps look like. It belongs to
// one goroutine.
type Scanner struct{}

// NewScanner makes a scanner for one log.
func NewScanner(jobs []Job) *Scanner { panic("stub") }

// A Match is one line that a job's filter says is a failure.
type Match struct {
	Job     int          // index of the job
	Pattern int          // index of the failregex
	Host    netip.Prefix // see policy.Hit
	Stamp   time.Time    // zero: the line has none that could be read
	Fields  []policy.Field
	Line    []byte // the line without its end; the chunk's memory
}

// Scan looks for failures in lines (whole lines, each ended by '\n') and calls yield for each, in order. now resolves
// stamps without a year. It allocates nothing for lines that miss.
func (s *Scanner) Scan(lines []byte, now time.Time, yield func(Match)) { panic("stub") }
