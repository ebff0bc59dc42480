package match

import (
	"strings"
	"testing"
	"time"
)

func TestStamp(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		line, text string // text: what the patterns see
		want       string // in RFC 3339; "" for no stamp
	}{
		{"2016-04-15 00:21:45 x", " x", "2016-04-15T00:21:45+02:00"},
		{"2016-04-15 00:21:45.123 x", " x", "2016-04-15T00:21:45.123+02:00"},
		{"2016-04-15 00:21:45,123 x", " x", "2016-04-15T00:21:45.123+02:00"},
		{"2016-04-15 00:21:45.1234567891 x", " x", "2016-04-15T00:21:45.123456789+02:00"},
		{"2016-04-15 00:21:45 +0100 x", " x", "2016-04-15T00:21:45+01:00"},
		{"2016-04-15 00:21:45.5 -0330 x", " x", "2016-04-15T00:21:45.5-03:30"},
		{"2016-04-15T00:21:45Z x", " x", "2016-04-15T00:21:45Z"},
		{"2016-04-15T00:21:45.123+01:00 x", " x", "2016-04-15T00:21:45.123+01:00"},
		{"2016-04-15 00:21:45 UTC x", " x", "2016-04-15T00:21:45Z"},
		{"2016-04-15 00:21:45 CEST x", " CEST x", "2016-04-15T00:21:45+02:00"},
		{"2016-04-15 00:21:45 +1 x", " +1 x", "2016-04-15T00:21:45+02:00"},
		{"2016-04-15 00:21:45 +99999 x", " +99999 x", "2016-04-15T00:21:45+02:00"},
		{"2016-04-15 00:21:45: x", ": x", "2016-04-15T00:21:45+02:00"},
		{"2016-04-15 00:21:45x", "2016-04-15 00:21:45x", ""},
		{"2016-04-31 00:21:45 x", "2016-04-31 00:21:45 x", ""},
		{"2016-13-15 00:21:45 x", "2016-13-15 00:21:45 x", ""},
		{"2015-02-29 00:21:45 x", "2015-02-29 00:21:45 x", ""},
		{"2016-02-29 00:21:45 x", " x", "2016-02-29T00:21:45+01:00"},
		{"2016-04-15 24:21:45 x", "2016-04-15 24:21:45 x", ""},
		{"2016-04-15 23:59:60 x", " x", "2016-04-16T00:00:00+02:00"},
		{"2016-04-15 23:59:61 x", "2016-04-15 23:59:61 x", ""},
		{"0001-01-01 00:00:00Z x", "0001-01-01 00:00:00Z x", ""},
		{"2023/01/01 12:00:00 [error] 7#7: x", " [error] 7#7: x", "2023-01-01T12:00:00+01:00"},
		{"2023/01-01 12:00:00 x", "2023/01-01 12:00:00 x", ""},
		// No year: the nearest past one, with a day's tolerance; now is 2026-11-23 18:12:45Z.
		{"Nov 23 18:12:45 host x", " host x", "2026-11-23T18:12:45+01:00"},
		{"Nov 24 18:12:45 host x", " host x", "2026-11-24T18:12:45+01:00"},
		{"Nov 24 19:12:46 host x", " host x", "2025-11-24T19:12:46+01:00"},
		{"Nov  5 18:12:45 host x", " host x", "2026-11-05T18:12:45+01:00"},
		{"Nov 05 18:12:45.25 host x", " host x", "2026-11-05T18:12:45.25+01:00"},
		{"Nov 5 18:12:45 host x", " host x", "2026-11-05T18:12:45+01:00"},
		{"Dec 31 18:12:45 host x", " host x", "2025-12-31T18:12:45+01:00"},
		{"Feb 29 18:12:45 host x", " host x", "2024-02-29T18:12:45+01:00"},
		{"Feb 30 18:12:45 host x", "Feb 30 18:12:45 host x", ""},
		{"Nov   5 18:12:45 host x", "Nov   5 18:12:45 host x", ""},
		{"Nov  15 18:12:45 host x", "Nov  15 18:12:45 host x", ""},
		{"Now  5 18:12:45 host x", "Now  5 18:12:45 host x", ""},
		{"<34>Nov  5 18:12:45 host x", "<34> host x", "2026-11-05T18:12:45+01:00"},
		{"<34>1 2026-11-05T18:12:45.5Z host x", "<34> host x", "2026-11-05T18:12:45.5Z"},
		{"<3456>Nov  5 18:12:45 host x", "<3456>Nov  5 18:12:45 host x", ""},
		{"[Fri Sep 25 12:11:22.654321 2015] [core:error] x", "[] [core:error] x", "2015-09-25T12:11:22.654321+02:00"},
		{"Fri Sep 25 12:11:22 2015 [pid 2] x", " [pid 2] x", "2015-09-25T12:11:22+02:00"},
		{"Fri Sep 25 12:11:22 x", "Fri Sep 25 12:11:22 x", ""},
		{`192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 401`, `192.0.2.1 - - [] "GET / HTTP/1.1" 401`,
			"2000-10-10T13:55:36-07:00"},
		{"x [06/Feb/2009:12:09:59.655] y", "x [] y", "2009-02-06T12:09:59.655+01:00"},
		{"1/Oct/2000:13:55:36 x", " x", "2000-10-01T13:55:36+02:00"},
		{"1700000000 x", " x", "2023-11-14T22:13:20Z"},
		{"1700000000.125 x", " x", "2023-11-14T22:13:20.125Z"},
		{"[1700000000] x", "[] x", "2023-11-14T22:13:20Z"},
		{"x [1700000000] y", "x [] y", "2023-11-14T22:13:20Z"},
		{"x [1700000000 y]", "x [1700000000 y]", ""},
		{"0999999999 x", "0999999999 x", ""},
		{"17000000000 x", "17000000000 x", ""},
		{"9999999999 x", "9999999999 x", ""},
		{"1700000000.example.org x", "1700000000.example.org x", ""},
		{"type=USER_LOGIN msg=audit(1700000000.125:42): pid=1", "type=USER_LOGIN msg=audit(:42): pid=1",
			"2023-11-14T22:13:20.125Z"},
		// A real stamp wins over a number that may be one.
		{`192.0.2.1 - [1700000000] [10/Oct/2000:13:55:36 -0700] "GET`, `192.0.2.1 - [1700000000] [] "GET`,
			"2000-10-10T13:55:36-07:00"},
		{"x 2016-04-15 00:21:45 y", "x 2016-04-15 00:21:45 y", ""},
		{strings.Repeat("x", 300) + "[2016-04-15 00:21:45]", strings.Repeat("x", 300) + "[2016-04-15 00:21:45]", ""},
		{"", "", ""}, {"[", "[", ""}, {"<", "<", ""}, {"<1>", "<1>", ""}, {"20", "20", ""}, {"[2016-04-15 0", "[2016-04-15 0", ""},
	}
	for _, tt := range tests {
		f := finder{zone: berlin}
		f.look([]byte(tt.line))
		if string(f.text) != tt.text {
			t.Errorf("%q: patterns see %q, want %q", tt.line, f.text, tt.text)
		}
		var want time.Time
		if tt.want != "" {
			if want, err = time.Parse(time.RFC3339Nano, tt.want); err != nil {
				t.Fatal(err)
			}
		}
		if got := f.time(now); !got.Equal(want) {
			t.Errorf("%q: got %v, want %v", tt.line, got, want)
		}
	}
}

