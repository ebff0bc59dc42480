package nft

import (
	"context"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// An event costs the kernel a buffer of several KiB for each element, and does so only while somebody listens: a
// restore of a table that is gone takes twice as long when we listen to ourselves. So our watches leave the group for
// as long, and the kernel's count of transactions tells whether anybody else did something that they missed.

// listen adds a watch's socket to the group, and to those that unheard makes deaf.
func (k *Keeper) listen(conn *netlink.Conn) error {
	k.watchMu.Lock()
	defer k.watchMu.Unlock()
	if err := conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return err
	}
	k.watching[conn] = struct{}{}
	return nil
}

// unlisten ends what listen began.
func (k *Keeper) unlisten(conn *netlink.Conn) {
	k.watchMu.Lock()
	defer k.watchMu.Unlock()
	delete(k.watching, conn)
}

// unheard runs f while no watch of this Keeper listens, and reports whether nobody else changed anything meanwhile.
func (k *Keeper) unheard(ctx context.Context, f func() error) (alone bool, err error) {
	k.watchMu.Lock()
	defer k.watchMu.Unlock()
	// Asked for before the ears close and after they open again: what is heard as well as counted does no harm.
	before, err := k.generation(ctx)
	if err != nil {
		return false, err
	}
	ours := k.command.committed
	for conn := range k.watching {
		err = errors.Join(err, conn.LeaveGroup(unix.NFNLGRP_NFTABLES))
	}
	if err == nil {
		err = f()
	}
	for conn := range k.watching {
		if joinErr := conn.JoinGroup(unix.NFNLGRP_NFTABLES); joinErr != nil {
			err = errors.Join(err, fmt.Errorf("listening again: %w", joinErr))
		}
	}
	if err != nil {
		return false, err
	}
	after, err := k.generation(ctx)
	return after-before == k.command.committed-ours, err
}

// generation is the number of the ruleset's last transaction, of any table; see nft_base_seq in the kernel's
// net/netfilter/nf_tables_api.c.
func (k *Keeper) generation(ctx context.Context) (id uint32, err error) {
	found, err := k.get(ctx, unix.NFT_MSG_GETGEN, func(*wire) {}, func(p []byte) {
		id = getBE32(attr(body(p), unix.NFTA_GEN_ID))
	})
	if err == nil && !found {
		err = errNothing
	}
	return id, err
}
