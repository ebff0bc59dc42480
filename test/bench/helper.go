package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"banset/nft"
	"banset/policy"
	"banset/policy/blocklist"
	"banset/policy/judge"
	"banset/policy/ledger"
	"banset/policy/window"
)

// helperMode makes this program one of its own helpers: what is measured there shares no memory with the bench.
const helperMode = "BANSET_BENCH_HELPER"

// helpers print what they measured, one figure a line: its name and a number.
var helpers = map[string]func(args []string) error{
	"unpack": unpack, "load": load, "raw": rawLoad, "hosts": trackedHosts, "ledger": bookOfBans,
}

func (b *bench) helper(mode string, args ...string) contestant {
	return contestant{args: append([]string{b.self}, args...), env: []string{helperMode + "=" + mode}}
}

func helper(mode string, args []string) int {
	f, ok := helpers[mode]
	if !ok {
		fmt.Fprintf(os.Stderr, "bench: no helper %q\n", mode)
		return 2
	}
	if err := f(args); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %s: %v\n", mode, err)
		return 1
	}
	return 0
}

// unpack reads a packed file to its end, in blocks as large as banset's, and does nothing with it.
func unpack(args []string) error {
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	var r io.Reader
	if strings.HasSuffix(args[0], ".gz") {
		r, err = gzip.NewReader(f)
	} else {
		r, err = zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
	}
	if err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	for err == nil {
		_, err = r.Read(block)
	}
	if err == io.EOF {
		err = nil
	}
	return err
}

// table is the configuration of the table that helpers fill.
func table(bans int) nft.Config {
	return nft.Config{Table: "banset", Hook: "prerouting", Priority: -190, Direction: "original", Verdict: "drop", IPv6Prefix: 64,
		Size: uint32(max(bans, 1024))}
}

// reason is the comment of every ban that is measured, as a policy gives it.
const reason = "exim2-repeater: 10 failures"

func elements(n int) func(yield func(nft.Element) bool) {
	return func(yield func(nft.Element) bool) {
		for i := range n {
			a := attacker(i)
			if !yield(nft.Element{Set: nft.Ban4, First: a, Last: a, Timeout: banTime, Expires: banTime - time.Minute, Comment: reason}) {
				return
			}
		}
	}
}

const banTime = 1000 * time.Hour

// load puts n bans into the kernel as a start of banset does, and tells what that alone took.
func load(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	k, err := nft.Open(table(n))
	if err != nil {
		return err
	}
	defer k.Close()
	ctx := context.Background()
	began, cpu := time.Now(), used(unix.RUSAGE_SELF)
	if err := k.Replace(ctx, elements(n)); err != nil {
		return err
	}
	return loaded(k, n, used(unix.RUSAGE_SELF)-cpu, time.Since(began))
}

func loaded(k *nft.Keeper, n int, cpu, wall time.Duration) error {
	got, err := k.Count(context.Background(), nft.Ban4)
	if err == nil && got != n {
		err = fmt.Errorf("%d bans in the kernel of %d", got, n)
	}
	fmt.Printf("cpu %d\nwall %d\n", cpu, wall)
	return errors.Join(err, k.Remove(context.Background()))
}

// used is the user and system time so far.
func used(who int) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(who, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// trackedHosts counts failures of n hosts, each a few, and tells how many bytes a host takes.
func trackedHosts(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	failures, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	before, err := resident()
	if err != nil {
		return err
	}
	began := time.Now()
	book := window.New(n)
	id := book.Policy("exim2-repeater")
	now := time.Now().Unix()
	hosts := make([]netip.Prefix, judge.Together)
	for f := range failures {
		for i := range n {
			// As the judge does it.
			at := i % len(hosts)
			if at == 0 {
				for j := range hosts {
					hosts[j] = netip.PrefixFrom(attacker(min(i+j, n-1)), 32)
				}
				book.Expect(len(hosts), func(i int) (window.PolicyID, netip.Prefix) { return id, hosts[i] })
			}
			book.Add(id, hosts[at], now-int64(failures-f)*60, failures+1, policy.Forever)
		}
	}
	took := time.Since(began)
	after, err := resident()
	if err != nil {
		return err
	}
	if book.Len() != n {
		return fmt.Errorf("%d hosts are tracked of %d", book.Len(), n)
	}
	fmt.Printf("bytes %f\nns %d\n", float64(after-before)/float64(n), took.Nanoseconds()/int64(n*failures))
	runtime.KeepAlive(book)
	return nil
}

// resident is how many bytes of this process are in memory, garbage given back.
func resident() (int, error) {
	debug.FreeOSMemory()
	return statusBytes(os.Getpid(), "VmRSS")
}

// bookOfBans reads a blocklist into a ledger and tells how much memory the ledger takes.
func bookOfBans(args []string) error {
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var before, after runtime.MemStats
	file := blocklist.Parse(text, blocklist.Options{})
	debug.FreeOSMemory()
	runtime.ReadMemStats(&before)
	book := ledger.New(0, func(p netip.Prefix) bool { return p.IsSingleIP() })
	for e := range file.Entries() {
		book.Enter(e.Ban)
	}
	debug.FreeOSMemory()
	runtime.ReadMemStats(&after)
	fmt.Printf("bytes %d\nbans %d\n", after.HeapAlloc-before.HeapAlloc, book.Len())
	runtime.KeepAlive(book)
	runtime.KeepAlive(file)
	return nil
}