// A clock that is put forward or back: as time.Date does.
func TestClockChange(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []time.Time{
		time.Date(2026, 3, 29, 2, 30, 0, 0, berlin),
		time.Date(2026, 10, 25, 2, 30, 0, 0, berlin),
	} {
		line := "2026-03-29 02:30:00 x"
		if want.Month() == time.October {
			line = "2026-10-25 02:30:00 x"
		}
		f := finder{zone: berlin}
		f.look([]byte(line))
		if got := f.time(now); !got.Equal(want) {
			t.Errorf("%q: got %v, want %v", line, got, want)
		}
	}
}

// The year of a stamp without one, around the end of a year and of a century.
func TestYear(t *testing.T) {
	tests := []struct{ now, line, want string }{
		{"2026-12-31T23:59:59Z", "Jan  1 00:00:01 x", "2027-01-01T00:00:01Z"},
		{"2026-12-31T23:59:59Z", "Jan  2 00:00:01 x", "2026-01-02T00:00:01Z"},
		{"2027-01-01T00:00:01Z", "Dec 31 23:59:59 x", "2026-12-31T23:59:59Z"},
		{"2028-02-29T00:00:00Z", "Feb 29 00:00:00 x", "2028-02-29T00:00:00Z"},
		{"2028-02-27T00:00:00Z", "Feb 29 00:00:00 x", "2024-02-29T00:00:00Z"},
		{"2028-02-28T00:00:00Z", "Feb 29 00:00:00 x", "2028-02-29T00:00:00Z"},
		{"2103-06-01T00:00:00Z", "Feb 29 00:00:00 x", "2096-02-29T00:00:00Z"},
	}
	for _, tt := range tests {
		at, err := time.Parse(time.RFC3339, tt.now)
		if err != nil {
			t.Fatal(err)
		}
		f := finder{zone: time.UTC}
		f.look([]byte(tt.line))
		if got := f.time(at).Format(time.RFC3339); got != tt.want {
			t.Errorf("%s, read at %s: got %s, want %s", tt.line, tt.now, got, tt.want)
		}
	}
}

