package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"banset/cmd/internal/mirror"
	"banset/cmd/internal/source"
	"banset/policy"
	"banset/policy/hosts"
	"banset/policy/judge"
	"banset/policy/ledger"
)

// court is the one goroutine that owns the judgement. Hits come to it from the sources, everything else as functions
// to run; the mirrors come for the work that it leaves in the book.
type court struct {
	judge *judge.Judge
	log   *slog.Logger
	now   func() time.Time
	began time.Time // itself, for landing

	direct bool // there is no goroutine: do runs at once

	found     chan finding // from backlogs
	foundLive chan finding // in lines that were just written; heard before what is found in backlogs
	calls     chan call
	ready     chan struct{}
	over      chan struct{} // closed when it runs no more

	// wake tells the mirrors and the state that there is work for them.
	wakeKernel, wakeFile, wakeState func()

	stats     map[string]*policyStats
	positions map[string]source.Position // as judged, by positionKey
	moved     map[string]struct{}        // positions that the state has yet to be told of
	recent    recent
	waiters   []*waiter
	backlog   map[string]time.Time // logs that sent lines from a backlog, and when last

	burst   time.Time           // until when nobody is woken, since the rest of a burst is to come; zero: none
	owed    time.Time           // since when the kernel has not had all bans; zero: it has
	told    pieces[told]        // is to be logged, when who protects has what it needs
	landed  func(time.Duration) // told how long a live line's ban took into the kernel; nil: nobody
	landing pieces[landing]
}

// finding is what a source's goroutine found in one chunk.
type finding struct {
	log  string
	live bool
	more bool // the rest of a burst follows
	hits pieces[policy.Hit]
	next source.Position
	done []source.Position

	lanes []*lane // of its log's names
}

type call struct {
	f    func(*judge.Judge)
	done chan struct{}
}

// told is a hit and what the judge said, as far as the log tells of it: a burst brings thousands.
type told struct {
	hit      *policy.Hit
	counted  hosts.Key // its host
	by       string    // the policy whose ban stands
	until    int64     // and its end
	failures int32
	offences int32
	kind     judge.Kind
	recent   bool
}

const (
	// maxTold bounds what waits to be logged.
	maxTold = 16_000
	// toldAtOnce takes some 20 µs.
	toldAtOnce = 8
)

// landing is a ban on its way into the kernel. It has no pointers: a burst brings thousands.
type landing struct {
	host    hosts.Key
	arrived time.Duration // its line, after the court began
}

type policyStats struct {
	found, banned uint64
	given, ended  uint64 // bans, whoever gave them, since the hooks are told
	last          time.Time
}

// recentFailure is how old a failure may be to get a log line of its own.
const recentFailure = time.Minute

// waiter waits until both copies hold what the book says of some hosts.
type waiter struct {
	hosts []netip.Prefix
	done  chan error
}

func newCourt(j *judge.Judge, log *slog.Logger) *court {
	idle := func() {}
	c := &court{
		judge: j, log: log, now: time.Now,
		found: make(chan finding, 64), foundLive: make(chan finding, 64), calls: make(chan call), ready: make(chan struct{}), over: make(chan struct{}),
		wakeKernel: idle, wakeFile: idle, wakeState: idle,
		stats:     make(map[string]*policyStats),
		positions: make(map[string]source.Position),
		moved:     make(map[string]struct{}),
		backlog:   make(map[string]time.Time),
		began:     time.Now(),
	}
	c.unread()
	return c
}

// unread says that logs are about to be looked at, which may have a backlog. Call it within do.
func (c *court) unread() { c.backlog["(logs not looked at yet)"] = c.now() }

func (c *court) String() string         { return "court" }
func (c *court) Ready() <-chan struct{} { return c.ready }

// do runs f in the court's goroutine. It is mirror.Do.
func (c *court) do(ctx context.Context, f func(*judge.Judge)) error {
	if c.direct {
		f(c.judge)
		return nil
	}
	x := call{f, make(chan struct{})}
	select {
	case c.calls <- x:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.over:
		return context.Canceled
	}
	<-x.done
	return nil
}

// Run judges until ctx ends. The tasks that send to it have ended by then.
func (c *court) Run(ctx context.Context) error {
	defer close(c.over)
	defer c.report(maxTold)
	close(c.ready)
	end := time.NewTimer(0)
	defer end.Stop()
	first := time.Duration(0) // how long the kernel goes first
	for {
		var rest <-chan struct{} // to report
		if c.told.len() > 0 && first == 0 {
			rest = closed
		}
		select {
		case <-ctx.Done():
			return nil
		case x := <-c.calls:
			x.f(c.judge)
			close(x.done)
		case f := <-c.foundLive:
			c.hear(f)
		case f := <-c.found:
			c.hearLive()
			c.hear(f)
		case <-end.C:
		case <-rest:
			c.report(toldAtOnce)
			continue
		}
		c.endBans()
		first = c.wakeAll()
		if c.told.len() > 0 && first == 0 {
			runtime.Gosched() // whoever was woken goes first
		}
		next, ok := c.judge.Book().NextEnd()
		wait := max(0, time.Unix(next, 0).Sub(c.now()))
		if first > 0 && (!ok || first < wait) {
			ok, wait = true, first
		}
		if ok {
			end.Reset(wait)
		} else {
			end.Stop()
		}
	}
}

