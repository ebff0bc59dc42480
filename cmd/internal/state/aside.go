package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// A file moved aside is named after the state, this, and the date in UTC.
	asideSuffix = ".broken-"
	asideDate   = "2006-01-02T150405.000Z"
	// keepAside is how many of them stay; the oldest go, so that a failing disk does not fill itself.
	keepAside = 5
)

// moveAside renames the file at path and returns its new name. It never overwrites another file.
func moveAside(path string, now time.Time) (string, error) {
	// Always a later date than the last one's, even if the clock went back or stands still: the order of the names is
	// the order of events, and what was just moved is never the oldest.
	now = now.UTC()
	if old := asides(path); len(old) > 0 {
		if last := old[len(old)-1].Add(time.Millisecond); last.After(now) {
			now = last
		}
	}
	aside := path + asideSuffix + now.Format(asideDate)
	err := renameNew(path, aside)
	for ; errors.Is(err, unix.EEXIST); err = renameNew(path, aside) {
		now = now.Add(time.Millisecond)
		aside = path + asideSuffix + now.Format(asideDate)
	}
	if err == nil {
		err = syncDir(path)
	}
	if err != nil {
		return "", err
	}
	// That removing fails is no reason not to start.
	old := asides(path)
	for _, date := range old[:max(0, len(old)-keepAside)] {
		_ = os.Remove(path + asideSuffix + date.Format(asideDate))
	}
	return aside, nil
}

// asides lists the dates of the files that were moved aside, in order. Only what has exactly our form of a name counts:
// a person may keep files beside it.
func asides(path string) []time.Time {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil
	}
	var dates []time.Time
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name(), filepath.Base(path)+asideSuffix)
		if !ok || !e.Type().IsRegular() {
			continue
		}
		if date, err := time.Parse(asideDate, text); err == nil {
			dates = append(dates, date)
		}
	}
	slices.SortFunc(dates, time.Time.Compare)
	return dates
}

func asideNotice(path, aside string, why error) string {
	lost := "failure counts, ladders and places in the logs BEGIN ANEW"
	if errors.Is(why, ErrNewer) {
		return fmt.Sprintf("STATE SET ASIDE: %s was %v. It is kept as %s; %s. To go on with it, "+
			"stop banset, install the newer version and move the file back.", path, why, aside, lost)
	}
	return fmt.Sprintf("STATE LOST: %s was %v. It is kept as %s; %s.", path, why, aside, lost)
}

// renameNew renames a file to a name that must be free, or fails with EEXIST.
func renameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		// Not every file system (NFS, some FUSE) knows the flag.
		if err = unix.Link(from, to); err == nil {
			err = unix.Unlink(from)
		}
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// syncDir makes what was renamed beside path last through a power cut.
func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}
