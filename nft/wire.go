package nft

// Netlink messages as bytes: a writer that appends to one reused buffer, and readers that trust no length they find.
// The layouts are those of linux/netlink.h, linux/netfilter/nfnetlink.h and linux/netfilter/nf_tables.h.

import (
	"encoding/binary"
	"iter"

	"golang.org/x/sys/unix"
)

const (
	headerLen = unix.SizeofNlMsghdr // of a netlink message
	genLen    = 4                   // of the nfgenmsg behind it
	attrLen   = unix.SizeofNlAttr   // of an attribute

	attrNested = unix.NLA_F_NESTED
	attrMask   = ^uint16(unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)

	// maxNest is where a list of elements is closed and another message begun. An attribute's length is 16 bits and
	// wraps without an error; an element takes less than the 5,535 bytes that are left.
	maxNest = 60_000
)

// Attributes that golang.org/x/sys/unix does not name; from linux/netfilter/nf_tables.h (NF_ACCEPT
// from linux/netfilter.h).
const (
	nftaTableUserdata  = 6
	nftaSetExpr        = 17
	nftaSetExpressions = 18
	nftaSetCount       = 20 // not on 6.12, there on 6.18
	nftaElemExprs      = 17
	nftTableDormant    = 1
	nftTableOwner      = 2
	nftTablePersist    = 4 // since Linux 6.9
	nftaTableOwner     = 7
	nfAccept           = 1
)

func align4(n int) int { return (n + 3) &^ 3 }

// A wire is netlink messages being written.
type wire struct {
	b []byte
	n int // messages begun
}

func (w *wire) reset() { w.b, w.n = w.b[:0], 0 }

// message begins a message and returns where; end closes it.
func (w *wire) message(typ, flags uint16, family uint8, resID uint16) int {
	at := len(w.b)
	var h [headerLen + genLen]byte
	binary.NativeEndian.PutUint16(h[4:], typ)
	binary.NativeEndian.PutUint16(h[6:], flags|unix.NLM_F_REQUEST)
	h[headerLen], h[headerLen+1] = family, unix.NFNETLINK_V0
	binary.BigEndian.PutUint16(h[headerLen+2:], resID)
	w.b = append(w.b, h[:]...)
	w.n++
	return at
}

func (w *wire) end(at int) { binary.NativeEndian.PutUint32(w.b[at:], uint32(len(w.b)-at)) }

// nft begins a message of nf_tables for an inet table.
func (w *wire) nft(typ int, flags uint16) int {
	return w.message(unix.NFNL_SUBSYS_NFTABLES<<8|uint16(typ), flags, unix.NFPROTO_INET, 0)
}

func (w *wire) attrHeader(typ uint16, n int) {
	w.b = binary.NativeEndian.AppendUint16(w.b, uint16(attrLen+n))
	w.b = binary.NativeEndian.AppendUint16(w.b, typ)
}

func (w *wire) pad() {
	for len(w.b)%4 != 0 {
		w.b = append(w.b, 0)
	}
}

func (w *wire) bytes(typ uint16, p []byte) {
	w.attrHeader(typ, len(p))
	w.b = append(w.b, p...)
	w.pad()
}

func (w *wire) str(typ uint16, s string) {
	w.attrHeader(typ, len(s)+1)
	w.b = append(w.b, s...)
	w.b = append(w.b, 0)
	w.pad()
}

func (w *wire) be32(typ uint16, v uint32) {
	w.attrHeader(typ, 4)
	w.b = binary.BigEndian.AppendUint32(w.b, v)
}

func (w *wire) be64(typ uint16, v uint64) {
	w.attrHeader(typ, 8)
	w.b = binary.BigEndian.AppendUint64(w.b, v)
}

// nest begins a nested attribute and returns where; endNest closes it.
func (w *wire) nest(typ uint16) int {
	at := len(w.b)
	w.attrHeader(typ|attrNested, 0)
	return at
}

func (w *wire) endNest(at int) { binary.NativeEndian.PutUint16(w.b[at:], uint16(len(w.b)-at)) }

