package nft

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Kind is what happened to a part of our table.
type Kind uint8

const (
	ElementAdded   Kind = iota + 1 // or, from Linux 6.12 on, got another timeout
	ElementDeleted                 // by somebody; the kernel says nothing of those whose time is over
	SetAdded
	SetDeleted
	TableAdded
	TableDeleted
	ChainAdded
	ChainDeleted
	RuleAdded
	RuleDeleted
)

var kindNames = [...]string{
	ElementAdded: "element added", ElementDeleted: "element deleted", SetAdded: "set added", SetDeleted: "set deleted",
	TableAdded: "table added", TableDeleted: "table deleted", ChainAdded: "chain added", ChainDeleted: "chain deleted",
	RuleAdded: "rule added", RuleDeleted: "rule deleted",
}

func (k Kind) String() string {
	if k == 0 || int(k) >= len(kindNames) {
		return fmt.Sprintf("Kind(%d)", uint8(k))
	}
	return kindNames[k]
}

// kinds maps the kernel's messages to what happened.
var kinds = [256]Kind{
	unix.NFT_MSG_NEWSETELEM: ElementAdded, unix.NFT_MSG_DELSETELEM: ElementDeleted,
	unix.NFT_MSG_NEWSET: SetAdded, unix.NFT_MSG_DELSET: SetDeleted,
	unix.NFT_MSG_NEWTABLE: TableAdded, unix.NFT_MSG_DELTABLE: TableDeleted,
	unix.NFT_MSG_NEWCHAIN: ChainAdded, unix.NFT_MSG_DELCHAIN: ChainDeleted,
	unix.NFT_MSG_NEWRULE: RuleAdded, unix.NFT_MSG_DELRULE: RuleDeleted,
}

// An Event is one thing that happened to our table. Events of chains and sets that are not ours are told too, as far
// as they lie in our table, but elements only of our sets.
type Event struct {
	Kind Kind
	// Element is the one of an element event; of a set event only Element.Set, and Name says whether it is ours.
	Element Element
	Name    string // of the set or chain; of a rule, its chain
}

// A Transaction is what one transaction of somebody did to our table.
type Transaction struct {
	// Own says that this Keeper did it. Its Events are not told: the caller knows them.
	Own bool
	// Lost says that the kernel could not deliver all events: anything may have changed. Nothing else is set.
	Lost bool
	// PID and Program are who did it; the PID is that of the initial PID namespace. Program is printable.
	PID     int
	Program string
	Events  []Event // in the order of the kernel, but for ranges, which come last; they belong to f
}

const (
	// watchQueue is asked for as the kernel's buffer for events: some 100,000 of one transaction fit.
	watchQueue = 16 << 20
	// maxEvents is the most of one transaction that is kept. Beyond it the events count as lost.
	maxEvents = 1 << 20
)

// SetWatchBuffer sets how many bytes of events the kernel keeps for a Watch that begins later. The kernel doubles it,
// and caps it where we lack the right. It is 16 MiB otherwise.
func (k *Keeper) SetWatchBuffer(bytes int) { k.watchQueue = bytes }

// Watch calls ready once it listens, and then f for each transaction that changes our table, in order, until ctx ends
// (the result is nil) or f returns an error (which it returns). A Keeper's own transactions are marked, those of
// another Keeper are not. f may call the Keeper's other methods; while it runs, events wait in the kernel's buffer, and
// when that is full the next Transaction says Lost.
func (k *Keeper) Watch(ctx context.Context, ready func(), f func(Transaction) error) error {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return k.fail("watch", err)
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err == nil {
		err = conn.SetReadBuffer(k.watchQueue) // capped silently where we lack the right
	}
	if err == nil {
		err = k.listen(conn)
	}
	if err != nil {
		return k.fail("watch", err)
	}
	defer k.unlisten(conn)
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if ready != nil {
		ready()
	}
	w := watcher{k: k, f: f}
	return w.run(ctx, raw)
}

// A watcher collects the events of one transaction at a time.
type watcher struct {
	k      *Keeper
	f      func(Transaction) error
	events []Event
	pieces [2][sets][]piece // of ranges: those of ElementAdded, of ElementDeleted
	own    bool             // the transaction is ours and has something of our table
	over   bool             // there were too many
}

