package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"banset/nft"
)

// rawLoad sends the messages that put n bans into the kernel, all of them built beforehand, and tells what the sending
// alone took: the kernel's own time, below which nobody comes.
func rawLoad(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	k, err := nft.Open(table(n))
	if err != nil {
		return err
	}
	defer k.Close()
	if err := k.Replace(context.Background(), slices.Values([]nft.Element{})); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// Only root of the machine may; elsewhere transactions are small enough all the same.
	perBatch := 10_000
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8<<20) != nil {
		perBatch = 1000
	}
	var batches [][]byte
	for i := 0; i < n; i += perBatch {
		batches = append(batches, rawBatch(i, min(i+perBatch, n)))
	}
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	answer := make([]byte, 1<<16)
	began, cpu := time.Now(), used(unix.RUSAGE_SELF)
	for _, b := range batches {
		if err := unix.Sendto(fd, b, 0, kernel); err != nil {
			return err
		}
		n, _, err := unix.Recvfrom(fd, answer, 0)
		if err != nil {
			return err
		}
		if n < 20 {
			return fmt.Errorf("an answer of %d bytes", n)
		}
		if errno := int32(binary.NativeEndian.Uint32(answer[16:])); errno != 0 {
			return fmt.Errorf("nf_tables: %w", unix.Errno(-errno))
		}
	}
	return loaded(k, n, used(unix.RUSAGE_SELF)-cpu, time.Since(began))
}

// rawBatch is one transaction that adds the bans from first to last, with an acknowledgement of its last message.
func rawBatch(first, last int) (b []byte) {
	const perMessage = 600 // an attribute's length is 16 bits
	message := func(typ, flags uint16, family byte, resource uint16, body func()) {
		at := len(b)
		b = append(b, make([]byte, 20)...)
		binary.NativeEndian.PutUint16(b[at+4:], typ)
		binary.NativeEndian.PutUint16(b[at+6:], flags|unix.NLM_F_REQUEST)
		b[at+16] = family
		binary.BigEndian.PutUint16(b[at+18:], resource)
		body()
		binary.NativeEndian.PutUint32(b[at:], uint32(len(b)-at))
	}
	attribute := func(typ uint16, body func()) {
		at := len(b)
		b = append(b, 0, 0, 0, 0)
		binary.NativeEndian.PutUint16(b[at+2:], typ)
		body()
		binary.NativeEndian.PutUint16(b[at:], uint16(len(b)-at))
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	nested := func(typ uint16, body func()) { attribute(typ|unix.NLA_F_NESTED, body) }
	text := func(typ uint16, s string) { attribute(typ, func() { b = append(append(b, s...), 0) }) }
	long := func(typ uint16, d time.Duration) {
		attribute(typ, func() { b = binary.BigEndian.AppendUint64(b, uint64(d.Milliseconds())) })
	}
	nothing := func() {}

	message(unix.NFNL_MSG_BATCH_BEGIN, 0, 0, unix.NFNL_SUBSYS_NFTABLES, nothing)
	for ; first < last; first += perMessage {
		flags := uint16(unix.NLM_F_CREATE)
		if first+perMessage >= last {
			flags |= unix.NLM_F_ACK
		}
		message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWSETELEM, flags, unix.NFPROTO_INET, 0, func() {
			text(unix.NFTA_SET_ELEM_LIST_TABLE, "banset")
			text(unix.NFTA_SET_ELEM_LIST_SET, nft.Ban4.String())
			nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
				for i := first; i < min(first+perMessage, last); i++ {
					nested(unix.NFTA_LIST_ELEM, func() {
						nested(unix.NFTA_SET_ELEM_KEY, func() {
							a := attacker(i).As4()
							attribute(unix.NFTA_DATA_VALUE, func() { b = append(b, a[:]...) })
						})
						long(unix.NFTA_SET_ELEM_TIMEOUT, banTime)
						long(unix.NFTA_SET_ELEM_EXPIRATION, banTime-time.Minute)
						attribute(unix.NFTA_SET_ELEM_USERDATA, func() {
							b = append(append(append(b, 0, byte(len(reason)+1)), reason...), 0)
						})
					})
				}
			})
		})
	}
	message(unix.NFNL_MSG_BATCH_END, 0, 0, unix.NFNL_SUBSYS_NFTABLES, nothing)
	return b
}
