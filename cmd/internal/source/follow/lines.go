package follow

import (
	"bytes"

	"banset/cmd/internal/source"
)

var crlf = []byte("\r\n")

// span says how much of raw, bytes read at a place where skip says whether we are inside a line whose head was
// handed over already, is settled: up to the end of the last whole line, or all of it when what follows is too long
// to be waited for. inside says the same of the place after it. final: nothing follows raw, so all of it is settled.
func span(raw []byte, skip, final bool) (used int, inside bool) {
	end := bytes.LastIndexByte(raw, '\n') + 1
	rest := len(raw) - end
	switch {
	case rest == 0 && end == 0:
		return 0, skip
	case rest == 0:
		return end, false
	case final, end == 0 && skip, rest > source.MaxLine:
		return len(raw), true
	}
	return end, false
}

// shape turns a span into the lines to hand over: without the rest of a line begun earlier, without '\r' at line
// ends, lines cut at source.MaxLine, the last one ended. It works inside raw and may use one byte behind it.
func shape(raw []byte, skip bool) (lines []byte, cut uint64) {
	if skip {
		i := bytes.IndexByte(raw, '\n')
		if i < 0 {
			return nil, 0
		}
		raw = raw[i+1:]
	}
	if len(raw) == 0 {
		return nil, 0
	}
	if raw[len(raw)-1] == '\n' && !bytes.Contains(raw, crlf) && longLine(raw) < 0 {
		return raw, 0
	}
	out := raw[:0]
	for len(raw) > 0 {
		line, rest := raw, []byte(nil)
		if i := bytes.IndexByte(raw, '\n'); i >= 0 {
			line, rest = raw[:i], raw[i+1:]
		}
		if len(line) > source.MaxLine {
			line = line[:source.MaxLine]
			cut++
		}
		// What was written is never longer than what was read of it, so out stays behind raw.
		out = append(out, bytes.TrimRight(line, "\r")...)
		out = append(out, '\n')
		raw = rest
	}
	return out, cut
}

// longLine is where the first line longer than source.MaxLine begins in raw, or -1. It looks at few bytes: a window
// of MaxLine+1 from a line's start that holds any '\n' holds no such line before that '\n'.
func longLine(raw []byte) int {
	at := 0
	for len(raw)-at > source.MaxLine {
		i := bytes.LastIndexByte(raw[at:at+source.MaxLine+1], '\n')
		if i < 0 {
			return at
		}
		at += i + 1
	}
	return -1
}
