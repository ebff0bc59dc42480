// Package nft keeps banset's table in the kernel: four sets of banned hosts and networks, whose elements the kernel
// itself lets go when their time is over, and one chain whose rules drop what comes from them.
//
// The nf_tables protocol is spoken directly: rules are built from github.com/google/nftables/expr, everything goes
// over github.com/mdlayher/netlink sockets. No program is run. The package needs CAP_NET_ADMIN for everything but
// Open, in the network namespace of the thread that opens its sockets.
package nft

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Set is one of our four sets in the kernel.
type Set uint8

const (
	Ban4 Set = iota // IPv4 hosts
	Ban6            // IPv6 hosts, each the network address of its Config.IPv6Prefix
	Net4            // IPv4 ranges
	Net6            // IPv6 ranges

	sets = 4
)

// Sets are all of them, in the order in which they are looked up.
var Sets = [sets]Set{Ban4, Ban6, Net4, Net6}

var setNames = [sets]string{"ban4", "ban6", "net4", "net6"}

// String is the name of the set in the kernel: ban4, ban6, net4 or net6.
func (s Set) String() string {
	if s >= sets {
		return fmt.Sprintf("Set(%d)", uint8(s))
	}
	return setNames[s]
}

// Ranges reports whether the elements of the set are ranges, not hosts.
func (s Set) Ranges() bool { return s == Net4 || s == Net6 }

// Is4 reports whether the elements of the set are IPv4 addresses.
func (s Set) Is4() bool { return s == Ban4 || s == Net4 }

func (s Set) keyLen() int {
	if s.Is4() {
		return 4
	}
	return 16
}

// top is the last address of the set's family.
func (s Set) top() netip.Addr {
	if s.Is4() {
		return netip.AddrFrom4([4]byte{255, 255, 255, 255})
	}
	var a [16]byte
	for i := range a {
		a[i] = 0xff
	}
	return netip.AddrFrom16(a)
}

// setNamed finds one of our sets by its name in the kernel.
func setNamed(p []byte) (Set, bool) {
	for _, s := range Sets {
		if n := len(setNames[s]); len(p) == n+1 && p[n] == 0 && string(p[:n]) == setNames[s] {
			return s, true
		}
	}
	return 0, false
}

// Config is what our table looks like.
type Config struct {
	Table      string // of family inet; letters, digits, '_', '-', '.', beginning with a letter
	Hook       string // prerouting or input; the chain is named after it
	Priority   int    // of the chain; above -200 (conntrack) for Direction original
	Direction  string // original: replies to our own connections pass; any: nothing from a banned host passes
	Verdict    string // drop or reject
	Counters   bool   // packets and bytes are counted for each element
	IPv6Prefix int    // 1 to 128: an element of Ban6 stands for its prefix of this many bits
	// Size is the most elements of each set; memory is allotted at once for as many, up to 65,535. In the kernel's own
	// sets of hosts a larger one is rounded up.
	Size uint32
	// Owner makes the table this Keeper's own (table flags owner and persist, Linux 6.9): nobody else can change it,
	// and `nft flush ruleset` leaves it alone. When the Keeper is closed or its program ends, the table stays, for
	// anybody to change, until another Keeper takes it. Where the kernel does not know it, the table is an ordinary
	// one; see [Keeper.Owns].
	Owner bool
}

// conntrackPriority is where conntrack sits in its hooks; from linux/netfilter_ipv4.h.
const conntrackPriority = -200

func (c *Config) check() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf("nft: "+format, a...)) }
	if !validTable(c.Table) {
		bad("table name %q: letters, digits, '_', '-' and '.', beginning with a letter, at most 64", c.Table)
	}
	if c.Hook != "prerouting" && c.Hook != "input" {
		bad("hook %q: prerouting or input", c.Hook)
	}
	if int(int32(c.Priority)) != c.Priority {
		bad("priority %d: does not fit 32 bits", c.Priority)
	}
	switch {
	case c.Direction != "original" && c.Direction != "any":
		bad("direction %q: original or any", c.Direction)
	case c.Direction == "original" && c.Hook == "prerouting" && c.Priority <= conntrackPriority:
		bad("priority %d with direction original: must be above %d, where conntrack learns the direction",
			c.Priority, conntrackPriority)
	}
	if c.Verdict != "drop" && c.Verdict != "reject" {
		bad("verdict %q: drop or reject", c.Verdict)
	}
	if c.IPv6Prefix < 1 || c.IPv6Prefix > 128 {
		bad("IPv6 prefix %d: 1 to 128", c.IPv6Prefix)
	}
	if c.Size == 0 || c.Size > 1<<30 {
		bad("size %d: 1 to %d", c.Size, 1<<30)
	}
	return errors.Join(errs...)
}

