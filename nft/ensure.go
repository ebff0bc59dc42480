package nft

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A Report is what was not as it ought to be.
type Report struct {
	// Changes says it in words, one thing each; empty: all was as it ought to be.
	Changes []string
	// Emptied are the sets that were missing, or that had to be made anew: they are empty after Ensure.
	Emptied []Set
	// Plain says that Config.Owner is wanted, but that the table is an ordinary one, which can't get an owner: Replace
	// makes it anew.
	Plain bool
}

func (r *Report) add(format string, a ...any) {
	r.Changes = append(r.Changes, fmt.Sprintf(format, a...))
}

// String is the changes in one line, or "as it ought to be".
func (r Report) String() string {
	if len(r.Changes) == 0 {
		return "as it ought to be"
	}
	return strings.Join(r.Changes, "; ")
}

// Check reports what Ensure would change, and changes nothing.
func (k *Keeper) Check(ctx context.Context) (Report, error) {
	p, err := k.compare(ctx)
	return p.report, k.fail("read table inet "+k.config.Table, err)
}

// Ensure makes table, sets, chain and rules what they ought to be, in one transaction that touches only what differs:
// elements are kept, and packets never find a moment without rules, but for the sets in Report.Emptied. When Check
// finds sets in Emptied, Replace puts table and elements there at once.
//
// Other chains and sets in our table are left alone, unless the table has to be made anew because they hold on to
// something of ours that is wrong.
func (k *Keeper) Ensure(ctx context.Context) (Report, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.probe()
	var p plan
	if err == nil {
		p, err = k.compare(ctx)
	}
	if err == nil && len(p.report.Changes) > 0 {
		err = k.repair(ctx, &p)
	}
	if err == nil {
		err = k.regain(ctx)
	}
	return p.report, k.fail("set up table inet "+k.config.Table, err)
}

func (k *Keeper) repair(ctx context.Context, p *plan) error {
	c, b := &k.config, &k.batch
	if p.dormant {
		// The kernel takes no chain in the transaction that wakes a table.
		b.begin()
		b.setTable(c, p.table.flags&^nftTableDormant)
		b.finish()
		if err := k.command.transact(b); err != nil {
			return err
		}
	}
	b.begin()
	if p.table.found {
		b.addTable(c)
	} else {
		b.setTable(c, k.tableFlags())
	}
	// What refers to a set must be gone before the set can be deleted, and again a chain before its rules.
	if p.flush {
		b.flushChain(c, c.Hook)
	}
	if p.otherChain != "" {
		b.flushChain(c, p.otherChain)
		b.deleteChain(c, p.otherChain)
	}
	if p.deleteChain {
		b.deleteChain(c, c.Hook)
	}
	for _, s := range p.deleteSets {
		b.deleteSet(c, s)
	}
	for _, s := range p.report.Emptied {
		b.addSet(c, s)
	}
	b.addChain(c)
	if p.addRules {
		b.addRules(c, k.rules)
	}
	if p.spare {
		spare := c.spare()
		b.deleteTable(&spare)
	}
	b.finish()
	err := k.command.transact(b)
	var kernel *kernelError
	if !errors.As(err, &kernel) || kernel.errno == unix.EPERM {
		return err
	}
	// Somebody's rule or chain holds on to ours, or something changed since we looked.
	if ctx.Err() != nil {
		return ctx.Err()
	}
	b.begin()
	b.addTable(c)
	b.deleteTable(c)
	b.addAll(c, k.rules, k.tableFlags())
	b.finish()
	if again := k.command.transact(b); again != nil {
		return errors.Join(fmt.Errorf("repair the table: %w", err), fmt.Errorf("make it anew: %w", k.hint(b, again)))
	}
	p.report.add("the table had to be made anew, with all it held: %v", err)
	p.report.Emptied = Sets[:]
	return nil
}

// hint adds what a kernel without conntrack means by its error.
func (k *Keeper) hint(b *batch, err error) error {
	var kernel *kernelError
	if k.config.Direction == "original" && errors.As(err, &kernel) && kernel.index > 0 &&
		b.typeOf(kernel.index) == unix.NFT_MSG_NEWRULE && kernel.errno == unix.ENOENT {
		return fmt.Errorf("%w: does this kernel have conntrack (nft_ct)? direction any does without", err)
	}
	return err
}

// Replace makes the table anew with these elements in it, whatever was there. Table, rules and the first 10,000
// elements (or what a capped socket buffer takes) come in one transaction, so that there is no moment without
// protection; the rest follows, as many at a time. Elements of a set beyond Config.Size are left out, and the error is
// then ErrFull. The elements are read once, and not kept.
func (k *Keeper) Replace(ctx context.Context, elements iter.Seq[Element]) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.probe()
	if err == nil {
		err = k.replaceSafely(ctx, elements)
	}
	if err == nil || errors.Is(err, ErrFull) {
		err = errors.Join(err, k.removeSpare(ctx), k.regain(ctx))
	}
	return k.fail("make table inet "+k.config.Table+" anew", err)
}

