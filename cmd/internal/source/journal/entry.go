package journal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"banset/cmd/internal/source"
)

// An entry is what a line is made of. Its bytes are valid until the next one is read.
type entry struct {
	cursor                                []byte
	real, sent                            []byte // times in microseconds, as text: received by journald, and sent
	host, ident, comm, pid, said, message []byte // pid is the kernel's word, said the sender's
	complete                              bool   // it has a message
	cut                                   bool   // the message is longer than what we keep of it
}

// keep is how much of each field is kept. Only the message may be long.
const keep = 256

// errFormat says that it is no export format.
var errFormat = errors.New("what journalctl printed can't be understood")

// An exportReader reads journalctl's export format: FIELD=text, or FIELD, a length of eight bytes and any bytes;
// an empty line after each entry.
type exportReader struct {
	in    *bufio.Reader
	space []byte // of the entry's bytes
}

func newExportReader(in io.Reader) *exportReader {
	return &exportReader{in: bufio.NewReaderSize(in, 2*source.MaxLine)}
}

// more reports whether part of another entry has been read already.
func (r *exportReader) more() bool { return r.in.Buffered() > 0 }

// read reads one entry. An entry that was broken off gives io.EOF like an end in good order: whoever wrote it was killed.
func (r *exportReader) read(e *entry) error {
	*e = entry{}
	r.space = r.space[:0]
	for fields := 0; ; fields++ {
		line, err := r.in.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			if err := r.long(e, line); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		line = line[:len(line)-1]
		if len(line) == 0 {
			if fields > 0 {
				return nil
			}
			continue
		}
		if name, value, ok := bytes.Cut(line, []byte("=")); ok {
			r.set(e, name, value, len(value))
		} else if err := r.binary(e, name); err != nil {
			return err
		}
	}
}

// long reads a text whose beginning fills the buffer.
func (r *exportReader) long(e *entry, head []byte) error {
	name, value, ok := bytes.Cut(head, []byte("="))
	if !ok {
		return fmt.Errorf("%w: a field's name of %d bytes", errFormat, len(head))
	}
	r.set(e, name, value, len(value))
	for {
		_, err := r.in.ReadSlice('\n')
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// binary reads the value of a field whose name stood alone on its line.
func (r *exportReader) binary(e *entry, name []byte) error {
	var b [8]byte
	field := string(name) // the buffer moves on
	if _, err := io.ReadFull(r.in, b[:]); err != nil {
		return io.EOF
	}
	size := binary.LittleEndian.Uint64(b[:])
	if size > 1<<40 {
		return fmt.Errorf("%w: a field of %d bytes", errFormat, size)
	}
	head, err := r.in.Peek(int(min(size, source.MaxLine+1)))
	if err != nil {
		return io.EOF
	}
	r.set(e, []byte(field), head, int(size))
	if _, err := io.CopyN(io.Discard, r.in, int64(size)); err != nil {
		return io.EOF
	}
	if c, err := r.in.ReadByte(); err != nil {
		return io.EOF
	} else if c != '\n' {
		return fmt.Errorf("%w: no line's end after a field", errFormat)
	}
	return nil
}

// set keeps a field. size is the length of the whole value, of which value may be the head only. Of a field that comes
// several times the first counts.
func (r *exportReader) set(e *entry, name, value []byte, size int) {
	var to *[]byte
	most := keep
	switch string(name) {
	case "MESSAGE":
		if e.complete {
			return
		}
		e.complete, e.cut = true, size > source.MaxLine
		to, most = &e.message, source.MaxLine
	case "__CURSOR":
		to = &e.cursor
	case "__REALTIME_TIMESTAMP":
		to = &e.real
	case "_SOURCE_REALTIME_TIMESTAMP":
		to = &e.sent
	case "_HOSTNAME":
		to = &e.host
	case "SYSLOG_IDENTIFIER":
		to = &e.ident
	case "_COMM":
		to = &e.comm
	case "_PID":
		to = &e.pid
	case "SYSLOG_PID":
		to = &e.said
	default:
		return
	}
	if *to != nil {
		return
	}
	from := len(r.space)
	r.space = append(r.space, value[:min(len(value), most)]...)
	*to = r.space[from:len(r.space):len(r.space)]
}

// number is a field that is a decimal number, 0 without one.
func number(text []byte) uint64 {
	n, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// stampLayout is how the line's stamp is written.
const stampLayout = "2006-01-02T15:04:05.000000-07:00"

// appendLine appends the line that rsyslog would have made of e, and reports whether it had to be cut.
func (e *entry) appendLine(to []byte) (line []byte, cut bool) {
	from := len(to)
	sent := number(e.sent)
	if sent == 0 || sent > 1<<60 {
		sent = number(e.real)
	}
	to = time.UnixMicro(int64(min(sent, 1<<60))).UTC().AppendFormat(to, stampLayout)
	to = append(to, ' ')
	to = appendWord(to, e.host, "localhost")
	to = append(to, ' ')
	ident := e.ident
	if len(ident) == 0 {
		ident = e.comm
	}
	to = appendWord(to, ident, "unknown")
	pid := e.pid
	if number(pid) == 0 {
		pid = e.said
	}
	if n := number(pid); n > 0 {
		to = append(to, '[')
		to = strconv.AppendUint(to, n, 10)
		to = append(to, ']')
	}
	to = append(to, ": "...)
	message := e.message
	if !e.cut {
		message = bytes.TrimRight(message, "\r\n")
	}
	to = appendEscaped(to, message)
	if cut = e.cut || len(to)-from > source.MaxLine; cut {
		to = to[:min(len(to), from+source.MaxLine)]
	}
	return append(to, '\n'), cut
}

// appendWord appends a name that has no space and no control character, whatever it had.
func appendWord(to, name []byte, without string) []byte {
	if len(name) == 0 {
		return append(to, without...)
	}
	for _, c := range name {
		if c <= ' ' || c == 0x7f {
			c = '_'
		}
		to = append(to, c)
	}
	return to
}

// appendEscaped appends a text with its control characters as rsyslog writes them, so that it stays one line.
func appendEscaped(to, text []byte) []byte {
	for {
		i := bytes.IndexFunc(text, isControl)
		if i < 0 {
			return append(to, text...)
		}
		to = append(to, text[:i]...)
		c := text[i]
		to = append(to, '#', '0'+c>>6, '0'+c>>3&7, '0'+c&7)
		text = text[i+1:]
	}
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
