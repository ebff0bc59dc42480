package match

import (
	"net/netip"
	"testing"
	"time"
)

// now is the time at which the tests read their logs.
var now = time.Date(2026, 11, 23, 18, 12, 45, 0, time.UTC)

// compile compiles a filter that must be right.
func compile(t testing.TB, fail []string, ignore ...string) *Filter {
	t.Helper()
	f, problems := Compile(fail, ignore)
	for _, p := range problems {
		t.Errorf("%q: offset %d: %s", fail, p.Offset, p.Msg)
	}
	if f == nil {
		t.FailNow()
	}
	return f
}

// scan runs one filter over a block.
func scan(t testing.TB, f *Filter, lines string) []Match {
	t.Helper()
	var out []Match
	s := NewScanner([]Job{{Policy: "p", Filter: f, Zone: time.UTC}})
	s.Scan([]byte(lines), now, func(m Match) { out = append(out, m) })
	return out
}

// hostIn is the host of the only hit of a line, invalid for none.
func hostIn(t testing.TB, f *Filter, line string) netip.Prefix {
	t.Helper()
	hits := scan(t, f, line+"\n")
	if len(hits) == 0 {
		return netip.Prefix{}
	}
	return hits[0].Host
}

func TestSeed(t *testing.T) {
	f := compile(t, []string{`\[<HOST>\]: 535 Incorrect authentication data`})
	hits := scan(t, f, "2016-04-15 00:21:44 Start queue run: pid=1\n"+
		"2016-04-15 00:21:45 login authenticator failed for (User) [122.154.29.30]: 535 Incorrect authentication data\n"+
		"2016-04-15 00:21:46 login authenticator failed for (User) [2001:db8::7]: 535 Incorrect authentication data (set_id=a)\n")
	if len(hits) != 2 {
		t.Fatalf("got %d hits", len(hits))
	}
	if got := hits[0].Host.String(); got != "122.154.29.30/32" {
		t.Error(got)
	}
	if want := time.Date(2016, 4, 15, 0, 21, 45, 0, time.UTC); !hits[0].Stamp.Equal(want) {
		t.Errorf("got %v, want %v", hits[0].Stamp, want)
	}
	if got := hits[1].Host.String(); got != "2001:db8::7/128" {
		t.Error(got)
	}
}
