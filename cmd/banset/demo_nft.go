package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"banset/nft"
)

// listSet is the set as `nft list set` prints it, for a demo that needs no nft. Only the sets of hosts are rendered,
// without counters.
func listSet(ctx context.Context, k *nft.Keeper, set nft.Set) (string, error) {
	var elements []nft.Element
	if err := k.Dump(ctx, set, func(e nft.Element) error {
		elements = append(elements, e)
		return nil
	}); err != nil {
		return "", err
	}
	slices.SortFunc(elements, func(a, b nft.Element) int {
		return cmp.Or(a.First.Compare(b.First))
	})
	family, typ := "IPv4", "ipv4_addr"
	if !set.Is4() {
		family, typ = "IPv6", "ipv6_addr"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n\tset %s {\n\t\ttype %s\n\t\tsize %d\n\t\tflags timeout\n\t\tgc-interval 1m\n",
		k.Config().Table, set, typ, k.Config().Size)
	fmt.Fprintf(&b, "\t\tcomment \"banned %s hosts\"\n", family)
	for i, e := range elements {
		if i == 0 {
			b.WriteString("\t\telements = { ")
		} else {
			b.WriteString(",\n\t\t\t     ")
		}
		b.WriteString(e.First.String())
		if e.Timeout > 0 {
			fmt.Fprintf(&b, " timeout %s expires %s", nftDuration(e.Timeout), nftDuration(e.Expires))
		}
		if e.Comment != "" {
			fmt.Fprintf(&b, " comment \"%s\"", e.Comment)
		}
	}
	if len(elements) > 0 {
		b.WriteString(" }\n")
	}
	b.WriteString("\t}\n}\n")
	return b.String(), nil
}

// nftDuration is a length of time as nft writes it: 364d23h59m59s968ms.
func nftDuration(d time.Duration) string {
	var b strings.Builder
	for _, u := range []struct {
		length time.Duration
		name   string
	}{{day, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}, {time.Millisecond, "ms"}} {
		if n := d / u.length; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			d -= n * u.length
		}
	}
	if b.Len() == 0 {
		return "0s"
	}
	return b.String()
}
