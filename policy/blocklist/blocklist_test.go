package blocklist

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"banset/policy"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the goldens anew")

// A golden has a file "in", and what it comes to: "entries", "problems". With an "edit" (set HOST UNTIL REASON, or
// remove HOST), also the text "out" and what Diff says.
func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal("no goldens", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) { golden(t, path) })
	}
}

func golden(t *testing.T, path string) {
	ar, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// \r, \0 and the like are written as in Go; "\!" is no byte: it keeps a last line without an end.
	unescape := strings.NewReplacer(`\r`, "\r", `\0`, "\x00", `\x80`, "\x80", `\uFEFF`, "\uFEFF", "\\!\n", "")
	escape := strings.NewReplacer("\r", `\r`, "\x00", `\0`, "\x80", `\x80`, "\uFEFF", `\uFEFF`)
	get := func(name string) (string, bool) {
		for _, f := range ar.Files {
			if f.Name == name {
				return string(f.Data), true
			}
		}
		return "", false
	}
	in, _ := get("in")
	text := []byte(unescape.Replace(in))
	o := Options{Location: berlin, LegacyBan: 365 * 24 * time.Hour}
	f := Parse(text, o)
	agree(t, f, o)
	got := &txtar.Archive{Comment: ar.Comment, Files: []txtar.File{{Name: "in", Data: []byte(in)}}}
	add := func(name, data string) { got.Files = append(got.Files, txtar.File{Name: name, Data: []byte(data)}) }
	add("entries", list(f))
	if p, total := f.Problems(); total > 0 {
		var b strings.Builder
		for _, p := range p {
			fmt.Fprintln(&b, p)
		}
		add("problems", b.String())
	}
	if edit, ok := get("edit"); ok {
		set, remove := parseEdit(t, edit)
		added, appended := f.Edit(set, remove)
		agree(t, f, o)
		add("edit", edit)
		out := escape.Replace(string(f.Bytes()))
		if out != "" && !strings.HasSuffix(out, "\n") {
			out += "\\!\n"
		}
		add("out", out)
		if appended {
			add("added", escape.Replace(string(added)))
		}
		var b strings.Builder
		for c := range Diff(Parse(text, o), f) {
			fmt.Fprintln(&b, []string{Added: "added", Removed: "removed", Moved: "moved"}[c.What], show(c.Old), "->", show(c.New))
		}
		add("diff", b.String())
	}
	want, have := string(txtar.Format(ar)), string(txtar.Format(got))
	if *update {
		writeGolden(t, path, have)
	} else if d := cmp.Diff(want, have); d != "" {
		t.Error(d)
	}
}

func list(f *File) string {
	var b strings.Builder
	for e := range f.Entries() {
		fmt.Fprintln(&b, e.Line, show(e))
	}
	return b.String()
}

func show(e Entry) string {
	if !e.Ban.Host.IsValid() {
		return "nothing"
	}
	stamp := func(s int64) string {
		switch s {
		case policy.Never:
			return "forever"
		case 0:
			return "-"
		}
		return time.Unix(s, 0).UTC().Format("2006-01-02T15:04:05Z")
	}
	kind := []string{Hand: "hand", Ours: "ours", Fail2ban: "fail2ban"}[e.Kind]
	return fmt.Sprintf("%s %v %s until %s: %s", kind, e.Ban.Host, stamp(e.Ban.At), stamp(e.Ban.Until), e.Ban.Reason())
}

func parseEdit(t *testing.T, edit string) (set []policy.Ban, remove []netip.Prefix) {
	for line := range strings.Lines(edit) {
		word := strings.SplitN(strings.TrimSpace(line), " ", 4)
		host, err := netip.ParsePrefix(word[1])
		if err != nil {
			t.Fatal(err)
		}
		if word[0] == "remove" {
			remove = append(remove, host)
			continue
		}
		b := policy.Ban{Host: host, At: 1795457565}
		if b.Until = policy.Never; word[2] != "forever" {
			u, err := time.Parse(time.RFC3339, word[2])
			if err != nil {
				t.Fatal(err)
			}
			b.Until = u.Unix()
		}
		b.Policy, b.Failures, b.Note = policy.ParseReason(word[3])
		set = append(set, b)
	}
	return set, remove
}

