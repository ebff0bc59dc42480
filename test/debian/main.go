// Debian boots Debian 12 and 13 in qemu, installs the package there, attacks a real sshd and a real Exim from another
// host, does to the machine what happens to machines, and checks after each step that bans hold:
//
//	go run ./test/debian
//	go run ./test/debian -release 13 -only install,ufw
//
// It needs root, debootstrap, qemu-system-x86, e2fsprogs, iproute2 and openssh-client, and no KVM: the machines are
// emulated. The first run makes the images (four minutes each) and keeps them. Everything happens in a network
// namespace of its own; nothing of this host's network or rules is touched. The table goes to the standard output, what
// happens meanwhile to the standard error; the exit status is 1 if any check failed.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
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
	flag.StringVar(&o.accel, "accel", "tcg", "qemu's accelerator: tcg, or kvm where there is one")
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
	if os.Geteuid() != 0 {
		return errors.New("root makes images and networks: run it as root")
	}
	if o.inside != "" {
		return o.visitAll()
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
	cmd := exec.Command("/proc/self/exe", append([]string{"-inside", dir}, os.Args[1:]...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) && exit.ExitCode() == 1 {
		return errors.New("not everything holds")
	} else if err != nil {
		return fmt.Errorf("run in a network namespace: %w", err)
	}
	return nil
}

// visitAll boots each release, runs the sections there, and prints the table.
func (o *options) visitAll() error {
	net, err := newOutside(o.inside)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	start := time.Now()
	t := &table{}
	for _, release := range o.releases {
		v := &visit{net: net, table: t, release: release}
		for _, s := range sections {
			if o.only == nil || slices.Contains(o.only, s.name) {
				t.section(s.name)
				o.boot(v, s.name)
				if !v.gone {
					s.run(v)
				}
			}
		}
		if !v.gone {
			v.close()
		}
	}
	text := t.String() + fmt.Sprintf("\n%d checks in %s.\n", t.count(), time.Since(start).Round(time.Second))
	fmt.Print(text)
	if o.out != "" {
		if err := os.WriteFile(o.out, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if failed := t.failed(); failed > 0 {
		return fmt.Errorf("%d checks failed", failed)
	}
	return nil
}

// note tells the one who waits what goes on.
func note(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}
