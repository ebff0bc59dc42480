package nft

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"banset/nft/nfttest"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/netlink"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"
)

// variants are the configurations whose rules testdata/rulesets.txtar holds, as `nft list ruleset` prints them.
var variants = map[string]func(*Config){
	"standard":     func(c *Config) {},
	"any":          func(c *Config) { c.Direction = "any" },
	"reject-input": func(c *Config) { c.Verdict, c.Hook, c.Priority = "reject", "input", -5 },
	"counters-any-128": func(c *Config) {
		c.Counters, c.Direction, c.IPv6Prefix, c.Priority, c.Table, c.Size = true, "any", 128, -300, "other.name-1", 10
	},
	"prefix-57": func(c *Config) { c.IPv6Prefix = 57 },
}

func TestRulesets(t *testing.T) {
	file := filepath.Join("testdata", "rulesets.txtar")
	golden, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(golden.Files) != len(variants) {
		t.Errorf("%s has %d rulesets, want %d", file, len(golden.Files), len(variants))
	}
	for _, want := range golden.Files {
		t.Run(want.Name, func(t *testing.T) {
			change, ok := variants[want.Name]
			if !ok {
				t.Fatalf("%s: no such configuration", file)
			}
			k := open(t, change)
			report := ensure(t, k)
			if want := "table inet " + k.config.Table + " was missing"; report.String() != want {
				t.Errorf("report %q, want %q", report, want)
			}
			if !slices.Equal(report.Emptied, Sets[:]) {
				t.Errorf("emptied %v", report.Emptied)
			}
			got := nfttest.Run(t, "nft", "list", "ruleset")
			if diff := cmp.Diff(string(want.Data), got); diff != "" {
				t.Errorf("nft list ruleset (-want +got)\n%s", diff)
			}
			if again := ensure(t, k); len(again.Changes) > 0 || len(again.Emptied) > 0 {
				t.Errorf("second Ensure: %v, %v", again, again.Emptied)
			}

			// What nft saves and loads is ours again.
			nfttest.Nft(t, "flush ruleset\n"+got)
			if again := nfttest.Run(t, "nft", "list", "ruleset"); again != got {
				t.Errorf("after nft -f (-want +got)\n%s", cmp.Diff(got, again))
			}
			if r, err := k.Check(ctx); err != nil || len(r.Changes) > 0 {
				t.Errorf("after nft -f: %v, %v", r, err)
			}
		})
	}
}

