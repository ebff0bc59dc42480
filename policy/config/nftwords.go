package config

import "strings"

// nftWords are words that nft 1.0.6 does not take for the name of a table, found by trying: a table of that name could
// be made over netlink, but no listing of it could be loaded again.
var nftWords = func() map[string]bool {
	words := make(map[string]bool)
	for w := range strings.FieldsSeq(`
		accept add ah all and arp bridge cgroup chain comment comp constant counter create ct day dccp define delete
		describe destroy device dnat drop dst dup dynamic element elements eq esp ether exists export exthdr fib flags
		flowtable flush fwd get goto gt handle hook hour icmp icmpv6 igmp import include index inet insert interval ip ip6
		ipsec jhash jump limit list log lt map mark masquerade meta missing monitor ne netdev not notrack numgen offload or
		osf policy position priority queue quota random redirect reject rename replace reset return rt rule ruleset sctp
		secmark set size skuid snat socket symhash synproxy table tcp th timeout tproxy type typeof udp udplite vlan vmap`) {
		words[w] = true
	}
	return words
}()
