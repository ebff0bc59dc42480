package blocklist

import (
	"bytes"
	"net/netip"
	"time"

	"banset/policy"
)

// A Rewriter does what [File.Edit] does to a file that need not be in memory: it looks at the whole file twice, in
// pieces of whole lines, and keeps only the lines of the hosts that it is about. It belongs to one goroutine.
type Rewriter struct {
	opts   Options
	set    []policy.Ban
	remove []netip.Prefix
	hosts  map[key]struct{}

	text  []byte // the hosts' lines
	lines int    // of them
	mine  bool   // the file's last line is one of them
	ended bool   // the file's last line has an end, or there is none

	part *File // of text
	next int   // the next of the lines, as an item of part
}

// NewRewriter prepares to remove the lines of hosts and then set bans, as Edit does.
func NewRewriter(set []policy.Ban, remove []netip.Prefix, opts Options) *Rewriter {
	if opts.Location == nil {
		opts.Location = time.UTC
	}
	r := &Rewriter{opts: opts, set: set, remove: remove, hosts: make(map[key]struct{}, len(set)+len(remove)), ended: true}
	for i := range set {
		r.add(set[i].Host)
	}
	for _, host := range remove {
		r.add(host)
	}
	return r
}

func (r *Rewriter) add(host netip.Prefix) {
	if k, ok := newKey(host); ok {
		r.hosts[k] = struct{}{}
	}
}

// each calls f with each line of text, and whether it is one of a host's.
func (r *Rewriter) each(text []byte, f func(line []byte, mine bool)) {
	for len(text) > 0 {
		end := bytes.IndexByte(text, '\n') + 1
		if end == 0 {
			end = len(text)
		}
		var l line
		l.read(text[:end], &r.opts)
		_, mine := r.hosts[l.key]
		f(text[:end], mine && l.kind != 0)
		text = text[end:]
	}
}

// Look looks at the file's next lines, the first time.
func (r *Rewriter) Look(text []byte) {
	r.each(text, func(line []byte, mine bool) {
		if r.mine, r.ended = mine, line[len(line)-1] == '\n'; mine {
			r.text = append(r.text, line...)
			r.lines++
		}
	})
}

// Found is the hosts' lines, as the file has them, once it was looked at. It is no more when Edit was called.
func (r *Rewriter) Found() *File {
	if r.part == nil {
		r.part = Parse(r.text, r.opts)
	}
	return r.part
}

// Edit ends the first look. It reports whether the file has to change, and how many hosts more, or less, it then has.
func (r *Rewriter) Edit() (change bool, more int) {
	before := r.Found().Len()
	added, appended := r.part.edit(r.set, r.remove)
	return !appended || len(added) > 0, r.part.Len() - before
}

// Rewrite looks at the file's next lines, the second time, and adds to dst what takes their place.
func (r *Rewriter) Rewrite(dst, text []byte) []byte {
	r.each(text, func(line []byte, mine bool) {
		if !mine {
			dst = append(dst, line...)
		} else if r.next < r.lines { // else the file is another one than before
			dst = append(dst, r.part.bytes(&r.part.items[r.next])...)
			r.next++
		}
	})
	return dst
}

// Rest ends the second look and adds to dst what comes at the end of the file.
func (r *Rewriter) Rest(dst []byte) []byte {
	rest := r.part.items[r.lines:]
	if len(rest) > 0 && !r.ended && !r.mine {
		dst = append(dst, '\n')
	}
	for i := range rest {
		dst = append(dst, r.part.bytes(&rest[i])...)
	}
	return dst
}