func TestAppendLine(t *testing.T) {
	p := netip.MustParsePrefix
	for _, tt := range []struct {
		ban  policy.Ban
		want string
	}{
		{policy.Ban{Host: p("122.154.29.30/32"), At: 1795457565, Until: 1826993565, Policy: "exim2-repeater", Failures: 10},
			"122.154.29.30 # banset/2026-11-23 18:12:45Z until 2027-11-23 18:12:45Z: exim2-repeater: 10 failures"},
		{policy.Ban{Host: p("2001:db8::/64"), At: 1, Until: policy.Never, Policy: "sshd", Failures: 1},
			"2001:db8::/64 # banset/1970-01-01 00:00:01Z until forever: sshd: 1 failure"},
		{policy.Ban{Host: p("2001:db8::1/128"), At: -1, Until: 0},
			"2001:db8::1 # banset/1969-12-31 23:59:59Z until 1970-01-01 00:00:00Z: by hand"},
		{policy.Ban{Host: p("10.1.2.3/8"), Until: lastStamp, Note: "x # y\n192.0.2.1\x1b"},
			"10.0.0.0/8 # banset/1970-01-01 00:00:00Z until 9999-12-31 23:59:59Z: by hand: x ? y?192.0.2.1?"},
		{policy.Ban{Host: p("::ffff:192.0.2.7/128"), Until: lastStamp + 1, At: lastStamp + 5},
			"192.0.2.7 # banset/9999-12-31 23:59:59Z until forever: by hand"},
		{policy.Ban{Host: p("192.0.2.1/32"), At: -1 << 62, Until: -1 << 62, Policy: "a\n0.0.0.0", Failures: 3},
			"192.0.2.1 # banset/0000-01-01 00:00:00Z until 0000-01-01 00:00:00Z: a?0.0.0.0: 3 failures"},
		{policy.Ban{Host: p("0.0.0.0/0")}, ""},
		{policy.Ban{Host: p("::/0")}, ""},
		{policy.Ban{Host: p("::ffff:0:0/96")}, ""},
		{policy.Ban{}, ""},
	} {
		want := "x\n" + tt.want
		if tt.want != "" {
			want += "\n"
		}
		if got := string(AppendLine([]byte("x\n"), tt.ban)); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}

func TestHeaderIsOnlyComments(t *testing.T) {
	f := Parse([]byte(Header), Options{})
	if _, n := f.Problems(); n != 0 || f.Len() != 0 || !strings.HasSuffix(Header, "\n") {
		t.Errorf("%d problems, %d hosts", n, f.Len())
	}
	added, ok := f.Edit([]policy.Ban{{Host: netip.MustParsePrefix("192.0.2.1/32"), Until: policy.Never}}, nil)
	if !ok || string(f.Bytes()) != Header+string(added) {
		t.Errorf("%q", f.Bytes())
	}
}

// What the text of a comment tells awk and grep is what it tells us.
func TestFirstWordIsTheHost(t *testing.T) {
	for line := range strings.Lines(corpus) {
		f := Parse([]byte(line), Options{})
		word, _, _ := strings.Cut(line, "#")
		for e := range f.Entries() {
			if h, ok := oracleHost(strings.Fields(word)[0]); !ok || h != e.Ban.Host {
				t.Errorf("%q bans %v", line, e.Ban.Host)
			}
		}
	}
}

// A problem never shows raw bytes or more than a little of a line, and an endless line is only one.
func TestHostileLines(t *testing.T) {
	for _, text := range []string{
		"\x1b[31mevil\x07 # x\n",
		strings.Repeat("A", 1<<20),
		"192.0.2.1 " + strings.Repeat("A", 1<<20),
		"192.0.2.1" + strings.Repeat("/1", 1000),
		strings.Repeat(" ", MaxLine) + "192.0.2.1\n",
		"\xff\xfe1\x009\x002\x00\n\x00",
		"192.0.2.1 # banset/" + strings.Repeat("\x00", 100) + "\n",
		strings.Repeat("x\n", 1000),
	} {
		f := Parse([]byte(text), Options{Location: berlin})
		agree(t, f, Options{Location: berlin})
		first, total := f.Problems()
		if total == 0 || len(first) > MaxProblems {
			t.Errorf("%.40q: %d problems, %d shown", text, total, len(first))
		}
	}
	// A line that would become too long to be read loses the words, not the ban.
	host := netip.MustParsePrefix("192.0.2.1/32")
	for _, line := range []string{
		"192.0.2.1 # " + strings.Repeat("A", MaxLine-20),
		strings.Repeat(" ", MaxLine-20) + "192.0.2.1\n",
	} {
		f := Parse([]byte(line), Options{})
		f.Edit([]policy.Ban{{Host: host, Until: 5, Policy: "p", Failures: 2}}, nil)
		if e, ok := f.Lookup(host); !ok || e.Ban.Until != 5 || len(f.Bytes()) > MaxLine {
			t.Errorf("the line of %d bytes became one of %d: %v, %v", len(line), len(f.Bytes()), e, ok)
		}
	}
}

// Edits without number must not make a File grow.
func TestEditsDoNotPileUp(t *testing.T) {
	f := Parse([]byte(Header), Options{})
	host := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 32)
	}
	for i := range 50_000 {
		f.Edit([]policy.Ban{{Host: host(i), At: int64(i), Until: policy.Never, Policy: "p", Failures: 5}}, []netip.Prefix{host(i + 100)})
	}
	if f.Len() != 156 || len(f.more)+len(f.text) > 4<<20 || len(f.items) > 60_000 || len(f.hosts.places) > 1024 {
		t.Errorf("%d hosts in %d items, %d bytes, %d places", f.Len(), len(f.items), len(f.more)+len(f.text), len(f.hosts.places))
	}
	agree(t, f, Options{Location: time.UTC})
}

