package main

import (
	"fmt"
	"slices"
	"strings"
)

// A table has a row for each check and a column for each release.
type table struct {
	rows    []*row
	columns []string
	current string
}

type row struct {
	section, check string
	cells          map[string]cell
}

type cell struct {
	ok   bool
	note string
}

func (c cell) String() string {
	switch {
	case !c.ok:
		return "FAIL: " + c.note
	case c.note != "":
		return "ok: " + c.note
	}
	return "ok"
}

// section says to which section the rows belong that are added next.
func (t *table) section(name string) { t.current = name }

// add fills a cell. A check that a release has no cell for was not made there.
func (t *table) add(check, release string, c cell) {
	if !slices.Contains(t.columns, release) {
		t.columns = append(t.columns, release)
	}
	at := -1
	for i, r := range t.rows {
		if r.section == t.current && r.check == check {
			r.cells[release] = c
			return
		}
		if r.section == t.current {
			at = i
		}
	}
	r := &row{t.current, check, map[string]cell{release: c}}
	if at < 0 {
		at = len(t.rows) - 1
	}
	t.rows = slices.Insert(t.rows, at+1, r)
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
			if !c.ok {
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
