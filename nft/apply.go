package nft

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// An applier is the memory of Apply, kept from one call to the next.
type applier struct {
	last  map[key]int // the last change of each host
	order []int       // changes of one transaction
	hosts []int       // those of order that are hosts
	full  [sets]bool  // sets that were found full
	left  int         // elements that found no room
	// known tells of each change of this transaction whether its host or range is in the kernel, and must be deleted
	// before anything else.
	known []bool
	// crowd says that hosts which were to be added have turned out to be there: the next are looked up before.
	crowd bool
}

// maxTries is how often a transaction is tried when an element ended, or somebody changed a range, under our hands.
const maxTries = 8

// maxElements is the most changes of one transaction. As soon as anybody on the machine listens, in whatever network
// namespace, the kernel makes an event of 7 KiB for each element added and each deleted, and keeps all of them until
// the commit ends: 100,000 replacements took 2 GiB and six seconds.
const maxElements = 10_000

// firstElements is the most in the first transaction where nothing protects yet: it takes a few milliseconds.
const firstElements = 2000

// Apply puts elements into their sets and takes others out. It does not matter whether an element is there, whether it
// has just ended, or what timeout and comment it had: after a nil return the set holds what the changes say. Of several
// changes to one host or range the last one counts.
//
// Up to 10,000 changes are one transaction. More are split, as they are where the socket's buffer is capped (a user
// namespace: net.core.wmem_max, some 3,000 hosts by default). In one transaction packets find the elements as they were
// or as they are to be, nothing in between. For ranges that replace each other the kernel's tree does not keep that
// promise: a table of its own, NAME.spare, protects meanwhile.
//
// A transaction never fails halfway. ErrMissing: the table is not there. ErrFull: all that fits is in, the rest is
// not. ErrOverlap: a range overlaps another one that the changes don't delete; ranges that replace each other belong
// in one call.
func (k *Keeper) Apply(ctx context.Context, changes []Change) error {
	for i := range changes {
		if err := k.check(&changes[i]); err != nil {
			return err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	a := &k.apply
	a.left, a.full = 0, [sets]bool{}
	err := k.applyAll(ctx, changes)
	if err == nil {
		err = k.regain(ctx)
	}
	if err == nil && a.left > 0 {
		err = fmt.Errorf("%w: %d elements found no room", ErrFull, a.left)
	}
	return k.fail("change elements of table inet "+k.config.Table, err)
}

func (k *Keeper) applyAll(ctx context.Context, changes []Change) error {
	total := 0
	for i := range changes {
		total += changes[i].cost()
	}
	room := k.command.limit - k.slack()
	if total <= room && len(changes) <= maxElements {
		order := k.apply.order[:0]
		for i := range changes {
			order = append(order, i)
		}
		k.apply.order = order
		return k.applyWindow(ctx, changes, order)
	}
	// Ranges first: what replaces each other must stay together, so they are cut where nothing overlaps.
	var ranges []int
	for i := range changes {
		if changes[i].Set.Ranges() {
			ranges = append(ranges, i)
		}
	}
	slices.SortStableFunc(ranges, func(i, j int) int {
		x, y := &changes[i], &changes[j]
		return cmp.Or(cmp.Compare(x.Set, y.Set), x.First.Compare(y.First))
	})
	for len(ranges) > 0 {
		n := clusters(changes, ranges, room)
		if err := k.applyWindow(ctx, changes, ranges[:n]); err != nil {
			return err
		}
		ranges = ranges[n:]
	}
	for i := 0; i < len(changes); {
		order, size := k.apply.order[:0], 0
		for ; i < len(changes); i++ {
			if changes[i].Set.Ranges() {
				continue
			}
			if size += changes[i].cost(); len(order) > 0 && (size > room || len(order) == maxElements) {
				break
			}
			order = append(order, i)
		}
		k.apply.order = order
		if err := k.applyWindow(ctx, changes, order); err != nil {
			return err
		}
	}
	return nil
}

// cost is the most bytes that the change takes in a transaction.
func (c *Change) cost() int {
	n := c.Set.keySize()
	if c.Set.Ranges() {
		n += c.Set.keySize() + 8
	}
	if !c.Delete {
		n += c.Element.size()
	}
	return n
}

// clusters is how many of the sorted ranges make the largest transaction of at most room bytes that cuts through no
// overlap; if there is none, the smallest one.
func clusters(changes []Change, ranges []int, room int) int {
	size, cut := 0, 0
	var set Set
	var end netip.Addr
	for n, i := range ranges {
		c := &changes[i]
		if n > 0 && (c.Set != set || end.Less(c.First)) {
			cut = n
		}
		if c.Set != set || !end.IsValid() || end.Less(c.Last) {
			set, end = c.Set, c.Last
		}
		if size += c.cost(); cut > 0 && (size > room || n >= maxElements) {
			return cut
		}
	}
	return len(ranges)
}

// applyWindow makes one transaction of the changes that order lists, or several when it has to.
func (k *Keeper) applyWindow(ctx context.Context, changes []Change, order []int) (err error) {
	look := k.apply.crowd // else hope that nothing of it is there
	for try, covered := 0, false; len(order) > 0; {
		if err = ctx.Err(); err != nil {
			return err
		}
		order = k.lastOnly(changes, order)
		if err = k.compose(ctx, changes, order, look); err != nil {
			return err
		}
		if !covered {
			ranges := k.replacing(changes, order)
			if covered = len(ranges) > 0; covered {
				// That takes the batch: the changes are written again.
				if err = k.cover(ctx, ranges); err != nil {
					return err
				}
				defer func() { err = errors.Join(err, k.removeSpare(context.WithoutCancel(ctx))) }()
				continue
			}
		}
		if k.batch.n == 2 { // its begin and its end
			return k.mustHave(ctx, changes[order[0]].Set)
		}
		err = k.command.transact(&k.batch)
		if err == nil {
			return nil
		}
		var kernel *kernelError
		switch {
		case err == errTooBig, isErrno(err, unix.ENOBUFS), isErrno(err, unix.ENOMEM):
			if len(order) > 1 {
				return k.halves(ctx, changes, order)
			}
		case errors.Is(err, errLost):
			// Doing it again is harmless, whatever became of it.
		case isErrno(err, unix.EBUSY), isErrno(err, unix.EAGAIN):
			// The hash table is being rebuilt, and the chain of one key is long: that of a host whose bans ended many
			// times since the kernel last freed what is over. It passes within milliseconds.
			if err := pause(ctx, time.Millisecond<<try); err != nil {
				return err
			}
		case !errors.As(err, &kernel):
			return err
		case kernel.errno == unix.ENFILE:
			return k.crowded(ctx, changes, order)
		case kernel.errno == unix.ENOENT && k.batch.typeOf(kernel.index) == unix.NFT_MSG_DELSETELEM:
		case kernel.errno == unix.EEXIST && k.batch.typeOf(kernel.index) == unix.NFT_MSG_NEWSETELEM:
			if !look {
				look, k.apply.crowd = true, true
				continue
			}
		default:
			return k.explain(&k.batch, err)
		}
		if try++; try == maxTries {
			break
		}
	}
	if err != nil {
		return k.explain(&k.batch, err)
	}
	return nil
}

// replacing are the ranges to be that have, or may have, others in their place. compose has found out which are there.
//
// A look-up in the kernel's tree may come upon a range that is not in force and miss the one that is. Before Linux 6.12
// that is so for as long as the transaction takes to be prepared: 20 ms in an emulated machine with 6.1. On 6.18 it is
// from the moment of the commit until the set's new array is in its place: one in a thousand replacements under fire
// let a packet through.
func (k *Keeper) replacing(changes []Change, order []int) (ranges []Element) {
	var goes [sets]bool
	for n, i := range order {
		c := &changes[i]
		goes[c.Set] = goes[c.Set] || k.apply.known[n]
	}
	for _, i := range order {
		if c := &changes[i]; c.Set.Ranges() && goes[c.Set] && !c.over() {
			ranges = append(ranges, c.Element)
		}
	}
	return ranges
}

// cover has the spare table protect from these ranges until removeSpare.
func (k *Keeper) cover(ctx context.Context, ranges []Element) error {
	spare := k.config.spare()
	if err := k.replace(ctx, &spare, 0, slices.Values(ranges), maxElements); err != nil {
		return fmt.Errorf("protect meanwhile: %w", err)
	}
	return nil
}

// mustHave is ErrMissing if the set is not there. What is missing reads as empty, so deletions don't find out.
func (k *Keeper) mustHave(ctx context.Context, s Set) error {
	t, err := k.readSet(ctx, s)
	if err == nil && !t.found {
		err = ErrMissing
	}
	return err
}

// pause waits for d, or for the end of ctx, whose error it then returns.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// lastOnly leaves only the last change of each host and range.
func (k *Keeper) lastOnly(changes []Change, order []int) []int {
	if len(order) < 2 {
		return order
	}
	a := &k.apply
	if a.last == nil {
		a.last = make(map[key]int, len(order))
	}
	clear(a.last)
	for _, i := range order {
		a.last[keyOf(&changes[i].Element)] = i
	}
	if len(a.last) == len(order) {
		return order
	}
	// Ranges of one address are the same change only if they end together; that is rare enough for a slow look.
	same := func(i, j int) bool { return changes[i].Last == changes[j].Last }
	kept := make([]int, 0, len(order))
	for n, i := range order {
		last := a.last[keyOf(&changes[i].Element)]
		if last != i && !same(i, last) {
			last = i
			for _, j := range order[n+1:] {
				if changes[j].Set == changes[i].Set && changes[j].First == changes[i].First && same(i, j) {
					last = j
				}
			}
		}
		if last == i {
			kept = append(kept, i)
		}
	}
	return kept
}

// compose writes the transaction for the changes that order lists.
//
// Adding what is there would change neither comment nor, on older kernels, timeout; deleting what is not there fails
// the transaction. So each is looked up, deleted if it is there, and added if it is to be. What changes between the
// look and the transaction fails it, and it is tried again. All deletions come first, so that what replaces them finds
// room.
//
// New hosts are most of what comes: unless look is set, hosts alone that are all to be added are not looked up, since
// the transaction fails when one of them is there.
func (k *Keeper) compose(ctx context.Context, changes []Change, order []int, look bool) error {
	if err := k.lookUp(ctx, changes, order, look); err != nil {
		return err
	}
	b, a := &k.batch, &k.apply
	b.begin()
	size := 0
	for _, i := range order {
		size += changes[i].size()
	}
	b.b = slices.Grow(b.b, size+size/8) // with the messages' heads; else a burst is copied as it grows
	each := func(s Set, typ int, flags uint16, f func(n int, c *Change) bool, write func(*Element)) {
		l := b.list(k.config.Table, s, typ, flags)
		for n, i := range order {
			if c := &changes[i]; c.Set == s && f(n, c) {
				l.room()
				write(&c.Element)
			}
		}
		l.close()
	}
	const add, del, create = unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM, unix.NLM_F_CREATE
	for _, s := range Sets {
		each(s, del, 0, func(n int, _ *Change) bool { return a.known[n] }, b.bare)
	}
	for _, s := range Sets {
		if !s.Ranges() {
			each(s, add, create|unix.NLM_F_EXCL, func(_ int, c *Change) bool { return !c.over() }, b.element)
			continue
		}
		// Once a range without an end is there, the kernel refuses what overlaps it; the other way round it does not.
		each(s, add, create, func(_ int, c *Change) bool { return !c.over() && c.endless() }, b.element)
		each(s, add, create, func(_ int, c *Change) bool { return !c.over() && !c.endless() }, b.element)
	}
	b.finish()
	return nil
}

// lookUp fills known.
func (k *Keeper) lookUp(ctx context.Context, changes []Change, order []int, look bool) error {
	known := k.apply.known[:0]
	hosts := k.apply.hosts[:0]
	var open [sets]bool
	look = look || slices.ContainsFunc(order, func(i int) bool { return changes[i].Set.Ranges() || changes[i].over() })
	for n, i := range order {
		c := &changes[i]
		known = append(known, false)
		if !c.Set.Ranges() {
			if look {
				hosts = append(hosts, n)
			}
			continue
		}
		open[c.Set] = open[c.Set] || c.endless() && !c.over()
		is, found, err := k.lookup(ctx, c.Set, c.First)
		if err != nil {
			return err
		}
		known[n] = found && is.First == c.First && is.Last == c.Last
	}
	k.apply.known, k.apply.hosts = known, hosts
	for len(hosts) > 0 {
		some := hosts[:min(len(hosts), k.query.flight)]
		if err := k.lookUpHosts(ctx, changes, order, some); err != nil {
			return err
		}
		hosts = hosts[len(some):]
	}
	if look {
		k.apply.crowd = slices.Contains(known, true)
	}
	for _, s := range Sets {
		if open[s] {
			if err := k.overlaps(ctx, s, changes, order); err != nil {
				return err
			}
		}
	}
	return nil
}

// lookUpHosts fills known for some hosts, asking for all of them at once.
func (k *Keeper) lookUpHosts(ctx context.Context, changes []Change, order, some []int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k.queryMu.Lock()
	defer k.queryMu.Unlock()
	w := &k.request
	w.reset()
	for _, n := range some {
		e := &changes[order[n]].Element
		m := w.nft(unix.NFT_MSG_GETSETELEM, 0)
		w.str(unix.NFTA_SET_ELEM_LIST_TABLE, k.config.Table)
		w.str(unix.NFTA_SET_ELEM_LIST_SET, e.Set.String())
		l := w.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		w.bare(e)
		w.endNest(l)
		w.end(m)
	}
	return k.query.askAll(w, func(i int, there bool) { k.apply.known[some[i]] = there })
}

// overlaps does what the kernel does not: it refuses a range up to the top of the address space, which is told without
// an end, when another one lies inside it.
func (k *Keeper) overlaps(ctx context.Context, s Set, changes []Change, order []int) error {
	goes := make(map[netip.Addr]bool)
	var first netip.Addr // of the range that is added without an end
	for n, i := range order {
		c := &changes[i]
		if c.Set != s {
			continue
		}
		if k.apply.known[n] {
			goes[c.First] = true
		}
		if c.endless() && !c.over() {
			if first.IsValid() {
				return fmt.Errorf("%w: both %v and %v go up to the top", ErrOverlap, first, c.First)
			}
			first = c.First
		}
	}
	sock, err := openSocket(nil)
	if err != nil {
		return err
	}
	defer sock.close()
	err = k.dumpRanges(ctx, sock, s, func(e Element) error {
		if !goes[e.First] && !e.Last.Less(first) {
			return fmt.Errorf("%w: %v-%v is there", ErrOverlap, e.First, e.Last)
		}
		return nil
	})
	if isErrno(err, unix.ENOENT) {
		return ErrMissing
	}
	return err
}

// halves applies the changes as two transactions.
func (k *Keeper) halves(ctx context.Context, changes []Change, order []int) error {
	order = slices.Clone(order)
	if err := k.applyWindow(ctx, changes, order[:len(order)/2]); err != nil {
		return err
	}
	return k.applyWindow(ctx, changes, order[len(order)/2:])
}

// crowded applies changes that a full set refused as one transaction: deletions first, then as many additions as find
// room.
func (k *Keeper) crowded(ctx context.Context, changes []Change, order []int) error {
	if len(order) == 1 {
		k.apply.full[changes[order[0]].Set] = true
		k.apply.left++
		return nil
	}
	over := make([]int, 0, len(order))
	var stay []int
	for _, i := range order {
		if changes[i].over() {
			over = append(over, i)
		} else {
			stay = append(stay, i)
		}
	}
	if len(over) > 0 && len(stay) > 0 {
		if err := k.applyWindow(ctx, changes, over); err != nil {
			return err
		}
		return k.applyWindow(ctx, changes, stay)
	}
	fits := order
	if len(over) == 0 {
		// Once a set is known to be full only what is there already can be added.
		fits = stay[:0]
		for _, i := range stay {
			c := &changes[i]
			if k.apply.full[c.Set] {
				_, found, err := k.lookup(ctx, c.Set, c.First)
				if err != nil {
					return err
				}
				if !found {
					k.apply.left++
					continue
				}
			}
			fits = append(fits, i)
		}
	}
	if len(fits) < 2 {
		return k.applyWindow(ctx, changes, fits)
	}
	return k.halves(ctx, changes, fits)
}
