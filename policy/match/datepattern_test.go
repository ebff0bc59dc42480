package match

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestDatePattern(t *testing.T) {
	tests := []struct{ pattern, line, text, want string }{
		{"iso", "2016-04-15 00:21:45 x", " x", "2016-04-15T00:21:45Z"},
		{"iso", "Nov  5 18:12:45 [2016-04-15 00:21:45] x", "Nov  5 18:12:45 [] x", "2016-04-15T00:21:45Z"},
		{"syslog", "Nov  5 18:12:45 [2016-04-15 00:21:45] x", " [2016-04-15 00:21:45] x", "2026-11-05T18:12:45Z"},
		{"clf", "2016-04-15 00:21:45 x", "2016-04-15 00:21:45 x", ""},
		{"none", "2016-04-15 00:21:45 x", "2016-04-15 00:21:45 x", ""},
		{"epoch", "1700000000 x", " x", "2023-11-14T22:13:20Z"},
		{"asctime", "Fri Sep 25 12:11:22 2015 x", " x", "2015-09-25T12:11:22Z"},
		{"%Y-%m-%d %H:%M:%S", "2016-04-15 00:21:45 x", " x", "2016-04-15T00:21:45Z"},
		{"%F %T", "a 2016-04-15  00:21:45 x", "a 2016-04-15  00:21:45 x", "2016-04-15T00:21:45Z"}, // read, not cut
		{"%F %T", "a [2016-04-15 00:21:45] x", "a [] x", "2016-04-15T00:21:45Z"},
		{"[%F %T]", "2015-04-15 00:21:45 a [2016-04-15 00:21:45] x", "2015-04-15 00:21:45 a [] x", "2016-04-15T00:21:45Z"},
		{"[%F %T]", "a [2016-04-15 00:21:45 b] x", "a [2016-04-15 00:21:45 b] x", ""},
		{"^%F %T", "a 2016-04-15 00:21:45 x", "a 2016-04-15 00:21:45 x", ""},
		{"^%F %T", "<13>2016-04-15 00:21:45 x", "<13> x", "2016-04-15T00:21:45Z"},
		{"^%F %T", "[2016-04-15 00:21:45] x", "[] x", "2016-04-15T00:21:45Z"},
		{"^%F %T", "[[2016-04-15 00:21:45] x", "[[2016-04-15 00:21:45] x", ""},
		{"^[%F %T]", "[2016-04-15 00:21:45] x", "[] x", "2016-04-15T00:21:45Z"},
		{"^%F %T", "a [2016-04-15 00:21:45] x", "a [2016-04-15 00:21:45] x", ""},
		// The first one counts, whatever follows.
		{"%d.%m.%Y %H:%M", "a 15.04.2016 00:21 [16.04.2016 00:21] x", "a 15.04.2016 00:21 [16.04.2016 00:21] x", "2016-04-15T00:21:00Z"},
		{"%d.%m.%Y %H:%M", "15.4.2016 9:21 x", " x", "2016-04-15T09:21:00Z"},
		{"%d/%b/%Y:%H:%M:%S %z", "15/apr/2016:00:21:45 +0200 x", " x", "2016-04-14T22:21:45Z"},
		{"%A, %d %B %Y %I:%M:%S %p", "Friday, 15 April 2016 12:21:45 AM x", " x", "2016-04-15T00:21:45Z"},
		{"%a %d %b %y %I:%M:%S%p", "Fri 15 Apr 16 12:21:45pm x", " x", "2016-04-15T12:21:45Z"},
		{"%Y-%m-%d %H:%M:%S.%f %Z", "2016-04-15 00:21:45.25 UTC x", " x", "2016-04-15T00:21:45.25Z"},
		{"%b %e %T", "Nov  5 18:12:45 x", " x", "2026-11-05T18:12:45Z"},
		{"%b %d %T", "Nov  5 18:12:45 x", " x", "2026-11-05T18:12:45Z"},
		{"%Y %j %R", "2016 060 10:20 x", " x", "2016-02-29T10:20:00Z"},
		{"%Y %j %R", "2015 366 10:20 x", "2015 366 10:20 x", ""},
		{"%D %T", "04/15/16 00:21:45 x", " x", "2016-04-15T00:21:45Z"},
		{"%y%m%d %T", "700415 00:21:45 x", " x", "1970-04-15T00:21:45Z"},
		{"%s", "1700000000 x", " x", "2023-11-14T22:13:20Z"},
		{"t=%s.%f", "t=1700000000.5 x", " x", "2023-11-14T22:13:20.5Z"},
		{`\[%F %T\]`, "a [2016-04-15 00:21:45] x", "a [] x", "2016-04-15T00:21:45Z"},
		{"%F %T", "2016-04-15 00:21:459 x", "2016-04-15 00:21:459 x", ""},
		{"%F %T", "2016-02-30 00:21:45 x", "2016-02-30 00:21:45 x", ""},
		{"%F %T", "x2016-04-15 00:21:45 x", "x2016-04-15 00:21:45 x", ""},
		{"100%% %F %T", "100% 2016-04-15 00:21:45 x", " x", "2016-04-15T00:21:45Z"},
		{"%F %T", "", "", ""},
	}
	for _, tt := range tests {
		d, err := CompileDate(tt.pattern)
		if err != nil {
			t.Errorf("%q: %v", tt.pattern, err)
			continue
		}
		f := finder{zone: time.UTC, date: d}
		f.look([]byte(tt.line))
		got := ""
		if at := f.time(now); !at.IsZero() {
			got = at.UTC().Format(time.RFC3339Nano)
		}
		if string(f.text) != tt.text || got != tt.want {
			t.Errorf("%q on %q: got %s and %q, want %s and %q", tt.pattern, tt.line, got, f.text, tt.want, tt.text)
		}
		if d.String() != tt.pattern {
			t.Error(d)
		}
	}
}

