// Bench measures what banset promises of its speed, beside the programs that people would take in its place, and says
// honestly which promise is kept. Run it as root on a Debian machine that does nothing else:
//
//	go run ./test/bench                              # everything: ten minutes, 4 GB in the directory for temporary files
//	go run ./test/bench -only scan -lines 100000
//	go run ./test/bench -o test/bench -readme README.md   # and write the charts and the README's table anew
//
// It writes the logs it reads by itself, installs what it compares with by apt where that is missing, without starting
// any daemon, and does everything that touches a kernel's rules in network namespaces of its own. What is compared runs
// in turns, on one core, from a warm page cache; the figure is the median of the rounds, of user and system time
// together unless a line says otherwise.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"banset/test/e2e/program"
)

// sections are what can be measured, in the order of the table.
var sections = []struct {
	name, about string
	run         func(*bench) error
}{
	{"scan", "logs at full speed, beside grep, ripgrep, fail2ban and sshguard", scan},
	{"kernel", "a million bans into the kernel, beside nft", kernel},
	{"drop", "from the line in the log to the first dropped packet, beside fail2ban", drop},
	{"heal", "from nft flush ruleset to the last ban put back, under fire", healing},
	{"packets", "cost of a packet, beside one iptables rule for each host", packets},
	{"memory", "tracked hosts, live bans, an idle daemon, a start", memory},
	{"growth", "how cost grows, from 1 to 1000 times as much", growth},
}

// A bench is one run of the measurement.
type bench struct {
	dir    string // for logs and configurations, gone at the end
	out    string // for the charts; empty: none are written
	banset string // the program
	self   string // this program, which measures in processes of its own, too
	lines  int    // of a log
	rounds int
	quick  bool // the smallest sizes, and nobody to compare with
	note   io.Writer

	logs  map[string]string // by name: the paths of logs that were written already
	rows  []row
	stamp time.Time // now, for what is generated
}

// inside marks the process that runs in the network namespace.
const inside = "BANSET_BENCH_INSIDE"

func main() {
	if mode := os.Getenv(helperMode); mode != "" {
		os.Exit(helper(mode, os.Args[1:]))
	}
	b := &bench{note: os.Stderr}
	var names []string
	for _, s := range sections {
		names = append(names, s.name)
	}
	only := flag.String("only", "", "measure these `sections` alone: "+strings.Join(names, ","))
	flag.IntVar(&b.lines, "lines", 4_000_000, "lines of a log")
	flag.IntVar(&b.rounds, "rounds", 5, "rounds, of which the median counts")
	flag.StringVar(&b.out, "o", "", "write chart.svg, packets.svg and growth.svg into this `directory`")
	flag.BoolVar(&b.quick, "quick", false, "a trial in seconds: a thousandth of everything, and nobody to compare with")
	readme := flag.String("readme", "", "put the table between the two marks in this `file`")
	flag.StringVar(&b.banset, "banset", "", "measure this `program`, not one that is built from the tree")
	install := flag.Bool("install", true, "install missing peers by apt")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: go run ./test/bench [flags]\n\n"+
			"Measures banset beside its peers and prints one table. It takes root. The sections:\n")
		for _, s := range sections {
			fmt.Fprintf(flag.CommandLine.Output(), "  %-8s %s\n", s.name, s.about)
		}
		fmt.Fprintln(flag.CommandLine.Output(), "\nFlags:")
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := start(b, *only, *readme, *install); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func start(b *bench, only, readme string, install bool) error {
	var chosen []string
	if only != "" {
		chosen = strings.Split(only, ",")
	}
	for _, name := range chosen {
		if !slices.ContainsFunc(sections, func(s struct {
			name, about string
			run         func(*bench) error
		}) bool {
			return s.name == name
		}) {
			return fmt.Errorf("-only %s: there is no such section; see -h", name)
		}
	}
	if b.rounds < 1 || b.lines < 1000 {
		return errors.New("-rounds is at least 1, -lines at least 1000")
	}
	if os.Getenv(inside) == "" {
		if os.Getuid() != 0 {
			return errors.New("this takes root: it makes network namespaces and measures the kernel's part as well")
		}
		if install && !b.quick {
			if err := installPeers(b.note); err != nil {
				return err
			}
		}
		return again()
	}
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	if err := b.measure(chosen); err != nil {
		return err
	}
	return b.report(os.Stdout, readme)
}

// again runs this program, with the same arguments, in a network namespace of its own.
func again() error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(exe, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	// An interrupt is the child's: it clears up.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, unix.SIGTERM)
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		for s := range signals {
			cmd.Process.Signal(s)
		}
	}()
	err = cmd.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() > 0 {
		os.Exit(exit.ExitCode()) // it has said why
	}
	return err
}

// measure runs the chosen sections, all of them if none is chosen. What fails in one does not stop the others.
func (b *bench) measure(chosen []string) (err error) {
	if b.banset == "" {
		if b.banset, err = program.Build(); err != nil {
			return err
		}
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "banset-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, unix.SIGTERM)
	go func() {
		<-signals
		os.RemoveAll(b.dir)
		os.Exit(130) // and what it started ends with it
	}()
	// Peers and daemons may drop their rights and still have to read what is here.
	if err := os.Chmod(b.dir, 0o755); err != nil {
		return err
	}
	b.logs = make(map[string]string)
	b.stamp = time.Now().UTC().Truncate(time.Second)
	if b.quick {
		b.lines, b.rounds = 1000, 1
	}
	var failed []error
	for _, s := range sections {
		if len(chosen) > 0 && !slices.Contains(chosen, s.name) {
			continue
		}
		began := time.Now()
		b.say("== %s: %s", s.name, s.about)
		if err := s.run(b); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", s.name, err))
			b.say("%s: %v", s.name, err)
		}
		b.say("== %s took %.0f s", s.name, time.Since(began).Seconds())
	}
	return errors.Join(failed...)
}

// of is how much of n is measured: all, or with -quick a thousandth.
func (b *bench) of(n int) int {
	if b.quick {
		return max(10, n/1000)
	}
	return n
}

// say tells on stderr how it goes.
func (b *bench) say(format string, a ...any) { fmt.Fprintf(b.note, format+"\n", a...) }

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) writeFile(name, text string) (string, error) {
	path := b.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, []byte(text), 0o644)
}
