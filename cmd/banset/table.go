package main

import (
	"bufio"
	"io"
	"strings"
	"unicode/utf8"
)

// A table is rows of text in aligned columns. Cells are printed as given: escape foreign text first.
type table struct {
	head  []string // a head that begins with '>' is of a column of numbers, aligned right
	cells [][]string
}

func newTable(head ...string) *table { return &table{head: head} }

func (t *table) row(cells ...string) { t.cells = append(t.cells, cells) }

// writeTo prints the head and the rows, columns two spaces apart, with no blanks at the end of a line.
func (t *table) writeTo(w io.Writer) error {
	width := make([]int, len(t.head))
	head := make([]string, len(t.head))
	for i, h := range t.head {
		head[i] = strings.TrimPrefix(h, ">")
		width[i] = utf8.RuneCountInString(head[i])
	}
	for _, row := range t.cells {
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
	for _, row := range t.cells {
		line(row)
	}
	return out.Flush()
}
