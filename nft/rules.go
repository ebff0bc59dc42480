package nft

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A rule is one rule of our chain.
type rule struct {
	exprs   []byte // the list of its expressions, as netlink attributes
	comment string
	form    string // what canonical makes of exprs and comment: equal for equal rules
}

const (
	conntrackReply = 1 // what ct direction loads; from linux/netfilter/nf_conntrack_tuple_common.h

	// What a node needs to find its router and its neighbours: ICMPv6 types of RFC 4861, which all of them carry a hop
	// limit of 255, so that none can come from beyond the link.
	routerSolicitation     = 133
	neighbourAdvertisement = 136
	linkHopLimit           = 255
)

// Where the source address lies in the network header, and how long it is.
var sourceOf = map[bool]expr.Payload{
	true:  {DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
	false: {DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 8, Len: 16},
}

// rules are those that our chain ought to hold, in order.
func rules(c *Config) ([]rule, error) {
	var all []rule
	var errs error
	add := func(comment string, exprs ...expr.Any) {
		r := rule{comment: comment}
		var w wire
		for _, e := range exprs {
			p, err := expr.Marshal(unix.NFPROTO_INET, e)
			if err != nil && errs == nil {
				errs = fmt.Errorf("encode the rule %q: %w", comment, err)
			}
			w.bytes(unix.NFTA_LIST_ELEM|attrNested, p)
		}
		r.exprs = w.b
		r.form = canonical(r.exprs, ruleUserdata(comment))
		all = append(all, r)
	}
	if c.Direction == "original" {
		// Matching ct direction original in each rule instead would let through what conntrack does not track.
		add("replies to connections of this host",
			&expr.Ct{Register: 1, Key: expr.CtKeyDIRECTION},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{conntrackReply}},
			&expr.Verdict{Kind: expr.VerdictReturn})
	}
	// As ARP does for IPv4: or a ban of a host in our own network, and of its prefix, cuts us off from the router there.
	// Conntrack does not track it, so the rule above lets none of it pass.
	for typ := byte(routerSolicitation); typ <= neighbourAdvertisement; typ++ {
		add("IPv6 neighbour discovery",
			&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.NFPROTO_IPV6}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 7, Len: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{linkHopLimit}},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_ICMPV6}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{typ}},
			&expr.Verdict{Kind: expr.VerdictReturn})
	}
	for _, s := range Sets {
		what := "banned hosts"
		if s.Ranges() {
			what = "banned networks"
		}
		if c.Verdict == "drop" {
			add(what, append(c.match(s), &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop})...)
			continue
		}
		add(what+", tcp", append(append(tcp(), c.match(s)...), &expr.Counter{},
			&expr.Reject{Type: unix.NFT_REJECT_TCP_RST})...)
		add(what, append(c.match(s), &expr.Counter{},
			&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED})...)
	}
	return all, errs
}

func tcp() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
	}
}

// match is the condition that a packet comes from an element of s.
func (c *Config) match(s Set) []expr.Any {
	proto, source := byte(unix.NFPROTO_IPV6), sourceOf[s.Is4()]
	if s.Is4() {
		proto = unix.NFPROTO_IPV4
	}
	exprs := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
		&source,
	}
	if s == Ban6 && c.IPv6Prefix < 128 {
		exprs = append(exprs, &expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 16, Mask: mask6(c.IPv6Prefix), Xor: make([]byte, 16),
		})
	}
	return append(exprs, &expr.Lookup{SourceRegister: 1, SetName: s.String()})
}

func mask6(bits int) []byte {
	p, _ := Net6.top().Prefix(bits)
	b := p.Addr().As16()
	return b[:]
}

// ruleUserdata is a rule's comment as nft keeps it.
func ruleUserdata(comment string) []byte {
	return append(append([]byte{udataComment, byte(len(comment) + 1)}, comment...), 0)
}

// nestedIn lists which attributes of an expression hold attributes.
var nestedIn = map[string][]uint16{
	"cmp":       {unix.NFTA_CMP_DATA},
	"bitwise":   {unix.NFTA_BITWISE_MASK, unix.NFTA_BITWISE_XOR},
	"immediate": {unix.NFTA_IMMEDIATE_DATA},
}

