package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"banset/policy/match"
)

// CheckSamples runs the samples of every filter through the code that reads logs, and reports each that gets another
// verdict than it names, at the sample. A failregex that no sample of its filter hits is a warning, unless the filter
// has no samples at all. now resolves stamps without a year; a sample that says its time is read a minute after that.
func (c *Config) CheckSamples(now time.Time) Problems {
	l := new(list)
	for _, name := range slices.Sorted(maps.Keys(c.Filters)) {
		c.Filters[name].checkSamples(l, now)
	}
	return l.sorted()
}

func (f *Filter) checkSamples(l *list, now time.Time) {
	if len(f.Samples) == 0 || f.Filter == nil {
		return
	}
	hit := make([]bool, len(f.Fail))
	for _, s := range f.Samples {
		f.checkSample(l, s, now, hit)
	}
	for i, ok := range hit {
		if !ok {
			l.warn(f.failPos[i], "add a sample: the line, and the host that it names",
				"no sample of filter %s hits this failregex, or an earlier one hits first", f.Name)
		}
	}
}

// checkSample checks one sample and notes which pattern hit.
func (f *Filter) checkSample(l *list, s Sample, now time.Time, hit []bool) {
	if !s.Time.IsZero() {
		now = s.Time.Add(time.Minute)
	}
	// Each sample is a log of its own: what one teaches about the form of time stamps must not help the next.
	var found *match.Match
	scanner := match.NewScanner([]match.Job{{Policy: f.Name, Filter: f.Filter, Date: f.Date, Zone: f.Zone}})
	scanner.Scan([]byte(s.Line+"\n"), now, func(m match.Match) { found = &m })

	const explain = "banset test explains each step of a line"
	if found == nil {
		if s.Host.IsValid() {
			l.fail(s.Pos, explain, "filter %s does not match its sample, which names %s", f.Name, shownHost(s.Host))
		}
		return
	}
	if found.Pattern < len(hit) {
		hit[found.Pattern] = true
	}
	by := fmt.Sprintf("filter %s (failregex %d)", f.Name, found.Pattern+1)
	switch {
	case !s.Host.IsValid():
		l.fail(s.Pos, explain, "%s finds %s in a sample that must not match", by, shownHost(found.Host))
	case found.Host.Masked() != s.Host:
		l.fail(s.Pos, explain, "%s finds %s in its sample, which names %s", by, shownHost(found.Host), shownHost(s.Host))
	case s.Time.IsZero():
	case found.Stamp.IsZero():
		l.fail(s.Pos, explain, "%s finds no time in its sample, which says %s", by, shownTime(s.Time))
	case !found.Stamp.Truncate(time.Second).Equal(s.Time.Truncate(time.Second)):
		l.fail(s.Pos, explain, "%s finds the time %s in its sample, which says %s", by,
			shownTime(found.Stamp.In(s.Time.Location())), shownTime(s.Time))
	}
}

func shownTime(t time.Time) string { return t.Format("2006-01-02 15:04:05 Z07:00") }

// shownHost is an address without the length of its prefix where that is all of it.
func shownHost(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
