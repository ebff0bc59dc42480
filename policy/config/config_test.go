package config

import (
	"bytes"
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"banset/policy"
)

// design is the configuration that the design page shows, word for word.
const design = `blocklist: /var/lib/banset/blocklist        # these three: defaults shown
state: /var/lib/banset/state.db
socket: /run/banset/banset.sock
ignoreip: [127.0.0.0/8, "::1", self]        # self: every address of this host
ipv6_prefix: 64                             # IPv6 hosts are counted and banned per /64
nftables:                                   # all optional; defaults shown
  table: banset
  hook: prerouting                          # prerouting | input
  priority: -190                            # after conntrack, before everybody's filter chains
  direction: original                       # original: our own outbound to a banned host still works | any
  verdict: drop                             # drop | reject
  counters: false                           # a packet counter on every element
defaults: {maxretry: 5, findtime: 10m, bantime: 1h}
policies:
  exim2-repeater:
    enabled: true
    filter: exim2                           # or failregex/ignoreregex right here
    logpath: [/var/mailcleaner/log/exim_stage1/mainlog]   # globs allowed; or journalmatch: [...]
    maxretry: 10
    findtime: 31536000                      # seconds, or 10m 1h 1d 1w 1mo 1y; -1 or forever: never ends
    bantime: 31536000                       # or a ladder for repeat offenders: [10m, 1d, 30d, forever]
filters:
  exim2:
    failregex: ['\[<HOST>\]: 535 Incorrect authentication data']
    ignoreregex: []
    samples:                                # checked by ` + "`banset check`" + `
      - line: '2016-04-15 00:21:45 login authenticator failed for (User) [122.154.29.30]: 535 Incorrect authentication data'
        host: 122.154.29.30
`

// load loads one file that must have no problem, not even a warning.
func load(t *testing.T, text string) *Config {
	t.Helper()
	cfg, problems := Load(nil, []File{{"banset.yaml", []byte(text)}})
	if len(problems) > 0 {
		t.Fatalf("%s", problems.Format(File{"banset.yaml", []byte(text)}))
	}
	return cfg
}

func TestDesign(t *testing.T) {
	cfg := load(t, design)
	if problems := cfg.CheckSamples(now); len(problems) > 0 {
		t.Error(problems)
	}
	if len(cfg.Policies) != 1 {
		t.Fatalf("%d policies", len(cfg.Policies))
	}
	p, f := cfg.Policies[0], cfg.Filters["exim2"]
	year := 365 * 24 * time.Hour
	want := policy.Policy{Name: "exim2-repeater", MaxRetry: 10, FindTime: year, BanTime: []time.Duration{year}}
	if !reflect.DeepEqual(p.Policy, want) {
		t.Errorf("policy %+v, want %+v", p.Policy, want)
	}
	if !p.Enabled || p.FilterName != "exim2" || p.Filter == nil || p.Filter != f.Filter {
		t.Errorf("policy %+v", p)
	}
	if p.Pos != (Pos{"banset.yaml", 15, 3}) || f.Pos != (Pos{"banset.yaml", 23, 3}) {
		t.Errorf("policy at %v, filter at %v", p.Pos, f.Pos)
	}
	if want := []string{"/var/mailcleaner/log/exim_stage1/mainlog"}; !reflect.DeepEqual(p.LogPath, want) {
		t.Errorf("logpath %q", p.LogPath)
	}
	if len(f.Samples) != 1 || f.Samples[0].Host != netip.MustParsePrefix("122.154.29.30/32") {
		t.Errorf("samples %+v", f.Samples)
	}
	if cfg.LongestBan() != year {
		t.Errorf("longest ban %v", cfg.LongestBan())
	}
	// What the page calls a default is one.
	bare := load(t, "policies: {a: {failregex: x <HOST>, logpath: /a}}")
	bare.Policies, bare.Filters, cfg.Policies, cfg.Filters = nil, nil, nil, nil
	if !reflect.DeepEqual(cfg, bare) {
		t.Errorf("design %+v\ndefaults %+v", cfg, bare)
	}
}

