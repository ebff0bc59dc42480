package policy

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Lengths of the units that a duration may name. A month is 30 days and a year 365: a ban time is a length, not a date.
const (
	day   = 24 * time.Hour
	week  = 7 * day
	month = 30 * day
	year  = 365 * day
)

// units are what ParseDuration reads.
var units = map[string]time.Duration{
	"s": time.Second, "m": time.Minute, "h": time.Hour, "d": day, "w": week, "mo": month, "y": year,
}

// longer are spellings that people try, and what to write instead.
var longer = map[string]string{
	"sec": "s", "secs": "s", "second": "s", "seconds": "s",
	"min": "m", "mins": "m", "minute": "m", "minutes": "m",
	"hr": "h", "hrs": "h", "hour": "h", "hours": "h",
	"day": "d", "days": "d", "wk": "w", "week": "w", "weeks": "w",
	"mon": "mo", "month": "mo", "months": "mo", "yr": "y", "year": "y", "years": "y",
	"S": "s", "H": "h", "D": "d", "W": "w", "MO": "mo", "Mo": "mo", "Y": "y",
}

// MaxDuration is the longest duration that ends: about 292 years, in whole seconds.
const MaxDuration = math.MaxInt64 / time.Second * time.Second

// ParseDuration reads a length of time as configuration and command line give it: whole seconds ("600"), numbers with
// units, added up ("10m", "1d12h", "1y 6mo"), or -1, "forever" or "permanent" for [Forever]. The units are s, m, h, d, w,
// mo (30 days) and y (365 days). The result is whole seconds, at least one, or Forever. The error is one printable
// line that says what to write instead.
func ParseDuration(s string) (time.Duration, error) {
	text := strings.TrimSpace(s)
	switch text {
	case "":
		return 0, fmt.Errorf("a duration is missing: write seconds, 10m, 1h, 1d or forever")
	case "-1", "forever", "permanent":
		return Forever, nil
	}
	if text[0] == '-' {
		return 0, fmt.Errorf("%q is negative: only -1 is allowed, for forever", cut(text))
	}
	var total time.Duration
	for rest := text; rest != ""; rest = strings.TrimLeft(rest, " ") {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		if digits == 0 {
			return 0, fmt.Errorf("%q is no duration: write seconds, 10m, 1h, 1d, 1w, 1mo, 1y or forever", cut(text))
		}
		number := rest[:digits]
		rest = rest[digits:]
		end := strings.IndexAny(rest, "0123456789 ")
		if end < 0 {
			end = len(rest)
		}
		unit := rest[:end]
		rest = rest[end:]
		if unit == "" {
			if number != text {
				return 0, fmt.Errorf("%q has a number without a unit: s, m, h, d, w, mo or y", cut(text))
			}
			if len(number) > 1 && number[0] == '0' {
				return 0, fmt.Errorf("%q begins with 0: write the number without it", cut(text))
			}
			unit = "s"
		}
		scale, ok := units[unit]
		switch {
		case ok:
		case longer[unit] != "":
			return 0, fmt.Errorf("%q is no unit: write %s%s", unit, cut(number), longer[unit])
		case unit == "M":
			return 0, fmt.Errorf("the unit M is not clear: m is minutes, mo is months")
		case strings.HasPrefix(unit, "."), strings.HasPrefix(unit, ","):
			return 0, fmt.Errorf("%q has a fraction: only whole numbers are allowed, take a smaller unit", cut(text))
		default:
			return 0, fmt.Errorf("%q is no unit: the units are s, m, h, d, w, mo (30 days) and y (365 days)", cut(unit))
		}
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n > int64(MaxDuration/scale) || time.Duration(n)*scale > MaxDuration-total {
			return 0, fmt.Errorf("%q is longer than 292 years: write forever", cut(text))
		}
		total += time.Duration(n) * scale
	}
	if total == 0 {
		return 0, fmt.Errorf("%q is no time at all: write at least 1s, or forever", cut(text))
	}
	return total, nil
}

// cut keeps a text that stands in a message short.
func cut(s string) string {
	const most = 40
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// FormatDuration is the shortest form of d that people read at a glance: "10m", "90s", "36h", "1d1s", "400d", "1y",
// "forever". Seconds are whole, parts of one are cut off. ParseDuration reads what it writes for one second and more;
// days stay days, because a month or year of another length than expected would be a riddle.
func FormatDuration(d time.Duration) string {
	if d == Forever {
		return "forever"
	}
	if d < 0 {
		return "-" + FormatDuration(-max(d, -MaxDuration))
	}
	d = d.Truncate(time.Second)
	if d == 0 {
		return "0s"
	}
	var sum strings.Builder
	rest := d
	for _, u := range shown {
		if n := rest / u.length; n > 0 {
			fmt.Fprintf(&sum, "%d%s", n, u.name)
			rest -= n * u.length
		}
	}
	// One number alone is often shorter: 90m, not 1h30m. It must be small, though: nobody reads 11531s.
	i := slices.IndexFunc(shown, func(u shownUnit) bool { return d%u.length == 0 })
	if u := shown[i]; d/u.length < u.small {
		if one := fmt.Sprintf("%d%s", d/u.length, u.name); len(one) <= sum.Len() {
			return one
		}
	}
	return sum.String()
}

// A shownUnit is a unit that FormatDuration writes, and the number from which it is too large to stand alone.
type shownUnit struct {
	name   string
	length time.Duration
	small  time.Duration
}

var shown = []shownUnit{
	{"y", year, 1000}, {"d", day, 1000}, {"h", time.Hour, 100}, {"m", time.Minute, 100}, {"s", time.Second, 100},
}