func TestDatePatternErrors(t *testing.T) {
	tests := []struct {
		pattern string
		offset  int
		want    string // part of the message
	}{
		{"sylog", 0, "did you mean syslog?"},
		{"ISO", 0, "did you mean iso?"},
		{"tomorrow morning", 0, "allowed are the words"},
		{"%Y-%m-%d %H:%M:%s.%f %", 21, `ends in "%"`},
		{"%Y-%m-%d %k:%M", 9, `no directive "%k"; allowed are`},
		{"%Y-%m-%d %t", 9, "did you mean %T?"},
		{"%%Y-%%m-%%d %%H:%%M:%%S", 0, "here it is %Y"},
		{"{^LN-BEG}%Y-%m-%d", 0, "no regular expression"},
		{`%Y-%m-%d\s%H:%M`, 8, "no regular expression"},
		{"%Y-%m-%d(?: %H)", 8, "no regular expression"},
		{"%Y %H:%M:%S", 0, "has no day"},
		{"%d %H:%M:%S", 0, "has no day"},
		{"%Y-%m-%d", 0, "no time of day"},
		{"%Y-%m-%d %I:%M:%S", 0, "but no %p"},
		{"%j %H:%M:%S", 0, "but no year"},
		{"%Y-%Y-%m-%d %H:%M", 0, "%Y is there twice"},
	}
	for _, tt := range tests {
		d, err := CompileDate(tt.pattern)
		var de *DateError
		if d != nil || !errors.As(err, &de) || de.Offset != tt.offset || !strings.Contains(de.Msg, tt.want) {
			t.Errorf("%q: got %v, %+v; want offset %d, %q", tt.pattern, d, err, tt.offset, tt.want)
		}
	}
	if d, err := CompileDate(""); d != nil || err != nil {
		t.Error(d, err)
	}
}

// FuzzDatePattern holds the strptime reader to time.Parse on what time.Format wrote.
func FuzzDatePattern(f *testing.F) {
	f.Add(int64(1700000000), " x", uint8(0))
	f.Add(int64(68169600), "", uint8(3))
	f.Fuzz(func(t *testing.T, unix int64, tail string, which uint8) {
		pairs := [][2]string{
			{"%Y-%m-%d %H:%M:%S", "2006-01-02 15:04:05"}, {"%d/%b/%Y:%H:%M:%S %z", "02/Jan/2006:15:04:05 -0700"},
			{"%a %b %e %T %Y", "Mon Jan _2 15:04:05 2006"}, {"%A, %B %d %Y, %I:%M:%S %p", "Monday, January 2 2006, 3:04:05 PM"},
			{"%Y/%j/%H.%M.%S", "2006/002/15.04.05"}, {"%y%m%d %H%M%S", "060102 150405"},
		}
		p := pairs[int(which)%len(pairs)]
		want := time.Unix(unix&(1<<32-1)&0x7fffffff, 0).UTC()
		d, err := CompileDate(p[0])
		if err != nil {
			t.Fatal(err)
		}
		text := want.Format(p[1])
		if tail != "" && (isWord(tail[0]) || strings.Contains(p[0], "%z")) {
			tail = " " + tail
		}
		c, n := d.read([]byte(text + tail))
		if n != len(text) {
			t.Fatalf("%q on %q: %d bytes, want %d", p[0], text+tail, n, len(text))
		}
		if got := c.time(time.UTC, now); !got.Equal(want) {
			t.Errorf("%q on %q: got %v", p[0], text, got)
		}
		d.read([]byte(tail)) // must not panic
	})
}
