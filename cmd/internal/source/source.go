// Package source is the contract of a log: whole lines, in order, each once, with a position from which reading
// resumes after a stop or a crash. Its subpackages are the kinds of log.
package source

import (
	"context"
	"time"
)

// MaxLine is the most of one line that a source hands over, in bytes. The rest of a longer line is skipped and
// counted in Status.Cut; its head is delivered.
const MaxLine = 64 << 10

// A Position is where reading goes on: what a source needs to find its place again after a restart, rotation
// included. It is a plain value that can be stored as JSON.
type Position struct {
	Path   string `json:"path,omitempty"`   // the name under which the file was found
	Dev    uint64 `json:"dev,omitempty"`    // device and
	Ino    uint64 `json:"ino,omitempty"`    // inode of the file
	Offset int64  `json:"offset,omitempty"` // bytes read: the next line begins here
	Head   []byte `json:"head,omitempty"`   // fingerprint of the file's first bytes, at most 64 of them: tells a re-used inode from the file
	Tail   []byte `json:"tail,omitempty"`   // the bytes before Offset, at most 64: tells a truncated and regrown file
	Mod    int64  `json:"mod,omitempty"`    // when the file had last been written, nanoseconds since the epoch: what is older was read
	Cursor string `json:"cursor,omitempty"` // a journal's own position
}

// A Chunk is one or more whole lines of one log.
type Chunk struct {
	// Names are the configured names of the log: the paths that a policy's logpath matched, usually one.
	Names []string
	// Lines holds whole lines, each ended by '\n' (never "\r\n", never a partial one). It is the source's memory and
	// valid only until the handler returns.
	Lines []byte
	// Live says that the lines were read as they were written, by a follower at the log's end; otherwise they come
	// from a backlog and only their own time stamps tell their time.
	Live bool
	// More says of live lines that others follow which were written no later than these were read: the first part of a
	// burst, which is never longer than some megabytes. Should the rest not come after all, nobody says so.
	More    bool
	Arrived time.Time
	// Next is where reading resumes once these lines are done.
	Next Position
	// Done lists positions that are over for good: files read to their end that no longer have a name of ours. It
	// is to be applied before Next, see [Advance].
	Done []Position
}

// A Handler takes a chunk. It may block: the log waits. An error ends the source's Run with that error. A source
// with several logs calls it from several goroutines, but for one log in order and never twice at once.
type Handler func(context.Context, Chunk) error

// A Source delivers logs until ctx ends.
type Source interface {
	// Run delivers to h and returns nil when ctx ends, or the error that makes going on impossible. A log that is
	// missing or unreadable is waited for, never an error.
	Run(ctx context.Context, h Handler) error
	// Status tells of each log the source knows or waits for, in a stable order. Safe to call at any time.
	Status() []Status
}

// A State is what a source is doing about one log.
type State string

const (
	Waiting    State = "waiting"    // does not exist yet
	Reading    State = "reading"    // working through a backlog
	Following  State = "following"  // at the end, lines come as they are written
	Unreadable State = "unreadable" // exists, but can't be opened: Error says why
)

// A Status is the state of one log, for people.
type Status struct {
	Name     string    `json:"name"`
	State    State     `json:"state"`
	Error    string    `json:"error,omitempty"`
	Lines    uint64    `json:"lines"`              // delivered since the start
	Bytes    uint64    `json:"bytes"`              // read since the start
	Cut      uint64    `json:"cut,omitempty"`      // lines longer than MaxLine
	Rotated  uint64    `json:"rotated,omitempty"`  // rotations seen
	Deaf     uint64    `json:"deaf,omitempty"`     // times the reader had to be started anew because it heard nothing
	DeafAt   time.Time `json:"deaf_at,omitzero"`   // when that was last found out
	Backlog  int64     `json:"backlog,omitempty"`  // bytes still to read before it is live
	LastLine time.Time `json:"last_line,omitzero"` // when the last line was read
}