func (w *watcher) run(ctx context.Context, raw syscall.RawConn) error {
	buf := make([]byte, receiveSize)
	for {
		var n int
		var err error
		rerr := raw.Read(func(fd uintptr) bool {
			for {
				n, err = recv(int(fd), buf)
				if err != unix.EINTR {
					return err != unix.EAGAIN
				}
			}
		})
		if ctx.Err() != nil {
			return nil
		}
		if rerr != nil {
			return w.k.fail("watch", rerr)
		}
		switch {
		case err == unix.ENOBUFS || err == unix.EMSGSIZE:
			// What was collected is part of something that will never be whole.
			w.reset()
			if err := w.f(Transaction{Lost: true}); err != nil {
				return err
			}
			continue
		case err != nil:
			return w.k.fail("watch", err)
		}
		for h, p := range messages(buf[:n]) {
			if h.Type>>8 != unix.NFNL_SUBSYS_NFTABLES {
				continue
			}
			typ := int(h.Type & 0xff)
			if typ == unix.NFT_MSG_NEWGEN {
				if err := w.finish(ctx, body(p)); err != nil {
					return err
				}
				continue
			}
			if kind := kinds[typ]; kind != 0 && len(p) >= genLen && p[0] == unix.NFPROTO_INET {
				w.add(h, kind, body(p))
			}
		}
	}
}

func (w *watcher) reset() {
	w.events, w.own, w.over = nil, false, false
	for i := range w.pieces {
		for s := range w.pieces[i] {
			w.pieces[i][s] = nil
		}
	}
}

// add collects one event. p is without the nfgenmsg; its first attributes are the table's name and the object's.
func (w *watcher) add(h header, kind Kind, p []byte) {
	// The table is attribute 1 of all kinds of message.
	if t := attr(p, unix.NFTA_TABLE_NAME); len(t) != len(w.k.config.Table)+1 || getString(t) != w.k.config.Table {
		return
	}
	if w.own || w.k.ports.has(h.PID) {
		w.own = true
		return
	}
	if len(w.events) >= maxEvents {
		w.over = true
		return
	}
	e := Event{Kind: kind}
	switch kind {
	case ElementAdded, ElementDeleted:
		name := attr(p, unix.NFTA_SET_ELEM_LIST_SET)
		s, ours := setNamed(name)
		if !ours {
			return
		}
		pieces := &w.pieces[kind-ElementAdded][s]
		readPieces(s, p, func(q *piece) {
			if s.Ranges() {
				q.comment = slices.Clone(q.comment)
				*pieces = append(*pieces, *q)
				w.over = w.over || len(*pieces) > maxEvents
			} else if !q.end {
				w.events = append(w.events, Event{Kind: kind, Element: q.element(s, q.addr)})
			}
		})
		return
	case SetAdded, SetDeleted:
		name := attr(p, unix.NFTA_SET_NAME)
		e.Name = clean(getString(name))
		e.Element.Set, _ = setNamed(name)
	case ChainAdded, ChainDeleted:
		e.Name = clean(getString(attr(p, unix.NFTA_CHAIN_NAME)))
	case RuleAdded, RuleDeleted:
		e.Name = clean(getString(attr(p, unix.NFTA_RULE_CHAIN)))
	}
	w.events = append(w.events, e)
}

// finish hands over what was collected, now that the kernel has said who did it.
func (w *watcher) finish(ctx context.Context, p []byte) error {
	defer w.reset()
	if w.over {
		return w.f(Transaction{Lost: true})
	}
	t := Transaction{
		Own:     w.own,
		PID:     int(getBE32(attr(p, unix.NFTA_GEN_PROC_PID))),
		Program: clean(getString(attr(p, unix.NFTA_GEN_PROC_NAME))),
	}
	if !w.own {
		w.joinRanges(ctx)
		t.Events = w.events
	}
	if !t.Own && len(t.Events) == 0 {
		return nil
	}
	return w.f(t)
}

// joinRanges makes events of the pieces of ranges.
func (w *watcher) joinRanges(ctx context.Context) {
	for i := range w.pieces {
		kind := ElementAdded + Kind(i)
		for s, pieces := range w.pieces[i] {
			if len(pieces) == 0 {
				continue
			}
			ranges, open := join(Set(s), pieces)
			if kind == ElementAdded {
				// A range that only got another timeout is told without its end.
				for _, n := range open {
					e, found, err := w.k.lookup(ctx, Set(s), ranges[n].First)
					if err == nil && found && e.First == ranges[n].First {
						ranges[n].Last = e.Last
					}
				}
			}
			for _, e := range ranges {
				w.events = append(w.events, Event{Kind: kind, Element: e})
			}
		}
	}
}