// canonical is the same text for two rules that do the same: what we write and what the kernel tells of it differ in
// order and flags of attributes, in those that are zero, and in what is counted.
func canonical(exprs, udata []byte) string {
	var b strings.Builder
	for _, e := range attrs(exprs) {
		name := getString(attr(e, unix.NFTA_EXPR_NAME))
		fmt.Fprintf(&b, "%q", name)
		if name != "counter" {
			canonicalAttrs(&b, attr(e, unix.NFTA_EXPR_DATA), nestedIn[name])
		}
		b.WriteByte('\n')
	}
	comment, _ := userdata(udata, udataComment)
	fmt.Fprintf(&b, "%q\n", comment)
	return b.String()
}

func canonicalAttrs(b *strings.Builder, p []byte, nested []uint16) {
	type one struct {
		typ  uint16
		data []byte
	}
	var all []one
	for t, v := range attrs(p) {
		all = append(all, one{t, v})
	}
	slices.SortStableFunc(all, func(x, y one) int { return cmp.Compare(x.typ, y.typ) })
	b.WriteByte('{')
	for _, a := range all {
		switch {
		case slices.Contains(nested, a.typ):
			fmt.Fprintf(b, "%d", a.typ)
			// A verdict is the only thing nested twice.
			canonicalAttrs(b, a.data, []uint16{unix.NFTA_DATA_VERDICT})
		case slices.ContainsFunc(a.data, func(c byte) bool { return c != 0 }):
			fmt.Fprintf(b, "%d=%s ", a.typ, hex.EncodeToString(a.data))
		}
	}
	b.WriteByte('}')
}

// The messages that make our table. Their order in a batch: table, sets, chain, rules.

const (
	tableComment = "kept by banset: rules put by others are removed, elements may be added and deleted"
	// gcInterval is how often the kernel frees elements whose time is over, in milliseconds. They stop matching at
	// once; its own default of a second costs 5 to 10 % of a processor for a million of them.
	gcInterval = 60_000
)

var setComments = [sets]string{
	"banned IPv4 hosts", "banned IPv6 hosts", "banned IPv4 networks", "banned IPv6 networks",
}

// addTable makes the table, without flags, or leaves the one that is there as it is.
func (b *batch) addTable(c *Config) {
	m := b.nft(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE)
	b.str(unix.NFTA_TABLE_NAME, c.Table)
	b.bytes(nftaTableUserdata, ruleUserdata(tableComment))
	b.end(m)
}

// setTable makes the table with these flags, or gives them to the one that is there.
func (b *batch) setTable(c *Config, flags uint32) {
	m := b.nft(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE)
	b.str(unix.NFTA_TABLE_NAME, c.Table)
	b.be32(unix.NFTA_TABLE_FLAGS, flags)
	b.bytes(nftaTableUserdata, ruleUserdata(tableComment))
	b.end(m)
}

func (b *batch) deleteTable(c *Config) {
	m := b.nft(unix.NFT_MSG_DELTABLE, 0)
	b.str(unix.NFTA_TABLE_NAME, c.Table)
	b.end(m)
}

func (s Set) flags() uint32 {
	if s.Ranges() {
		return unix.NFT_SET_TIMEOUT | unix.NFT_SET_INTERVAL
	}
	return unix.NFT_SET_TIMEOUT
}

// keyType is nft's number for the type of a set's keys; from its datatype.h.
func (s Set) keyType() uint32 {
	if s.Is4() {
		return 7 // ipv4_addr
	}
	return 8 // ipv6_addr
}

// SetSize is the size that a set has in the kernel, and in what nft(8) prints of it, in elements: a range is two there. Of
// a hash set's size only the lower 16 bits say how large its table is made at once (nelem_hint of
// linux/rhashtable-types.h); with none of them set it begins with 64 buckets and is moved again and again while a load
// goes on, which takes twice as long. So all of them are set.
func (c *Config) SetSize(s Set) uint32 {
	if s.Ranges() {
		return 2 * c.Size
	}
	if c.Size > 0xffff {
		return c.Size | 0xffff
	}
	return c.Size
}

