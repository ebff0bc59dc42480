package policy

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	tests := []struct {
		in   string
		want time.Duration
	}{
		{"600", 600 * time.Second},
		{"31536000", 365 * 24 * time.Hour},
		{"90s", 90 * time.Second},
		{"10m", 10 * time.Minute},
		{"1h", time.Hour},
		{"1d", 24 * time.Hour},
		{"1w", 7 * 24 * time.Hour},
		{"1mo", 30 * 24 * time.Hour},
		{"1y", 365 * 24 * time.Hour},
		{"1d12h", 36 * time.Hour},
		{"1d 12h", 36 * time.Hour},
		{" 1y6mo ", (365 + 180) * 24 * time.Hour},
		{"0d5s", 5 * time.Second},
		{"9223372036", MaxDuration},
		{"-1", Forever},
		{"forever", Forever},
		{"permanent", Forever},
	}
	for _, tt := range tests {
		if got, err := ParseDuration(tt.in); err != nil || got != tt.want {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", tt.in, got, err, tt.want)
		}
	}
}

func TestParseDurationErrors(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", "missing"},
		{"  ", "missing"},
		{"0", "no time at all"},
		{"0s", "no time at all"},
		{"-2", "negative"},
		{"-1m", "negative"},
		{"1.5h", "fraction"},
		{"1,5h", "fraction"},
		{"10min", "write 10m"},
		{"3hours", "write 3h"},
		{"1M", "mo is months"},
		{"1h30", "without a unit"},
		{"5 5", "without a unit"},
		{"5 m", "without a unit"},
		{"010", "begins with 0"},
		{"1_000", "no unit"},
		{"h", "no duration"},
		{"ten", "no duration"},
		{"Forever", "no duration"},
		{"1h-5m", "no unit"},
		{"9223372037", "292 years"},
		{"293y", "292 years"},
		{"292y292y", "292 years"},
		{"99999999999999999999999", "292 years"},
		{"1\x1b[31m", `"\x1b["`},
	}
	for _, tt := range tests {
		got, err := ParseDuration(tt.in)
		if err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", tt.in, got)
			continue
		}
		if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ParseDuration(%q) says %q, want %q in it", tt.in, err, tt.want)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	const d = 24 * time.Hour
	tests := []struct {
		in   time.Duration
		want string
	}{
		{0, "0s"},
		{time.Millisecond, "0s"},
		{1500 * time.Millisecond, "1s"},
		{90 * time.Second, "90s"},
		{100 * time.Second, "1m40s"},
		{600 * time.Second, "10m"},
		{90 * time.Minute, "90m"},
		{time.Hour, "1h"},
		{36 * time.Hour, "36h"},
		{3*time.Hour + 12*time.Minute + 11*time.Second, "3h12m11s"},
		{d, "1d"},
		{d + time.Second, "1d1s"},
		{7 * d, "7d"},
		{30 * d, "30d"},
		{400 * d, "400d"},
		{31536000 * time.Second, "1y"},
		{730 * d, "2y"},
		{365*d + time.Minute, "1y1m"},
		{-5 * time.Minute, "-5m"},
		{math.MinInt64, "-" + FormatDuration(MaxDuration)},
		{Forever, "forever"},
	}
	for _, tt := range tests {
		if got := FormatDuration(tt.in); got != tt.want {
			t.Errorf("FormatDuration(%d) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

// FuzzParseDuration holds that whatever parses is whole seconds above zero, and that its shown form parses to the same.
func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"600", "1d12h", "-1", "forever", "1.5h", "9223372036", "1y 1mo", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDuration(s)
		if err != nil {
			for _, r := range err.Error() {
				if r < ' ' || r == 0x7f {
					t.Fatalf("the error of %q is not printable: %q", s, err)
				}
			}
			return
		}
		if d != Forever && (d < time.Second || d%time.Second != 0 || d > MaxDuration) {
			t.Fatalf("ParseDuration(%q) = %d", s, d)
		}
		if again, err := ParseDuration(FormatDuration(d)); err != nil || again != d {
			t.Fatalf("%q: %v shows as %q, which reads as %v, %v", s, d, FormatDuration(d), again, err)
		}
	})
}
