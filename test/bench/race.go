package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"banset/test/e2e/program"
)

// A contestant is one program that is measured.
type contestant struct {
	args    []string
	env     []string     // in addition to ours
	before  func() error // runs before each start, and is not measured
	finding bool         // exit status 1 is an answer, not a failure
	both    bool         // it may use all cores
}

// A cost is what one run of a program took.
type cost struct {
	cpu    time.Duration // user and system time
	wall   time.Duration
	memory int64              // the most it had resident, in bytes
	output string             // what it printed
	said   map[string]float64 // by its helpers: the figures they measured themselves
}

// run runs a program to its end.
func (b *bench) run(c contestant) (cost, error) {
	if c.before != nil {
		if err := c.before(); err != nil {
			return cost{}, err
		}
	}
	args := c.args
	if !c.both {
		args = append([]string{"taskset", "-c", strconv.Itoa(lastCPU())}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), c.env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	began := time.Now()
	if err := program.Spawn(cmd); err != nil {
		return cost{}, err
	}
	err := cmd.Wait()
	exit := (*exec.ExitError)(nil)
	if err != nil && !(c.finding && errors.As(err, &exit) && exit.ExitCode() == 1) {
		return cost{}, fmt.Errorf("%s: %w\n%s", strings.Join(c.args, " "), err, lastLines(errs.String()))
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	r := cost{
		cpu:  cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(),
		wall: time.Since(began), memory: usage.Maxrss << 10, output: out.String(), said: make(map[string]float64),
	}
	if slices.ContainsFunc(c.env, func(s string) bool { return strings.HasPrefix(s, helperMode+"=") }) {
		for line := range strings.Lines(r.output) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
				if r.said[name], err = strconv.ParseFloat(value, 64); err != nil {
					return r, fmt.Errorf("helper said %q: %w", line, err)
				}
			}
		}
	}
	return r, nil
}

func lastLines(s string) string {
	return s[max(0, len(s)-2000):]
}

// lastCPU is the one that measurements are pinned to: interrupts mostly go to the first.
func lastCPU() int { return cpus()[len(cpus())-1] }

// race runs the programs in turns, round after round, after one that only warms up, and returns the median of each
// figure. Of output there is that of the last round.
func (b *bench) race(rounds int, contestants ...contestant) ([]cost, error) {
	all := make([][]cost, len(contestants))
	for round := -1; round < rounds; round++ {
		for i, c := range contestants {
			r, err := b.run(c)
			if err != nil {
				return nil, err
			}
			if round >= 0 {
				all[i] = append(all[i], r)
			}
		}
	}
	result := make([]cost, len(contestants))
	for i, runs := range all {
		last := runs[len(runs)-1]
		m := cost{
			cpu:    medianOf(runs, func(r cost) time.Duration { return r.cpu }),
			wall:   medianOf(runs, func(r cost) time.Duration { return r.wall }),
			memory: medianOf(runs, func(r cost) int64 { return r.memory }),
			output: last.output, said: make(map[string]float64),
		}
		for name := range last.said {
			m.said[name] = medianOf(runs, func(r cost) float64 { return r.said[name] })
		}
		result[i] = m
	}
	return result, nil
}

func medianOf[T any, N cmp.Ordered](all []T, f func(T) N) N {
	values := make([]N, len(all))
	for i, v := range all {
		values[i] = f(v)
	}
	return quantile(values, 0.5)
}

// quantile is the value that a share of all, from 0 to 1, does not exceed. It sorts values.
func quantile[N cmp.Ordered](values []N, share float64) N {
	slices.Sort(values)
	i := int(math.Ceil(share*float64(len(values)))) - 1
	return values[min(max(i, 0), len(values)-1)]
}

// slope is how many times ten the cost grows when the amount does, over these points, by least squares: 1 is linear.
func slope(amounts, costs []float64) float64 {
	var n, x, y, xx, xy float64
	for i := range amounts {
		lx, ly := math.Log10(amounts[i]), math.Log10(costs[i])
		n, x, y, xx, xy = n+1, x+lx, y+ly, xx+lx*lx, xy+lx*ly
	}
	return (n*xy - x*y) / (n*xx - x*x)
}
