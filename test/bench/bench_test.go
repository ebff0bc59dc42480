package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"banset/nft/nfttest"
	"banset/test/e2e/program"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(helperMode); mode != "" {
		os.Exit(helper(mode, os.Args[1:]))
	}
	nfttest.Main(m)
}

// newBench is a bench of the smallest sizes that compares with nobody.
func newBench(t testing.TB, note io.Writer) *bench {
	t.Helper()
	b := &bench{dir: t.TempDir(), out: t.TempDir(), lines: 1000, rounds: 1, quick: true, note: note, logs: make(map[string]string),
		stamp: time.Now().UTC().Truncate(time.Second)}
	var err error
	if b.banset, err = program.Build(); err != nil {
		t.Fatal(err)
	}
	if b.self, err = os.Executable(); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSections runs every section at its smallest: each finds what it wrote, and has something to show.
func TestSections(t *testing.T) {
	for _, s := range sections {
		t.Run(s.name, func(t *testing.T) {
			nfttest.Clean(t)
			b := newBench(t, t.Output())
			if err := s.run(b); err != nil {
				t.Fatal(err)
			}
			if len(b.rows) == 0 {
				t.Error("no row")
			}
			for _, r := range b.rows {
				if r.section != s.name || r.claim == "" || r.ours == "" || math.IsNaN(r.value) || math.IsInf(r.value, 0) {
					t.Errorf("a row says nothing: %+v", r)
				}
			}
			if err := b.report(io.Discard, ""); err != nil {
				t.Error(err)
			}
			charts, err := os.ReadDir(b.out)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range charts {
				if strings.HasSuffix(c.Name(), ".svg") {
					text, err := os.ReadFile(b.out + "/" + c.Name())
					if err != nil {
						t.Fatal(err)
					}
					wellFormed(t, string(text))
				}
			}
		})
	}
}

// wellFormed fails the test if an SVG is no XML or holds a number that is none.
func wellFormed(t *testing.T, svg string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Errorf("%v in\n%s", err, svg)
			return
		}
	}
	for _, bad := range []string{"NaN", "Inf", "%!"} {
		if strings.Contains(svg, bad) {
			t.Errorf("%q in\n%s", bad, svg)
		}
	}
}
