package main

import (
	"bufio"
	"io"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"
)

// A table is rows of text in aligned columns. Cells are printed as given: escape foreign text first.
type table struct {
	head  []string // a head that begins with '>' is of a column of numbers, aligned right
	cells [][]string
	// rows yields the rows, the same each time; of a long table they are made when they are needed. A row is valid until
	// the next one.
	rows iter.Seq[[]string]
}

func newTable(head ...string) *table {
	t := &table{head: head}
	t.rows = func(yield func([]string) bool) { slices.Values(t.cells)(yield) }
	return t
}

func (t *table) row(cells ...string) { t.cells = append(t.cells, cells) }

// writeTo prints the head and the rows, columns two spaces apart, with no blanks at the end of a line.
func (t *table) writeTo(w io.Writer) error {
	width := make([]int, len(t.head))
	head := make([]string, len(t.head))
	for i, h := range t.head {
		head[i] = strings.TrimPrefix(h, ">")
		width[i] = utf8.RuneCountInString(head[i])
	}
	for row := range t.rows {
		for i, c := range row {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	out := bufio.NewWriter(w)
	var b strings.Builder
	line := func(row []string) {
		b.Reset()
		for i, c := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
			if i > 0 {
				b.WriteString("  ")
			}
			if t.head[i][0] == '>' {
				b.WriteString(pad + c)
			} else {
				b.WriteString(c + pad)
			}
		}
		out.WriteString(strings.TrimRight(b.String(), " "))
		out.WriteByte('\n')
	}
	line(head)
	for row := range t.rows {
		line(row)
	}
	return out.Flush()
}
