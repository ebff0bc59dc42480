package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// maintainer stands in the control file and below each entry of Debian's changelog.
const maintainer = "The banset authors <banset@lists.example.org>"

// A release is what the package says about itself.
type release struct {
	version string // Debian's
	time    time.Time
	changes []entry // the newest first
}

// An entry is one version's section of CHANGELOG.md.
type entry struct {
	version string
	date    string // YYYY-MM-DD, or "unreleased"
	items   []string
}

// readRelease reads the changelog. The time of an unreleased version is SOURCE_DATE_EPOCH or else that of the last
// commit, and is part of the version, so that a later build is an upgrade.
func readRelease(root, version string) (release, error) {
	text, err := os.ReadFile(filepath.Join(root, "deploy", "CHANGELOG.md"))
	if err != nil {
		return release{}, err
	}
	r := release{version: version, changes: parseChanges(string(text))}
	if len(r.changes) == 0 {
		return r, errors.New("deploy/CHANGELOG.md has no version")
	}
	newest := r.changes[0]
	if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" || newest.date == "unreleased" {
		if epoch == "" {
			if epoch, err = output(root, "git", "log", "-1", "--format=%ct"); err != nil {
				return r, fmt.Errorf("the time of an unreleased version (or set SOURCE_DATE_EPOCH): %w", err)
			}
		}
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return r, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
		}
		r.time = time.Unix(seconds, 0).UTC()
	} else if r.time, err = time.Parse(time.DateOnly, newest.date); err != nil {
		return r, fmt.Errorf("deploy/CHANGELOG.md, version %s: %w", newest.version, err)
	}
	if r.version == "" {
		r.version = newest.version + "-1"
		if newest.date == "unreleased" {
			r.version = newest.version + "~" + r.time.Format("20060102.150405") + "-1"
		}
	}
	return r, nil
}

var heading = regexp.MustCompile(`^## (\S+) \((\S+)\)$`)

// parseChanges reads the sections of the changelog: "## VERSION (DATE)" and below it a list.
func parseChanges(text string) []entry {
	var all []entry
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if m := heading.FindStringSubmatch(line); m != nil {
			all = append(all, entry{version: m[1], date: m[2]})
			continue
		}
		if len(all) == 0 {
			continue
		}
		e := &all[len(all)-1]
		if item, ok := strings.CutPrefix(line, "- "); ok {
			e.items = append(e.items, item)
		} else if more, ok := strings.CutPrefix(line, "  "); ok && len(e.items) > 0 {
			e.items[len(e.items)-1] += " " + strings.TrimSpace(more)
		}
	}
	return all
}

// debianChangelog is the changelog in Debian's form (deb-changelog(5)).
func (r *release) debianChangelog() ([]byte, error) {
	var b strings.Builder
	for i, e := range r.changes {
		version, at := e.version+"-1", r.time
		if i == 0 {
			version = r.version
		} else {
			var err error
			if at, err = time.Parse(time.DateOnly, e.date); err != nil {
				return nil, fmt.Errorf("deploy/CHANGELOG.md, version %s: %w", e.version, err)
			}
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "banset (%s) unstable; urgency=medium\n\n", version)
		for _, item := range e.items {
			b.WriteString(wrap(item, "  * ", "    ", 80))
		}
		fmt.Fprintf(&b, "\n -- %s  %s\n", maintainer, at.Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	}
	return []byte(b.String()), nil
}

// wrap breaks text into lines of at most width columns, the first one behind first, the others behind next.
func wrap(text, first, next string, width int) string {
	var b strings.Builder
	line := first
	empty := true
	for word := range strings.FieldsSeq(text) {
		if !empty && len(line)+1+len(word) > width {
			b.WriteString(line + "\n")
			line, empty = next, true
		}
		if !empty {
			line += " "
		}
		line, empty = line+word, false
	}
	return b.String() + line + "\n"
}
