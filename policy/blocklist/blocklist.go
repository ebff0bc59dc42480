// Package blocklist is the text of the blocklist: bytes in, bytes out. It reads every line that a person, banset or
// fail2ban may have written, changes single lines and leaves all other bytes as they are.
//
// A line is
//
//	ADDR # banset/2026-11-23 18:12:45Z until 2027-11-23 18:12:45Z: REASON # a person's remark
//
// ADDR is an IPv4 or IPv6 address or a prefix. Host bits of a prefix are cut, a v4-mapped address is the IPv4 one, and
// a single IPv6 address means exactly itself, a /128: the prefix that a host is counted as is for the caller to
// apply. The prefix of all addresses is refused. REASON is what policy.Ban.Reason says. It never holds a '#', so
// what follows one is a person's and stays when the line is rewritten.
//
// Times are in UTC with the Z, local without it; the end may also be a date alone or "forever". ADDR alone, or with
// any other note, is a person's ban without end; "ADDR # until TIME: why" is a person's ban with one. A line of
// fail2ban's, "ADDR # fail2ban/DATE TIME: TEXT", ends a given time after its stamp.
//
// When the note begins like one of ours or fail2ban's but its times can't be read, the ban holds without end and the
// line is reported: to protect is the safe side. A line whose address can't be read stays and is reported. A host on
// several lines is banned until the latest end; the lines stay until it is removed, and then all go.
package blocklist

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"iter"
	"net/netip"
	"time"

	"banset/policy"
)

// Header is the comment that a new blocklist begins with.
const Header = `# Hosts that banset keeps out, one a line:
#   ADDRESS[/BITS] # banset/BANNED until END: WHY
# You may edit this file at any time. Add a line with an address to ban it for ever, delete a line to lift its ban,
# change END (a time, a date, or forever) to move it. Comments, blank lines and the order of lines stay.
`

// Options say how to read what a line alone does not tell.
type Options struct {
	Location *time.Location // of times without a zone; nil: UTC
	// LegacyBan is how long after their stamp fail2ban's lines end, in whole seconds, or policy.Forever.
	LegacyBan time.Duration
}

// A Kind says who wrote a line.
type Kind uint8

const (
	Hand     Kind = iota + 1 // a person
	Ours                     // banset, a ban by hand through the command included
	Fail2ban                 // fail2ban
)

// An Entry is one host of the file.
type Entry struct {
	// Ban.At is 0 where the line does not say it. For Hand, Note is the line's note; for Fail2ban, "fail2ban: " and
	// its text; both cleaned. Whether the ban has ended is for the caller to ask: an ended one is not to be restored.
	Ban  policy.Ban
	Line int // the line's number in the file as it is now, from 1
	Kind Kind
}

// A File is a parsed blocklist. It belongs to one goroutine.
type File struct {
	opts  Options
	text  []byte // as parsed, or as last assembled
	more  []byte // lines that Edit wrote since
	items []item
	hosts table
	// several has the lines of each host that is on more than one, in order.
	several map[key][]uint32
	live    int // hosts
	gone    int // items that were removed
	bad     int // items with a problem
	waste   int // bytes of text and more that no item has
	edited  bool
	stale   bool // the line numbers are out of date
	names   names
}

// An item is a line with an address, a line that can't be read, or a run of comments and blank lines: 56 bytes a
// line, beside the text. The details of a line are read again when they are asked for.
type item struct {
	key
	kind  Kind // 0: a run of other lines, or one that can't be read
	flags uint8
	line  uint32
	off   int   // in text, or in more
	size  int   // bytes, the line's end included; 0 once it is removed
	until int64 // as in policy.Ban
}

const (
	inMore  = 1 << iota // the bytes are in File.more
	shared              // the host has other lines
	problem             // the line has something to report
)

// Parse reads a blocklist. It keeps text, which must not change any more.
func Parse(text []byte, opts Options) *File {
	if opts.Location == nil {
		opts.Location = time.UTC
	}
	f := &File{opts: opts, text: text, names: make(names)}
	lines := hostLines(text)
	f.items = make([]item, 0, lines)
	f.hosts.init(lines)
	run := -1 // where the current run of other lines begins
	number, runNumber := uint32(0), uint32(0)
	for off := 0; off < len(text); {
		end := len(text)
		if i := bytes.IndexByte(text[off:], '\n'); i >= 0 {
			end = off + i + 1
		}
		number++
		var l line
		l.read(text[off:end], &f.opts)
		if l.kind == 0 && l.problem == none {
			if run < 0 {
				run, runNumber = off, number
			}
			off = end
			continue
		}
		if run >= 0 {
			f.items = append(f.items, item{off: run, size: off - run, line: runNumber})
			run = -1
		}
		it := item{off: off, size: end - off, line: number, key: l.key, kind: l.kind, until: l.until}
		if l.problem != none {
			it.flags |= problem
			f.bad++
		}
		f.items = append(f.items, it)
		if l.kind != 0 {
			f.enter(uint32(len(f.items) - 1))
		}
		off = end
	}
	if run >= 0 {
		f.items = append(f.items, item{off: run, size: len(text) - run, line: runNumber})
	}
	return f
}

