package mirror

import (
	"bytes"
	"fmt"
	"strconv"

	"banset/policy/blocklist"
)

// A crash (a power cut, a kill on a full disk) can leave the beginning of the lines that we were appending: a last line
// without an end. Half an address is another address, and half an end is another end, so such a line is not applied:
// at a start, before anything is written, it becomes a comment. Nothing that was acknowledged is lost with it, because
// only whole lines that the disk has are; the logs and the state still have what earned it.
//
// A person's last line may have no end either. What can't be a beginning of ours stays theirs, and while we run every
// such line does, because no write of ours is unfinished then. An address alone could be either. It is theirs when the
// state remembers no ban, so that no line of ours can have been begun.

// tornFrom is the place in text where a torn line of ours begins; false when there is none. known says that we have
// written to the file before.
func tornFrom(text []byte, opts blocklist.Options, known bool) (int, bool) {
	from := bytes.LastIndexByte(text, '\n') + 1
	line := text[from:]
	if len(line) == 0 {
		return 0, false
	}
	if bytes.IndexByte(line, 0) >= 0 {
		return from, true // the size reached the disk, the text did not
	}
	host := bytes.TrimLeft(line, "0123456789abcdef:./")
	const ours = " # banset/"
	switch {
	case len(host) == 0:
		return from, known
	case len(host) < len(ours) && bytes.HasPrefix([]byte(ours), host):
		return from, true
	case !bytes.HasPrefix(host, []byte(ours)):
		return 0, false
	}
	// All but the '\n' is there when it reads as the ban that we would write like that.
	for e := range blocklist.Parse(line, opts).Entries() {
		if e.Kind == blocklist.Ours && bytes.Equal(blocklist.AppendLine(nil, e.Ban), append(bytes.Clone(line), '\n')) {
			return 0, false
		}
	}
	return from, true
}

// mended is the text with the torn line that begins at from as a comment.
func mended(text []byte, from int) []byte {
	torn := text[from:]
	more := ""
	if len(torn) > 200 {
		torn, more = torn[:200], "..."
	}
	return fmt.Appendf(bytes.Clone(text[:from]), "# banset: this line was cut off by a crash and is not applied: %s%s\n", strconv.QuoteToASCII(string(torn)), more)
}
