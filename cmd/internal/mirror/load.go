package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"banset/nft"
	"banset/policy"
	"banset/policy/blocklist"
	"banset/policy/judge"
	"banset/policy/ledger"
)

// ErrNotPlain is a blocklist whose bans can't be told line by line: one has to read all of it into a book.
var ErrNotPlain = errors.New("the blocklist takes more than one look")

// pieceSize is how much of the file is read at once.
const pieceSize = 256 << 10

// A Loaded is what LoadKernel put into the kernel: of each host its address alone, so that a million take 4 MB.
type Loaded struct {
	Bans int

	empty bool // the file has not a byte
	hosts hostList
}

// Has reports whether a ban of exactly this host is in the kernel.
func (l *Loaded) Has(host netip.Prefix) bool { return l.hosts.has(host) }

// Accident reports whether the file lost so many of the bans that it was known to hold that it is nobody's will.
func (l *Loaded) Accident(held, removed int) bool { return isAccident(held, removed, l.empty) }

// LoadKernel makes the kernel's table with the bans that the file has, each with the time that is left of it: the short
// way of a start when nothing of ours stands in the kernel, without a book and with next to no memory. Of what else
// counts at a start (see [File.Load]) it knows nothing: the caller compares the result with what is remembered.
//
// ErrNotPlain says that the bans may not all be right, though what the kernel has is better than nothing: a host has
// several lines, there are more than maxBans, or the end of the file was torn off by a crash.
func (f *File) LoadKernel(ctx context.Context, keeper *nft.Keeper, allow judge.Allow, maxBans int) (*Loaded, error) {
	file, err := openFile(f.path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > tooLarge {
		return nil, ErrNotPlain // whose reader knows what to say
	}
	p := &plain{
		Loaded: Loaded{empty: info.Size() == 0},
		bits6:  keeper.Config().IPv6Prefix,
		file:   file, path: f.path, opts: f.options(), allow: allow, maxBans: maxBans,
	}
	if err := keeper.Replace(ctx, p.elements); errors.Is(err, nft.ErrFull) {
		p.odd = true
	} else if err != nil {
		return nil, err
	}
	if p.err != nil {
		return nil, fmt.Errorf("reading %s: %w", f.path, p.err)
	}
	if twice := p.hosts.sort(); p.odd || twice {
		return nil, ErrNotPlain
	}
	f.tell(p.lines, append(f.unreadable(p.scanner.Problems()), p.problems...))
	p.Bans = p.hosts.len()
	return &p.Loaded, nil
}

// plain reads a file line by line.
type plain struct {
	Loaded
	file     io.ReadSeeker
	path     string
	opts     blocklist.Options
	allow    judge.Allow
	now      time.Time
	scanner  *blocklist.Scanner
	maxBans  int
	bits6    int
	room     int  // for bans
	lines    int  // that are bans, in force or not
	odd      bool // line by line is not enough
	problems []string
	nets     []policy.Ban // those that are ranges
	err      error
	reasons  reasons
}

// elements is an iterator over what the kernel ought to hold, from the file's start each time. The ranges, which share
// no address, come last.
func (p *plain) elements(yield func(nft.Element) bool) {
	if _, p.err = p.file.Seek(0, io.SeekStart); p.err != nil {
		return
	}
	p.scanner, p.room, p.lines, p.problems, p.odd = blocklist.NewScanner(p.opts), p.maxBans, 0, nil, false
	p.hosts.clear()
	p.nets = nil
	buf := make([]byte, 0, pieceSize)
	stopped := false
	line := func(e *blocklist.Entry) {
		if element, ok := p.take(e); ok && !stopped {
			stopped = !yield(element)
		}
	}
	for end := false; !end && !stopped && !p.odd; {
		n, err := p.file.Read(buf[len(buf):cap(buf)])
		if err != nil && err != io.EOF {
			p.err = err
			return
		}
		buf, end = buf[:len(buf)+n], err == io.EOF
		whole := bytes.LastIndexByte(buf, '\n') + 1
		if end && whole < len(buf) {
			if _, torn := tornFrom(buf, p.opts, true); torn {
				p.odd = true
				return
			}
			whole = len(buf)
		}
		if whole == 0 && len(buf) == cap(buf) {
			p.odd = true // what a line!
			return
		}
		p.now = time.Now() // the time that is left counts from when the kernel gets it
		p.scanner.Scan(buf[:whole], line)
		buf = buf[:copy(buf, buf[whole:])]
	}
	p.now = time.Now()
	for _, r := range ledger.Ranges(p.nets, p.allow) {
		set := nft.Net4
		if r.First.Is6() {
			set = nft.Net6
		}
		if e, left := element(set, r.First, r.Last, r.Ban, p.now); left && !stopped {
			stopped = !yield(e)
		}
	}
}

// take is the element of a line that bans a host; false when there is none, or not yet.
func (p *plain) take(e *blocklist.Entry) (nft.Element, bool) {
	p.lines++
	b := &e.Ban
	if b.Ended(p.now) {
		return nft.Element{}, false
	}
	if x, ok := p.allow.Covers(b.Host); ok {
		if len(p.problems) <= shownProblems {
			p.problems = append(p.problems, notBanned(p.path, *e, x))
		}
		return nft.Element{}, false
	}
	if p.room--; p.room < 0 {
		p.odd = true
		return nft.Element{}, false
	}
	if b.At == 0 {
		b.At = p.now.Unix()
	}
	p.hosts.add(b.Host)
	set, ok := hostSet(b.Host, p.bits6)
	if !ok || set == nft.Ban6 && p.allow.Overlaps(b.Host) {
		p.nets = append(p.nets, *b)
		return nft.Element{}, false
	}
	return elementFor(set, b.Host.Addr(), b.Host.Addr(), *b, p.reasons.of(b), p.now)
}
