// Debian boots Debian 12 and 13 in qemu, installs the package there, attacks a real sshd and a real Exim from another
// host, does to the machine what happens to machines, and checks after each step that bans hold:
//
//	go run ./test/debian
//	go run ./test/debian -release 13 -only install,ufw
//
// It needs root, debootstrap, qemu-system-x86, e2fsprogs, iproute2 and openssh-client, and no KVM: without it the
// machines are emulated. The first run makes the images (four minutes each) and keeps them. Each release is visited at
// the same time as the others, in a network namespace of its own; nothing of this host's network or rules is touched.
// The table goes to the standard output, what happens meanwhile to the standard error; the exit status is 1 if any check
// failed.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// sections are what can be run, one after the other on one machine, in the order of the table.
var sections = []struct {
	name string
	run  func(*visit)
}{
	{"install", install},
	{"docker", docker},
	{"ufw", ufw},
	{"firewalld", firewalld},
	{"bad-days", badDays},
	{"removal", removal},
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "debian:", err)
		os.Exit(1)
	}
}

// options are what the command line says.
type options struct {
	cache    string
	mirror   string
	accel    string
	out      string
	releases []string
	only     []string
	keep     bool
	inside   string
}

func run() error {
	var o options
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = "/var/tmp"
	}
	releases := flag.String("release", "12,13", "the Debian `releases` to boot")
	only := flag.String("only", "", "run only these `sections`: "+strings.Join(names(), ", "))
	flag.StringVar(&o.cache, "cache", filepath.Join(cache, "banset-debian"), "`directory` that keeps the images")
	flag.StringVar(&o.mirror, "mirror", "", "`URL` of a Debian mirror; default: the one apt uses here")
	flag.StringVar(&o.accel, "accel", "", "qemu's `accelerator`: kvm, or tcg, which emulates; default: kvm where the processor has it")
	flag.StringVar(&o.out, "o", "", "`file` that gets the table, too")
	flag.BoolVar(&o.keep, "keep", false, "keep the directory with consoles and packages")
	flag.StringVar(&o.inside, "inside", "", "for itself: the `directory` prepared for the run in the namespace")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("what is %q? See -h", flag.Arg(0))
	}
	o.releases = strings.Split(*releases, ",")
	for _, r := range o.releases {
		if suites[r] == "" {
			return fmt.Errorf("there is no Debian %q here: 12 or 13", r)
		}
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	for _, name := range o.only {
		if !slices.Contains(names(), name) {
			return fmt.Errorf("there is no section %q: one of %s", name, strings.Join(names(), ", "))
		}
	}
	switch o.accel {
	case "kvm", "tcg":
	case "":
		o.accel = accelerator()
	default:
		return fmt.Errorf("there is no accelerator %q here: kvm or tcg", o.accel)
	}
	if os.Geteuid() != 0 {
		return errors.New("root makes images and networks: run it as root")
	}
	if o.inside != "" {
		return o.visit(o.releases[0])
	}
	return o.prepare()
}

func names() []string {
	var all []string
	for _, s := range sections {
		all = append(all, s.name)
	}
	return all
}

// prepare makes what needs the host's network, images and packages, and runs this program again where it has its own.
func (o *options) prepare() error {
	for _, r := range o.releases {
		if err := o.image(r); err != nil {
			return fmt.Errorf("image of Debian %s: %w", r, err)
		}
	}
	dir, err := os.MkdirTemp("", "banset-debian-")
	if err != nil {
		return err
	}
	if o.keep {
		note("consoles and packages are in %s", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	if err := packages(dir); err != nil {
		return fmt.Errorf("packages: %w", err)
	}
	start := time.Now()
	found := make([][]finding, len(o.releases))
	errs := make([]error, len(o.releases))
	var visits sync.WaitGroup
	for i, r := range o.releases {
		visits.Go(func() { found[i], errs[i] = o.elsewhere(dir, r) })
	}
	visits.Wait()
	t := &table{}
	for _, f := range slices.Concat(found...) {
		t.add(f)
	}
	text := t.String() + fmt.Sprintf("\n%d checks in %s, %s.\n", t.count(), time.Since(start).Round(time.Second), accelerators[o.accel])
	fmt.Print(text)
	if o.out != "" {
		errs = append(errs, os.WriteFile(o.out, []byte(text), 0o644))
	}
	if failed := t.failed(); failed > 0 {
		errs = append(errs, fmt.Errorf("%d checks failed", failed))
	}
	return errors.Join(errs...)
}

// elsewhere visits one release in a process and a network namespace of its own, and returns what it found.
func (o *options) elsewhere(dir, release string) ([]finding, error) {
	cmd := exec.Command("/proc/self/exe", "-inside", dir, "-cache", o.cache, "-accel", o.accel, "-release", release,
		"-only", strings.Join(o.only, ",")) // none is all
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("visit of Debian %s: %w", release, err)
	}
	var found []finding // by a visit that was broken off, too
	for each := json.NewDecoder(bytes.NewReader(out)); ; {
		var f finding
		if end := each.Decode(&f); end != nil {
			return found, err
		}
		found = append(found, f)
	}
}

// visit boots one release, runs the sections there, and writes what it finds to the standard output.
func (o *options) visit(release string) error {
	net, err := newOutside(o.inside)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	v := &visit{net: net, release: release}
	for _, s := range sections {
		if o.only == nil || slices.Contains(o.only, s.name) {
			v.section = s.name
			o.boot(v, s.name)
			if !v.gone {
				s.run(v)
			}
		}
	}
	if !v.gone {
		v.close()
	}
	return nil
}

// note tells the one who waits what goes on.
func note(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}