// oracles are layouts of time.Parse for everything that civil.read takes.
var oracles = func() map[layout][]string {
	out := map[layout][]string{
		layoutSyslog:  {"Jan _2 15:04:05", "Jan 2 15:04:05", "Jan 02 15:04:05"},
		layoutAsctime: {"Mon Jan _2 15:04:05 2006", "Mon Jan 2 15:04:05 2006", "Mon Jan 02 15:04:05 2006"},
	}
	for _, zone := range []string{"", "Z07:00", "Z0700", " -0700", " -07:00", " UTC", " GMT", "UTC", "GMT"} {
		out[layoutCLF] = append(out[layoutCLF], "02/Jan/2006:15:04:05"+zone, "2/Jan/2006:15:04:05"+zone)
		for _, d := range []string{"2006-01-02", "2006/01/02"} {
			out[layoutISO] = append(out[layoutISO], d+" 15:04:05"+zone, d+"T15:04:05"+zone)
		}
	}
	return out
}()

func FuzzStamp(f *testing.F) {
	for _, s := range []string{"2016-04-15 00:21:45", "2016-04-15T00:21:45.123+02:00", "2023/01/01 12:00:00,5 -0330",
		"Nov  5 18:12:45", "Feb 29 18:12:45.25", "Fri Sep 25 12:11:22.654321 2015", "10/Oct/2000:13:55:36 -0700",
		"2016-04-15T00:21:45Z", "2016-02-30 00:21:45", "1700000000.125", "2016-04-15 00:21:45 UTC"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var c civil
		l, n := c.read([]byte(s), allLayouts)
		if n > len(s) || (n > 0) != (l != layoutNone) {
			t.Fatalf("%q: %d bytes of layout %d", s, n, l)
		}
		if n > 0 && l != layoutEpoch && c.sec < 60 {
			agree(t, s[:n], l, c)
		}
		if n == len(s) {
			return
		}
		// What time.Parse takes and writes the same way again is a stamp for us too.
		for _, ls := range oracles {
			for _, o := range ls {
				at, err := time.Parse(o, s)
				if err == nil && at.Format(o) == s && (at.Year() >= 1970 || at.Year() == 0) && !strings.HasPrefix(s, "0000") {
					t.Errorf("%q is %v by %q, but %d bytes were read", s, at, o, n)
				}
			}
		}
	})
}

// agree holds a stamp to the oracle.
func agree(t *testing.T, s string, l layout, c civil) {
	for _, o := range oracles[l] {
		want, err := time.Parse(o, s)
		if err != nil {
			continue
		}
		if want.Year() == 0 {
			if c.year != 0 || c.month != int(want.Month()) || c.day != want.Day() || c.hour != want.Hour() ||
				c.minute != want.Minute() || c.sec != want.Second() || c.nsec != want.Nanosecond() {
				t.Errorf("%q: got %+v, want %v", s, c, want)
			}
			return
		}
		if got := c.time(time.UTC, time.Time{}); !got.Equal(want) {
			t.Errorf("%q: got %v, want %v", s, got, want)
		}
		return
	}
	t.Errorf("%q is layout %d with us, and nothing with time.Parse", s, l)
}

func TestStampAllocates(t *testing.T) {
	f := finder{zone: time.UTC}
	for _, line := range []string{"2016-04-15 00:21:45 x", "Nov  5 18:12:45 x", "x [10/Oct/2000:13:55:36 -0700] y"} {
		b := []byte(line)
		if n := testing.AllocsPerRun(100, func() {
			f.seen = false
			f.look(b)
			f.time(now)
		}); n != 0 {
			t.Errorf("%q: %v allocations", line, n)
		}
	}
}
