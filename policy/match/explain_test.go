package match

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestExplain(t *testing.T) {
	golden(t, "testdata/explain.txtar", func(t *testing.T, input string) string {
		var fail, ignore []string
		var date *DatePattern
		line := ""
		for l := range strings.Lines(input) {
			key, value, _ := strings.Cut(strings.TrimSuffix(l, "\n"), " ")
			switch key {
			case "fail":
				fail = append(fail, value)
			case "ignore":
				ignore = append(ignore, value)
			case "date":
				var err error
				if date, err = CompileDate(value); err != nil {
					t.Fatal(err)
				}
			case "line":
				line = value
			default:
				t.Fatalf("what is %q", key)
			}
		}
		jobs := []Job{{Policy: "p", Filter: compile(t, fail, ignore...), Date: date, Zone: time.UTC}}
		explanations := NewScanner(jobs).Explain([]byte(line), now)
		if len(explanations) != 1 {
			t.Fatalf("%d explanations", len(explanations))
		}
		e := explanations[0]
		sameAsScan(t, jobs, line, e)

		var b strings.Builder
		if e.Layout == "" {
			fmt.Fprintln(&b, "stamp: none")
		} else {
			fmt.Fprintf(&b, "stamp: %s, %s: %q\n", e.Stamp.Format(time.RFC3339Nano), e.Layout, e.StampText)
		}
		fmt.Fprintf(&b, "text: %q\n", e.Text)
		for i, p := range e.Patterns {
			fmt.Fprintf(&b, "pattern %d: %s", i, p.Outcome)
			if p.Pattern != fail[i] {
				t.Errorf("pattern %d is %s", i, p.Pattern)
			}
			switch p.Outcome {
			case NoLiteral:
				fmt.Fprintf(&b, ", none of %q", p.Literals)
			case Refused:
				fmt.Fprintf(&b, ", %s", p.Why)
			case Matched:
				fmt.Fprintf(&b, ", %s is %s", p.Host, p.Addr)
			}
			if p.Found != "" {
				fmt.Fprintf(&b, ", found %q", p.Found)
			}
			fmt.Fprintln(&b)
		}
		if e.Ignored >= 0 {
			fmt.Fprintf(&b, "ignored by: %d\n", e.Ignored)
		}
		if e.Hit {
			fmt.Fprintf(&b, "hit: %s %v\n", e.Match.Host, e.Match.Fields)
		} else {
			fmt.Fprintln(&b, "no hit")
		}
		return b.String()
	})
}

// sameAsScan holds an explanation to what Scan does.
func sameAsScan(t *testing.T, jobs []Job, line string, e Explanation) {
	t.Helper()
	var got []Match
	NewScanner(jobs).Scan([]byte(line+"\n"), now, func(m Match) { got = append(got, m) })
	if e.Hit != (len(got) == 1) || e.Hit && !reflect.DeepEqual(e.Match, got[0]) {
		t.Errorf("Explain says %v %+v, Scan says %+v", e.Hit, e.Match, got)
	}
}

// Explain line by line gives the hits that Scan gives for the block, stamps and all.
func TestExplainFollowsScan(t *testing.T) {
	log := eximLog(300)
	log = append(log, "x [1999-01-01 00:00:00]: 535 Incorrect authentication data\n"+
		"y [192.0.2.1]: 535 Incorrect authentication data [1999-01-01 00:00:00]\n"...)
	a := compile(t, []string{`\[<HOST>\](?::\d+)?: 535 Incorrect authentication data`}, `set_id=info7@`)
	b := compile(t, []string{`H=\(<F-HELO>[^)]*</F-HELO>\) \[<HOST>\]`})
	jobs := []Job{{Policy: "a", Filter: a, Zone: time.UTC}, {Policy: "b", Filter: b, Zone: time.UTC}, {Policy: "c", Filter: a, Zone: time.UTC}}
	var want, got []Match
	NewScanner(jobs).Scan(log, now, func(m Match) { want = append(want, m) })
	s := NewScanner(jobs)
	for line := range bytes.Lines(log) {
		for _, e := range s.Explain(bytes.TrimSuffix(line, []byte("\n")), now) {
			if e.Hit {
				got = append(got, e.Match)
			}
		}
	}
	if len(want) < 30 || !reflect.DeepEqual(got, want) {
		t.Errorf("%d and %d hits differ", len(got), len(want))
	}
}
