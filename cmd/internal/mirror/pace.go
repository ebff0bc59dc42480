package mirror

import "time"

const (
	// freeRepairs come at once, however fast they are asked for; one more every repairPause.
	freeRepairs = 5
	// repairPause is also the longest that a repair waits, and so how long a host may be without protection once
	// somebody has stopped undoing repairs.
	repairPause = time.Second
	// fightNews is how often the log tells of a fight that goes on.
	fightNews = time.Minute
)

// A pacer slows down repairs when somebody keeps undoing them, so that a fight over the table costs neither side a
// processor. The zero value is ready. One goroutine uses it.
type pacer struct {
	due   time.Time // when all repairs so far would have been made, at one every repairPause
	began time.Time // of the fight
	told  time.Time // when the log was told of it; zero: not yet
	count int       // repairs in the fight
}

// pause is how long the repair that is wanted now has to wait; more than 0 in a fight. Each call is one repair.
func (p *pacer) pause(now time.Time) time.Duration {
	if p.due.Before(now) {
		*p = pacer{due: now, began: now}
	}
	pause := p.due.Sub(now) - (freeRepairs-1)*repairPause
	p.due = p.due.Add(repairPause)
	p.count++
	return max(0, pause)
}

// news reports whether the log is to be told of the fight now: at its beginning, and then every fightNews.
func (p *pacer) news(now time.Time) bool {
	if !p.told.IsZero() && now.Sub(p.told) < fightNews {
		return false
	}
	p.told = now
	return true
}

// fighting reports whether the log has been told of a fight, so that it need not be told of each repair.
func (p *pacer) fighting() bool { return !p.told.IsZero() }