// genID is the number of the ruleset's generation: how many transactions there were.
func genID(t *testing.T, k *Keeper) uint32 {
	t.Helper()
	k.queryMu.Lock() // a watch may look something up
	defer k.queryMu.Unlock()
	var id uint32
	var w wire
	w.end(w.nft(unix.NFT_MSG_GETGEN, 0))
	if err := k.query.ask(ctx, &w, false, func(_ header, p []byte) error {
		id = getBE32(attr(body(p), unix.NFTA_GEN_ID))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestEnsureTouchesNothingThatIsRight(t *testing.T) {
	k := ready(t)
	apply(t, k, add("198.51.100.7", 0))
	before, gen := nfttest.Run(t, "nft", "-a", "list", "ruleset"), genID(t, k)
	for range 3 {
		if r := ensure(t, k); len(r.Changes) > 0 {
			t.Fatal(r)
		}
	}
	if after := nfttest.Run(t, "nft", "-a", "list", "ruleset"); after != before {
		t.Errorf("handles or elements changed (-before +after)\n%s", cmp.Diff(before, after))
	}
	if after := genID(t, k); after != gen {
		t.Errorf("%d transactions", after-gen)
	}
}

func TestEnsureRepairs(t *testing.T) {
	type test struct {
		name    string
		damage  string // for nft -f; "--" begins another transaction
		want    string // the report
		emptied []Set
		left    string // in nft list ruleset after it, beside what is ours
	}
	set := func(s, body string) string { // makes a set anew
		return "flush chain inet banset prerouting; delete set inet banset " + s + "; add set inet banset " + s +
			" { " + body + " }\n"
	}
	const rulesGone = "; rules of chain prerouting: 9 of 9 missing, 0 foreign"
	for _, test := range []test{
		{"nothing", "", "as it ought to be", nil, ""},
		{"table", "delete table inet banset", "table inet banset was missing", Sets[:], ""},
		{"ruleset", "flush ruleset", "table inet banset was missing", Sets[:], ""},
		{"dormant", "add table inet banset { flags dormant; }",
			"table inet banset was dormant: its rules did nothing", nil, ""},
		{"dormant and flushed", "add table inet banset { flags dormant; }\nflush table inet banset",
			"table inet banset was dormant: its rules did nothing; rules of chain prerouting: 9 of 9 missing, 0 foreign", nil, ""},
		{"dormant without chain", "flush table inet banset\ndelete chain inet banset prerouting\n--\nadd table inet banset { flags dormant; }",
			"table inet banset was dormant: its rules did nothing; chain prerouting was missing", nil, ""},
		{"flushed chain", "flush chain inet banset prerouting",
			"rules of chain prerouting: 9 of 9 missing, 0 foreign", nil, ""},
		{"foreign rule first", "insert rule inet banset prerouting accept",
			"rules of chain prerouting: 0 of 9 missing, 1 foreign", nil, ""},
		{"foreign rule last", "add rule inet banset prerouting ip saddr @ban4 counter accept",
			"rules of chain prerouting: 0 of 9 missing, 1 foreign", nil, ""},
		{"rule twice", `add rule inet banset prerouting ip saddr @net4 counter drop comment "banned networks"`,
			"rules of chain prerouting: 0 of 9 missing, 1 foreign", nil, ""},
		{"rule commented otherwise", "flush chain inet banset prerouting\n" + standardRules(`comment "mine"`),
			"rules of chain prerouting: 1 of 9 missing, 1 foreign", nil, ""},
		{"rules inverted", "flush chain inet banset prerouting\n" +
			strings.Replace(standardRules(`comment "banned hosts"`), "saddr @ban4", "saddr != @ban4", 1),
			"rules of chain prerouting: 1 of 9 missing, 1 foreign", nil, ""},
		{"rules out of order", "flush chain inet banset prerouting\n" + reversed(standardRules(`comment "banned hosts"`)),
			"rules of chain prerouting: out of order", nil, ""},
		{"same rules by hand", "flush chain inet banset prerouting\n" + standardRules(`comment "banned hosts"`),
			"as it ought to be", nil, ""},
		{"chain", "flush chain inet banset prerouting\ndelete chain inet banset prerouting", "chain prerouting was missing", nil, ""},
		{"chain without hook", "flush chain inet banset prerouting\ndelete chain inet banset prerouting\nadd chain inet banset prerouting",
			"chain prerouting had no hook" + rulesGone, nil, ""},
		{"chain at other priority", "flush chain inet banset prerouting\ndelete chain inet banset prerouting\n" +
			"add chain inet banset prerouting { type filter hook prerouting priority 10; }",
			"chain prerouting had priority 10, not -190" + rulesGone, nil, ""},
		{"chain at other hook", "flush chain inet banset prerouting\ndelete chain inet banset prerouting\n" +
			"add chain inet banset prerouting { type filter hook forward priority -190; }",
			"chain prerouting had another hook than prerouting" + rulesGone, nil, ""},
		{"chain of other type", "flush chain inet banset prerouting\ndelete chain inet banset prerouting\n" +
			"add chain inet banset prerouting { type nat hook prerouting priority -190; }",
			"chain prerouting had type nat, not filter" + rulesGone, nil, ""},
		{"chain policy", "add chain inet banset prerouting { policy drop; }",
			"chain prerouting had policy drop, not accept", nil, ""},
		{"former hook", "add chain inet banset input { type filter hook input priority 0; }\nadd rule inet banset input ip saddr @ban4 drop",
			"chain input was there, but the hook is prerouting now", nil, ""},
		{"set", "flush chain inet banset prerouting; delete set inet banset net6",
			"set net6 was missing" + rulesGone, []Set{Net6}, ""},
		{"set of other type", set("ban4", "type inet_service; flags timeout;"),
			"set ban4 had other keys than addresses of its family" + rulesGone, []Set{Ban4}, ""},
		{"map", "flush chain inet banset prerouting; delete set inet banset ban4\nadd map inet banset ban4 { type ipv4_addr : verdict; flags timeout; size 131071; }",
			"set ban4 had other keys than addresses of its family" + rulesGone, []Set{Ban4}, ""},
		{"set without timeout", set("ban4", "type ipv4_addr; size 131071;"),
			"set ban4 had the flags 0x0, not 0x10" + rulesGone, []Set{Ban4}, ""},
		{"set of ranges", set("ban6", "type ipv6_addr; flags timeout,interval; size 131071; gc-interval 60s;"),
			"set ban6 had the flags 0x14, not 0x10" + rulesGone, []Set{Ban6}, ""},
		{"set size", set("ban4", "type ipv4_addr; flags timeout; size 100; gc-interval 60s;"),
			"set ban4 had size 100, not 131071" + rulesGone, []Set{Ban4}, ""},
		{"set gc", set("ban4", "type ipv4_addr; flags timeout; size 131071;"),
			"set ban4 had a gc-interval of 0 ms, not 60000" + rulesGone, []Set{Ban4}, ""},
		{"set timeout", set("ban4", "type ipv4_addr; flags timeout; size 131071; gc-interval 60s; timeout 1h;"),
			"set ban4 had a default timeout of 1h0m0s" + rulesGone, []Set{Ban4}, ""},
		{"set counter", set("net4", "type ipv4_addr; flags timeout,interval; size 131072; gc-interval 60s; counter;"),
			"set net4 had a counter for each element, not no counter" + rulesGone, []Set{Net4}, ""},
		{"set limit", set("ban4", "type ipv4_addr; flags timeout; size 131071; gc-interval 60s; limit rate 1/second;"),
			"set ban4 had statements for each element that are not ours" + rulesGone, []Set{Ban4}, ""},
		{"foreign set and chain", "add set inet banset mine { type ipv4_addr; elements = { 192.0.2.99 }; }\n" +
			"add chain inet banset my\nadd rule inet banset my ip saddr @mine accept\nflush chain inet banset prerouting",
			"rules of chain prerouting: 9 of 9 missing, 0 foreign", nil, "192.0.2.99"},
		{"foreign rule holds a wrong set", set("ban4", "type ipv4_addr; flags timeout; size 100; gc-interval 60s;") +
			"add chain inet banset my\nadd rule inet banset my ip saddr @ban4 accept",
			"set ban4 had size 100, not 131071" + rulesGone +
				"; the table had to be made anew, with all it held: device or resource busy", Sets[:], ""},
		{"foreign rule jumps to a wrong chain", "flush chain inet banset prerouting\ndelete chain inet banset prerouting\n" +
			"add chain inet banset prerouting\nadd chain inet banset my\nadd rule inet banset my jump prerouting",
			"chain prerouting had no hook" + rulesGone +
				"; the table had to be made anew, with all it held: device or resource busy", Sets[:], ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := ready(t)
			want := nfttest.Run(t, "nft", "-s", "list", "ruleset")
			hosts := []Change{add("198.51.100.7", 0), add("2001:db8:7::", 0), add("203.0.113.0/24", 0), add("2001:db8:8::/48", 0)}
			apply(t, k, hosts...)
			for script := range strings.SplitSeq(test.damage, "--\n") {
				nfttest.Nft(t, script)
			}
			check, err := k.Check(ctx)
			if err != nil {
				t.Fatal(err)
			}
			report := ensure(t, k)
			if report.String() != test.want {
				t.Errorf("report %q\nwant %q", report, test.want)
			}
			if !slices.Equal(report.Emptied, test.emptied) {
				t.Errorf("emptied %v, want %v", report.Emptied, test.emptied)
			}
			if !strings.HasPrefix(report.String(), check.String()) {
				t.Errorf("Check said %q", check)
			}
			if again := ensure(t, k); len(again.Changes) > 0 {
				t.Errorf("second Ensure: %v", again)
			}
			for _, c := range hosts {
				_, found := get(t, k, c.Set, c.First.String())
				if kept := !slices.Contains(test.emptied, c.Set); found != kept {
					t.Errorf("%v is there: %v, want %v", c.Element, found, kept)
				}
				c.Delete = true
				apply(t, k, c)
			}
			got := nfttest.Run(t, "nft", "-s", "list", "ruleset")
			if test.left != "" {
				if !strings.Contains(got, test.left) {
					t.Errorf("%q is gone:\n%s", test.left, got)
				}
				return
			}
			// nft lists objects in the order they were made.
			if diff := cmp.Diff(lines(want), lines(got)); diff != "" {
				t.Errorf("ruleset (-want +got)\n%s", diff)
			}
		})
	}
}

// lines are the lines of s, sorted but for the rules.
func lines(s string) []string {
	sets, chain, _ := strings.Cut(s, "\tchain ")
	all := strings.Split(sets, "\n")
	slices.Sort(all)
	return append(all, strings.Split(strings.TrimRight(chain, "\n}\t "), "\n")...)
}

// standardRules are the rules of the standard configuration as a person would type them; third is the comment of the
// IPv6 hosts' one.
func standardRules(third string) string {
	const r = "add rule inet banset prerouting "
	return r + `ct direction reply return comment "replies to connections of this host"` + "\n" +
		r + `ip6 hoplimit 255 icmpv6 type nd-router-solicit return comment "IPv6 neighbour discovery"` + "\n" +
		r + `ip6 hoplimit 255 icmpv6 type nd-router-advert return comment "IPv6 neighbour discovery"` + "\n" +
		r + `ip6 hoplimit 255 icmpv6 type nd-neighbor-solicit return comment "IPv6 neighbour discovery"` + "\n" +
		r + `ip6 hoplimit 255 icmpv6 type nd-neighbor-advert return comment "IPv6 neighbour discovery"` + "\n" +
		r + `ip saddr @ban4 counter drop comment "banned hosts"` + "\n" +
		r + `ip6 saddr and ffff:ffff:ffff:ffff:: == @ban6 counter drop ` + third + "\n" +
		r + `ip saddr @net4 counter drop comment "banned networks"` + "\n" +
		r + `ip6 saddr @net6 counter drop comment "banned networks"` + "\n"
}

func reversed(s string) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	slices.Reverse(all)
	return strings.Join(all, "\n")
}

func TestEnsureFollowsTheConfiguration(t *testing.T) {
	k := ready(t)
	apply(t, k, add("198.51.100.7", 0))
	for _, step := range []struct {
		name    string
		want    string
		emptied bool
	}{
		{"any", "rules of chain prerouting: 0 of 8 missing, 1 foreign", false},
		{"standard", "rules of chain prerouting: 1 of 9 missing, 0 foreign", false},
		{"prefix-57", "rules of chain prerouting: 1 of 9 missing, 1 foreign", false},
		{"reject-input", "chain prerouting was there, but the hook is input now; chain input was missing", false},
		{"standard", "chain input was there, but the hook is prerouting now; chain prerouting was missing", false},
	} {
		k := another(t, variants[step.name])
		if r := ensure(t, k); r.String() != step.want || len(r.Emptied) > 0 {
			t.Errorf("%s: report %q, emptied %v\nwant %q", step.name, r, r.Emptied, step.want)
		}
		if r := ensure(t, k); len(r.Changes) > 0 {
			t.Errorf("%s, second time: %v", step.name, r)
		}
		if _, found := get(t, k, Ban4, "198.51.100.7"); !found {
			t.Errorf("%s: the element is gone", step.name)
		}
	}
}

func TestRemove(t *testing.T) {
	k := ready(t)
	nfttest.Nft(t, "add table inet other")
	for range 2 {
		if err := k.Remove(ctx); err != nil {
			t.Fatal(err)
		}
		if got := nfttest.Run(t, "nft", "list", "tables"); got != "table inet other\n" {
			t.Errorf("left: %q", got)
		}
	}
	ensure(t, k)
}

func TestOwnedByAnother(t *testing.T) {
	k := open(t)
	owner, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close()
	var b batch
	b.begin()
	m := b.nft(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE)
	b.str(unix.NFTA_TABLE_NAME, "banset")
	b.be32(unix.NFTA_TABLE_FLAGS, nftTableOwner)
	b.end(m)
	b.finish()
	b.number(1, 1)
	raw, err := owner.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		err = unix.Sendto(int(fd), b.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := owner.Receive(); err != nil {
		t.Fatal(err)
	}
	_, err = k.Ensure(ctx)
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "owned by another running program") {
		t.Errorf("Ensure: %v", err)
	}
}

func TestReplace(t *testing.T) {
	k := open(t)
	elements := []Element{
		elem("198.51.100.7", time.Hour), elem("2001:db8:7::", 0), elem("203.0.113.0/24", time.Hour),
		elem("2001:db8:8::/48", 0), elem("240.0.0.0/4", 0), elem("198.51.100.8", time.Hour),
	}
	elements[5].Expires = -1 // over
	for _, before := range []string{
		"",
		"flush ruleset\nadd table inet banset\nadd set inet banset ban4 { type inet_service; elements = { 25 }; }",
		"flush set inet banset ban4\nadd element inet banset ban4 { 192.0.2.99 }",
		"flush ruleset",
	} {
		if before != "" {
			nfttest.Nft(t, before)
		}
		if err := k.Replace(ctx, slices.Values(elements)); err != nil {
			t.Fatal(err)
		}
		if r, err := k.Check(ctx); err != nil || len(r.Changes) > 0 {
			t.Errorf("after %q: %v, %v", before, r, err)
		}
		got := texts(t, k, Ban4) + "; " + texts(t, k, Ban6) + "; " + texts(t, k, Net4) + "; " + texts(t, k, Net6)
		want := "198.51.100.7; 2001:db8:7::; 203.0.113.0-203.0.113.255, 240.0.0.0-255.255.255.255; " +
			"2001:db8:8::-2001:db8:8:ffff:ffff:ffff:ffff:ffff"
		if got != want {
			t.Errorf("after %q:\n%s, want\n%s", before, got, want)
		}
	}
}

func TestReplaceMany(t *testing.T) {
	const n = 50_000 // more than one transaction
	k := open(t, func(c *Config) { c.Size = n })
	err := k.Replace(ctx, func(yield func(Element) bool) {
		for i := range n {
			e := host4(i)
			if i%2 == 1 {
				e = host6(i)
			}
			e.Comment = "exim2-repeater: 10 failures"
			if !yield(e) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []Set{Ban4, Ban6} {
		if n := len(dump(t, k, s)); n != 25_000 {
			t.Errorf("%v has %d elements, want 25000", s, n)
		}
	}
}

func TestReplaceFull(t *testing.T) {
	k := open(t, func(c *Config) { c.Size = 10 })
	err := k.Replace(ctx, func(yield func(Element) bool) {
		for i := range 12 {
			if !yield(host4(i)) || !yield(host6(i)) {
				return
			}
		}
	})
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "4 elements of more than 10 left out") {
		t.Errorf("error %v", err)
	}
	if a, b := len(dump(t, k, Ban4)), len(dump(t, k, Ban6)); a != 10 || b != 10 {
		t.Errorf("%d and %d elements, want 10 each", a, b)
	}
}
