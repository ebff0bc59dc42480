package journal

import (
	"strconv"
	"strings"

	"banset/cmd/internal/source"
)

// A place is that of the last entry that was handed over. The zero place is before everything.
//
// An entry's number counts within one sequence, that of journald's files from their making on; it changes when journald
// moves its entries from /run to /var, and when all files were removed. The rest is the entry's own.
type place struct {
	cursor string // as journalctl writes it; "" for the zero place
	lost   bool   // journalctl can't go there: go by time
	ahead  bool   // it is gone, and its time is yet to come: the clock was wrong
	id
}

// An id is a cursor's parts.
type id struct {
	seq, boot          string // 128 bits each, in hexadecimal
	number, mono, real uint64 // real and mono in microseconds
	hash               string // of all that the entry holds
}

// placeAt reads a stored position.
func placeAt(p source.Position) place {
	at := place{cursor: p.Cursor, id: parseCursor(p.Cursor)}
	if at.real == 0 {
		at.real, at.lost = uint64(max(0, p.Mod/1000)), true
	}
	return at
}

// position is what is stored of a place.
func (p place) position(key string) source.Position {
	return source.Position{Path: key, Cursor: p.cursor, Mod: int64(p.real) * 1000}
}

// parseCursor takes a cursor apart: s=SEQUENCE;i=NUMBER;b=BOOT;m=MONOTONIC;t=REALTIME;x=HASH, numbers in hexadecimal.
// What it does not have stays zero.
func parseCursor(text string) (c id) {
	for part := range strings.SplitSeq(text, ";") {
		key, value, _ := strings.Cut(part, "=")
		n, _ := strconv.ParseUint(value, 16, 64) // zero for the others
		switch key {
		case "s":
			c.seq = value
		case "i":
			c.number = n
		case "b":
			c.boot = value
		case "m":
			c.mono = n
		case "t":
			c.real = n
		case "x":
			c.hash = value
		}
	}
	return c
}

// same reports whether e is the entry at p, wherever its file is now.
func (p place) same(e id) bool {
	return p.boot == e.boot && p.mono == e.mono && p.real == e.real && p.hash == e.hash
}

// before reports whether e, which journalctl gave as what is at p or follows it, had been handed over by then. past: the
// entry at p has come by.
func (p place) before(e id, past bool) bool {
	switch {
	case p.cursor == "":
		return false
	case p.seq == e.seq:
		return e.number <= p.number
	case p.boot == e.boot && p.mono != e.mono:
		return e.mono < p.mono
	case p.boot == e.boot:
		// The same microsecond: what was before p still comes before it.
		return !past
	}
	return !p.ahead && e.real <= p.real // the clock is all there is to compare
}
