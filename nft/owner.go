package nft

import (
	"context"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// owning is what a Keeper with Config.Owner knows of its right.
type owning struct {
	probed   bool
	unknown  atomic.Bool // this kernel has no such flags
	dial     int         // which of our sockets owns the table; 0: none does
	released bool
}

// tableFlags are the flags of a table that we make; k.mu is held.
func (k *Keeper) tableFlags() uint32 {
	if !k.config.Owner || k.owning.unknown.Load() || k.owning.released {
		return 0
	}
	return nftTableOwner | nftTablePersist
}

// probe finds out, once, whether the kernel knows the flags, with a table that is gone with the same transaction.
func (k *Keeper) probe() error { return k.probeWith(nftTableOwner | nftTablePersist) }

func (k *Keeper) probeWith(flags uint32) error {
	if !k.config.Owner || k.owning.probed {
		return nil
	}
	c := Config{Table: k.config.Table + ".probe"}
	b := &k.batch
	b.begin()
	b.setTable(&c, flags)
	b.deleteTable(&c)
	b.finish()
	err := k.command.transact(b)
	if isErrno(err, unix.EOPNOTSUPP) {
		k.owning.unknown.Store(true)
		err = nil
	}
	k.owning.probed = err == nil
	if err != nil {
		return fmt.Errorf("find out whether tables can be owned: %w", err)
	}
	return nil
}

// regain makes the table ours when it has no owner: it was found so, was just made, or our socket had to be replaced.
// k.mu is held.
func (k *Keeper) regain(ctx context.Context) error {
	if k.tableFlags() == 0 || k.command.conn == nil || k.owning.dial == k.command.dials {
		return nil
	}
	t, err := k.readTable(ctx)
	if err != nil || !t.found {
		return err
	}
	if t.orphan() {
		b := &k.batch
		b.begin()
		b.setTable(&k.config, t.flags|nftTableOwner)
		b.finish()
		if err := k.command.transact(b); err != nil {
			return fmt.Errorf("own the table: %w", err)
		}
		if t, err = k.readTable(ctx); err != nil {
			return err
		}
	}
	if t.flags&nftTableOwner != 0 && t.owner == k.command.conn.PID() {
		k.owning.dial = k.command.dials
	}
	return nil
}

// Owns reports whether the table is this Keeper's own, so that nobody else can change it. possible is false when the
// kernel does not know the flags (before Linux 6.9); it is only known after Ensure or Replace.
func (k *Keeper) Owns(ctx context.Context) (owns, possible bool, err error) {
	k.mu.Lock()
	port := uint32(0)
	if k.command.conn != nil {
		port = k.command.conn.PID()
	}
	k.mu.Unlock()
	t, err := k.readTable(ctx)
	if err != nil {
		return false, false, k.fail("read table inet "+k.config.Table, err)
	}
	return t.flags&nftTableOwner != 0 && t.owner == port, !k.owning.unknown.Load(), nil
}

// Release gives up a table that is owned, so that another Keeper can take it. This one does not take it again.
func (k *Keeper) Release() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.config.Owner {
		return nil
	}
	k.owning.released, k.owning.dial = true, 0
	return k.command.close()
}
