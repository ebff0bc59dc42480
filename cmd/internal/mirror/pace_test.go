package mirror

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestPacer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pacer
		began := time.Now()
		repairs, news := 0, 0
		var last, longest time.Duration
		// Somebody undoes each repair at once, for an hour.
		for time.Since(began) < time.Hour {
			pause := p.pause(time.Now())
			longest = max(longest, pause)
			if pause > 0 && p.news(time.Now()) {
				news++
			}
			time.Sleep(pause)
			repairs++
			if repairs == freeRepairs {
				last = time.Since(began)
			}
		}
		if last != 0 {
			t.Errorf("the first %d repairs took %s, want none of them delayed", freeRepairs, last)
		}
		if most := freeRepairs + int(time.Hour/repairPause); repairs > most || repairs < most-2 {
			t.Errorf("%d repairs in an hour, want %d", repairs, most)
		}
		if longest != repairPause {
			t.Errorf("the longest pause was %s, want %s", longest, repairPause)
		}
		if news < 59 || news > 61 {
			t.Errorf("the log was told %d times in an hour, want once a minute", news)
		}
		// Once the fight is over, the next accident is repaired at once, and it is a new one.
		time.Sleep((freeRepairs + 1) * repairPause)
		for i := range freeRepairs {
			if pause := p.pause(time.Now()); pause != 0 || p.fighting() {
				t.Errorf("after the fight, repair %d waits %s", i+1, pause)
			}
		}
		if p.count != freeRepairs {
			t.Errorf("count %d after the fight, want it to begin anew", p.count)
		}
	})
}

func TestPacerAccidentsFarApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pacer
		for range 1000 {
			if pause := p.pause(time.Now()); pause != 0 {
				t.Fatalf("an accident every %s waits %s", repairPause, pause)
			}
			time.Sleep(repairPause)
		}
	})
}
