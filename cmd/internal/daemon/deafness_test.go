package daemon

import (
	"strings"
	"testing"
	"time"

	"banset/cmd/internal/source"
)

// TestDeafness: a reader that was found deaf is trouble for an hour, though it hears again.
func TestDeafness(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		times uint64
		ago   time.Duration
		want  string // part of what is said; "": nothing
	}{
		{0, 0, ""},
		{1, time.Minute, "once since the start, last at 2026-11-24 11:59:00Z"},
		{7, 59 * time.Minute, "7 times since the start, last at 2026-11-24 11:01:00Z"},
		{7, 61 * time.Minute, ""},
	} {
		got := deafness(source.Status{Name: "journal", Deaf: c.times, DeafAt: now.Add(-c.ago)}, now)
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%d times, %s ago: %q, want %q", c.times, c.ago, got, c.want)
		}
	}
}