// TestDefaults holds each key to the value that it has when nobody writes it.
func TestDefaults(t *testing.T) {
	c := load(t, "policies: {a: {failregex: x <HOST>, logpath: /a}}")
	p := c.Policies[0]
	tests := []struct {
		key       string
		got, want any
	}{
		{"blocklist", c.Blocklist, "/var/lib/banset/blocklist"},
		{"state", c.State, "/var/lib/banset/state.db"},
		{"socket", c.Socket, "/run/banset/banset.sock"},
		{"ignoreip", fmt.Sprint(c.IgnoreIP, c.IgnoreSelf), "[127.0.0.0/8 ::1/128] true"},
		{"ipv6_prefix", c.IPv6Prefix, 64},
		{"max_bans", c.MaxBans, 131072},
		{"max_hosts", c.MaxHosts, 1000000},
		{"nftables.table", c.NFTables.Table, "banset"},
		{"nftables.hook", c.NFTables.Hook, "prerouting"},
		{"nftables.priority", c.NFTables.Priority, -190},
		{"nftables.direction", c.NFTables.Direction, "original"},
		{"nftables.verdict", c.NFTables.Verdict, "drop"},
		{"nftables.counters", c.NFTables.Counters, false},
		{"nftables.protect", c.NFTables.Protect, "none"},
		{"filters", len(c.Filters), 0},
		{"enabled", p.Enabled, true},
		{"filter", p.FilterName, ""},
		{"maxretry", p.MaxRetry, 5},
		{"findtime", p.FindTime, 10 * time.Minute},
		{"bantime", fmt.Sprint(p.BanTime), "[1h0m0s]"},
		{"journalmatch", len(p.JournalMatch), 0},
		{"policy ignoreip", fmt.Sprint(p.IgnoreIP, p.IgnoreSelf), "[] false"},
		{"datepattern", p.Date == nil, true},
		{"timezone", p.Zone == nil, true},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s = %v, want %v", tt.key, tt.got, tt.want)
		}
	}
}

// TestValues holds each key to taking another value than its default.
func TestValues(t *testing.T) {
	c := load(t, `
blocklist: /srv//bans
state: /srv/state
socket: /srv/socket
ignoreip: '2001:db8::/32'
ipv6_prefix: 128
max_bans: 16777216
max_hosts: 1
nftables: {table: my-ban.s, hook: input, priority: -300, direction: original, verdict: reject, counters: true, protect: owner}
defaults: {maxretry: 7, findtime: -1, bantime: [10m, 1d12h, forever]}
policies:
  a:
    filter: f
    journalmatch: [_SYSTEMD_UNIT=ssh.service, +, _COMM=sshd]
    ignoreip: [192.0.2.7, '::ffff:198.51.100.0/120', self]
  b:
    enabled: false
    failregex: x <HOST>
    ignoreregex: [y, z]
    logpath: ['/var/log/*.log', /var/log/b]
    journalmatch: _SYSTEMD_UNIT=sshd.service +  _COMM=sshd
    maxretry: 10000
    findtime: 1s
    bantime: permanent
    datepattern: iso
    timezone: Europe/Zurich
filters:
  f:
    description: a filter
    failregex: ['x <HOST>', 'y <SUBNET>']
    datepattern: syslog
    timezone: UTC
    samples:
      - {line: x 192.0.2.1, host: 192.0.2.1}
      - {line: 'Nov 23 18:12:45 y 192.0.2.0/24', host: 192.0.2.0/24, time: 2026-11-23 18:12:45}
      - {line: nothing, host: none}
`)
	if problems := c.CheckSamples(now); len(problems) > 0 {
		t.Error(problems)
	}
	a, b, f := c.Policies[0], c.Policies[1], c.Filters["f"]
	tests := []struct {
		key       string
		got, want any
	}{
		{"blocklist", c.Blocklist, "/srv/bans"},
		{"state", c.State, "/srv/state"},
		{"socket", c.Socket, "/srv/socket"},
		{"ignoreip", fmt.Sprint(c.IgnoreIP, c.IgnoreSelf), "[2001:db8::/32] false"},
		{"ipv6_prefix", c.IPv6Prefix, 128},
		{"max_bans", c.MaxBans, 1 << 24},
		{"max_hosts", c.MaxHosts, 1},
		{"nftables", c.NFTables, NFTables{"my-ban.s", "input", -300, "original", "reject", true, "owner"}},
		{"a.filter", a.FilterName, "f"},
		{"a.maxretry", a.MaxRetry, 7},
		{"a.findtime", a.FindTime, policy.Forever},
		{"a.bantime", fmt.Sprint(a.BanTime), fmt.Sprint([]time.Duration{10 * time.Minute, 36 * time.Hour, policy.Forever})},
		{"a.journalmatch", strings.Join(a.JournalMatch, " "), "_SYSTEMD_UNIT=ssh.service + _COMM=sshd"},
		{"a.ignoreip", fmt.Sprint(a.IgnoreIP, a.IgnoreSelf), "[192.0.2.7/32 198.51.100.0/24] true"},
		{"a.datepattern", a.Date.String(), "syslog"},
		{"a.timezone", a.Zone.String(), "UTC"},
		{"b.enabled", b.Enabled, false},
		{"b.journalmatch", fmt.Sprintf("%q", b.JournalMatch), `["_SYSTEMD_UNIT=sshd.service" "+" "_COMM=sshd"]`},
		{"b.filter", b.FilterName, ""},
		{"b.logpath", fmt.Sprint(b.LogPath), "[/var/log/*.log /var/log/b]"},
		{"b.maxretry", b.MaxRetry, 10000},
		{"b.findtime", b.FindTime, time.Second},
		{"b.bantime", fmt.Sprint(b.BanTime), fmt.Sprint([]time.Duration{policy.Forever})},
		{"b.datepattern", b.Date.String(), "iso"},
		{"b.timezone", b.Zone.String(), "Europe/Zurich"},
		{"f.description", f.Description, "a filter"},
		{"f.failregex", fmt.Sprintf("%q", f.Fail), `["x <HOST>" "y <SUBNET>"]`},
		{"f.samples", fmt.Sprint(f.Samples[0].Host, f.Samples[1].Host, f.Samples[2].Host.IsValid()),
			"192.0.2.1/32 192.0.2.0/24 false"},
		{"f.samples.time", f.Samples[1].Time.Equal(now), true},
		{"longest ban", c.LongestBan(), policy.Forever},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s = %v, want %v", tt.key, tt.got, tt.want)
		}
	}
}

