package blocklist

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"banset/policy"
)

// The oracle reads a blocklist as one would write it without a thought to speed: regular expressions, time.Parse.

var (
	space   = `[ \t\n\r\v\f]`
	timeRE  = `\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d)?)?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)?`
	wordRE  = regexp.MustCompile(`(?s)^(?:\xef\xbb\xbf)?` + space + `*([^ \t\n\r\v\f#]+)(.*)$`)
	oursRE  = regexp.MustCompile(`(?is)^banset/(` + timeRE + `)(?:` + space + `+until` + space + `*(forever|` + timeRE + `))?` + space + `*(?::([^#]*))?(?:#(.*))?$`)
	f2bRE   = regexp.MustCompile(`(?is)^fail2ban/(` + timeRE + `)` + space + `*(?::(.*))?$`)
	untilRE = regexp.MustCompile(`(?is)^until ` + space + `*(forever|` + timeRE + `)` + space + `*(?::(.*))?$`)
)

func latin1(b []byte) string { // regexp reads UTF-8: make each byte a rune, and back
	r := make([]rune, len(b))
	for i, c := range b {
		r[i] = rune(c)
	}
	return string(r)
}

func unlatin1(s string) string {
	var b []byte
	for _, r := range s {
		b = append(b, byte(r))
	}
	return string(b)
}

var clockRE = regexp.MustCompile(`(?s)[ Tt]\d\d:\d\d$`)
var secondRE = regexp.MustCompile(`^:\d\d`)

// match is re's match of s, unless a time in it goes on: the expressions must not take a part of one.
func match(re *regexp.Regexp, s string) []string {
	m := re.FindStringSubmatchIndex(s)
	var out []string
	for i := 0; i < len(m); i += 2 {
		if m[i] < 0 {
			out = append(out, "")
			continue
		}
		out = append(out, s[m[i]:m[i+1]])
		if i > 0 && clockRE.MatchString(s[m[i]:m[i+1]]) && secondRE.MatchString(s[m[i+1]:]) {
			return nil
		}
	}
	return out
}

func oracleTime(s string, loc *time.Location) (int64, bool) {
	s = strings.ToUpper(s)
	if strings.EqualFold(s, "forever") {
		return policy.Never, true
	}
	if len(s) > 10 && s[10] == 'T' {
		s = s[:10] + " " + s[11:]
	}
	for _, layout := range []string{"2006-01-02", "2006-01-02 15:04", "2006-01-02 15:04:05"} {
		if t, err := time.ParseInLocation(layout, s, loc); err == nil {
			return t.Unix(), true
		}
		if t, err := time.ParseInLocation(layout+"Z07:00", s, loc); err == nil {
			return t.Unix(), true
		}
	}
	return 0, false
}

type oracleLine struct {
	text    string
	ok      bool // has a host
	problem bool
	entry   Entry
	remark  string
}

func oracleHost(s string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return p, false
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), p.Bits() > 0
}

func oracleRead(text []byte, o Options) oracleLine {
	l := oracleLine{text: string(text)}
	note := func(s string) string { return policy.CleanNote(unlatin1(s)) }
	trim := func(s string) string { return strings.Trim(s, " \t\n\r\v\f") }
	m := wordRE.FindStringSubmatch(latin1(text))
	if m == nil {
		return l
	}
	host, ok := oracleHost(m[1])
	if l.problem = !ok || len(text) > MaxLine; l.problem {
		return l
	}
	l.ok = true
	l.entry = Entry{Kind: Hand, Ban: policy.Ban{Host: host, Until: policy.Never}}
	e := &l.entry
	rest := trim(m[2])
	if rest == "" {
		return l
	}
	if rest[0] != '#' {
		e.Ban.Note, l.problem, l.remark = note(rest), true, rest
		return l
	}
	rest = trim(rest[1:])
	e.Ban.Note, l.remark = note(rest), rest
	low := strings.ToLower(rest)
	switch {
	case strings.HasPrefix(low, "banset/"):
		l.problem = true
		if m := match(oursRE, rest); m != nil {
			at, ok1 := oracleTime(m[1], o.Location)
			until, ok2 := policy.Never, true
			if m[2] != "" {
				until, ok2 = oracleTime(m[2], o.Location)
			}
			if ok1 && ok2 {
				e.Kind, e.Ban.At, e.Ban.Until, l.problem = Ours, at, until, false
				e.Ban.Policy, e.Ban.Failures, e.Ban.Note = policy.ParseReason(unlatin1(trim(m[3])))
				e.Ban.Note = policy.CleanNote(e.Ban.Note)
				l.remark = trim(m[4])
			}
		}
	case strings.HasPrefix(low, "fail2ban/"):
		l.problem = true
		if m := match(f2bRE, rest); m != nil {
			if at, ok := oracleTime(m[1], o.Location); ok {
				e.Kind, e.Ban.At, e.Ban.Until, l.problem, l.remark = Fail2ban, at, policy.Never, false, ""
				if o.LegacyBan != policy.Forever {
					e.Ban.Until = at + int64(o.LegacyBan/time.Second)
				}
				e.Ban.Note = policy.CleanNote("fail2ban: " + unlatin1(trim(m[2])))
				if trim(m[2]) == "" {
					e.Ban.Note = "fail2ban"
				}
			}
		}
	default:
		if m := match(untilRE, rest); m != nil {
			if until, ok := oracleTime(m[1], o.Location); ok {
				e.Ban.Until, e.Ban.Note, l.remark = until, note(trim(m[2])), trim(m[2])
			}
		}
	}
	return l
}

