package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"banset/nft"
	"banset/policy/judge"
	"banset/policy/ledger"
)

const (
	// perTransaction bounds one push to the kernel: it is one transaction, so that the time that is left of each ban is
	// told when it is about to count.
	perTransaction = 10_000
	// lastPush is how long the work that is pending at the end may take.
	lastPush = 5 * time.Second
	// resolution is how far the ends of one ban may differ between book and kernel and still be the same.
	resolution = 2 * time.Second
)

// dumpable is the most elements that a start reads back: the kernel's dump is quadratic. A variable for the tests.
var dumpable = 200_000

// Kernel mirrors the book in the kernel's sets. One goroutine runs it.
type Kernel struct {
	Keeper     *nft.Keeper
	Do         Do
	Log        *slog.Logger
	IPv6Prefix int
	// Changed is called in the judgement's goroutine after a push, with what went wrong, nil when nothing did.
	Changed func(error)
	// Anew makes a start replace what stands in the kernel: its elements mean something else now.
	Anew bool
	// Now is the wall clock, by which bans end.
	Now func() time.Time

	wake  chan struct{}
	asked chan struct{} // for a repair
	ready chan struct{}

	// nets is what the interval sets hold, by first address: a range of ours with the prefix that has it, or
	// somebody's with none.
	nets map[netip.Addr]netElement
	// reasons are the comments of most elements. The judgement's goroutine uses them.
	reasons reasons

	mu       sync.Mutex
	strays   []nft.Element // to be taken out: keys that can't stand where somebody put them
	seenNets []nft.Element // somebody's ranges, seen by the watcher
	lostNets []nft.Element
	wanted   *repair // asked for and not begun; nil: none
	healings int
	clockSet bool // the kernel's timeouts and the wall clock have parted
}

type netElement struct {
	nft.Element
	until int64
	host  netip.Prefix // of the ban; invalid for somebody else's
}

// repair is a request to put the kernel's side back.
type repair struct {
	why  string
	anew bool // the sets can't be trusted: make the table anew, elements and all
	lost bool // events were lost: compare with a dump
}

// NewKernel prepares a mirror; set its exported fields before Run.
func NewKernel(keeper *nft.Keeper, do Do, log *slog.Logger, ipv6Prefix int, changed func(error)) *Kernel {
	return &Kernel{
		Keeper: keeper, Do: do, Log: log, IPv6Prefix: ipv6Prefix, Changed: changed, Now: time.Now,
		wake:  make(chan struct{}, 1),
		asked: make(chan struct{}, 1),
		ready: make(chan struct{}),
		nets:  make(map[netip.Addr]netElement),
	}
}

// Wake says that there is work. It never blocks.
func (k *Kernel) Wake() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Ready is closed when the kernel first holds the book.
func (k *Kernel) Ready() <-chan struct{} { return k.ready }

// Healings is how often something of ours had gone from the kernel and was put back.
func (k *Kernel) Healings() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.healings
}

func (k *Kernel) String() string { return "kernel" }