// number gives the messages of w the sequence numbers from first on, and asks the kernel to acknowledge message ack
// (counted from 0; -1: none).
func (w *wire) number(first uint32, ack int) {
	for i, b := 0, w.b; len(b) >= headerLen; i++ {
		binary.NativeEndian.PutUint32(b[8:], first+uint32(i))
		flags := binary.NativeEndian.Uint16(b[6:]) &^ unix.NLM_F_ACK
		if i == ack {
			flags |= unix.NLM_F_ACK
		}
		binary.NativeEndian.PutUint16(b[6:], flags)
		b = b[min(len(b), align4(int(binary.NativeEndian.Uint32(b)))):]
	}
}

// typeOf is the type of message i, without the subsystem.
func (w *wire) typeOf(i int) int {
	b := w.b
	for ; i > 0 && len(b) >= headerLen; i-- {
		b = b[min(len(b), align4(int(binary.NativeEndian.Uint32(b)))):]
	}
	if len(b) < headerLen {
		return -1
	}
	return int(binary.NativeEndian.Uint16(b[4:]) & 0xff)
}

// A batch is one transaction: all of its messages take effect, or none.
type batch struct{ wire }

func (b *batch) begin() {
	b.reset()
	b.end(b.message(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES))
}

func (b *batch) finish() {
	b.end(b.message(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES))
}

// empty reports whether a begun batch has no message of its own yet.
func (b *batch) empty() bool { return b.n <= 1 }

// A header is the part of a received message that says what it is.
type header struct {
	Type  uint16
	Flags uint16
	Seq   uint32
	PID   uint32 // port of the socket that asked
}

// messages yields the messages of a datagram, the payload behind the netlink header. It ends at the first one whose
// length can't be.
func messages(b []byte) iter.Seq2[header, []byte] {
	return func(yield func(header, []byte) bool) {
		for len(b) >= headerLen {
			n := int(binary.NativeEndian.Uint32(b))
			if n < headerLen || n > len(b) {
				return
			}
			h := header{
				Type:  binary.NativeEndian.Uint16(b[4:]),
				Flags: binary.NativeEndian.Uint16(b[6:]),
				Seq:   binary.NativeEndian.Uint32(b[8:]),
				PID:   binary.NativeEndian.Uint32(b[12:]),
			}
			if !yield(h, b[headerLen:n]) {
				return
			}
			b = b[min(len(b), align4(n)):]
		}
	}
}

// attrs yields the attributes of b, flags cut off their types. It ends at the first one whose length can't be.
func attrs(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= attrLen {
			n := int(binary.NativeEndian.Uint16(b))
			if n < attrLen || n > len(b) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(b[2:])&attrMask, b[attrLen:n]) {
				return
			}
			b = b[min(len(b), align4(n)):]
		}
	}
}

// attr is the first attribute of that type in b, or nil.
func attr(b []byte, typ uint16) []byte {
	for t, p := range attrs(b) {
		if t == typ {
			return p
		}
	}
	return nil
}

// body cuts the nfgenmsg off a message of nf_tables.
func body(p []byte) []byte { return p[min(len(p), genLen):] }

// generation is the low half of the ruleset's generation, which the kernel puts into each message of a dump.
func generation(p []byte) uint16 {
	if len(p) < genLen {
		return 0
	}
	return binary.BigEndian.Uint16(p[2:])
}

func getBE32(p []byte) uint32 {
	if len(p) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(p)
}

func getBE64(p []byte) uint64 {
	if len(p) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(p)
}

// getString reads a NUL-terminated string.
func getString(p []byte) string {
	for i, c := range p {
		if c == 0 {
			return string(p[:i])
		}
	}
	return string(p)
}

// userdata finds an entry in the type-length-value list that nft keeps its comments in. Anybody may have written it.
func userdata(p []byte, typ byte) ([]byte, bool) {
	for len(p) >= 2 {
		n := int(p[1])
		if 2+n > len(p) {
			return nil, false
		}
		if p[0] == typ {
			return p[2 : 2+n], true
		}
		p = p[2+n:]
	}
	return nil, false
}