func TestBytesStayAfterEdit(t *testing.T) {
	text := []byte("192.0.2.1\n# x\n192.0.2.2")
	f := Parse(text, Options{})
	p := netip.MustParsePrefix
	f.Edit([]policy.Ban{{Host: p("192.0.2.3/32")}}, []netip.Prefix{p("192.0.2.1/32")})
	first := f.Bytes()
	copied := bytes.Clone(first)
	f.Edit([]policy.Ban{{Host: p("192.0.2.4/32")}, {Host: p("192.0.2.3/32"), Until: 9}}, []netip.Prefix{p("192.0.2.2/32")})
	f.Bytes()
	if !bytes.Equal(first, copied) || string(text) != "192.0.2.1\n# x\n192.0.2.2" {
		t.Error("bytes that were handed out changed")
	}
}

// corpus are lines of every kind; the random tests and the fuzzer begin with them.
const corpus = `122.154.29.30 # fail2ban/2016-04-15 00:21:45: auto-add for repeat offender
122.154.29.30 # banset/2026-11-23 18:12:45Z until 2027-11-23 18:12:45Z: exim2-repeater: 10 failures
192.0.2.1 # banset/2026-11-23 18:12:45Z until forever: sshd: 1 failure # our own scanner
192.0.2.1
# a comment

192.0.2.2 # BANSET/2026-11-23T18:12Z UNTIL 2027-01-01: by hand: a person's reason
  192.0.2.3# no space
192.0.2.4 # until 2027-03-28 02:30: a person's end, in the hour that the zone leaves out
192.0.2.4 # until he pays
192.0.2.5 # banset/2026-11-23 18:12:45Z until 2027-13-45: sshd: 5 failures
192.0.2.5 # fail2ban/yesterday: no
10.1.2.3/8 # with host bits
2001:db8::1 # one address
2001:db8:0:1::/64 # banset/2026-11-23 18:12:45Z until 2026-11-24 18:12:45+01:00: sshd: 5 failures
::ffff:192.0.2.1 # mapped
::ffff:198.51.100.0/120
0.0.0.0/0
example.com
192.0.2.1 192.0.2.2
fe80::1%eth0
192.0.2.1,
10.1.2
`

func TestRandomAgainstOracle(t *testing.T) {
	const noise = "\x00 #/:-Z1\n\t\r."
	lines := strings.SplitAfter(corpus, "\n")
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 2))
		var text []byte
		for range rng.IntN(30) {
			l := lines[rng.IntN(len(lines))]
			if rng.IntN(5) == 0 {
				l = strings.Replace(l, "\n", "\r\n", 1)
			}
			text = append(text, l...)
			if len(text) > 0 && rng.IntN(8) == 0 {
				text[rng.IntN(len(text))] = noise[rng.IntN(len(noise))]
			}
		}
		if rng.IntN(3) == 0 {
			text = bytes.TrimSuffix(text, []byte("\n"))
		}
		ops := make([]byte, rng.IntN(200))
		for i := range ops {
			ops[i] = byte(rng.Uint32())
		}
		script(t, text, ops)
	}
}