// replaceSafely sees to it that what stands protects until what replaces it does. A transaction of more than
// maxElements is too large for the kernel's memory, and ranges are in force only a moment after it (see replacing); so
// then a second table protects meanwhile.
func (k *Keeper) replaceSafely(ctx context.Context, elements iter.Seq[Element]) error {
	table, err := k.readTable(ctx)
	if err != nil {
		return err
	}
	if !table.found {
		// Nothing protects: the first of them soon, and all of them as fast as can be.
		var full error
		alone, err := k.unheard(ctx, func() error {
			err := k.replace(ctx, &k.config, k.tableFlags(), elements, firstElements)
			if errors.Is(err, ErrFull) {
				full, err = err, nil
			}
			return err
		})
		if err != nil || alone {
			return errors.Join(err, full)
		}
		// What somebody did while we did not listen is in that table, if it was about ours: once more, and listening.
	}
	n, size, room, ranges := 0, 0, k.command.limit-2*k.slack(), false
	for e := range elements {
		size += e.size()
		ranges = ranges || e.Set.Ranges()
		if n++; n > maxElements || size > room || ranges {
			break
		}
	}
	if n <= maxElements && size <= room && !ranges {
		return k.replace(ctx, &k.config, k.tableFlags(), elements, maxElements)
	}
	spare := k.config.spare()
	if err := k.replace(ctx, &spare, 0, elements, maxElements); err != nil && !errors.Is(err, ErrFull) {
		return fmt.Errorf("protect meanwhile: %w", err)
	}
	return k.replace(ctx, &k.config, k.tableFlags(), elements, maxElements)
}

// spare is the table that protects while ours is made anew.
func (c *Config) spare() Config {
	spare := *c
	spare.Table += ".spare"
	return spare
}

func (k *Keeper) removeSpare(ctx context.Context) error {
	spare := k.config.spare()
	left, err := k.readTableOf(ctx, &spare)
	if err == nil && left.found {
		err = k.remove(&spare)
	}
	return err
}

