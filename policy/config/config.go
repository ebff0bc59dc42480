// Package config turns YAML into a checked Config, or into a list of problems that each say file, line and column.
// It is pure: the caller reads the files. (Zones are looked up by name in the system's zone database; that is all.)
package config

import (
	"net/netip"
	"time"

	"banset/policy"
	"banset/policy/match"
)

// Defaults of what a configuration leaves out.
const (
	DefaultBlocklist  = "/var/lib/banset/blocklist"
	DefaultState      = "/var/lib/banset/state.db"
	DefaultSocket     = "/run/banset/banset.sock"
	DefaultIPv6Prefix = 64
	DefaultMaxBans    = 131072
	DefaultMaxHosts   = 1000000
	DefaultTable      = "banset"
	DefaultHook       = "prerouting"
	DefaultPriority   = -190
	DefaultDirection  = "original"
	DefaultVerdict    = "drop"
	DefaultProtect    = "none"
	DefaultMaxRetry   = 5
	DefaultFindTime   = 10 * time.Minute
	DefaultBanTime    = time.Hour
)

// A Config is a whole, checked configuration. Nobody changes it once it is loaded.
type Config struct {
	Blocklist  string // paths, absolute
	State      string
	Socket     string
	IgnoreIP   []netip.Prefix // masked
	IgnoreSelf bool           // ignoreip has the word self: every address of this host
	IPv6Prefix int            // 1 to 128: IPv6 hosts are counted and banned per this prefix
	MaxBans    int            // the most elements of a set, and bans in the book
	MaxHosts   int            // the most hosts whose failures are counted, all policies together
	NFTables   NFTables
	Metrics    Metrics
	Hooks      []*Hook   // in order of name, disabled ones too
	Policies   []*Policy // in order of name, disabled ones too
	Filters    map[string]*Filter
}

// NFTables is what the kernel's side looks like.
type NFTables struct {
	Table     string
	Hook      string // prerouting | input
	Priority  int
	Direction string // original | any
	Verdict   string // drop | reject
	Counters  bool
	Protect   string // none | owner
}

// A Pos is where something stands in a configuration file. The zero Pos is nowhere.
type Pos struct {
	File   string
	Line   int // from 1
	Column int // from 1, in characters
}

// A Policy is a jail: whose logs, which filter, how strict.
type Policy struct {
	policy.Policy
	Enabled      bool
	FilterName   string // "" for patterns written in the policy itself
	Filter       *match.Filter
	LogPath      []string           // absolute; globs allowed
	JournalMatch []string           // journalctl's own terms, FIELD=VALUE and "+"; a policy has these, LogPath or both
	IgnoreIP     []netip.Prefix     // masked: hosts that this policy, beside Config.IgnoreIP, lets alone
	IgnoreSelf   bool               // the policy's ignoreip has the word self
	Date         *match.DatePattern // the policy's own or its filter's; nil: found automatically
	Zone         *time.Location     // the policy's own or its filter's; nil: local
	Pos          Pos                // its name, where it is defined first
}

// A Filter is a named list of patterns with its samples.
type Filter struct {
	Name        string
	Description string // for people; printable, one line
	Fail        []string
	Ignore      []string
	Filter      *match.Filter
	Date        *match.DatePattern
	Zone        *time.Location
	Samples     []Sample
	Pos         Pos // its name

	failPos []Pos // of each of Fail
}

// A Sample is a line and the verdict that the filter must give.
type Sample struct {
	Line string
	Host netip.Prefix // invalid: the line must not match
	Time time.Time    // zero: not checked
	Pos  Pos          // the line

	noZone bool // Time was written without a zone: the filter's is meant
}

// LongestBan is the longest rung of all enabled policies; 0 when there are none.
func (c *Config) LongestBan() time.Duration {
	var longest time.Duration
	for _, p := range c.Policies {
		if p.Enabled {
			longest = max(longest, p.Policy.LongestBan())
		}
	}
	return longest
}