func validTable(s string) bool {
	for i := range len(s) {
		switch c := s[i] | 0x20; {
		case 'a' <= c && c <= 'z':
		case i > 0 && ('0' <= s[i] && s[i] <= '9' || s[i] == '_' || s[i] == '-' || s[i] == '.'):
		default:
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// An Element is a host or a range in one of our sets.
type Element struct {
	Set Set
	// First and Last are the ends of the range, both inclusive. For a host they are equal; in Ban6 both are the
	// network address of the prefix.
	First, Last netip.Addr
	// Timeout is the whole length of the ban; 0: it is permanent.
	Timeout time.Duration
	// Expires is what is left of Timeout: when it is written, 0 means all of it, less than 0 that the ban is over and
	// the element is left out. The kernel keeps both in ticks, of 4 ms mostly.
	Expires time.Duration
	// Comment is printable ASCII without quotes. What is longer than MaxComment is cut, and every other character is
	// written as '?': no ban fails for its comment.
	Comment string
	// Packets and Bytes are what Config.Counters counted. They are only read.
	Packets, Bytes uint64
}

func (e Element) String() string {
	if e.First == e.Last {
		return fmt.Sprintf("%v %v", e.Set, e.First)
	}
	return fmt.Sprintf("%v %v-%v", e.Set, e.First, e.Last)
}

// MaxComment is the longest comment of an element, in bytes; nft reads no longer one.
const MaxComment = 128

// A Change is one element put into its set, whatever was there with its address or range, or taken out of it.
type Change struct {
	Element
	Delete bool // only Set, First and Last count
}

// A Keeper is banset's table in the kernel. It is safe for concurrent use: changes wait for each other, and so do
// single lookups; dumps and watches have sockets of their own.
//
// Its methods work the kernel's answer off at once; ctx is looked at between transactions and between the parts of a
// dump.
type Keeper struct {
	config Config
	rules  []rule // what the chain ought to hold
	ports  ports

	watchQueue int // bytes

	mu      sync.Mutex // of everything that changes something
	command *socket
	batch   batch
	other   batch       // of Replace, being sent while batch is written
	piles   [sets]batch // of Replace
	apply   applier
	owning  owning

	watchMu  sync.Mutex
	watching map[*netlink.Conn]struct{} // the sockets of Watch

	queryMu sync.Mutex
	query   *socket
	request wire
}

// Open makes a Keeper and opens its sockets. It changes nothing and needs no rights. Close it after use.
func Open(c Config) (*Keeper, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	k := &Keeper{config: c, watchQueue: watchQueue, watching: make(map[*netlink.Conn]struct{})}
	var err error
	if k.rules, err = rules(&c); err != nil {
		return nil, fmt.Errorf("nft: %w", err)
	}
	if k.command, err = openSocket(&k.ports); err != nil {
		return nil, fmt.Errorf("nft: %w", err)
	}
	if k.query, err = openSocket(nil); err != nil {
		return nil, errors.Join(fmt.Errorf("nft: %w", err), k.command.close())
	}
	return k, nil
}

// Config is the one that the Keeper was opened with.
func (k *Keeper) Config() Config { return k.config }

// Close closes the sockets. Table, rules and elements stay as they are. No method may run during Close or be called
// after it.
func (k *Keeper) Close() error {
	return errors.Join(k.command.close(), k.query.close())
}

// fail says what was being done, and makes plain text of what the kernel's error numbers mean for us.
func (k *Keeper) fail(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	case isErrno(err, unix.EPERM):
		err = &permissionError{err: err, table: k.config.Table, owned: k.owned()}
	}
	return fmt.Errorf("nft: %s: %w", doing, err)
}

// clean makes text that somebody else wrote fit for a log line and a comment: printable ASCII without quotes.
func clean(s string) string {
	if strings.IndexFunc(s, unfit) < 0 {
		return s
	}
	b := []byte(s)
	for i, c := range b {
		if unfit(rune(c)) {
			b[i] = '?'
		}
	}
	return string(b)
}

func unfit(r rune) bool { return r < ' ' || r > '~' || r == '"' }
