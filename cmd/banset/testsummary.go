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
	"slices"
	"sync/atomic"
	"time"

	"banset/policy/match"
)

// testSummary reads whole logs, several at a time, and prints the sums and the bans that a run would have made.
func (a *app) testSummary(ctx context.Context, t *trial, names []string) error {
	now := a.now()
	began := now
	show := a.startProgress(sizes(names), size)
	m := newMerge(names, func(f *mergeFile) { f.scan(ctx, t, show, now) })
	if len(names) > 1 {
		for _, f := range m.waiting {
			f.last = firstStamp(t, f.tally.Name, now)
		}
	}
	var sum tally
	sum.init(t)
	late := lateHits{counts: make(map[lateKey]int)}
	for h, ok := m.next(); ok; h, ok = m.next() {
		if h.at == noStamp {
			late.add(h)
			continue
		}
		sum.count(int(h.job), t.hit(int(h.job), h.host, time.Unix(h.at, 0), now))
	}
	for _, k := range late.order {
		for range late.counts[k] {
			sum.count(int(k.job), t.hit(int(k.job), k.host, time.Time{}, now))
		}
	}
	show.stop()
	for _, f := range m.files {
		sum.Files = append(sum.Files, f.tally)
		sum.Lines += f.tally.Lines
		sum.Bytes += f.tally.Bytes
		sum.Cut += f.cut
	}
	sum.end(now, a.now().Sub(began))
	if err := a.printSummary(&sum, now); err != nil {
		return err
	}
	for _, f := range sum.Files {
		if f.Error != "" {
			a.complain("%s: %s", f.Name, f.Error)
		}
	}
	switch {
	case slices.ContainsFunc(sum.Files, func(f fileTally) bool { return f.Error != "" }):
		return errors.New("the sums lack what could not be read")
	case sum.hits() == 0:
		return errFinding
	}
	return nil
}

// lateHits are hits without a stamp. They count as if they had been read now, after all others, and so only how many
// there are of each host needs to be kept.
type lateHits struct {
	counts map[lateKey]int
	order  []lateKey // as they came
}

type lateKey struct {
	job  uint16
	host netip.Prefix
}

func (l *lateHits) add(h summaryHit) {
	k := lateKey{h.job, h.host}
	if l.counts[k]++; l.counts[k] == 1 {
		l.order = append(l.order, k)
	}
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

// scan finds the hits of the file and sends them. Those before an error count.
func (f *mergeFile) scan(ctx context.Context, t *trial, show *progress, now time.Time) {
	if err := f.read(ctx, t, show, now); err != nil {
		f.tally.Error = bare(err).Error()
	}
}

func (f *mergeFile) read(ctx context.Context, t *trial, show *progress, now time.Time) error {
	in, err := os.Open(f.tally.Name)
	if err != nil {
		return err
	}
	defer in.Close()
	jobs := slices.Clone(t.jobs)
	for i := range jobs {
		jobs[i].NoFields = true
	}
	scanner := match.NewScanner(jobs)
	sums, err := readLog(in, show, func(block []byte) error {
		f.tally.Lines += countLines(block)
		scanner.Scan(block, now, func(m match.Match) {
			h := summaryHit{m.Host, noStamp, uint16(m.Job)}
			if !m.Stamp.IsZero() {
				h.at = m.Stamp.Unix()
			}
			f.tally.Hits++
			f.add(ctx, h)
		})
		return ctx.Err()
	})
	f.flush(ctx)
	f.tally.Bytes, f.cut = sums.bytes, sums.cut
	return err
}

// readLog reads a log that may be compressed.
func readLog(in *os.File, show *progress, yield func([]byte) error) (blockSums, error) {
	head := make([]byte, magicSize)
	n, err := in.ReadAt(head, 0)
	if !isPacked(head[:n]) && (err == nil || err == io.EOF) {
		return readPlain(in, func(n int) { show.done.Add(int64(n)) }, yield)
	}
	plain, err := unpacked(&countingReader{in, &show.done})
	if err != nil {
		return blockSums{}, err
	}
	defer plain.Close()
	return readBlocks(plain, yield)
}

// firstStamp is the first time that a log tells, in seconds since the epoch; the least number there is if none of its
// first lines does.
func firstStamp(t *trial, name string, now time.Time) int64 {
	in, err := os.Open(name)
	if err != nil {
		return math.MinInt64
	}
	defer in.Close()
	plain, err := unpacked(in)
	if err != nil {
		return math.MinInt64
	}
	defer plain.Close()
	head := make([]byte, 16<<10)
	n, _ := io.ReadFull(plain, head)
	return match.FirstStamp(t.jobs, head[:n], now)
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
