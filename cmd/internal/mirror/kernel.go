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
	"banset/policy"
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
		return k.Push(last)
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
		for _, b := range bans {
			set, ok := hostSet(b.Host, k.IPv6Prefix)
			if !ok || !book.IsHost(b.Host) {
				withNets = true
			}
			if !ok {
				continue
			}
			e, left := element(set, b.Host.Addr(), b.Host.Addr(), b, now)
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
	doErr := k.Do(ctx, func(j *judge.Judge) {
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

// heal makes the repair that is wanted, if one is. The book is what counts: nothing that stands in a table that is
// not ours any more is adopted. quiet leaves the log alone.
func (k *Kernel) heal(ctx context.Context, quiet bool) error {
	k.mu.Lock()
	wanted := k.wanted
	k.wanted = nil
	k.mu.Unlock()
	if wanted == nil {
		return nil
	}
	err := k.putBack(ctx, *wanted, quiet)
	if err != nil {
		k.ask(*wanted)
	}
	return err
}

func (k *Kernel) putBack(ctx context.Context, r repair, quiet bool) error {
	began := time.Now()
	tell := func(format string, a ...any) {
		k.mu.Lock()
		k.healings++
		k.mu.Unlock()
		if !quiet {
			took := time.Since(began).Round(100 * time.Microsecond)
			k.Log.Warn(fmt.Sprintf("kernel: %s; put back%s in %s", r.why, fmt.Sprintf(format, a...), took))
		}
	}
	if !r.anew {
		report, err := k.Keeper.Check(ctx)
		if err != nil {
			return err
		}
		r.anew = len(report.Emptied) == len(nft.Sets)
	}
	if r.anew {
		n, err := k.replace(ctx)
		if err != nil {
			return fmt.Errorf("putting the table back: %w", err)
		}
		tell(" %d bans", n)
		// What was done between the accident and the repair can't be told from it: look once.
		return k.Push(ctx)
	}
	report, err := k.Keeper.Ensure(ctx)
	if err != nil {
		return fmt.Errorf("putting rules back: %w", err)
	}
	if len(report.Emptied) > 0 || r.lost {
		if err := k.compare(ctx); err != nil {
			return err
		}
	}
	if err := k.Push(ctx); err != nil {
		return err
	}
	if len(report.Changes) > 0 {
		tell("")
	}
	return nil
}

// replace makes the table anew with all that it ought to hold, and says how many elements these are. What changes in the
// book meanwhile is pending afterwards.
func (k *Kernel) replace(ctx context.Context) (n int, err error) {
	var hosts []netip.Prefix
	if err := k.Do(ctx, func(j *judge.Judge) { hosts = latest(j.Book()) }); err != nil {
		return 0, err
	}
	var lookErr error
	err = k.Keeper.Replace(ctx, func(yield func(nft.Element) bool) {
		n = 0
		lookErr = k.everything(ctx, hosts, func(e nft.Element) bool { n++; return yield(e) })
	})
	err = errors.Join(lookErr, err)
	doErr := k.Do(ctx, func(*judge.Judge) { k.Changed(err) })
	return n, errors.Join(err, doErr)
}

// latest is the hosts of the book, the most recently active ones first.
func latest(book *ledger.Ledger) []netip.Prefix {
	hosts := make([]netip.Prefix, 0, book.Len())
	for b := range book.Latest() {
		hosts = append(hosts, b.Host)
	}
	return hosts
}

// perLook is how many bans a load takes from the book at once: the judgement goes on in between. The first look is
// short, because nothing may protect until it is over.
const (
	firstLook = 2000
	perLook   = 10_000
)

// everything yields the elements of those hosts, and after them the ranges that the interval sets ought to hold. The
// time that is left of each counts from now, when the kernel is about to get it.
func (k *Kernel) everything(ctx context.Context, hosts []netip.Prefix, yield func(nft.Element) bool) error {
	elements := make([]nft.Element, 0, min(len(hosts), perLook))
	for look := firstLook; len(hosts) > 0; look = perLook {
		some := hosts[:min(len(hosts), look)]
		hosts = hosts[len(some):]
		if err := k.Do(ctx, func(j *judge.Judge) { elements = k.some(elements[:0], j, some, k.Now()) }); err != nil {
			return err
		}
		for _, e := range elements {
			if !yield(e) {
				return nil
			}
		}
	}
	var ranges []ledger.Range
	if err := k.Do(ctx, func(j *judge.Judge) { ranges = j.Ranges() }); err != nil {
		return err
	}
	clear(k.nets)
	var adds []nft.Change
	adds, k.nets = k.diffNets(ranges, k.Now())
	for _, c := range adds {
		if !yield(c.Element) {
			return nil
		}
	}
	return nil
}

// some appends the elements of those hosts that the book has as such, and takes all of them as told.
func (k *Kernel) some(to []nft.Element, j *judge.Judge, hosts []netip.Prefix, now time.Time) []nft.Element {
	book := j.Book()
	for _, host := range hosts {
		b, ok := book.Get(host)
		if !ok {
			continue // it went meanwhile, and that is pending
		}
		book.Settle(ledger.Kernel, host)
		if set, ok := hostSet(host, k.IPv6Prefix); ok && book.IsHost(host) {
			if e, left := element(set, host.Addr(), host.Addr(), b, now); left {
				to = append(to, e)
			}
		}
	}
	return to
}

// settle looks hosts up in the kernel and settles what is right already.
func (k *Kernel) settle(ctx context.Context, hosts []netip.Prefix) error {
	var found []nft.Element
	take := func() error {
		err := k.Do(ctx, func(j *judge.Judge) {
			book, now := j.Book(), k.Now()
			for _, e := range found {
				host := policy.HostPrefix(e.First, k.IPv6Prefix)
				if b, ok := book.Get(host); ok && sameEnd(e, b, now) && e.Comment == b.Reason() && book.IsHost(host) {
					book.Settle(ledger.Kernel, host)
				}
			}
		})
		found = found[:0]
		return err
	}
	err := k.Keeper.GetEach(ctx, func(yield func(nft.Element) bool) {
		for _, host := range hosts {
			if set, _ := hostSet(host, k.IPv6Prefix); !yield(nft.Element{Set: set, First: host.Addr()}) {
				return
			}
		}
	}, func(_, e nft.Element, there bool) error {
		if there {
			found = append(found, e)
		}
		if len(found) == perLook {
			return take()
		}
		return nil
	})
	if err != nil && !errors.Is(err, nft.ErrMissing) {
		return err
	}
	return take()
}

// compare reads the sets back and settles what is right already; what the book has and the kernel has not is put
// back, and what only the kernel has is adopted.
func (k *Kernel) compare(ctx context.Context) error {
	now := k.Now()
	bans := 0
	if err := k.Do(ctx, func(j *judge.Judge) { bans = j.Book().Len() }); err != nil {
		return err
	}
	var standing []nft.Element
	var large []nft.Set
	for _, set := range nft.Sets {
		n, known, err := k.Keeper.Counted(ctx, set)
		if errors.Is(err, nft.ErrMissing) {
			continue
		}
		if err != nil {
			return err
		}
		if !known {
			n = bans
		}
		if n > dumpable {
			k.Log.Warn(fmt.Sprintf("kernel: %s has some %d elements, too many to list: the book's bans are looked up, and what else stands there stays as it is", set, n))
			large = append(large, set)
			continue
		}
		if err := k.Keeper.Dump(ctx, set, func(e nft.Element) error {
			standing = append(standing, e)
			return nil
		}); err != nil && !errors.Is(err, nft.ErrMissing) {
			return err
		}
	}
	var hosts []netip.Prefix
	if err := k.Do(ctx, func(j *judge.Judge) {
		for b := range j.Book().All() {
			j.Book().Mark(ledger.Kernel, b.Host)
			if set, ok := hostSet(b.Host, k.IPv6Prefix); ok && slices.Contains(large, set) {
				hosts = append(hosts, b.Host)
			}
		}
	}); err != nil {
		return err
	}
	if err := k.settle(ctx, hosts); err != nil {
		return err
	}
	return k.Do(ctx, func(j *judge.Judge) {
		book := j.Book()
		clear(k.nets) // what was there and is no more must be put back
		ours := make(map[netip.Addr]ledger.Range)
		for _, r := range j.Ranges() {
			ours[r.First] = r
		}
		for _, e := range standing {
			if e.Set.Ranges() {
				ne := netElement{Element: e}
				if r, ok := ours[e.First]; ok && r.Last == e.Last && sameEnd(e, r.Ban, now) && e.Comment == r.Ban.Reason() {
					ne.until, ne.host = r.Ban.Until, r.Ban.Host
				} else if !ok && !k.known(j, e) {
					k.adopt(j, e, now, "found in the kernel")
				}
				k.nets[e.First] = ne
				continue
			}
			host := policy.HostPrefix(e.First, k.IPv6Prefix)
			b, ok := book.Get(host)
			switch {
			case ok && host.Addr() == e.First && sameEnd(e, b, now) && e.Comment == b.Reason() && book.IsHost(host):
				book.Settle(ledger.Kernel, host)
			case !ok && (book.Holds(ledger.Kernel, host) || host.Addr() == e.First && newer(book, earned(e, host, now))):
				k.adopt(j, e, now, "found in the kernel")
			}
		}
	})
}

// known reports whether a range of the interval sets lies within bans of the book, or within such as wait to be taken
// out: then it is an older cut of ours.
func (k *Kernel) known(j *judge.Judge, e nft.Element) bool {
	for _, p := range ledger.Prefixes(e.First, e.Last) {
		if len(j.Book().Covering(p)) == 0 && !j.Book().GoneAround(ledger.Kernel, p) {
			return false
		}
	}
	return true
}

func sameEnd(e nft.Element, b policy.Ban, now time.Time) bool {
	if e.Timeout == 0 || b.Until == policy.Never {
		return e.Timeout == 0 && b.Until == policy.Never
	}
	return (e.Expires - b.Left(now)).Abs() <= resolution
}
