package mirror

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

const (
	// lateWriters is how long a version of the file that we replaced is listened to: a program that opened it before
	// (`slow-report >> blocklist`) writes to it, where nobody would ever read it.
	lateWriters = time.Minute
	// maxLate bounds how many versions are listened to.
	maxLate = 32
)

// A version is a file that had the blocklist's name and lost it to ours.
type version struct {
	file  *os.File // at the place behind what is known of it
	since time.Time
}

func (f *File) keepLate(file *os.File) {
	if file == nil {
		return
	}
	f.late = append(f.late, version{file, time.Now()})
	if len(f.late) > maxLate {
		f.late[0].file.Close()
		f.late = f.late[1:]
	}
}

// takeLate adds to the file what was written to versions that we replaced.
func (f *File) takeLate() error {
	var more []byte
	kept := f.late[:0]
	for _, v := range f.late {
		last := time.Since(v.since) > lateWriters
		text, err := v.take(last)
		more = append(more, text...)
		if errors.Is(err, errRewritten) {
			var name string
			if name, err = keepText(f.path, v.file); err == nil {
				f.log.Warn(fmt.Sprintf("blocklist: a text was saved over a version that had been replaced; it is kept as %s", name))
				err = errRewritten
			}
		}
		if err != nil && !errors.Is(err, errRewritten) {
			f.log.Warn(fmt.Sprintf("blocklist: reading what was written to a replaced version: %v", err))
		}
		if last || err != nil {
			v.file.Close()
			continue
		}
		kept = append(kept, v)
	}
	f.late = kept
	f.unwritten = append(f.unwritten, more...)
	if len(f.unwritten) == 0 {
		return nil
	}
	return f.addTheirs()
}

// addTheirs adds a person's lines that came to a version that was replaced.
func (f *File) addTheirs() error {
	text := f.unwritten
	if f.id == (identity{}) {
		return errRaced // read it first
	}
	if !f.endsLine() {
		text = append([]byte{'\n'}, text...)
	}
	if _, err := appendFile(f.path, text, f.id); err != nil {
		return err
	}
	f.log.Info(fmt.Sprintf("blocklist: %d bytes that were written to a version of the file from before its last rewrite are kept", len(f.unwritten)))
	f.unwritten = nil
	return errRaced // with ourselves: it has to be read
}

// take returns the whole lines that came; at the last time whatever came, as whole lines.
func (v *version) take(last bool) ([]byte, error) {
	from, err := v.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, err
	}
	info, err := v.file.Stat()
	if err != nil || info.Size() == from {
		return nil, err
	}
	if info.Size() < from {
		// An editor that writes in place has it, and the end of its text is not known before it is done.
		if !last {
			return nil, nil
		}
		return nil, errRewritten
	}
	if info.Size()-from > tooLarge {
		return nil, fmt.Errorf("%d MiB more: not read", (info.Size()-from)>>20)
	}
	text := make([]byte, info.Size()-from)
	if _, err := io.ReadFull(v.file, text); err != nil {
		return nil, err
	}
	end := bytes.LastIndexByte(text, '\n') + 1
	if end < len(text) && !last {
		if _, err := v.file.Seek(int64(end-len(text)), io.SeekCurrent); err != nil {
			return nil, err
		}
		return text[:end], nil
	}
	if end < len(text) {
		text = append(text, '\n')
	}
	return text, nil
}

// errRewritten says that a version we replaced was not added to but written anew.
var errRewritten = errors.New("it was written anew")

// keepText puts the text of a version that can't be merged beside the file, for a person to look at.
func keepText(path string, file *os.File) (name string, err error) {
	text, _, err := readAll(file)
	if err != nil {
		return "", err
	}
	name = oddName(path, 0)
	return name, os.WriteFile(name, text, 0o640)
}

// endsLine reports whether the file is empty or its last line has an end.
func (f *File) endsLine() (ends bool) {
	f.watch.ourRead(func() {
		file, err := openFile(f.path)
		if err != nil {
			return
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return
		}
		var last [1]byte
		if info.Size() == 0 {
			ends = true
		} else if _, err := file.ReadAt(last[:], info.Size()-1); err == nil {
			ends = last[0] == '\n'
		}
	})
	return ends
}
