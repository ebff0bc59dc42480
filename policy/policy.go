// Package policy holds the nouns of banset: the Policy that says how many failures earn how long a ban, the Hit
// that one log line is, and the Ban that a host earned.
//
// Everything below policy is pure: no clock of its own, no files, no goroutines, no logging.
package policy

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Forever is the find time or ban time that never ends.
const Forever = time.Duration(math.MaxInt64)

// Never is the end of a ban that has none, so that the later of two ends is always the larger number.
const Never int64 = math.MaxInt64

// A Policy says how many failures within what time earn which ban: fail2ban's jail.
type Policy struct {
	Name     string        // unique; letters, digits, '-', '_' and '.'
	MaxRetry int           // failures that earn a ban; at least 1
	FindTime time.Duration // whole seconds, or Forever
	// BanTime is the ladder for repeat offenders: the first offence takes the first rung, the last rung repeats.
	// At least one; whole seconds, or Forever.
	BanTime []time.Duration
}

// LongestBan is the longest rung of the ladder.
func (p *Policy) LongestBan() time.Duration {
	var longest time.Duration
	for _, d := range p.BanTime {
		longest = max(longest, d)
	}
	return longest
}

// A Field is a named group of a failregex and the text it matched: for people only. The text is an attacker's and
// must be escaped wherever it is shown.
type Field struct{ Name, Value string }

// A Hit is one log line that names a host as having failed.
type Hit struct {
	Policy string
	// Host is the address that the line names, whole (a /32 or /128), or a prefix where the pattern said <SUBNET>.
	// Never v4-mapped, never with a zone.
	Host    netip.Prefix
	Stamp   time.Time // the line's own time; zero where it has none
	Arrived time.Time // when the line was read
	Live    bool      // it was read as it was written, not from a backlog
	Fields  []Field
}

// A Ban is one entry of the book: a host or prefix, kept out from At until Until.
type Ban struct {
	Host  netip.Prefix // masked
	At    int64        // seconds since the epoch: the failure that earned it, or when a person asked
	Until int64        // seconds since the epoch, or Never
	// Policy is the one that banned, and Failures how many failures it counted; both empty for a ban by hand.
	Policy   string
	Failures int
	Note     string // a person's reason, for a ban by hand; printable, one line
}

// Ended reports whether the ban is over at now. The second that Until names is the first one free.
func (b Ban) Ended(now time.Time) bool { return b.Until != Never && now.Unix() >= b.Until }

// Left is the time that remains at now: Forever for a ban without an end, 0 for one that has ended.
func (b Ban) Left(now time.Time) time.Duration {
	if b.Until == Never {
		return Forever
	}
	return max(0, time.Unix(b.Until, 0).Sub(now))
}

// Length is the whole ban time from At, or Forever.
func (b Ban) Length() time.Duration {
	if b.Until == Never {
		return Forever
	}
	return time.Duration(b.Until-b.At) * time.Second
}

// byHand opens the reason of a ban that a person asked for. It has a space, which no policy name has.
const byHand = "by hand"

// Reason says why in one line: "exim2-repeater: 10 failures", "by hand", "by hand: TEXT". It is what the blocklist and
// the kernel's comment carry; ParseReason reads it back.
func (b Ban) Reason() string {
	switch {
	case b.Policy != "" && b.Failures == 1:
		return b.Policy + ": 1 failure"
	case b.Policy != "":
		return b.Policy + ": " + strconv.Itoa(b.Failures) + " failures"
	case b.Note != "":
		return byHand + ": " + b.Note
	}
	return byHand
}

// ParseReason is the inverse of [Ban.Reason]. A text that Reason never wrote becomes a note by hand.
func ParseReason(s string) (policy string, failures int, note string) {
	s = strings.TrimSpace(s)
	if name, rest, ok := strings.Cut(s, ": "); ok && ValidName(name) {
		n, unit, _ := strings.Cut(rest, " ")
		if unit == "failures" || unit == "failure" {
			if _, err := fmt.Sscanf(n, "%d", &failures); err == nil && failures > 0 && fmt.Sprint(failures) == n {
				return name, failures, ""
			}
			failures = 0
		}
	}
	if s == byHand {
		return "", 0, ""
	}
	return "", 0, strings.TrimPrefix(s, byHand+": ")
}

// MaxName is the longest name of a policy or filter, in bytes.
const MaxName = 64

// ValidName reports whether s may name a policy or filter: letters, digits, '-', '_' and '.', beginning with a letter
// or digit, so that it can stand in a log line, a comment and a command's arguments as it is.
func ValidName(s string) bool {
	if s == "" || len(s) > MaxName {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '-' || c == '_' || c == '.'):
		default:
			return false
		}
	}
	return true
}

// MaxNote is the longest note that [CleanNote] lets through, in bytes: a kernel comment holds 128 with the rest.
const MaxNote = 80

// CleanNote makes text fit to stand in the blocklist, in a kernel comment and on a terminal: printable ASCII but for
// quotes and '#', one line, cut at MaxNote bytes. Everything else becomes '?'.
func CleanNote(s string) string {
	s = strings.TrimSpace(s)
	var b strings.Builder
	for _, r := range s {
		if b.Len() == MaxNote {
			break
		}
		if r < ' ' || r > '~' || r == '"' || r == '#' || r == '\\' {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// HostPrefix is what a single address is counted and banned as: itself for IPv4, its prefix of ipv6Bits (1 to 128)
// for IPv6. A v4-mapped address counts as the IPv4 one, a zone is dropped.
func HostPrefix(a netip.Addr, ipv6Bits int) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = ipv6Bits
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