// Addresses are read by hand, as netip does it.
func FuzzHost(f *testing.F) {
	for _, s := range []string{"192.0.2.1", "192.0.2.1/24", "::", "::1", "1::", "::ffff:192.0.2.1", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8",
		"1:2:3:4:5:6:7:8", "1:2:3:4:5:6:192.0.2.1", "1:2:3:4:5:6:7:192.0.2.1", "1::2::3", "1:2:3:4:5:6:7:8::", "12345::", "fe80::1%x",
		"2001:DB8::/32", "::1.2.3", "1:", ":1", "1:2", "1::2:", "::1/", "::/0", "::ffff:0:0/96", "::ffff:0:0/95", "01.2.3.4", "1.2.3.4/032"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k, ok := parseHost([]byte(s))
		want, wantOK := oracleHost(s)
		if ok != wantOK || ok && k.host() != want {
			t.Fatalf("%q is %v, %v; want %v, %v", s, k.host(), ok, want, wantOK)
		}
	})
}

func FuzzBlocklist(f *testing.F) {
	f.Add([]byte(corpus), []byte{2, 1, 1, 9, 1, 1, 2, 0, 0, 1, 3, 0, 0, 0})
	for line := range strings.Lines(corpus) {
		f.Add([]byte(line), []byte{1, 12, 1, 9, 1, 1, 2, 7, 0})
		f.Add([]byte(strings.TrimSpace(line)), []byte{0, 1, 1, 9, 1, 1, 0, 1, 12, 0})
	}
	f.Fuzz(func(t *testing.T, text, ops []byte) {
		script(t, text[:min(len(text), 4000)], ops[:min(len(ops), 120)])
	})
}

// What AppendLine writes comes back.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte{192, 0, 2, 1}, 32, int64(1795457565), int64(1826993565), "exim2-repeater", 10, "")
	f.Add(bytes.Repeat([]byte{0x20}, 16), 64, int64(0), policy.Never, "", 0, "by hand")
	f.Add([]byte{192, 0, 2, 1}, 8, int64(-1), int64(1), "", 0, strings.Repeat("ab ", 40))
	f.Fuzz(func(t *testing.T, addr []byte, bits int, at, until int64, name string, failures int, note string) {
		a, _ := netip.AddrFromSlice(addr)
		var ok bool
		b := policy.Ban{Host: netip.PrefixFrom(a, bits), At: at, Until: until, Policy: name, Failures: failures, Note: note}
		got := AppendLine(nil, b)
		if b.Host, ok = oracleHost(b.Host.String()); !ok {
			if len(got) > 0 {
				t.Fatalf("%v is written as %q", b.Host, got)
			}
			return
		}
		f := Parse(got, Options{Location: berlin})
		e, ok := f.Lookup(b.Host)
		b.At = min(max(at, firstStamp), lastStamp)
		if b.Until = max(until, firstStamp); b.Until > lastStamp {
			b.Until = policy.Never
		}
		switch {
		case name == "":
			b.Failures, b.Note = 0, clean(note)
		case policy.ValidName(name) && failures > 0:
			b.Note = ""
		default: // no ban of ours: only the file's shape counts
			b.Policy, b.Failures, b.Note = e.Ban.Policy, e.Ban.Failures, e.Ban.Note
		}
		if !ok || e.Ban != b || e.Kind != Ours || f.Len() != 1 || bytes.Count(got, []byte("\n")) != 1 {
			t.Fatalf("%+v is written as %q and read as %+v", b, got, e)
		}
		if added, appended := f.Edit([]policy.Ban{{Host: b.Host, At: at, Until: until, Policy: name, Failures: failures, Note: note}}, nil); len(added) > 0 || !appended {
			t.Fatalf("the same ban again makes %q of %q", f.Bytes(), got)
		}
	})
}

func million(n int, line func(dst []byte, i int) []byte) []byte {
	var text []byte
	for i := range n {
		text = line(text, i)
	}
	return text
}

func host4(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
}

