// Package config turns YAML into a checked Config, or into a list of problems that each say file, line and column.
// It is pure: the caller reads the files.
package config

import (
	"net/netip"
	"time"

	"banset/policy"
	"banset/policy/match"
)

// A Config is a whole, checked configuration.
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
}

// A Policy is a jail: whose logs, which filter, how strict.
type Policy struct {
	policy.Policy
	Enabled    bool
	FilterName string // "" for patterns written in the policy itself
	Filter     *match.Filter
	LogPath    []string           // absolute; globs allowed
	Date       *match.DatePattern // nil: found automatically
	Zone       *time.Location     // nil: local
}

// A Filter is a named list of patterns with its samples.
type Filter struct {
	Name    string
	Fail    []string
	Ignore  []string
	Filter  *match.Filter
	Date    *match.DatePattern
	Zone    *time.Location
	Samples []Sample
}

// A Sample is a line and the verdict that the filter must give.
type Sample struct {
	Line string
	Host netip.Prefix // invalid: the line must not match
	Time time.Time    // zero: not checked
}