func (b *batch) addSet(c *Config, s Set) {
	m := b.nft(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE)
	b.str(unix.NFTA_SET_TABLE, c.Table)
	b.str(unix.NFTA_SET_NAME, s.String())
	b.be32(unix.NFTA_SET_FLAGS, s.flags())
	b.be32(unix.NFTA_SET_KEY_TYPE, s.keyType())
	b.be32(unix.NFTA_SET_KEY_LEN, uint32(s.keyLen()))
	b.be32(unix.NFTA_SET_ID, uint32(s)+1)
	desc := b.nest(unix.NFTA_SET_DESC)
	b.be32(unix.NFTA_SET_DESC_SIZE, c.SetSize(s))
	b.endNest(desc)
	b.be32(unix.NFTA_SET_GC_INTERVAL, gcInterval)
	u := []byte{udataSetByteOrder, 4, 2, 0, 0, 0} // big endian, as nft writes it
	u = append(u, udataSetComment, byte(len(setComments[s])+1))
	b.bytes(unix.NFTA_SET_USERDATA, append(append(u, setComments[s]...), 0))
	if c.Counters {
		n := b.nest(nftaSetExpr)
		b.str(unix.NFTA_EXPR_NAME, "counter")
		b.endNest(b.nest(unix.NFTA_EXPR_DATA))
		b.endNest(n)
	}
	b.end(m)
}

// Types in the user data of sets; from libnftnl/udata.h.
const (
	udataSetByteOrder = 0
	udataSetComment   = 7
)

func (b *batch) deleteSet(c *Config, s Set) {
	m := b.nft(unix.NFT_MSG_DELSET, 0)
	b.str(unix.NFTA_SET_TABLE, c.Table)
	b.str(unix.NFTA_SET_NAME, s.String())
	b.end(m)
}

var hookNumbers = map[string]uint32{"prerouting": unix.NF_INET_PRE_ROUTING, "input": unix.NF_INET_LOCAL_IN}

func (b *batch) addChain(c *Config) {
	m := b.nft(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE)
	b.str(unix.NFTA_CHAIN_TABLE, c.Table)
	b.str(unix.NFTA_CHAIN_NAME, c.Hook)
	n := b.nest(unix.NFTA_CHAIN_HOOK)
	b.be32(unix.NFTA_HOOK_HOOKNUM, hookNumbers[c.Hook])
	b.be32(unix.NFTA_HOOK_PRIORITY, uint32(int32(c.Priority)))
	b.endNest(n)
	b.be32(unix.NFTA_CHAIN_POLICY, nfAccept)
	b.str(unix.NFTA_CHAIN_TYPE, "filter")
	b.end(m)
}

func (b *batch) deleteChain(c *Config, name string) {
	m := b.nft(unix.NFT_MSG_DELCHAIN, 0)
	b.str(unix.NFTA_CHAIN_TABLE, c.Table)
	b.str(unix.NFTA_CHAIN_NAME, name)
	b.end(m)
}

// flushChain deletes all rules of the chain.
func (b *batch) flushChain(c *Config, name string) {
	m := b.nft(unix.NFT_MSG_DELRULE, 0)
	b.str(unix.NFTA_RULE_TABLE, c.Table)
	b.str(unix.NFTA_RULE_CHAIN, name)
	b.end(m)
}

func (b *batch) addRules(c *Config, rules []rule) {
	for _, r := range rules {
		m := b.nft(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND)
		b.str(unix.NFTA_RULE_TABLE, c.Table)
		b.str(unix.NFTA_RULE_CHAIN, c.Hook)
		b.bytes(unix.NFTA_RULE_EXPRESSIONS|attrNested, r.exprs)
		b.bytes(unix.NFTA_RULE_USERDATA, ruleUserdata(r.comment))
		b.end(m)
	}
}

// addAll makes the whole table.
func (b *batch) addAll(c *Config, rules []rule, flags uint32) {
	b.setTable(c, flags)
	for _, s := range Sets {
		b.addSet(c, s)
	}
	b.addChain(c)
	b.addRules(c, rules)
}
