package control

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
)

// On the wire, both ways: one JSON object on one line. Then the daemon closes the connection.

// MaxRequest is the longest request that the daemon reads, in bytes. An answer has no limit.
const MaxRequest = 1 << 20

// maxPath is what fits into the kernel's sun_path with its closing zero (unix(7)).
const maxPath = 107

// socketPath makes path absolute, which also keeps "@name" a file and no abstract socket, and checks its length.
func socketPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("socket: %w", err)
	}
	if len(path) > maxPath {
		return "", fmt.Errorf("socket %s: its path has %d bytes, a socket's can have %d: set socket to a shorter one",
			path, len(path), maxPath)
	}
	return path, nil
}

// errTooLong is a request of more than MaxRequest bytes.
var errTooLong = fmt.Errorf("request is longer than %d bytes", MaxRequest)

// readRequest reads one request, ended by a newline or by the client's closing of its side. io.EOF means that it closed
// without a word.
func readRequest(r io.Reader) (Request, error) {
	line, err := bufio.NewReader(io.LimitReader(r, MaxRequest+1)).ReadBytes('\n')
	if len(line) > MaxRequest {
		return Request{}, errTooLong
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return Request{}, err
	}
	if len(line) == 0 {
		return Request{}, io.EOF
	}
	return parseRequest(line)
}

// parseRequest is strict: what a newer client asks for and an older daemon does not know must not be left out of a ban.
func parseRequest(line []byte) (Request, error) {
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	var req Request
	if err := dec.Decode(&req); errors.Is(err, io.EOF) {
		return Request{}, errors.New("request: it is empty")
	} else if err != nil {
		return Request{}, fmt.Errorf("request: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Request{}, errors.New("request: more than one JSON value")
	}
	if _, ok := rights[req.Op]; !ok {
		return Request{}, fmt.Errorf("request: no operation %q", req.Op)
	}
	for _, h := range req.Hosts {
		if !h.IsValid() {
			return Request{}, errors.New("request: a host is empty")
		}
	}
	return req, nil
}

// writeAnswer writes a as one line. The bans, which may be a million, are written one by one, never as one text.
func writeAnswer(w io.Writer, a Answer) error {
	bans := a.Bans
	a.Bans = nil
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	bw := bufio.NewWriterSize(w, 64<<10)
	bw.Write(text[:len(text)-1])
	before := `"bans":[`
	if len(text) > len("{}") {
		before = `,"bans":[`
	}
	write := func(b Ban) error {
		text, err := json.Marshal(&b)
		if err != nil {
			return err
		}
		bw.WriteString(before)
		before = ","
		_, err = bw.Write(text)
		return err
	}
	for i := range bans {
		if err := write(bans[i]); err != nil {
			return err
		}
	}
	if a.Each != nil {
		if err := a.Each(write); err != nil {
			return err
		}
	}
	if before == "," {
		bw.WriteByte(']')
	}
	bw.WriteString("}\n")
	return bw.Flush() // a bufio.Writer keeps its first error
}

// readAnswer reads what writeAnswer wrote.
func readAnswer(r io.Reader) (Answer, error) {
	var bans []Ban
	texts := make(map[string]string) // of a million bans most have the same few
	once := func(s *string) {
		if same, ok := texts[*s]; ok {
			*s = same
		} else if len(texts) < 1024 {
			texts[*s] = *s
		}
	}
	a, err := readAnswerEach(r, func(b Ban) {
		once(&b.Policy)
		once(&b.Reason)
		bans = append(bans, b)
	})
	a.Bans = bans
	return a, err
}

// readAnswerEach is readAnswer that hands the bans to each, one by one. Fields that this program does not know are left
// out: the daemon may be newer.
func readAnswerEach(r io.Reader, each func(Ban)) (Answer, error) {
	dec := json.NewDecoder(bufio.NewReaderSize(r, 64<<10))
	if err := expect(dec, '{'); err != nil {
		return Answer{}, err
	}
	rest := map[string]json.RawMessage{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return Answer{}, err
		}
		if key != "bans" {
			var v json.RawMessage
			if err := dec.Decode(&v); err != nil {
				return Answer{}, err
			}
			rest[fmt.Sprint(key)] = v
			continue
		}
		if err := expect(dec, '['); err != nil {
			return Answer{}, err
		}
		for dec.More() {
			var b Ban
			if err := dec.Decode(&b); err != nil {
				return Answer{}, err
			}
			each(b)
		}
		if err := expect(dec, ']'); err != nil {
			return Answer{}, err
		}
	}
	if err := expect(dec, '}'); err != nil {
		return Answer{}, err
	}
	text, err := json.Marshal(rest)
	if err != nil {
		return Answer{}, err
	}
	var a Answer
	if err := json.Unmarshal(text, &a); err != nil {
		return Answer{}, err
	}
	return a, nil
}

func expect(dec *json.Decoder, want json.Delim) error {
	tok, err := dec.Token()
	if err != nil {
		return err
	}
	if tok != want {
		return fmt.Errorf("%v where %v should be", tok, want)
	}
	return nil
}
