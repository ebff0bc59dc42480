package blocklist

import (
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
	if len(word) > len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255/128") {
		return key{}, false
	}
	addr, rest := word, []byte(nil)
	for i, c := range word {
		if c == '/' {
			addr, rest = word[:i], word[i+1:]
			break
		}
	}
	a, err := netip.ParseAddr(string(addr))
	if err != nil || a.Zone() != "" || a.Is4() {
		return key{}, false
	}
	bits := 128
	if len(addr) < len(word) {
		var ok bool
		if bits, ok = parseBits(rest, 128); !ok || bits == 0 {
			return key{}, false
		}
	}
	b := a.As16()
	k := maskedKey(binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:]), bits)
	return k, k != allIPv4
}

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