// Run puts the book into the kernel and keeps it there until ctx ends. Set and rules stay.
func (k *Kernel) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	watching := make(chan struct{})
	g.Go(func() error {
		if err := k.Keeper.Watch(ctx, sync.OnceFunc(func() { close(watching) }), func(t nft.Transaction) error { return k.observe(ctx, t) }); err != nil {
			return fmt.Errorf("watching the kernel's table: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		// Nothing that happens between the first look and the first event may go unseen.
		select {
		case <-watching:
		case <-ctx.Done():
			return nil
		}
		if err := k.Start(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		close(k.ready)
		k.serve(ctx)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastPush)
		defer cancel()
		return errors.Join(k.heal(last, false), k.Push(last))
	})
	return g.Wait()
}

// The pauses after something failed: the first, and the longest.
const (
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = 10 * time.Second
)

func (k *Kernel) serve(ctx context.Context) {
	var pace pacer
	later := time.NewTimer(time.Hour)
	defer later.Stop()
	later.Stop()
	backoff := firstBackoff
	wake, asked := k.wake, k.asked // nil: only when the timer has fired
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-wake:
			err = k.Push(ctx)
		case <-asked:
			now := time.Now()
			if pause := pace.pause(now); pause > 0 {
				if pace.news(now) {
					k.Log.Warn(fmt.Sprintf("kernel: %s: repair %d in %s, one every %s from now on; find out what keeps changing the table",
						k.why(), pace.count, now.Sub(pace.began).Round(100*time.Millisecond), repairPause))
				}
				asked = nil
				later.Reset(pause)
				continue
			}
			err = k.heal(ctx, pace.fighting())
		case <-later.C:
			wake, asked = k.wake, k.asked
			if err = k.heal(ctx, pace.fighting()); err == nil {
				err = k.Push(ctx)
			}
		}
		switch {
		case err == nil:
			backoff = firstBackoff
			if asked != nil {
				wake = k.wake
			}
		case ctx.Err() != nil:
			return
		case errors.Is(err, nft.ErrMissing):
			// What could not be pushed waits, and would wake us again and again.
			wake = nil
			k.ask(repair{why: "a set was missing", anew: true})
		default:
			k.Log.Error(fmt.Sprintf("kernel: %v; trying again in %s", err, backoff))
			wake, asked = nil, nil
			later.Reset(backoff)
			backoff = min(2*backoff, maxBackoff)
		}
	}
}

// ask wants a repair. Those that wait are one: it answers them all.
func (k *Kernel) ask(r repair) {
	k.mu.Lock()
	if w := k.wanted; w != nil {
		r.anew = r.anew || w.anew
		r.lost = r.lost || w.lost
	}
	k.wanted = &r
	k.mu.Unlock()
	select {
	case k.asked <- struct{}{}:
	default:
	}
}

// why is what made the repair necessary that is wanted.
func (k *Kernel) why() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.wanted == nil {
		return "something changed"
	}
	return k.wanted.why
}

// Start makes table, sets and rules and brings what stands in the kernel in step with the book, without taking
// anything away for a moment.
func (k *Kernel) Start(ctx context.Context) error {
	report, err := k.Keeper.Check(ctx)
	if err != nil {
		return err
	}
	if k.Anew || len(report.Emptied) == len(nft.Sets) {
		// Nothing of ours stands: table and bans in one transaction, so that the rules never guard empty sets.
		n, err := k.replace(ctx)
		if err != nil {
			return err
		}
		k.Log.Info(fmt.Sprintf("kernel: table inet %s made with %d bans", k.Keeper.Config().Table, n))
		k.tellOwner(ctx)
		return k.Push(ctx)
	}
	anew := len(report.Emptied) > 0 || report.Plain
	if !anew {
		if report, err = k.Keeper.Ensure(ctx); err != nil {
			return err
		}
		anew = len(report.Emptied) > 0 || report.Plain
	}
	for _, text := range report.Changes {
		k.Log.Info("kernel: " + text)
	}
	if err := k.compare(ctx); err != nil {
		return err
	}
	if anew {
		// Sets can't be changed, nor a table get an owner; now that it is known what stands in them, all goes at once.
		if _, err := k.replace(ctx); err != nil {
			return err
		}
	}
	k.tellOwner(ctx)
	return k.Push(ctx)
}

// tellOwner says in the log what became of the wish to own the table.
func (k *Kernel) tellOwner(ctx context.Context) {
	if !k.Keeper.Config().Owner {
		return
	}
	table := k.Keeper.Config().Table
	switch owns, possible, err := k.Keeper.Owns(ctx); {
	case err != nil:
		k.Log.Error(fmt.Sprintf("kernel: protect: owner: %v", err))
	case !possible:
		k.Log.Warn(fmt.Sprintf("kernel: protect: owner has no effect, as this kernel knows no persistent owner of a table (Linux 6.9): "+
			"everybody with the right can change table inet %s; changes are repaired as with protect: none", table))
	case owns:
		k.Log.Info(fmt.Sprintf("kernel: table inet %s is this process's own: nobody else can change it", table))
	default:
		k.Log.Warn(fmt.Sprintf("kernel: protect: owner has no effect: table inet %s could not be taken", table))
	}
}

