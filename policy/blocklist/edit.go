package blocklist

import (
	"bytes"
	"net/netip"
	"slices"
	"strconv"

	"banset/policy"
)

// AppendLine adds the line of a ban to dst, its '\n' included. An invalid host, or the prefix of all addresses, adds
// nothing. An end after the year 9999 is written as forever.
func AppendLine(dst []byte, b policy.Ban) []byte {
	k, ok := newKey(b.Host)
	if !ok {
		return dst
	}
	host := k.host()
	if host.IsSingleIP() {
		dst = host.Addr().AppendTo(dst)
	} else {
		dst = host.AppendTo(dst)
	}
	return append(appendNote(dst, &b), '\n')
}

// appendNote adds what follows the address.
func appendNote(dst []byte, b *policy.Ban) []byte {
	dst = append(dst, " # banset/"...)
	dst = appendStamp(dst, b.At)
	dst = append(dst, " until "...)
	if b.Until > lastStamp {
		dst = append(dst, "forever"...)
	} else {
		dst = appendStamp(dst, b.Until)
	}
	return appendReason(append(dst, ": "...), b)
}

// appendReason adds what Reason says, but nothing that would end the line or the reason, whoever made the ban.
func appendReason(dst []byte, b *policy.Ban) []byte {
	switch {
	case policy.ValidName(b.Policy) && b.Failures > 1: // most of them
		dst = append(append(dst, b.Policy...), ": "...)
		return append(strconv.AppendInt(dst, int64(b.Failures), 10), " failures"...)
	case b.Policy == "":
		return append(dst, policy.Ban{Note: clean(b.Note)}.Reason()...)
	}
	return append(dst, clean(b.Reason())...)
}

// clean is CleanNote without the white space that its cut may leave at the end, which reading would not keep.
func clean(note string) string { return policy.CleanNote(policy.CleanNote(note)) }

// Edit removes the lines of hosts and then sets bans: the ban takes the place of its host's first line and its other
// lines go, or it is added at the end. Nothing else changes, and of a line that is rewritten the white space before
// the address, the address as it was written and the line's end stay. A person's words stay as well: the note of a
// person's line, or the remark on one of ours, follows the new reason after a '#'. A line that says the same already
// stays as it is; a person's line does when its end is the same, unless the ban has another person's note. Words that
// would make a line longer than MaxLine are lost.
//
// When all that happened is that bytes were added at the end of the file, Edit returns these, and true; so it does
// with no bytes when nothing changed. They begin with a '\n' if the file's last line had none. They are valid until
// the next Edit.
func (f *File) Edit(set []policy.Ban, remove []netip.Prefix) (added []byte, appended bool) {
	added, appended = f.edit(set, remove)
	if f.waste > 1<<20 && f.waste > (len(f.text)+len(f.more))/2 {
		f.assemble()
	}
	return added, appended
}

// edit does so, and keeps each item in its place.
func (f *File) edit(set []policy.Ban, remove []netip.Prefix) (added []byte, appended bool) {
	appended = true
	for _, host := range remove {
		k, ok := newKey(host)
		if !ok {
			continue
		}
		if i := f.lookup(&k); i != none32 {
			f.removeHost(i, nil)
			appended = false
		}
	}
	var tail []byte
	for n := range set {
		b := &set[n]
		k, ok := newKey(b.Host)
		if !ok {
			continue
		}
		i := f.lookup(&k)
		if i == none32 {
			tail = append(tail, f.terminate()...)
			from := len(f.more)
			f.more = AppendLine(f.more, *b)
			tail = append(tail, f.more[from:]...)
			f.addMore(from)
		} else if !f.says(i, b) {
			f.replace(i, b)
			appended = false
		}
	}
	if !appended {
		return nil, false
	}
	return tail, true
}

// says reports whether a line need not be rewritten for a ban.
func (f *File) says(i uint32, b *policy.Ban) bool {
	it := &f.items[i]
	until := b.Until
	if until > lastStamp {
		until = policy.Never
	}
	if it.until != max(until, firstStamp) || it.kind == Fail2ban {
		return false
	}
	var l line
	l.read(f.bytes(it), &f.opts)
	if it.kind == Hand {
		return b.Policy != "" || b.Note == "" || clean(b.Note) == clean(string(l.note))
	}
	var buf [128]byte
	return l.at == min(max(b.At, firstStamp), lastStamp) && bytes.Equal(l.note, appendReason(buf[:0], b))
}

