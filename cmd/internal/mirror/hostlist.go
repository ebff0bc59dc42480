package mirror

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// A hostList is the hosts of a file. A million IPv4 addresses take 4 MB.
type hostList struct {
	hosts4 []uint32
	others []netip.Prefix
}

func (l *hostList) add(host netip.Prefix) {
	if n, ok := number4(host); ok {
		l.hosts4 = append(l.hosts4, n)
	} else {
		l.others = append(l.others, host)
	}
}

func (l *hostList) len() int { return len(l.hosts4) + len(l.others) }

func (l *hostList) clear() { l.hosts4, l.others = l.hosts4[:0], l.others[:0] }

// sort readies the list for has, and reports whether a host was added twice.
func (l *hostList) sort() (twice bool) {
	n := l.len()
	slices.Sort(l.hosts4)
	slices.SortFunc(l.others, netip.Prefix.Compare)
	l.hosts4, l.others = slices.Compact(l.hosts4), slices.Compact(l.others)
	return l.len() < n
}

// has reports whether exactly this host is in the sorted list.
func (l *hostList) has(host netip.Prefix) (found bool) {
	if n, ok := number4(host); ok {
		_, found = slices.BinarySearch(l.hosts4, n)
	} else {
		_, found = slices.BinarySearchFunc(l.others, host, netip.Prefix.Compare)
	}
	return found
}

// number4 is an IPv4 address as a number; false for everything else.
func number4(host netip.Prefix) (uint32, bool) {
	if !host.Addr().Is4() || host.Bits() != 32 {
		return 0, false
	}
	b := host.Addr().As4()
	return binary.BigEndian.Uint32(b[:]), true
}
