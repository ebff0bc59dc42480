package daemon

import (
	"net/netip"
	"testing"
	"time"

	"banset/policy"
)

// A failure that file and journal both hold counts once, on whichever side of the hand-over either stamp lies.
func TestChoiceCountsOnce(t *testing.T) {
	t.Parallel()
	cut := time.Date(2026, 11, 23, 18, 12, 45, 0, time.UTC)
	hit := func(host string, after time.Duration) policy.Hit {
		at := cut.Add(after)
		return policy.Hit{Host: netip.MustParsePrefix(host + "/32"), Stamp: at, Arrived: at}
	}
	const a, b = "192.0.2.1", "192.0.2.2"
	type step struct {
		from  origin
		hit   policy.Hit
		count bool
	}
	skewed := hit(a, -time.Hour)
	skewed.Live, skewed.Arrived = true, cut.Add(time.Hour)
	for name, steps := range map[string][]step{
		"long before and after": {{fromJournal, hit(a, -time.Minute), false}, {fromJournal, hit(a, time.Minute), true}},
		"a twin, later":         {{fromFile, hit(a, -time.Second), true}, {fromJournal, hit(a, -time.Second+time.Millisecond), false}},
		"a twin counts for one": {{fromFile, hit(a, 0), true}, {fromJournal, hit(a, 1), false}, {fromJournal, hit(a, 2), true}},
		"three and three": {{fromFile, hit(a, 0), true}, {fromFile, hit(a, 1), true}, {fromFile, hit(a, 2), true},
			{fromJournal, hit(a, 3), false}, {fromJournal, hit(a, 4), false}, {fromJournal, hit(a, 5), false}},
		"no twin: another host":     {{fromFile, hit(a, 0), true}, {fromJournal, hit(b, 0), true}},
		"no twin: the same origin":  {{fromFile, hit(a, 0), true}, {fromFile, hit(a, 0), true}},
		"no twin: too far apart":    {{fromFile, hit(a, -2*time.Second), true}, {fromJournal, hit(a, time.Second), true}},
		"live, the log's clock off": {{fromFile, skewed, true}},
	} {
		c := &choice{cut: cut}
		for i, s := range steps {
			if got := c.counts(s.hit, s.from); got != s.count {
				t.Errorf("%s: step %d counts %v", name, i, got)
			}
		}
	}
	// After a start it is not known what the other counted: what is not later is its.
	c := &choice{cut: cut, fresh: true}
	for after, want := range map[time.Duration]bool{-time.Second: false, 0: false, time.Millisecond: true, time.Hour: true} {
		if got := c.counts(hit(a, after), fromJournal); got != want {
			t.Errorf("after a start, %v from the cut: counts %v", after, got)
		}
	}
	// A life ended before the place in the file was committed, and the journal was the origin. The file begins anew: what the
	// journal counted then, or counts once more now, does not count again.
	c = &choice{past: cut, cut: cut.Add(time.Second)}
	for i, s := range []step{
		{fromJournal, hit(a, 300*time.Millisecond), true}, {fromJournal, hit(a, 400*time.Millisecond), true},
		{fromFile, hit(a, -time.Second), false}, {fromFile, hit(a, 2*time.Millisecond), false},
		{fromFile, hit(a, 301*time.Millisecond), false}, {fromFile, hit(a, 401*time.Millisecond), false},
		{fromFile, hit(a, 2*time.Second), true},
	} {
		if got := c.counts(s.hit, s.from); got != s.count {
			t.Errorf("after a life that read the journal: step %d counts %v", i, got)
		}
	}
	// Without a hand-over everything counts.
	c = &choice{}
	for range 3 * manyTwins {
		if !c.counts(hit(a, 0), fromFile) {
			t.Fatal("what has no twin does not count")
		}
	}
	if len(c.twins) > manyTwins {
		t.Errorf("%d twins are remembered", len(c.twins))
	}
}
