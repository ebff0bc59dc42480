package mirror

import (
	"errors"
	"iter"
	"net/netip"
	"os"

	"banset/policy/blocklist"
)

// Content is what a text of the file says, of each host once. It belongs to one goroutine.
type Content interface {
	Has(host netip.Prefix) bool
	Len() int // hosts
	// Entries may read the file again; Err says what went wrong with that. What somebody changed in it meanwhile is yielded
	// like that.
	Entries() iter.Seq[blocklist.Entry]
	Err() error
	Problems() (first []blocklist.Problem, total int)
	Empty() bool // not a byte
}

// ReadContent reads the blocklist at path, a large one without keeping it in memory. One that is not there is empty. close
// ends its use.
func ReadContent(path string, opts blocklist.Options) (c Content, close func() error, err error) {
	nothing := func() error { return nil }
	file, err := openFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return parsed{blocklist.Parse(nil, opts)}, nothing, nil
	}
	if err != nil {
		return nil, nil, err
	}
	lines, err := readLines(file, opts)
	if err == nil {
		return lines, file.Close, nil
	}
	defer file.Close()
	if err != errNotThatPlain {
		return nil, nil, err
	}
	text, _, err := readAll(file)
	if err != nil {
		return nil, nil, err
	}
	return parsed{blocklist.Parse(text, opts)}, nothing, nil
}

// parsed is a text in memory.
type parsed struct{ *blocklist.File }

func (p parsed) Has(host netip.Prefix) bool { _, ok := p.Lookup(host); return ok }
func (p parsed) Empty() bool                { return len(p.Bytes()) == 0 }
func (p parsed) Err() error                 { return nil }

// onDisk is a file that is read again for every look at its lines, so that next to nothing of a large one is in memory.
// The file must stay open.
type onDisk struct {
	file     *os.File
	opts     blocklist.Options
	hosts    hostList
	read     digest
	problems []blocklist.Problem
	bad      int
	// changed is set when a later look found another text: somebody wrote to the file meanwhile.
	changed error
}

// errNotThatPlain says that a file has to be read into memory: a host has several lines, or the last line has no end.
var errNotThatPlain = errors.New("not plain")

// readLines takes a first look at a file.
func readLines(file *os.File, opts blocklist.Options) (*onDisk, error) {
	d := &onDisk{file: file, opts: opts}
	scanner := blocklist.NewScanner(opts)
	var err error
	d.read, err = readPieces(file, func(p []byte) error {
		if p[len(p)-1] != '\n' {
			return errNotThatPlain
		}
		scanner.Scan(p, func(e *blocklist.Entry) { d.hosts.add(e.Ban.Host) })
		return nil
	})
	if err == nil && d.hosts.sort() {
		err = errNotThatPlain
	}
	d.problems, d.bad = scanner.Problems()
	return d, err
}

func (d *onDisk) Has(host netip.Prefix) bool           { return d.hosts.has(host) }
func (d *onDisk) Len() int                             { return d.hosts.len() }
func (d *onDisk) Empty() bool                          { return d.read.size == 0 }
func (d *onDisk) Problems() ([]blocklist.Problem, int) { return d.problems, d.bad }

func (d *onDisk) Err() error {
	if errors.Is(d.changed, errRaced) {
		return nil
	}
	return d.changed
}

// errEnough ends a look.
var errEnough = errors.New("enough")

func (d *onDisk) Entries() iter.Seq[blocklist.Entry] {
	return func(yield func(blocklist.Entry) bool) {
		scanner, stopped := blocklist.NewScanner(d.opts), false
		read, err := readPieces(d.file, func(p []byte) error {
			scanner.Scan(p, func(e *blocklist.Entry) { stopped = stopped || !yield(*e) })
			if stopped {
				return errEnough
			}
			return nil
		})
		switch {
		case err == nil && read != d.read:
			d.changed = errRaced
		case err != nil && err != errEnough:
			d.changed = err
		}
	}
}