// kernelFirst is how long the file, the state and the log wait for the kernel to have a ban: on a machine of one core
// their work would hold up the one thing that protects. A transaction of ten thousand bans takes a few tens of
// milliseconds; a kernel that refuses them must not keep them from the disk.
const kernelFirst = 100 * time.Millisecond

// burstWaits is how long the first part of a burst waits for the rest, to be banned together with it: a burst's parts
// come a millisecond after one another.
const burstWaits = 100 * time.Millisecond

// wakeAll wakes whoever has work, and returns how long everybody else waits for the kernel's mirror.
func (c *court) wakeAll() (first time.Duration) {
	if rest := time.Until(c.burst); rest > 0 {
		return rest
	}
	book := c.judge.Book()
	switch {
	case book.Pending(ledger.Kernel) == 0:
		c.owed = time.Time{}
	case c.owed.IsZero():
		c.owed = time.Now()
		first = kernelFirst
	default:
		first = max(0, kernelFirst-time.Since(c.owed))
	}
	if book.Waiting(ledger.Kernel) > 0 {
		defer c.wakeKernel() // the last that is woken runs first
	}
	if first > 0 {
		return first
	}
	if book.Waiting(ledger.File) > 0 {
		c.wakeFile()
	}
	if book.Waiting(ledger.State) > 0 || len(c.moved) > 0 {
		c.wakeState()
	}
	return 0
}

// endBans takes the bans out of the book whose time the kernel has let run out.
func (c *court) endBans() {
	for _, b := range c.judge.Book().EndOver(c.now()) {
		c.log.Info(fmt.Sprintf("[%s] Unban %s (time over)", mirror.Label(b), mirror.Host(b.Host)))
	}
}

// places is the positions of all logs. Call it within do.
func (c *court) places() []source.Position { return slices.Collect(maps.Values(c.positions)) }

// hearRest hears what the sources, which have ended, left in the channels: else the positions would lie behind what was
// sent, and the next reader would send it again.
func (c *court) hearRest() {
	for {
		c.hearLive()
		select {
		case f := <-c.found:
			c.hear(f)
		default:
			return
		}
	}
}

// hear judges what one chunk brought and takes over its position: the two are committed together.
func (c *court) hear(f finding) {
	defer func() {
		for _, l := range f.lanes {
			l.waiting.Add(-1)
		}
	}()
	for _, piece := range f.hits.all {
		for together := range slices.Chunk(piece, judge.Together) {
			c.judge.Expect(together)
			for i := range together {
				if c.hit(f.log, &together[i]); c.told.len() == maxTold {
					c.report(maxTold)
				}
			}
		}
	}
	switch {
	case f.more && c.burst.IsZero():
		c.burst = time.Now().Add(burstWaits)
	case f.live && !f.more: // a backlog goes on beside a burst
		c.burst = time.Time{}
	}
	for _, p := range f.done {
		key := positionKey(p)
		delete(c.positions, key)
		c.moved[key] = struct{}{}
	}
	key := positionKey(f.next)
	c.positions[key] = f.next
	c.moved[key] = struct{}{}
	switch {
	case !f.live:
		c.backlog[f.log] = c.now()
	case len(c.backlog) > 0:
		delete(c.backlog, f.log)
	}
}

const (
	// forgetAtOnce bounds the work of one forget: the rest follows with the next commit.
	forgetAtOnce = 10_000
	// forgetLate is how long after its findtime a failure is still kept: a live line may be that late.
	forgetLate = 5 * time.Minute
)

// forget drops hosts whose failures no policy can count any more. Not while a backlog is read, nor before it is known
// that there is none: its time is not now.
func (c *court) forget(j *judge.Judge) {
	now := c.now()
	for log, at := range c.backlog {
		if now.Sub(at) < time.Minute {
			return
		}
		delete(c.backlog, log)
	}
	j.Forget(now.Add(-forgetLate), forgetAtOnce)
}