// replace makes the table of c anew, the first transaction with at most most elements. While the kernel works one
// transaction off, the next is written.
func (k *Keeper) replace(ctx context.Context, c *Config, flags uint32, elements iter.Seq[Element], most int) (err error) {
	b, other := &k.batch, &k.other
	b.begin()
	b.addTable(c)
	b.deleteTable(c)
	b.addAll(c, k.rules, flags)

	// Elements come mixed, but a message holds one set: each has its own pile until they are sent.
	var piles [sets]list
	for _, s := range Sets {
		k.piles[s].reset()
		piles[s] = k.piles[s].list(c.Table, s, unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE)
	}
	var counts [sets]uint32
	room, size, count, left := k.command.limit-len(b.b)-k.slack(), 0, 0, 0
	sent := make(chan error, 1)
	sent <- nil
	waiting := true // for what is in sent
	wait := func() error {
		if !waiting {
			return nil
		}
		waiting = false
		return <-sent
	}
	defer func() { err = errors.Join(err, wait()) }()
	flush := func() error {
		for s := range piles {
			piles[s].close()
			b.b, b.n = append(b.b, k.piles[s].b...), b.n+k.piles[s].n
			k.piles[s].reset()
		}
		b.finish()
		if err := wait(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		room, size, count, most = k.command.limit-k.slack(), 0, 0, maxElements
		waiting = true
		go func(b *batch) { sent <- k.explain(b, k.command.transact(b)) }(b)
		b, other = other, b
		b.begin()
		return nil
	}
	for e := range elements {
		change := Change{Element: e}
		if err := k.check(&change); err != nil {
			return err
		}
		if change.over() {
			continue
		}
		if counts[e.Set] == c.Size {
			left++
			continue
		}
		counts[e.Set]++
		n := e.size()
		if size+n > room || count == most {
			if err := flush(); err != nil {
				return err
			}
		}
		size, count = size+n, count+1
		piles[e.Set].room()
		k.piles[e.Set].element(&e)
	}
	if !b.empty() || size > 0 {
		if err := flush(); err != nil {
			return err
		}
	}
	if err := wait(); err != nil {
		return err
	}
	if left > 0 {
		return fmt.Errorf("%w: %d elements of more than %d left out", ErrFull, left, c.Size)
	}
	return nil
}

// slack is what the headers of a transaction take beside its elements, at most.
func (k *Keeper) slack() int { return k.command.limit/32 + 4096 }

// explain gives the kernel's error about an element its meaning.
func (k *Keeper) explain(b *batch, err error) error {
	var kernel *kernelError
	if !errors.As(err, &kernel) {
		return err
	}
	typ := b.typeOf(kernel.index)
	switch {
	case kernel.errno == unix.ENOENT && typ == unix.NFT_MSG_NEWSETELEM:
		return fmt.Errorf("%w: %w", ErrMissing, err)
	case kernel.errno == unix.ENFILE:
		return fmt.Errorf("%w: %w", ErrFull, err)
	case kernel.errno == unix.EEXIST && typ == unix.NFT_MSG_NEWSETELEM:
		return fmt.Errorf("%w: %w", ErrOverlap, err)
	}
	return k.hint(b, err)
}

// Remove deletes the table with all it holds. That it is not there is no error.
func (k *Keeper) Remove(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := ctx.Err()
	if err == nil {
		err = k.remove(&k.config)
	}
	if err == nil {
		err = k.removeSpare(ctx)
	}
	return k.fail("delete table inet "+k.config.Table, err)
}

func (k *Keeper) remove(c *Config) error {
	b := &k.batch
	b.begin()
	b.addTable(c)
	b.deleteTable(c)
	b.finish()
	return k.command.transact(b)
}

// A plan is what is wrong and what to do about it.
type plan struct {
	report      Report
	table       tableState
	spare       bool // the table that protected meanwhile was left behind
	dormant     bool
	flush       bool   // the rules of our chain go
	deleteChain bool   // our chain goes
	otherChain  string // a chain of ours at a former hook
	deleteSets  []Set
	addRules    bool
}

// compare reads the table and plans what is to be done about it.
func (k *Keeper) compare(ctx context.Context) (plan, error) {
	var p plan
	c := &k.config
	table, err := k.readTable(ctx)
	if err != nil {
		return p, err
	}
	p.table = table
	spare := c.spare()
	left, err := k.readTableOf(ctx, &spare)
	if err != nil {
		return p, err
	}
	if left.found {
		p.report.add("table inet %s was left behind", spare.Table)
		p.spare = true
	}
	if !table.found {
		p.report.add("table inet %s was missing", c.Table)
		p.report.Emptied = Sets[:]
		p.addRules = true
		return p, nil
	}
	p.report.Plain = c.Owner && !k.owning.unknown.Load() && table.flags&(nftTableOwner|nftTablePersist) == 0
	if table.flags&nftTableDormant != 0 {
		p.report.add("table inet %s was dormant: its rules did nothing", c.Table)
		p.dormant = true
	}
	for _, s := range Sets {
		is, err := k.readSet(ctx, s)
		if err != nil {
			return p, err
		}
		wrong := is.differs(c, s)
		if wrong == "" {
			continue
		}
		p.report.add("set %v %s", s, wrong)
		p.report.Emptied = append(p.report.Emptied, s)
		if is.found {
			p.deleteSets = append(p.deleteSets, s)
		}
	}
	for hook := range hookNumbers {
		if hook == c.Hook {
			continue
		}
		other, err := k.readChain(ctx, hook)
		if err != nil {
			return p, err
		}
		if other.found {
			p.report.add("chain %s was there, but the hook is %s now", hook, c.Hook)
			p.otherChain = hook
		}
	}
	chain, err := k.readChain(ctx, c.Hook)
	if err != nil {
		return p, err
	}
	if !chain.found {
		p.report.add("chain %s was missing", c.Hook)
		p.addRules = true
		return p, nil
	}
	wrong, anew := chain.differs(c)
	if wrong != "" {
		p.report.add("chain %s %s", c.Hook, wrong)
	}
	p.deleteChain = anew
	is, err := k.readRules(ctx, c.Hook)
	if err != nil {
		return p, err
	}
	if wrong := k.rulesDiffer(is); wrong != "" {
		p.report.add("rules of chain %s: %s", c.Hook, wrong)
		p.addRules = true
	}
	// A rule that refers to a set which is made anew has to be made anew too.
	p.addRules = p.addRules || anew || len(p.report.Emptied) > 0
	p.flush = p.addRules
	return p, nil
}

func (k *Keeper) rulesDiffer(is []ruleState) string {
	if slices.EqualFunc(is, k.rules, func(x ruleState, y rule) bool { return x.form == y.form }) {
		return ""
	}
	left := make(map[string]int)
	for _, r := range is {
		left[r.form]++
	}
	missing, foreign := 0, len(is)
	for _, r := range k.rules {
		if left[r.form] == 0 {
			missing++
			continue
		}
		left[r.form]--
		foreign--
	}
	if missing == 0 && foreign == 0 {
		return "out of order"
	}
	return fmt.Sprintf("%d of %d missing, %d foreign", missing, len(k.rules), foreign)
}