// TestLayers holds later files to their rule: values and lists replace, maps merge, patterns drive out patterns.
func TestLayers(t *testing.T) {
	library := []File{{"lib.yaml", []byte(`filters:
  kept: {failregex: 'lib <HOST>', ignoreregex: libignore, samples: [{line: lib 192.0.2.1, host: 192.0.2.1}]}
  replaced: {failregex: 'lib <HOST>', ignoreregex: libignore, samples: [{line: lib 192.0.2.1, host: 192.0.2.1}]}
`)}}
	files := []File{{"banset.yaml", []byte(`
ignoreip: [192.0.2.1, self]
nftables: {table: one, hook: input}
defaults: {maxretry: 2, findtime: 1d}
policies:
  a: {filter: kept, logpath: [/a, /b], maxretry: 3, bantime: [1h, 1d]}
  b: {failregex: 'x <HOST>', ignoreregex: y, logpath: /b}
  c: {filter: kept, logpath: /c}
filters:
  replaced: {failregex: 'own <HOST>'}
`)}, {"conf.d/a.yaml", []byte(`
ignoreip: 192.0.2.2
nftables: {table: two}
defaults: {findtime: 2d}
policies:
  a: {maxretry: 4, logpath: /c}
  b: {filter: replaced}
  c: {failregex: 'z <HOST>'}
  d: {filter: kept, logpath: /d}
filters:
  kept: {ignoreregex: [own]}
`)}, {"conf.d/b.yaml", []byte("policies: {a: {enabled: false, bantime: 5m}}")}}
	c, problems := Load(library, files)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	a, b, cc := c.Policies[0], c.Policies[1], c.Policies[2]
	kept, replaced := c.Filters["kept"], c.Filters["replaced"]
	tests := []struct {
		key       string
		got, want any
	}{
		{"ignoreip", fmt.Sprint(c.IgnoreIP, c.IgnoreSelf), "[192.0.2.2/32] false"},
		{"table", c.NFTables.Table, "two"},
		{"hook", c.NFTables.Hook, "input"},
		{"a", fmt.Sprint(a.Enabled, a.MaxRetry, a.FindTime, a.BanTime, a.LogPath, a.FilterName),
			"false 4 48h0m0s [5m0s] [/c]kept"},
		{"b", fmt.Sprint(b.MaxRetry, b.FilterName, b.Filter == replaced.Filter), "2replacedtrue"},
		{"c", fmt.Sprint(cc.FilterName == "", cc.Filter != nil, cc.Filter != kept.Filter), "true true true"},
		{"kept", fmt.Sprint(kept.Fail, kept.Ignore, len(kept.Samples)), "[lib <HOST>] [own] 1"},
		{"replaced", fmt.Sprint(replaced.Fail, replaced.Ignore, len(replaced.Samples)), "[own <HOST>] [] 0"},
		{"policies", len(c.Policies), 4},
		{"a stands", a.Pos, Pos{"banset.yaml", 6, 3}},
		{"longest ban of enabled ones", c.LongestBan(), time.Hour},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s = %v, want %v", tt.key, tt.got, tt.want)
		}
	}
}

