package blocklist

import (
	"bytes"
	"encoding/binary"
	"net/netip"
)

// newKey masks the host. It is false for an invalid one and for the prefix of all addresses.
func newKey(host netip.Prefix) (key, bool) {
	if !host.IsValid() || host.Bits() == 0 {
		return key{}, false
	}
	bits := host.Bits()
	if host.Addr().Is4() {
		bits += 96
	}
	a := host.Addr().As16()
	k := maskedKey(binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:]), bits)
	return k, k != allIPv4
}

// allIPv4 is ::ffff:0:0/96.
var allIPv4 = key{0, 0xffff << 32, 96}

func maskedKey(hi, lo uint64, bits int) key {
	if bits <= 64 {
		return key{hi &^ (1<<(64-bits) - 1), 0, uint8(bits)}
	}
	return key{hi, lo &^ (1<<(128-bits) - 1), uint8(bits)}
}

// host is the inverse of newKey.
func (k *key) host() netip.Prefix {
	if k.hi == 0 && k.lo>>32 == 0xffff && k.bits >= 96 {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], uint32(k.lo))
		return netip.PrefixFrom(netip.AddrFrom4(a), int(k.bits)-96)
	}
	var a [16]byte
	binary.BigEndian.PutUint64(a[:8], k.hi)
	binary.BigEndian.PutUint64(a[8:], k.lo)
	return netip.PrefixFrom(netip.AddrFrom16(a), int(k.bits))
}

// parseHost reads the first word of a line: an address, or a prefix whose host bits may be set.
func parseHost(word []byte) (key, bool) {
	if a, n := parse4(word); n == len(word) && n > 0 {
		return key{0, 0xffff<<32 | uint64(a), 128}, true
	} else if n > 0 && word[n] == '/' {
		bits, ok := parseBits(word[n+1:], 32)
		return maskedKey(0, 0xffff<<32|uint64(a), 96+bits), ok && bits > 0
	}
	addr, rest, prefix := bytes.Cut(word, []byte{'/'})
	hi, lo, ok := parse6(addr)
	if !ok {
		return key{}, false
	}
	bits := 128
	if prefix {
		if bits, ok = parseBits(rest, 128); !ok || bits == 0 {
			return key{}, false
		}
	}
	k := maskedKey(hi, lo, bits)
	return k, k != allIPv4
}

// parse6 reads an IPv6 address, all of b. It has no zone.
func parse6(b []byte) (hi, lo uint64, ok bool) {
	var groups [8]uint16
	n, gap, i := 0, -1, 0 // groups read, where "::" stands among them, bytes read
	if len(b) >= 2 && b[0] == ':' && b[1] == ':' {
		gap, i = 0, 2
	}
	for i < len(b) && n < 8 {
		start, v := i, uint16(0)
		for i < len(b) && i-start < 5 && hexValue[b[i]] >= 0 {
			v = v<<4 | uint16(hexValue[b[i]])
			i++
		}
		if i == start || i-start > 4 {
			return 0, 0, false
		}
		if i < len(b) && b[i] == '.' { // an IPv4 address is the last two groups
			a, size := parse4(b[start:])
			if size != len(b)-start || n > 6 {
				return 0, 0, false
			}
			groups[n], groups[n+1] = uint16(a>>16), uint16(a)
			n, i = n+2, len(b)
			break
		}
		groups[n] = v
		n++
		if i == len(b) {
			break
		}
		if b[i] != ':' || i+1 == len(b) {
			return 0, 0, false
		}
		if i++; b[i] == ':' {
			if gap >= 0 {
				return 0, 0, false
			}
			gap = n
			i++
		}
	}
	if i < len(b) || (n < 8) != (gap >= 0) {
		return 0, 0, false
	}
	if gap >= 0 {
		copy(groups[8-n+gap:], groups[gap:n])
		clear(groups[gap : 8-n+gap])
	}
	for g := range 4 {
		hi = hi<<16 | uint64(groups[g])
		lo = lo<<16 | uint64(groups[g+4])
	}
	return hi, lo, true
}

// hexValue is the value of a hexadecimal digit, -1 for any other byte.
var hexValue = func() (v [256]int8) {
	for c := range v {
		v[c] = -1
	}
	for i := range 10 {
		v['0'+i] = int8(i)
	}
	for i := range 6 {
		v['a'+i], v['A'+i] = int8(10+i), int8(10+i)
	}
	return v
}()

// parse4 reads a dotted IPv4 address at the start of b and returns the bytes it takes, or 0.
func parse4(b []byte) (addr uint32, n int) {
	for i := range 4 {
		if i > 0 {
			if n >= len(b) || b[n] != '.' {
				return 0, 0
			}
			n++
		}
		v, digits := uint32(0), 0
		for n < len(b) && '0' <= b[n] && b[n] <= '9' {
			v = v*10 + uint32(b[n]-'0')
			n++
			// No leading zeros: some programs read them as octal.
			if digits++; digits > 3 || v > 255 || digits > 1 && v < 10 {
				return 0, 0
			}
		}
		if digits == 0 {
			return 0, 0
		}
		addr = addr<<8 | v
	}
	return addr, n
}

func parseBits(b []byte, most int) (bits int, ok bool) {
	if len(b) == 0 || len(b) > 3 || b[0] == '0' && len(b) > 1 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		bits = bits*10 + int(c-'0')
	}
	return min(bits, most), bits <= most
}