// hostLines is about how many lines have an address, so that room is made once.
func hostLines(text []byte) int {
	n := 0
	for len(text) > 0 {
		if text[0] > ' ' && text[0] != '#' {
			n++
		}
		i := bytes.IndexByte(text, '\n')
		if i < 0 {
			break
		}
		text = text[i+1:]
	}
	return n
}

// enter makes a line known by its host.
func (f *File) enter(i uint32) {
	it := &f.items[i]
	place, tag := f.hosts.find(f.items, &it.key)
	j := f.hosts.at(place)
	if j == none32 || f.items[j].size == 0 {
		f.hosts.set(f.items, place, tag, i)
		f.live++
		return
	}
	if f.several == nil {
		f.several = make(map[key][]uint32)
	}
	if f.items[j].flags&shared == 0 {
		f.items[j].flags |= shared
		f.several[it.key] = []uint32{j}
	}
	it.flags |= shared
	f.several[it.key] = append(f.several[it.key], i)
	if it.until > f.items[j].until {
		f.hosts.set(f.items, place, tag, i)
	}
}

// lookup returns the line that counts for a host, or none32.
func (f *File) lookup(k *key) uint32 {
	place, _ := f.hosts.find(f.items, k)
	i := f.hosts.at(place)
	if i != none32 && f.items[i].size == 0 {
		return none32
	}
	return i
}

// counts reports whether an item is the line that counts for its host.
func (f *File) counts(i uint32) bool {
	it := &f.items[i]
	return it.kind != 0 && it.size > 0 && (it.flags&shared == 0 || f.lookup(&it.key) == i)
}

// Len is the number of hosts.
func (f *File) Len() int { return f.live }

// Entries are the hosts in the order of the lines that count for them.
func (f *File) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		f.number()
		for i := range f.items {
			if f.counts(uint32(i)) && !yield(f.entry(uint32(i))) {
				return
			}
		}
	}
}

// Lookup returns the entry of exactly this host or prefix.
func (f *File) Lookup(host netip.Prefix) (Entry, bool) {
	k, ok := newKey(host)
	if !ok {
		return Entry{}, false
	}
	i := f.lookup(&k)
	if i == none32 {
		return Entry{}, false
	}
	f.number()
	return f.entry(i), true
}

// entry reads an item's line again, for what the item does not hold.
func (f *File) entry(i uint32) Entry {
	it := &f.items[i]
	var l line
	l.read(f.bytes(it), &f.opts)
	e := f.names.entry(&l, it.kind, it.until)
	e.Line = int(it.line)
	return e
}

// names holds the names of policies once for all their lines.
type names map[string]string

// entry is what a line says that was read, all but its number.
func (n names) entry(l *line, kind Kind, until int64) Entry {
	e := Entry{Ban: policy.Ban{Host: l.key.host(), At: l.at, Until: until}, Kind: kind}
	switch kind {
	case Hand:
		e.Ban.Note = policy.CleanNote(string(l.note))
	case Fail2ban:
		e.Ban.Note = "fail2ban"
		if len(l.note) > 0 {
			e.Ban.Note = policy.CleanNote("fail2ban: " + string(l.note))
		}
	default:
		if name, many := failures(l.note); many > 0 {
			e.Ban.Policy, e.Ban.Failures = n.intern(name), many
		} else {
			e.Ban.Policy, e.Ban.Failures, e.Ban.Note = policy.ParseReason(string(l.note))
			e.Ban.Note = policy.CleanNote(e.Ban.Note)
		}
	}
	return e
}

// maxNames bounds the policies whose names are held.
const maxNames = 1024

func (n names) intern(name []byte) string {
	if s, ok := n[string(name)]; ok {
		return s
	}
	s := string(name)
	if len(n) < maxNames {
		n[s] = s
	}
	return s
}

// bytes are an item's lines.
func (f *File) bytes(it *item) []byte {
	from := f.text
	if it.flags&inMore != 0 {
		from = f.more
	}
	return from[it.off : it.off+it.size]
}

// number brings the line numbers up to date.
func (f *File) number() {
	if !f.stale {
		return
	}
	f.stale = false
	n := uint32(1)
	for i := range f.items {
		it := &f.items[i]
		it.line = n
		if it.size > 0 {
			n += uint32(bytes.Count(f.bytes(it), []byte{'\n'}))
		}
	}
}

// Bytes is the file's text: the very bytes that were parsed if nothing was edited. It must not be changed, and is
// not changed by a later Edit.
func (f *File) Bytes() []byte {
	if f.edited {
		f.assemble()
	}
	return f.text
}

// A key is a host, as the index compares it: an IPv4 one is v4-mapped, its bits counted from there.
type key struct {
	hi, lo uint64
	bits   uint8
}

// hash is seeded, so that nobody can choose addresses that collide.
func (k *key) hash(seed maphash.Seed) uint64 {
	var buf [17]byte
	binary.LittleEndian.PutUint64(buf[0:], k.hi)
	binary.LittleEndian.PutUint64(buf[8:], k.lo)
	buf[16] = k.bits
	return maphash.Bytes(seed, buf[:])
}
