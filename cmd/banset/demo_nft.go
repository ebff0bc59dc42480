package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"banset/nft"
)

// listSet is what `nft list set` prints of the set of IPv4 hosts, for a demo that needs no nft; without counters.
func listSet(ctx context.Context, k *nft.Keeper) (string, error) {
	var elements []nft.Element
	if err := k.Dump(ctx, nft.Ban4, func(e nft.Element) error {
		elements = append(elements, e)
		return nil
	}); err != nil {
		return "", err
	}
	slices.SortFunc(elements, func(a, b nft.Element) int { return a.First.Compare(b.First) })
	config := k.Config()
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n\tset %s {\n\t\ttype ipv4_addr\n\t\tsize %d\n\t\tflags timeout\n\t\tgc-interval 1m\n"+
		"\t\tcomment \"banned IPv4 hosts\"\n", config.Table, nft.Ban4, config.SetSize(nft.Ban4))
	for i, e := range elements {
		switch {
		case i == 0:
			b.WriteString("\t\telements = { ")
		case i%2 == 1: // nft writes two on a line
			b.WriteString(", ")
		default:
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