// oracle is a whole file: its lines, the entries that count in their order, and the numbers of lines with problems.
type oracle struct {
	lines    []oracleLine
	entries  []Entry
	problems []int
	words    map[netip.Prefix]string // every person's words on a host's lines
}

func oracleParse(text []byte, o Options) oracle {
	f := oracle{words: map[netip.Prefix]string{}}
	best := map[netip.Prefix]Entry{}
	for i, b := range bytes.SplitAfter(text, []byte("\n")) {
		if len(b) == 0 {
			continue
		}
		l := oracleRead(b, o)
		f.lines = append(f.lines, l)
		if l.problem {
			f.problems = append(f.problems, i+1)
		}
		if !l.ok {
			continue
		}
		l.entry.Line = i + 1
		h := l.entry.Ban.Host
		if old, known := best[h]; !known || l.entry.Ban.Until > old.Ban.Until {
			best[h] = l.entry
		}
		f.words[h] += "|" + l.remark
	}
	f.entries = slices.SortedFunc(maps.Values(best), func(a, b Entry) int { return cmp.Compare(a.Line, b.Line) })
	return f
}

// others are the lines without a host.
func (f *oracle) others() []string {
	var s []string
	for _, l := range f.lines {
		if !l.ok {
			s = append(s, strings.TrimSuffix(l.text, "\n"))
		}
	}
	return s
}

// agree compares a File with what the oracle reads in its text.
func agree(t testing.TB, f *File, o Options) oracle {
	t.Helper()
	want := oracleParse(f.Bytes(), o)
	got := slices.Collect(f.Entries())
	if !slices.Equal(got, want.entries) {
		t.Fatalf("entries of %q:\n%v\nwant\n%v", f.Bytes(), got, want.entries)
	}
	if f.Len() != len(got) {
		t.Fatalf("Len = %d, want %d", f.Len(), len(got))
	}
	for _, e := range got {
		if l, ok := f.Lookup(e.Ban.Host); !ok || l != e {
			t.Fatalf("Lookup(%v) = %v, %v; want %v", e.Ban.Host, l, ok, e)
		}
	}
	problems, total := f.Problems()
	var lines []int
	for _, p := range problems {
		lines = append(lines, p.Line)
		if s := p.String(); len(s) > 400 || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("problem %q", s)
		}
	}
	if total != len(want.problems) || !slices.Equal(lines, want.problems[:min(len(want.problems), MaxProblems)]) {
		t.Fatalf("problems of %q: %v (%d in all), want %v", f.Bytes(), lines, total, want.problems)
	}
	return want
}

var berlin = func() *time.Location {
	l, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		l = time.FixedZone("CET", 3600)
	}
	return l
}()

