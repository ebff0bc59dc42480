package main

import (
	"fmt"
	"slices"
	"strings"
)

// A finding is what a check came to on one release.
type finding struct {
	Release, Section, Check string
	OK                      bool
	Note                    string // what is good to know, or what went wrong
}

func (f finding) String() string {
	switch {
	case !f.OK:
		return "FAIL: " + f.Note
	case f.Note != "":
		return "ok: " + f.Note
	}
	return "ok"
}

// A table has a row for each check and a column for each release.
type table struct {
	rows    []*row
	columns []string
}

type row struct {
	section, check string
	cells          map[string]finding // by release
}

// add fills a cell. A check that a release has no cell for was not made there.
func (t *table) add(f finding) {
	if !slices.Contains(t.columns, f.Release) {
		t.columns = append(t.columns, f.Release)
	}
	at := len(t.rows)
	for i, r := range t.rows {
		if r.section == f.Section && r.check == f.Check {
			r.cells[f.Release] = f
			return
		}
		if r.section == f.Section {
			at = i + 1
		}
	}
	t.rows = slices.Insert(t.rows, at, &row{f.Section, f.Check, map[string]finding{f.Release: f}})
}

func (t *table) count() (n int) {
	for _, r := range t.rows {
		n += len(r.cells)
	}
	return n
}

func (t *table) failed() (n int) {
	for _, r := range t.rows {
		for _, c := range r.cells {
			if !c.OK {
				n++
			}
		}
	}
	return n
}

// String is the table in Markdown.
func (t *table) String() string {
	var b strings.Builder
	b.WriteString("| check |")
	for _, c := range t.columns {
		fmt.Fprintf(&b, " Debian %s |", c)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(t.columns)) + "\n")
	section := ""
	for _, r := range t.rows {
		if r.section != section {
			section = r.section
			fmt.Fprintf(&b, "| **%s** |%s\n", section, strings.Repeat(" |", len(t.columns)))
		}
		fmt.Fprintf(&b, "| %s |", r.check)
		for _, c := range t.columns {
			text := "–"
			if cell, ok := r.cells[c]; ok {
				text = cell.String()
			}
			fmt.Fprintf(&b, " %s |", strings.NewReplacer("|", "/", "\n", "; ").Replace(text))
		}
		b.WriteString("\n")
	}
	return b.String()
}
