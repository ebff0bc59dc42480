package config

import (
	"slices"
	"strings"
)

// nearest is the word of known that s was probably meant to be, or "".
func nearest(s string, known []string) string {
	if len(s) > 2*maxWord {
		return ""
	}
	s = strings.ToLower(s)
	best, word := min(1+len(s)/3, len(s)-1), ""
	for _, k := range known {
		if d := distance(s, strings.ToLower(k)); d <= best && (word == "" || d < best) {
			best, word = d, k
		}
	}
	return word
}

// maxWord bounds the words that are compared.
const maxWord = 64

// distance is the number of bytes to insert, drop, exchange or swap with their neighbour that make b of a.
func distance(a, b string) int {
	if len(a) > 2*maxWord || len(b) > 2*maxWord {
		return len(a) + len(b)
	}
	row := func() []int { return make([]int, len(b)+1) }
	before, last, now := row(), row(), row()
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		now[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			now[j] = min(last[j]+1, now[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], before[j-2]+1)
			}
		}
		before, last, now = last, now, before
	}
	return last[len(b)]
}

// oneOf lists words for a hint, the nearest to s first: "did you mean drop? allowed: drop, reject".
func oneOf(s string, known []string) string {
	const most = 40
	var hint string
	if word := nearest(s, known); word != "" {
		hint = "did you mean " + word + "? "
	}
	if len(known) == 0 {
		return hint
	}
	known = slices.Clone(known)
	if len(known) > most {
		known = append(known[:most], "...")
	}
	return hint + "allowed: " + strings.Join(known, ", ")
}