// TestMergeKeys holds << to YAML's rule: the map's own keys come first, then the merged ones in order.
func TestMergeKeys(t *testing.T) {
	c := load(t, `policies:
  a: &a {failregex: &p ['x <HOST>'], logpath: /a, maxretry: 3}
  b: &b {<<: *a, logpath: /b, findtime: 1h}
  c: {maxretry: 9, <<: [*b, *a]}
  d: {failregex: *p, logpath: /d}
`)
	for i, want := range []string{"3 10m0s [/a]", "3 1h0m0s [/b]", "9 1h0m0s [/b]", "5 10m0s [/d]"} {
		p := c.Policies[i]
		if got := fmt.Sprint(p.MaxRetry, p.FindTime, p.LogPath); got != want {
			t.Errorf("%s: %s, want %s", p.Name, got, want)
		}
	}
}

func TestNoFiles(t *testing.T) {
	c, problems := Load(nil, nil)
	if c == nil || len(problems) != 1 || !problems[0].Warning || problems.Err() != nil {
		t.Errorf("%v, %v", c, problems)
	}
}

// bomb is a file whose maps merge the one before, so often and as deep as asked.
func bomb(times, depth int) string {
	var b strings.Builder
	b.WriteString("policies:\n  a0: &a0 {failregex: 'x <HOST>', logpath: /a}\n")
	for i := 1; i <= depth; i++ {
		fmt.Fprintf(&b, "  a%d: &a%d {<<: [%s]}\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), times), ","))
	}
	return b.String()
}

// TestMonsters holds files that are large, deep or blow up to one clear message each.
func TestMonsters(t *testing.T) {
	long := "x" + strings.Repeat("y", 100<<10) + " <HOST>"
	var shared strings.Builder
	fmt.Fprintf(&shared, "policies:\n  a: {logpath: /a, failregex: &p ['%s']}\n", long)
	for i := range 100 {
		fmt.Fprintf(&shared, "  p%d: {logpath: /a, failregex: *p}\n", i)
	}
	tests := []struct{ name, text, want string }{
		{"10 MB", strings.Repeat("# x\n", 10<<18), "the file has 10485760 bytes, more than the 1048576"},
		{"deep lists", "policies: " + strings.Repeat("[", 500000), "nested too deep"},
		{"deep blocks", strings.Repeat("- ", 500000), "nested too deep"},
		{"deep, but not too deep", "policies: " + strings.Repeat("{a: ", 9000) + strings.Repeat("}", 9000), "has no key"},
		{"an open list of 1 MB", "\nignoreip: [" + strings.Repeat("a,", 500000), "near this line: "},
		{"an open quote behind 300 kB", strings.Repeat("# x\n", 75000) + "state: 'x\n", "near this line: the quote that opens"},
		{"merge bomb", bomb(1, 12), "merged with << are nested too deep"},
		{"alias bomb", bomb(10, 8), "aliases (*name) make too much of it"},
		{"a pattern shared too often", shared.String(), "aliases (*name) make too much of it"},
		{"a wrong key on each line", func() string {
			var b strings.Builder
			for i := range 20000 {
				fmt.Fprintf(&b, "k%d: 1\n", i)
			}
			return b.String()
		}(), "19000 more problems are not shown"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := []File{{"banset.yaml", []byte(tt.text)}}
			c, problems := Load(nil, files)
			if c != nil {
				t.Error("a config")
			}
			if !strings.Contains(problems.Error(), tt.want) {
				t.Errorf("%.2000s", problems.Error())
			}
			if len(problems) > maxProblems+1 {
				t.Errorf("%d problems", len(problems))
			}
			for _, p := range problems {
				inside(t, p, files)
				if n := len(p.Format(files[0].Data)); n > 1000 {
					t.Errorf("%d bytes of output for one problem", n)
				}
			}
		})
	}
}

// TestInside holds the place within a scalar to the character that stands for a byte of its value.
func TestInside(t *testing.T) {
	tests := []struct {
		name, item string
		column     int // of the ( after "- "
	}{
		{"plain", `x <HOST> (`, 14},
		{"plain, not ASCII", `é <HOST> (`, 14},
		{"single quotes", `'it''s <HOST> ('`, 19},
		{"double quotes", `"\x41\\. é\u00e9 \t <HOST> ("`, 32},
		{"folded over lines", "'x\n\n    <HOST> ('", 5},
		{"literal", "|-\n    x <HOST> (", 5},
		{"anchored", `&a 'x <HOST> ('`, 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := "filters:\n f:\n  failregex:\n  - " + tt.item + "\n"
			_, problems := Load(nil, []File{{"x", []byte(text)}})
			want := "x:4:" + fmt.Sprint(tt.column) + ": failregex: a ( is never closed"
			if strings.Contains(tt.name, "folded") {
				want = "x:4:5: failregex holds several lines"
			}
			if len(problems) != 1 || !strings.HasPrefix(problems[0].String(), want) {
				t.Errorf("%v\nwant %s", problems, want)
			}
		})
	}
}

