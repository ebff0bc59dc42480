// Package control is how the commands talk to the daemon: one JSON request and one JSON answer over a unix socket.
// The same types are what --json prints.
package control

import (
	"net/netip"
	"time"

	"banset/cmd/internal/source"
)

// Op names what a request asks for.
type Op string

const (
	OpStatus Op = "status"
	OpList   Op = "list"
	OpWhy    Op = "why"
	OpBan    Op = "ban"
	OpUnban  Op = "unban"
	OpReload Op = "reload"
	OpFlush  Op = "flush"
)

// A Request is one call.
type Request struct {
	Op     Op             `json:"op"`
	Hosts  []netip.Prefix `json:"hosts,omitempty"`  // of ban, unban and why
	All    bool           `json:"all,omitempty"`    // unban: everybody
	For    time.Duration  `json:"for,omitempty"`    // ban: nanoseconds, or policy.Forever; 0 is for ever too
	Reason string         `json:"reason,omitempty"` // ban: a person's text; cleaned by the daemon
}

// A Ban is one ban as people see it.
type Ban struct {
	Host     netip.Prefix `json:"host"`
	At       time.Time    `json:"at"`
	Until    time.Time    `json:"until,omitzero"` // zero: forever
	Policy   string       `json:"policy,omitempty"`
	Failures int          `json:"failures,omitempty"`
	Reason   string       `json:"reason"`
}

// A Change is what became of one host of a ban or unban request.
type Change struct {
	Host   netip.Prefix `json:"host"`
	Done   bool         `json:"done"`             // something changed
	Text   string       `json:"text"`             // what happened, or why nothing did
	Ban    *Ban         `json:"ban,omitempty"`    // the ban as it stands now, or stood
	Failed bool         `json:"failed,omitempty"` // refused: an allowlisted address
}

// A Why is all that is known of one host.
type Why struct {
	Host    netip.Prefix `json:"host"`              // what was asked
	Counted netip.Prefix `json:"counted"`           // as what it is counted and banned
	Allowed string       `json:"allowed,omitempty"` // the allowlist entry that covers it
	Bans    []Ban        `json:"bans,omitempty"`    // those that cover it, widest first
	Kernel  string       `json:"kernel"`            // what the kernel holds: "ban4 expires 59m", "absent", or why it can't be said
	Counts  []Count      `json:"counts,omitempty"`
	Ladder  []Rung       `json:"ladder,omitempty"`
}

// A Count is the failures of a host that one policy remembers.
type Count struct {
	Policy   string    `json:"policy"`
	Failures int       `json:"failures"`
	MaxRetry int       `json:"maxretry"`
	Last     time.Time `json:"last"`
	Fields   []Field   `json:"fields,omitempty"` // of the last failure; text from the log, escaped by whoever prints it
}

// A Field is a named group of a failregex and what it matched.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// A Rung is where a host stands on a policy's ladder.
type Rung struct {
	Policy   string    `json:"policy"`
	Offences int       `json:"offences"`
	LastEnd  time.Time `json:"last_end,omitzero"` // zero: never
}

// A Status is the daemon on one screen.
type Status struct {
	Version    string          `json:"version"`
	PID        int             `json:"pid"`
	Started    time.Time       `json:"started"`
	Config     string          `json:"config"`             // the file, or "(embedded default)"
	ConfigFrom time.Time       `json:"config_from"`        // when it was read
	Problems   []string        `json:"problems,omitempty"` // what is wrong now, first things first
	Bans       int             `json:"bans"`               // in the book
	Kernel     map[string]int  `json:"kernel,omitempty"`   // elements by set
	Dropped    uint64          `json:"dropped"`            // packets, since the rules were made
	Hosts      int             `json:"hosts"`              // whose failures are counted
	Healings   int             `json:"healings"`           // times the kernel's side had to be put back
	Policies   []PolicyStatus  `json:"policies"`
	Logs       []LogStatus     `json:"logs"`
	Blocklist  BlocklistStatus `json:"blocklist"`
	Hooks      []HookStatus    `json:"hooks,omitempty"`
}

// A PolicyStatus is one policy's part of a Status.
type PolicyStatus struct {
	Name    string    `json:"name"`
	Enabled bool      `json:"enabled"`
	Waiting bool      `json:"waiting"` // none of its logs exists
	Found   uint64    `json:"found"`   // failures since the start
	Banned  uint64    `json:"banned"`  // bans since the start
	Bans    int       `json:"bans"`    // of this policy in the book
	Last    time.Time `json:"last,omitzero"`
}

// A LogStatus is one log's part of a Status.
type LogStatus struct {
	source.Status
	Policies []string      `json:"policies"`
	Stamps   string        `json:"stamps,omitempty"` // what its time stamps look like
	Skew     time.Duration `json:"skew,omitempty"`   // how far they are off, nanoseconds
}

// A BlocklistStatus is the file's part of a Status.
type BlocklistStatus struct {
	Path     string   `json:"path"`
	Lines    int      `json:"lines"` // that are bans
	Problems []string `json:"problems,omitempty"`
}

// A HookStatus is what became of the events for one hook since it began.
type HookStatus struct {
	Name     string `json:"name"`
	OK       uint64 `json:"ok"`
	Failed   uint64 `json:"failed"`
	TimedOut uint64 `json:"timed_out"`
	Dropped  uint64 `json:"dropped"`
	Waiting  int    `json:"waiting"` // now
}

// An Answer is what the daemon says. Error is empty when it did what was asked.
type Answer struct {
	Error  string  `json:"error,omitempty"`
	Denied bool    `json:"denied,omitempty"` // the error is a lack of rights
	Status *Status `json:"status,omitempty"`
	Bans   []Ban   `json:"bans,omitempty"`
	// Each takes the place of Bans in an answer that is given, so that a million need not be in memory. Its error says that
	// these were not all: whoever asked then gets no answer.
	Each    func(yield func(Ban) error) error `json:"-"`
	Whys    []Why                             `json:"whys,omitempty"`
	Changes []Change                          `json:"changes,omitempty"`
	// Problems is what is wrong with a configuration that could not be reloaded, ready to print.
	Problems string `json:"problems,omitempty"`
	Text     string `json:"text,omitempty"` // one line on what was done
}
