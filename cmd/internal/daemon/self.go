package daemon

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// OwnAddresses is every address of this host, in the network namespace that the daemon is in.
func OwnAddresses() ([]netip.Prefix, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("reading this host's addresses: %w", err)
	}
	var own []netip.Prefix
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		if ip, ok := netip.AddrFromSlice(n.IP); ok {
			ip = ip.Unmap().WithZone("")
			own = append(own, netip.PrefixFrom(ip, ip.BitLen()))
		}
	}
	return own, nil
}

// self tells when this host's addresses change, so that the allowlist's word self stays true. See rtnetlink(7).
type self struct {
	changed func(context.Context)
	ready   chan struct{}
}

func newSelf(changed func(context.Context)) *self {
	s := &self{changed: changed, ready: make(chan struct{})}
	close(s.ready)
	return s
}

func (s *self) String() string         { return "own addresses" }
func (s *self) Ready() <-chan struct{} { return s.ready }

func (s *self) Run(ctx context.Context) error {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{
		Groups: 1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1),
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	s.changed(ctx) // what came between the start and the subscription
	for {
		// An error other than the deadline is a lost event: look all the same.
		if _, err := conn.Receive(); ctx.Err() != nil {
			return nil
		} else if err != nil {
			// A socket that fails for good must not spin.
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Second):
			}
		}
		s.changed(ctx)
	}
}
