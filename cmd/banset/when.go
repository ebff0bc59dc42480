package main

import (
	"fmt"
	"time"
)

// stampLayout is how a time is shown to a person: the way blocklist and log lines write it, so that they can be compared.
const stampLayout = "2006-01-02 15:04:05Z"

const day = 24 * time.Hour

// unknown reports whether t is no time: the zero one, or the epoch, which a blocklist's line without a date has.
func unknown(t time.Time) bool { return t.IsZero() || t.Unix() == 0 }

// stamp shows t alone; "-" if it is unknown.
func stamp(t time.Time) string {
	if unknown(t) {
		return "-"
	}
	return t.UTC().Format(stampLayout)
}

// when shows t and how far off it is: "2026-11-23 18:12:45Z (3h ago)", "… (in 12d)".
func when(t, now time.Time) string {
	if unknown(t) {
		return "-"
	}
	return stamp(t) + " (" + distance(t, now) + ")"
}

func distance(t, now time.Time) string {
	d := t.Sub(now)
	switch {
	case d >= time.Second:
		return "in " + about(d)
	case d > -time.Second:
		return "now"
	}
	return about(-d) + " ago"
}

// until shows the end of a ban: "… (in 12d)", "… (over)" or "forever".
func until(t, now time.Time) string {
	switch {
	case t.IsZero():
		return "forever"
	case !t.After(now):
		return stamp(t) + " (over)"
	}
	return when(t, now)
}

// ending is until within a sentence: "until … (in 12d)" or "forever".
func ending(t, now time.Time) string {
	if t.IsZero() {
		return "forever"
	}
	return "until " + until(t, now)
}

// about rounds d down to one unit that still says something: 95s, 59m, 36h, 300d, 2y.
func about(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d < 730*day:
		return fmt.Sprintf("%dd", d/day)
	}
	return fmt.Sprintf("%dy", d/(365*day))
}

// size shows bytes in a unit of its own: 812 B, 12.3 MiB.
func size(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n)/1024, 0
	const units = "KMGTPE"
	for f >= 1024 && unit < len(units)-1 {
		f /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", f, units[unit])
}

// plural is "1 ban", "2 bans".
func plural[N int | uint64 | int64](n N, one string) string {
	if n == 1 {
		return "1 " + one
	}
	switch one[len(one)-1] {
	case 'y':
		return fmt.Sprintf("%d %sies", n, one[:len(one)-1])
	case 'x':
		return fmt.Sprintf("%d %ses", n, one)
	}
	return fmt.Sprintf("%d %ss", n, one)
}
