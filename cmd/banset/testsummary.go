package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"banset/policy/match"
)

// A summaryHit is one hit, kept until all files are read: hits of several logs are judged in order of time.
type summaryHit struct {
	host netip.Prefix
	at   int64 // seconds since the epoch; noStamp without one
	job  uint16
}

const noStamp = math.MaxInt64 // after all that have one: such lines count as read now

// testSummary reads whole logs, several at a time, and prints the sums and the bans that a run would have made.
func (a *app) testSummary(ctx context.Context, t *trial, names []string) error {
	now := a.now()
	began := now
	files := make([]fileTally, len(names))
	hits := make([][]summaryHit, len(names))
	cuts := make([]uint64, len(names))
	show := a.startProgress(sizes(names), size)
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, name := range names {
		g.Go(func() error {
			files[i].Name = name
			var err error
			if hits[i], cuts[i], err = scanLog(ctx, t, &files[i], show, now); err != nil {
				files[i].Error = bare(err).Error()
			}
			return nil
		})
	}
	g.Wait()
	show.stop()
	sum := tally{Files: files}
	sum.init(t)
	total := 0
	for i := range files {
		sum.Lines += files[i].Lines
		sum.Bytes += files[i].Bytes
		sum.Cut += cuts[i]
		total += len(hits[i])
	}
	all := make([]summaryHit, 0, total)
	for i := range hits {
		all = append(all, hits[i]...)
		hits[i] = nil
	}
	slices.SortStableFunc(all, byTime)
	for _, h := range all {
		var stamp time.Time
		if h.at != noStamp {
			stamp = time.Unix(h.at, 0)
		}
		sum.count(int(h.job), t.hit(int(h.job), h.host, stamp, now))
	}
	sum.end(now, a.now().Sub(began))
	if err := a.printSummary(&sum, now); err != nil {
		return err
	}
	for _, f := range files {
		if f.Error != "" {
			a.complain("%s: %s", f.Name, f.Error)
		}
	}
	switch {
	case slices.ContainsFunc(files, func(f fileTally) bool { return f.Error != "" }):
		return errors.New("the sums lack what could not be read")
	case sum.hits() == 0:
		return errFinding
	}
	return nil
}

func (a *app) printSummary(sum *tally, now time.Time) error {
	if a.json {
		return a.printJSON(sum)
	}
	if len(sum.Files) > 1 {
		t := newTable("FILE", ">LINES", ">SIZE", ">HITS")
		for _, f := range sum.Files {
			t.row(printable(f.Name), fmt.Sprint(f.Lines), size(f.Bytes), fmt.Sprint(f.Hits))
		}
		if err := errors.Join(t.writeTo(a.stdout), a.say("")); err != nil {
			return err
		}
	}
	return errors.Join(sum.writeTo(a.stdout), a.say(""), sum.writeBans(a.stdout, now))
}

// scanLog finds the hits of one file. What was found before an error is returned with it.
func scanLog(ctx context.Context, t *trial, file *fileTally, show *progress, now time.Time) ([]summaryHit, uint64, error) {
	f, err := os.Open(file.Name)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	plain, err := unpacked(&countingReader{f, &show.done})
	if err != nil {
		return nil, 0, err
	}
	defer plain.Close()
	scanner := match.NewScanner(t.jobs)
	var hits []summaryHit
	sums, err := readBlocks(plain, func(block []byte) error {
		file.Lines += countLines(block)
		scanner.Scan(block, now, func(m match.Match) {
			h := summaryHit{m.Host, noStamp, uint16(m.Job)}
			if !m.Stamp.IsZero() {
				h.at = m.Stamp.Unix()
			}
			hits = append(hits, h)
		})
		return ctx.Err()
	})
	file.Bytes, file.Hits = sums.bytes, uint64(len(hits))
	return hits, sums.cut, err
}

// bare is an error without the file's name, which is told already.
func bare(err error) error {
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		return file.Err
	}
	return err
}

// A countingReader adds what is read to a sum that others look at.
type countingReader struct {
	r io.Reader
	n *atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}
