package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// check refuses an element that would not mean in the kernel what it says.
func (k *Keeper) check(c *Change) error {
	e := &c.Element
	err := ""
	switch {
	case e.Set >= sets:
		err = "no such set"
	case !e.First.IsValid() || !e.Last.IsValid():
		err = "no address"
	case e.First.BitLen() != e.Set.keyLen()*8 || e.Last.BitLen() != e.Set.keyLen()*8:
		err = "an address of the other family"
	case e.First.Zone() != "" || e.Last.Zone() != "":
		err = "an address with a zone"
	case e.Last.Less(e.First):
		err = "a range that ends before it begins"
	case !e.Set.Ranges() && e.First != e.Last:
		err = "a range in a set of hosts"
	case c.Delete:
	case e.Timeout < 0:
		err = "a timeout below 0"
	case e.Set == Ban6 && k.network(e.First) != e.First:
		err = fmt.Sprintf("not the network address of a /%d, so the rule would never match it", k.config.IPv6Prefix)
	}
	if err == "" {
		return nil
	}
	return fmt.Errorf("nft: element %v: %w", *e, errors.New(err))
}

// network is the address under which Ban6 holds a.
func (k *Keeper) network(a netip.Addr) netip.Addr {
	p, err := a.Prefix(k.config.IPv6Prefix)
	if err != nil {
		return a
	}
	return p.Addr()
}

// over reports whether the change takes the element out, by its word or because the ban has ended.
func (c *Change) over() bool { return c.Delete || c.Timeout > 0 && c.Expires < 0 }

// endless reports whether e is a range that goes up to the top of its address space.
func (e *Element) endless() bool { return e.Set.Ranges() && e.Last == e.Set.top() }

// keySize is the bytes of an element that has a key and nothing else.
func (s Set) keySize() int { return 3*attrLen + s.keyLen() }

// size is the most bytes that element writes for e.
func (e *Element) size() int {
	n := e.Set.keySize() + 12 + 12 + attrLen + align4(3+min(len(e.Comment), MaxComment))
	if e.Set.Ranges() {
		n += e.Set.keySize() + 8
	}
	return n
}

func (w *wire) key(s Set, a netip.Addr) {
	n := w.nest(unix.NFTA_SET_ELEM_KEY)
	w.attrHeader(unix.NFTA_DATA_VALUE, s.keyLen())
	if s.Is4() {
		b := a.As4()
		w.b = append(w.b, b[:]...)
	} else {
		b := a.As16()
		w.b = append(w.b, b[:]...)
	}
	w.endNest(n)
}

// bare writes the keys of an element: one for a host, both ends for a range.
func (w *wire) bare(e *Element) {
	n := w.nest(unix.NFTA_LIST_ELEM)
	w.key(e.Set, e.First)
	w.endNest(n)
	w.rangeEnd(e)
}

// rangeEnd writes the second element of a range: the address behind its last one. At the top of the address space
// there is none, and the range is open.
func (w *wire) rangeEnd(e *Element) {
	if !e.Set.Ranges() || e.endless() {
		return
	}
	w.endKey(e.Set, e.Last.Next())
}

func (w *wire) endKey(s Set, a netip.Addr) {
	n := w.nest(unix.NFTA_LIST_ELEM)
	w.key(s, a)
	w.be32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
	w.endNest(n)
}

// element writes e with all it has.
func (w *wire) element(e *Element) {
	n := w.nest(unix.NFTA_LIST_ELEM)
	w.key(e.Set, e.First)
	if e.Timeout > 0 {
		whole := milliseconds(e.Timeout)
		w.be64(unix.NFTA_SET_ELEM_TIMEOUT, whole)
		// The kernel refuses an expiration beyond the timeout.
		if e.Expires > 0 && e.Expires < e.Timeout {
			w.be64(unix.NFTA_SET_ELEM_EXPIRATION, min(whole, milliseconds(e.Expires)))
		}
	}
	if c := e.Comment; c != "" {
		c = clean(c[:min(len(c), MaxComment)])
		w.attrHeader(unix.NFTA_SET_ELEM_USERDATA, 3+len(c))
		w.b = append(w.b, udataComment, byte(len(c)+1))
		w.b = append(w.b, c...)
		w.b = append(w.b, 0)
		w.pad()
	}
	w.endNest(n)
	w.rangeEnd(e)
}

// udataComment is the type of a comment in the user data of elements, rules and tables; from libnftnl/udata.h.
const udataComment = 0

func milliseconds(d time.Duration) uint64 {
	return uint64((d-1)/time.Millisecond) + 1
}