// script parses text and makes the edits that ops spells, holding every step against the oracle and a map.
func script(t testing.TB, text, ops []byte) {
	o := Options{Location: berlin, LegacyBan: 1000 * time.Hour}
	f := Parse(text, o)
	if !bytes.Equal(f.Bytes(), text) {
		t.Fatalf("parsed %q, got back %q", text, f.Bytes())
	}
	before := agree(t, f, o)
	pool := []netip.Prefix{}
	for i := range 6 {
		pool = append(pool, netip.MustParsePrefix(fmt.Sprintf("192.0.2.%d/32", i)),
			netip.MustParsePrefix(fmt.Sprintf("2001:db8:0:%d::/64", i)))
	}
	model := map[netip.Prefix]int64{}
	for _, e := range before.entries {
		pool = append(pool, e.Ban.Host)
		model[e.Ban.Host] = e.Ban.Until
	}
	start := maps.Clone(model)
	next := func() int {
		if len(ops) == 0 {
			return 0
		}
		c := ops[0]
		ops = ops[1:]
		return int(c)
	}
	for len(ops) > 0 {
		var set []policy.Ban
		var remove []netip.Prefix
		for range 1 + next()%3 {
			host := pool[next()%len(pool)]
			if next()%3 == 0 {
				remove = append(remove, host)
				continue
			}
			b := policy.Ban{Host: host, At: 1_800_000_000 + int64(next())}
			if b.Until = b.At + int64(next())*86400; next()%4 == 0 {
				b.Until = policy.Never
			}
			switch next() % 4 {
			case 0:
				b.Note = "a person's # reason\n"
			case 1:
			default:
				b.Policy, b.Failures = "exim2-repeater", 1+next()
			}
			set = append(set, b)
		}
		old := bytes.Clone(f.Bytes())
		for _, h := range remove {
			delete(model, h)
		}
		words := before.words
		for _, b := range set {
			model[b.Host] = b.Until
		}
		added, appended := f.Edit(set, remove)
		if appended && !bytes.Equal(append(bytes.Clone(old), added...), f.Bytes()) {
			t.Fatalf("Edit says it added %q to\n%q, but made\n%q", added, old, f.Bytes())
		}
		after := agree(t, f, o)
		got := map[netip.Prefix]int64{}
		for _, e := range after.entries {
			got[e.Ban.Host] = e.Ban.Until
		}
		if !maps.Equal(got, model) {
			t.Fatalf("after Edit(%v, %v) of\n%q\nhosts %v\nwant %v", set, remove, old, got, model)
		}
		if a, b := before.others(), after.others(); !slices.Equal(a, b) {
			t.Fatalf("lines without a host were\n%q\nand are\n%q", a, b)
		}
		for _, b := range set {
			e, _ := f.Lookup(b.Host)
			if b.Policy != "" && e.Kind == Ours && (e.Ban.Policy != b.Policy || e.Ban.Failures != b.Failures || e.Ban.At != b.At) &&
				!slices.ContainsFunc(set, func(c policy.Ban) bool { return c.Host == b.Host && c != b }) {
				t.Fatalf("set %v, the line says %v", b, e)
			}
			if slices.Contains(remove, b.Host) || len(old) > MaxLine/2 {
				continue
			}
			for _, w := range strings.Split(words[b.Host], "|") {
				if !strings.Contains(after.words[b.Host], strings.TrimSpace(w)) && policy.CleanNote(unlatin1(w)) != clean(b.Note) {
					t.Fatalf("the words %q of %v are lost: %q", w, b.Host, f.Bytes())
				}
			}
		}
		if next()%8 == 0 {
			f.assemble()
			f.compact()
			agree(t, f, o)
		}
		before = after
	}
	diff(t, Parse(text, o), f, start, model)
	diff(t, f, Parse(text, o), model, start)
}

// diff holds Diff against two maps.
func diff(t testing.TB, old, new *File, was, is map[netip.Prefix]int64) {
	t.Helper()
	n := 0
	for c := range Diff(old, new) {
		n++
		h := c.New.Ban.Host
		if c.What == Removed {
			h = c.Old.Ban.Host
		}
		a, before := was[h]
		b, after := is[h]
		if before != (c.What != Added) || after != (c.What != Removed) || a == b ||
			before && (c.Old.Ban.Until != a || c.Old.Ban.Host != h) || after && c.New.Ban.Until != b {
			t.Fatalf("%+v, but %v became %v", c, a, b)
		}
	}
	for h, a := range was {
		if b, ok := is[h]; !ok || a != b {
			n--
		}
	}
	for h := range is {
		if _, ok := was[h]; !ok {
			n--
		}
	}
	if n != 0 {
		t.Fatalf("Diff has %d changes too many", n)
	}
}