// replace rewrites the first line of a host and removes its others. i is any of them.
func (f *File) replace(i uint32, b *policy.Ban) {
	lines := []uint32{i}
	if f.items[i].flags&shared != 0 {
		lines = slices.Clone(f.several[f.items[i].key])
	}
	from := len(f.more)
	var remarks []byte
	for _, j := range lines {
		var l line
		old := f.bytes(&f.items[j])
		l.read(old, &f.opts)
		if j == lines[0] {
			// Appending to more may move it: old and l keep to the memory they were read from.
			f.more = append(f.more, l.head...)
			f.more = appendNote(f.more, b)
		}
		words := l.remark
		if l.kind == Hand {
			words = l.note
		}
		if len(words) == 0 || b.Policy == "" && policy.CleanNote(string(words)) == clean(b.Note) {
			continue
		}
		remarks = append(append(remarks, " # "...), words...)
	}
	first := f.bytes(&f.items[lines[0]])
	end := first[len(bytes.TrimRight(first, "\r\n")):]
	f.more = append(append(f.more, remarks...), end...)
	if len(f.more)-from > MaxLine {
		f.more = AppendLine(f.more[:from], *b)
	}
	f.removeHost(i, lines[:1])
	it := &f.items[lines[0]]
	f.setLine(it, from)
	place, tag := f.hosts.find(f.items, &it.key)
	f.hosts.set(f.items, place, tag, lines[0])
	f.live++
}

// removeHost removes the lines of a host but for those to keep, which are about to be rewritten. i is any of them.
func (f *File) removeHost(i uint32, keep []uint32) {
	lines := []uint32{i}
	if f.items[i].flags&shared != 0 {
		lines = f.several[f.items[i].key]
		delete(f.several, f.items[i].key)
	}
	for _, j := range lines {
		it := &f.items[j]
		f.waste += int(it.size)
		if it.flags&problem != 0 {
			f.bad--
		}
		it.flags &^= shared | problem
		if !slices.Contains(keep, j) {
			it.size = 0
			f.gone++
			f.stale = true
		}
	}
	f.live--
	f.edited = true
}

// terminate ends the last line of the file if nothing does, and returns what that took.
func (f *File) terminate() []byte {
	for i := len(f.items) - 1; i >= 0; i-- {
		it := &f.items[i]
		if it.size == 0 {
			continue
		}
		last := f.bytes(it)
		if last[len(last)-1] == '\n' {
			return nil
		}
		from := len(f.more)
		if it.kind != 0 {
			f.more = append(append(f.more, last...), '\n')
			f.waste += len(last)
			it.off, it.size, it.flags = from, it.size+1, it.flags|inMore
		} else {
			f.more = append(f.more, '\n')
			f.items = append(f.items, item{off: from, size: 1, flags: inMore})
			f.stale = true
		}
		f.edited = true
		return []byte{'\n'}
	}
	return nil
}

// addMore adds the line that begins at from in more.
func (f *File) addMore(from int) {
	f.items = append(f.items, item{})
	i := uint32(len(f.items) - 1)
	f.setLine(&f.items[i], from)
	f.enter(i)
	f.edited, f.stale = true, true
}

// setLine makes an item the line that begins at from in more, and reads it like any other.
func (f *File) setLine(it *item, from int) {
	var l line
	l.read(f.more[from:], &f.opts)
	it.key, it.kind, it.until = l.key, l.kind, l.until
	it.off, it.size, it.flags = from, len(f.more)-from, inMore
}

// assemble makes the text anew.
func (f *File) assemble() {
	text := make([]byte, 0, len(f.text)+len(f.more)-f.waste)
	for i := range f.items {
		it := &f.items[i]
		at := len(text)
		text = append(text, f.bytes(it)...)
		it.off, it.flags = at, it.flags&^inMore
	}
	f.text, f.more, f.waste, f.edited = text, nil, 0, false
	if f.gone > 1024 && f.gone > len(f.items)/4 {
		f.compact()
	}
}

// compact drops the items that were removed.
func (f *File) compact() {
	kept := f.items[:0]
	for i := range f.items {
		if f.items[i].size > 0 {
			f.items[i].flags &^= shared
			kept = append(kept, f.items[i])
		}
	}
	f.items, f.gone, f.live, f.several = kept, 0, 0, nil
	f.hosts.init(len(kept))
	for i := range f.items {
		if f.items[i].kind != 0 {
			f.enter(uint32(i))
		}
	}
}