func duration(ms uint64) time.Duration {
	if ms > math.MaxInt64/uint64(time.Millisecond) {
		return math.MaxInt64
	}
	return time.Duration(ms) * time.Millisecond
}

// A list writes elements of one set into a batch, in as many messages as they need.
type list struct {
	b          *batch
	table      string
	set        Set
	typ        int
	flags      uint16
	msg, elems int // where the message and its list begin
	open       bool
}

func (b *batch) list(table string, set Set, typ int, flags uint16) list {
	return list{b: b, table: table, set: set, typ: typ, flags: flags}
}

// room makes sure that one more element has its place.
func (l *list) room() {
	if l.open && len(l.b.b)-l.elems < maxNest {
		return
	}
	l.close()
	l.msg = l.b.nft(l.typ, l.flags)
	l.b.str(unix.NFTA_SET_ELEM_LIST_TABLE, l.table)
	l.b.str(unix.NFTA_SET_ELEM_LIST_SET, l.set.String())
	l.elems = l.b.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
	l.open = true
}

func (l *list) close() {
	if l.open {
		l.b.endNest(l.elems)
		l.b.end(l.msg)
		l.open = false
	}
}

// A piece is an element as the kernel tells of it: a host, or one end of a range.
type piece struct {
	addr             netip.Addr
	end              bool // the address behind a range's last one
	timeout, expires time.Duration
	comment          []byte // the received memory; not checked
	packets, bytes   uint64
}

func (p *piece) element(s Set, last netip.Addr) Element { return p.elementLike("", s, last) }

// elementLike is element for one of many, most of which have the same comment as the one before.
func (p *piece) elementLike(comment string, s Set, last netip.Addr) Element {
	if string(p.comment) != comment {
		comment = clean(string(p.comment))
	}
	return Element{
		Set: s, First: p.addr, Last: last,
		Timeout: p.timeout, Expires: p.expires,
		Comment: comment,
		Packets: p.packets, Bytes: p.bytes,
	}
}

// readPieces hands the elements of a message about set elements to f. What it can't make sense of it leaves out:
// anybody may have written it.
func readPieces(s Set, p []byte, f func(*piece)) {
	for t, elem := range attrs(attr(p, unix.NFTA_SET_ELEM_LIST_ELEMENTS)) {
		if t != unix.NFTA_LIST_ELEM {
			continue
		}
		var q piece
		for t, v := range attrs(elem) {
			switch t {
			case unix.NFTA_SET_ELEM_KEY:
				v = attr(v, unix.NFTA_DATA_VALUE)
				if len(v) == s.keyLen() {
					q.addr, _ = netip.AddrFromSlice(v)
				}
			case unix.NFTA_SET_ELEM_FLAGS:
				q.end = getBE32(v)&unix.NFT_SET_ELEM_INTERVAL_END != 0
			case unix.NFTA_SET_ELEM_TIMEOUT:
				q.timeout = duration(getBE64(v))
			case unix.NFTA_SET_ELEM_EXPIRATION:
				q.expires = duration(getBE64(v))
			case unix.NFTA_SET_ELEM_USERDATA:
				c, _ := userdata(v, udataComment)
				for len(c) > 0 && c[len(c)-1] == 0 {
					c = c[:len(c)-1]
				}
				q.comment = c
			case unix.NFTA_SET_ELEM_EXPR:
				q.count(v)
			case nftaElemExprs:
				for _, v := range attrs(v) {
					q.count(v)
				}
			}
		}
		if q.addr.IsValid() {
			f(&q)
		}
	}
}

func (p *piece) count(expr []byte) {
	if n, b, ok := readCounter(expr); ok {
		p.packets, p.bytes = n, b
	}
}

// readCounter reads an expression, if it is a counter.
func readCounter(expr []byte) (packets, bytes uint64, ok bool) {
	if getString(attr(expr, unix.NFTA_EXPR_NAME)) != "counter" {
		return 0, 0, false
	}
	d := attr(expr, unix.NFTA_EXPR_DATA)
	return getBE64(attr(d, unix.NFTA_COUNTER_PACKETS)), getBE64(attr(d, unix.NFTA_COUNTER_BYTES)), true
}

// key is what makes an element of a set of hosts one and the same.
type key [17]byte

func keyOf(e *Element) (k key) {
	k[0] = byte(e.Set)
	if e.Set.Is4() {
		b := e.First.As4()
		binary.NativeEndian.PutUint32(k[1:], binary.NativeEndian.Uint32(b[:]))
	} else {
		b := e.First.As16()
		copy(k[1:], b[:])
	}
	return k
}