// Push does the kernel's pending work.
func (k *Kernel) Push(ctx context.Context) error {
	for {
		more, err := k.pushSome(ctx)
		if err != nil || !more {
			return err
		}
	}
}

func (k *Kernel) pushSome(ctx context.Context) (more bool, err error) {
	var (
		changes  []nft.Change
		ranges   []ledger.Range
		withNets bool
		now      = k.Now()
	)
	k.mu.Lock()
	clockSet := k.clockSet
	k.clockSet = false
	strays := k.strays
	k.strays = nil
	for _, e := range k.seenNets {
		k.nets[e.First] = netElement{Element: e}
		withNets = true
	}
	for _, e := range k.lostNets {
		delete(k.nets, e.First)
		withNets = true
	}
	k.seenNets, k.lostNets = nil, nil
	k.mu.Unlock()
	for _, e := range strays {
		changes = append(changes, nft.Change{Element: e, Delete: true})
	}
	err = k.Do(ctx, func(j *judge.Judge) {
		book := j.Book()
		if clockSet {
			k.misaligned(book)
		}
		bans, gone := book.Work(ledger.Kernel, perTransaction)
		more = book.Waiting(ledger.Kernel) > 0
		changes = slices.Grow(changes, len(bans)+len(gone))
		for _, b := range bans {
			set, ok := hostSet(b.Host, k.IPv6Prefix)
			if !ok || !book.IsHost(b.Host) {
				withNets = true
			}
			if !ok {
				continue
			}
			e, left := elementFor(set, b.Host.Addr(), b.Host.Addr(), b, k.reasons.of(&b), now)
			changes = append(changes, nft.Change{Element: e, Delete: !left || !book.IsHost(b.Host)})
		}
		for _, host := range gone {
			set, ok := hostSet(host, k.IPv6Prefix)
			if !ok || len(k.nets) > 0 {
				withNets = true
			}
			if ok {
				changes = append(changes, nft.Change{Element: nft.Element{Set: set, First: host.Addr(), Last: host.Addr()}, Delete: true})
			}
		}
		if withNets {
			ranges = j.Ranges()
		}
	})
	if err != nil {
		return false, err
	}
	var nets map[netip.Addr]netElement
	if withNets {
		var diff []nft.Change
		diff, nets = k.diffNets(ranges, now)
		changes = append(changes, diff...)
	}
	if len(changes) > 0 {
		err = k.Keeper.Apply(ctx, changes)
	}
	if err == nil && withNets {
		k.nets = nets
	}
	if err != nil {
		k.mu.Lock()
		k.strays = append(strays, k.strays...)
		k.clockSet = k.clockSet || clockSet
		k.mu.Unlock()
	}
	// What was taken is given back even if it is time to end: the last push does what this one did not.
	doErr := k.Do(context.WithoutCancel(ctx), func(j *judge.Judge) {
		j.Book().Done(ledger.Kernel, err == nil)
		k.Changed(err)
	})
	return more, errors.Join(err, doErr)
}

// diffNets is what turns the ranges that the interval sets hold into those that they ought to hold.
func (k *Kernel) diffNets(want []ledger.Range, now time.Time) ([]nft.Change, map[netip.Addr]netElement) {
	next := make(map[netip.Addr]netElement, len(want))
	var add, remove []nft.Change
	for _, r := range want {
		set := nft.Net4
		if r.First.Is6() {
			set = nft.Net6
		}
		e, left := element(set, r.First, r.Last, r.Ban, now)
		if !left {
			continue
		}
		next[r.First] = netElement{e, r.Ban.Until, r.Ban.Host}
		if old, ok := k.nets[r.First]; ok && old.Last == r.Last && old.until == r.Ban.Until && old.Comment == e.Comment && old.host == r.Ban.Host {
			continue
		}
		add = append(add, nft.Change{Element: e})
	}
	for first, old := range k.nets {
		if e, ok := next[first]; !ok || e.Last != old.Last {
			remove = append(remove, nft.Change{Element: old.Element, Delete: true})
		}
	}
	return append(remove, add...), next
}