// TestFormat holds the excerpt to its width, and the caret to its character.
func TestFormat(t *testing.T) {
	tests := []struct {
		name, line string
		column     int
		text       string
		caret      int
	}{
		{"short", "abc", 2, "abc", 1},
		{"behind the end", "abc", 4, "abc", 3},
		{"far behind the end", "abc", 9, "abc", 3},
		{"before the beginning", "abc", 0, "abc", 0},
		{"tab", "\tabc", 2, " abc", 1},
		{"escaped", "a\x1b\u202eb", 4, `a\x1b\u202eb`, 11},
		{"no UTF-8", "a\xffb", 3, `a\xffb`, 5},
		{"empty", "", 1, "", 0},
		{"the end of a long one", strings.Repeat("a", 300), 301, "..." + strings.Repeat("a", 50), 53},
		{"the beginning of a long one", strings.Repeat("a", 300), 1, strings.Repeat("a", 100) + "...", 0},
		{"the middle of a long one", strings.Repeat("a", 150) + "X" + strings.Repeat("b", 150), 151,
			"..." + strings.Repeat("a", 50) + "X" + strings.Repeat("b", 46) + "...", 53},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text, caret := excerpt(tt.line, tt.column)
			if text != tt.text || caret != tt.caret {
				t.Errorf("%q, %d, want %q, %d", text, caret, tt.text, tt.caret)
			}
		})
	}
	p := Problem{File: "a\x1b", Line: 2, Column: 1, Msg: "bad\n", Hint: "\x07"}
	if got := p.Format([]byte("x\n")); got != `a\x1b:2:1: bad\n`+"\n  2 | \n    | ^\n"+`  \a` {
		t.Errorf("%q", got)
	}
	if got := p.Format(nil); got != `a\x1b:2:1: bad\n`+"\n"+`  \a` {
		t.Errorf("%q", got)
	}
}

func TestNearest(t *testing.T) {
	known := []string{"maxretry", "findtime", "bantime", "host", "a"}
	for in, want := range map[string]string{
		"maxretries": "maxretry", "max_retry": "maxretry", "MAXRETRY": "maxretry", "bamtime": "bantime",
		"hsot": "host", "b": "", "xyz": "", "": "", strings.Repeat("x", 1000): "",
	} {
		if got := nearest(in, known); got != want {
			t.Errorf("nearest(%.20q) = %q, want %q", in, got, want)
		}
	}
}

// FuzzLoad holds whatever stands in a file to: no panic, the same result twice, each problem inside its file, in order,
// printable, and a configuration exactly when nothing is worse than a warning.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(design))
	f.Add([]byte(bomb(10, 3)))
	f.Add([]byte("a: &a [*a]\n? {b: c}\n: |\n  x\n\u2028"))
	f.Add([]byte("policies: {a: {failregex: \"\\x41 (\", logpath: '/[', bantime: [1d, 1h]}}"))
	f.Add([]byte("\xff\xfeb\x00"))
	f.Add([]byte("filters:\n f:\n  failregex: |-\n   x <HOST>\n  samples:\n  - {line: x 192.0.2.1, host: none}\n"))
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		library, files, _ := split(f, a)
		for _, file := range append(library, files...) {
			f.Add(file.Data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		files := []File{{"a", data}, {"b", data}}
		c, problems := Load(files[:1], files[1:])
		again, twice := Load(files[:1], files[1:])
		if !reflect.DeepEqual(problems, twice) || (c == nil) != (again == nil) {
			t.Fatalf("not the same twice: %v\n%v", problems, twice)
		}
		if (c == nil) != (problems.Err() != nil) {
			t.Fatalf("config %v beside %v", c, problems)
		}
		if c != nil {
			problems = append(problems, c.CheckSamples(now)...)
		}
		for _, p := range problems {
			inside(t, p, files)
			for i, line := range strings.Split(p.Format(data), "\n") {
				if len([]rune(line)) > 2*window && i == 1 {
					t.Errorf("a line of %d columns", len([]rune(line)))
				}
				if bytes.ContainsAny([]byte(line), "\x1b\r\x00\x7f") {
					t.Errorf("%q", line)
				}
			}
		}
	})
}
