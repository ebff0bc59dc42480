package mirror

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"banset/nft"
	"banset/policy"
)

// InKernel says in words what the kernel holds of a host: by the element of what it is counted as, or by a range.
func InKernel(ctx context.Context, keeper *nft.Keeper, counted, asked netip.Prefix, ipv6Prefix int) string {
	var sets []nft.Set
	addr := asked.Addr()
	if set, ok := hostSet(counted, ipv6Prefix); ok {
		e, found, err := keeper.Get(ctx, set, counted.Addr())
		if err != nil {
			return err.Error()
		}
		if found {
			return describe(e)
		}
	}
	sets = []nft.Set{nft.Net4}
	if addr.Is6() {
		sets = []nft.Set{nft.Net6}
	}
	for _, set := range sets {
		e, found, err := keeper.Get(ctx, set, addr)
		if err != nil {
			return err.Error()
		}
		if found {
			return describe(e)
		}
	}
	return "absent"
}

func describe(e nft.Element) string {
	what := e.Set.String() + " " + e.First.String()
	if e.First != e.Last {
		what += "-" + e.Last.String()
	}
	if e.Timeout == 0 {
		return what + ", permanent"
	}
	return fmt.Sprintf("%s, expires in %s", what, policy.FormatDuration(e.Expires.Round(time.Second)))
}