func (c *court) hit(log string, h *policy.Hit) {
	v := c.judge.Hit(log, *h)
	if v.Kind == judge.Dropped {
		return
	}
	s := c.stat(v.Policy)
	s.found++
	s.last = v.At
	c.recent.add(v, h.Fields)
	if v.Kind == judge.Banned || v.Kind == judge.Moved {
		s.banned++
		if h.Live && c.landed != nil && c.landing.len() < maxLanding {
			c.landing.add(landing{hosts.KeyOf(v.Host, 0), h.Arrived.Sub(c.began)})
		}
	}
	// Old failures of a backlog are told by their bans: a line each would be a second copy of the log.
	if recent := h.Arrived.Sub(v.At).Abs() < recentFailure; recent || v.Kind != judge.Found {
		c.told.add(told{
			hit: h, counted: hosts.KeyOf(v.Host, 0), by: v.Ban.Policy, until: v.Ban.Until, kind: v.Kind, recent: recent,
			failures: int32(min(v.Failures, math.MaxInt32)), offences: int32(min(v.Offences, math.MaxInt32)),
		})
	}
}

// report logs up to most of what was judged.
func (c *court) report(most int) {
	for v := range c.told.take(most) {
		c.logHit(v)
	}
}

func (c *court) logHit(v *told) {
	name, host := v.hit.Policy, mirror.Host(v.counted.Host())
	if v.kind == judge.Allowed {
		if v.hit.Live {
			c.log.Info(fmt.Sprintf("[%s] Ignore %s: on the allowlist", name, host))
		}
		return
	}
	if v.recent {
		c.log.Info(fmt.Sprintf("[%s] Found %s%s", name, mirror.Host(v.hit.Host), fieldsText(v.hit.Fields)))
	}
	step := ""
	if v.offences > 1 {
		step = fmt.Sprintf(", offence %d", v.offences)
	}
	stands := policy.Ban{Policy: v.by, Until: v.until}
	switch until := mirror.Until(stands); v.kind {
	case judge.Banned:
		c.log.Info(fmt.Sprintf("[%s] Ban %s %s (%s%s)", name, host, until, plural(int(v.failures), "failure"), step))
	case judge.Moved:
		c.log.Info(fmt.Sprintf("[%s] Ban %s now %s (%s%s)", name, host, until, plural(int(v.failures), "failure"), step))
	case judge.Again:
		c.log.Info(fmt.Sprintf("[%s] %s already banned %s by %s", name, host, until, mirror.Label(stands)))
	}
}

// plural is a number with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if stem, ok := strings.CutSuffix(noun, "y"); ok {
		return strconv.Itoa(n) + " " + stem + "ies"
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// fieldsText is the named groups of a hit for a log line. Their text is an attacker's: quoted, and cut.
func fieldsText(fields []policy.Field) string {
	const most = 64
	text := ""
	for _, f := range fields {
		v := f.Value
		if len(v) > most {
			v = v[:most]
		}
		text += " " + f.Name + "=" + strconv.QuoteToASCII(v)
	}
	return text
}

func (c *court) stat(name string) *policyStats {
	s := c.stats[name]
	if s == nil {
		s = &policyStats{}
		c.stats[name] = s
	}
	return s
}

// copied is told by a mirror after each piece of work: err says why it could not be done.
func (c *court) copied(err error) {
	if err == nil {
		c.land()
	}
	c.waiters = slices.DeleteFunc(c.waiters, func(w *waiter) bool {
		if err == nil && !c.held(w.hosts) {
			return false
		}
		w.done <- err
		return true
	})
}

func (c *court) held(hosts []netip.Prefix) bool {
	for _, h := range hosts {
		if !c.judge.Book().Holds(ledger.Kernel, h) || !c.judge.Book().Holds(ledger.File, h) {
			return false
		}
	}
	return true
}

// await adds a waiter; call it within do. The error arrives in the channel once.
func (c *court) await(hosts []netip.Prefix) <-chan error {
	w := &waiter{hosts, make(chan error, 1)}
	if c.held(hosts) {
		w.done <- nil
	} else {
		c.waiters = append(c.waiters, w)
	}
	return w.done
}

// recent is the last failures, for `why`: bounded, because their text comes from the log.
type recent struct {
	ring [1024]recentHit
	next int
}

type recentHit struct {
	policy string
	host   netip.Prefix
	at     time.Time
	fields []policy.Field
}

func (r *recent) add(v judge.Verdict, fields []policy.Field) {
	r.ring[r.next] = recentHit{v.Policy, v.Host, v.At, fields}
	r.next = (r.next + 1) % len(r.ring)
}

// last is the fields of the host's last failure that a policy counted, if it is still known.
func (r *recent) last(name string, host netip.Prefix) []policy.Field {
	for i := range r.ring {
		h := r.ring[(r.next-1-i+2*len(r.ring))%len(r.ring)]
		if h.policy == name && h.host == host {
			return h.fields
		}
	}
	return nil
}