func oursLine(dst []byte, i int) []byte {
	return AppendLine(dst, policy.Ban{Host: host4(i * 7), At: 1795457565 + int64(i), Until: 1826993565 + int64(i), Policy: "exim2-repeater", Failures: 10})
}

var kinds = []struct {
	name string
	line func(dst []byte, i int) []byte
}{
	{"ours", oursLine},
	{"bare", func(dst []byte, i int) []byte { return append(host4(i).Addr().AppendTo(dst), '\n') }},
	{"fail2ban", func(dst []byte, i int) []byte {
		return fmt.Appendf(dst, "%s # fail2ban/2016-04-15 00:21:45: auto-add for repeat offender\n", host4(i).Addr())
	}},
	{"ipv6", func(dst []byte, i int) []byte {
		return AppendLine(dst, policy.Ban{Host: netip.MustParsePrefix(fmt.Sprintf("2001:db8:%x:%x::/64", i>>16, i&0xffff)),
			At: 1795457565, Until: 1826993565, Policy: "sshd", Failures: 5})
	}},
}

func BenchmarkParse(b *testing.B) {
	const n = 1_000_000
	for _, k := range kinds {
		b.Run(k.name, func(b *testing.B) {
			text := million(n, k.line)
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if Parse(text, Options{Location: berlin, LegacyBan: time.Hour}).Len() != n {
					b.Fatal("hosts are missing")
				}
			}
			b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}

func BenchmarkMemory(b *testing.B) {
	text := million(1_000_000, oursLine)
	for b.Loop() {
		var m0, m1 runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m0)
		f := Parse(text, Options{})
		runtime.GC()
		runtime.ReadMemStats(&m1)
		b.ReportMetric(float64(m1.HeapAlloc-m0.HeapAlloc)/float64(f.Len()), "bytes/line")
	}
	runtime.KeepAlive(text)
}

func BenchmarkEntries(b *testing.B) {
	f := Parse(million(100_000, oursLine), Options{})
	b.ReportAllocs()
	for b.Loop() {
		for range f.Entries() {
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100_000, "ns/line")
}

// One host of a million ends: Edit, and the text for the new file.
func BenchmarkRemoveOne(b *testing.B) {
	f := Parse(million(1_000_000, oursLine), Options{})
	i := 0
	for b.Loop() {
		f.Edit(nil, []netip.Prefix{host4(i * 7)})
		f.Bytes()
		i++
	}
}

func BenchmarkAppendOne(b *testing.B) {
	f := Parse(million(1_000_000, oursLine), Options{})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		f.Edit([]policy.Ban{{Host: host4(i*7 + 1), At: int64(i), Until: policy.Never, Policy: "p", Failures: 5}}, nil)
	}
}

func BenchmarkDiff(b *testing.B) {
	text := million(1_000_000, oursLine)
	old, new := Parse(text, Options{}), Parse(text[len(text)/1000:], Options{})
	for b.Loop() {
		for range Diff(old, new) {
		}
	}
}

func TestStampsAgainstTime(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	check := func(sec int64) {
		t.Helper()
		got := string(appendStamp(nil, sec))
		want := time.Unix(sec, 0).UTC().Format("2006-01-02 15:04:05") + "Z"
		if back, n := readTime([]byte(got), time.UTC); got != want || back != sec || n != len(got) {
			t.Fatalf("%d is written as %s, want %s, and read as %d", sec, got, want, back)
		}
	}
	for _, sec := range []int64{0, -1, firstStamp, lastStamp, 951782400, 951868800, 4107542400} {
		check(sec)
	}
	for range 100_000 {
		check(firstStamp + rng.Int64N(lastStamp-firstStamp+1))
	}
	var all []int64
	for _, s := range []string{"2026-02-29", "1900-02-29Z", "2026-00-01", "2026-01-01 24:00", "2026-01-01 23:60", "2026-01-01 23:59:60",
		"2026-01-01x", "2026-1-1", "", "2026-01-01 12:00:00+24:00", "2026-01-01 12:00:00+1:00"} {
		if sec, n := readTime([]byte(s), berlin); n > 0 {
			all = append(all, sec)
			t.Errorf("%q is read as %d", s, sec)
		}
	}
	if slices.Max(append(all, 0)) != 0 {
		t.Fail()
	}
}
