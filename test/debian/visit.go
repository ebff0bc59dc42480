package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// A visit is what is done on one machine.
type visit struct {
	*machine
	net     *outside
	release string
	section string
	banned  []string // who must not get through
	// services greet a friend and not the banned; forwarded are those of containers, on IPv4 alone.
	services, forwarded []port
	// installed says that the program is there; without it nobody can verify.
	installed bool
	// unsaved says that the disk is full, and bans can't be in the blocklist yet.
	unsaved bool
	gone    bool // the machine does not answer any more: nothing else can be checked
}

// A port is a service of the machine and how it greets.
type port struct{ number, greeting string }

var sshd, exim = port{"22", "SSH-2.0-"}, port{"25", "220 "}

// boot boots a machine for a section unless the one of the sections before is still there.
func (o *options) boot(v *visit, section string) {
	if v.machine != nil && !v.gone {
		return
	}
	*v = visit{net: v.net, release: v.release, section: section, services: []port{sshd, exim}}
	v.check("boot", func() (string, error) {
		image, err := o.imageDir(v.release)
		if err != nil {
			return "", err
		}
		dir := filepath.Join(o.inside, v.release+"-"+section)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return "", err
		}
		m, err := boot(image, dir, filepath.Join(o.inside, "packages.tar"), o.accel)
		if err != nil {
			v.gone = true
			return "", err
		}
		v.machine = m
		return "Linux " + v.kernel, errors.Join(v.up(), v.run("mkdir /root/deb && tar -C /root/deb -xf /dev/vdb"))
	})
}

// up waits until a boot is complete.
func (v *visit) up() error {
	out, err := v.shFor(bootTime, "systemctl is-system-running --wait")
	if err != nil {
		failed, _ := v.sh("systemctl --failed --no-legend --plain")
		return fmt.Errorf("%s: %w: %s", strings.TrimSpace(out), err, failed)
	}
	return nil
}

// check notes what find says: a note, or an error.
func (v *visit) check(name string, find func() (string, error)) {
	if v.gone {
		return
	}
	start := time.Now()
	text, err := find()
	f := finding{v.release, v.section, name, err == nil, text}
	detail := ""
	if err != nil {
		f.Note = firstLine(err.Error())
		detail = "\n\t" + strings.ReplaceAll(err.Error(), "\n", "\n\t")
	}
	json.NewEncoder(os.Stdout).Encode(f) // for elsewhere
	note("Debian %s: %s/%s: %s (%.1fs)%s", v.release, v.section, name, f, time.Since(start).Seconds(), detail)
	if v.machine != nil && err != nil {
		state, alive := v.sh("systemctl status --no-pager --full banset; journalctl --no-pager -o cat -n 15 -u banset; df /; true")
		fmt.Fprintf(os.Stderr, "\t| %s\n", strings.ReplaceAll(strings.TrimSpace(state), "\n", "\n\t| "))
		if alive != nil {
			note("Debian %s: the machine does not answer: %v", v.release, alive)
			v.gone = true
			v.close()
		}
	}
}

// holds checks that nobody banned gets through, by ping and to sshd and Exim, that a friend does, that the machine
// itself may speak with the banned, and that verify agrees.
func (v *visit) holds() error {
	var wg sync.WaitGroup
	errs := make([]error, 0, 16)
	var mu sync.Mutex
	try := func(f func() error) {
		wg.Go(func() {
			err := f()
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	for _, from := range v.banned {
		for _, p := range v.portsFor(from) {
			try(func() error { return dropped(from, p.number) })
		}
		try(func() error {
			p, err := probe(from)
			if err != nil {
				return err
			}
			time.Sleep(500 * time.Millisecond)
			err = p.end()
			if p.answered > 0 {
				err = fmt.Errorf("%s gets through: %d of %d pings are answered", from, p.answered, p.sent)
			}
			return err
		})
	}
	for _, from := range []string{friend, friend6} {
		for _, p := range v.portsFor(from) {
			try(func() error { return welcome(from, p) })
		}
	}
	wg.Wait()
	return errors.Join(append(errs, v.outbound(), v.verify())...)
}

// portsFor are the services that an address is to try.
func (v *visit) portsFor(from string) []port {
	if strings.Contains(from, ":") {
		return v.services
	}
	return slices.Concat(v.services, v.forwarded)
}

// dropped checks that a connection is met with silence.
func dropped(from, port string) error {
	c, err := dialFrom(from, machineFor(from), port)
	if err == nil {
		c.Close()
		return fmt.Errorf("%s gets through to port %s", from, port)
	}
	if !unheard(err) {
		return fmt.Errorf("%s is not met with silence: %w", from, err)
	}
	return nil
}

// welcome checks that a server greets.
func welcome(from string, p port) error {
	line, err := banner(from, machineFor(from), p.number)
	if err != nil {
		return fmt.Errorf("%s does not get through to port %s: %w", from, p.number, err)
	}
	if !strings.HasPrefix(line, p.greeting) {
		return fmt.Errorf("%s is greeted with %q", from, line)
	}
	return nil
}

// outbound checks that the machine reaches whom it has banned.
func (v *visit) outbound() error {
	if len(v.banned) == 0 {
		return nil
	}
	_, err := v.sh(`for a in ` + strings.Join(v.banned, " ") + `; do
		timeout 10 bash -c 'exec 4<>/dev/tcp/$1/2222; read -r word <&4; [ "$word" = hello ]' - $a || { echo "$a is not reached"; exit 1; }
	done`)
	if err != nil {
		return fmt.Errorf("our own connections: %w", err)
	}
	return nil
}

// verify checks that policy, file and kernel agree, by the program's own word.
func (v *visit) verify() error {
	if !v.installed {
		return nil
	}
	out, err := v.sh("banset verify")
	switch {
	case v.unsaved && err == nil:
		return errors.New("banset verify finds nothing that is not saved")
	case err != nil && !v.unsaved:
		return fmt.Errorf("banset verify: %w: %s", err, out)
	}
	return nil
}

// during pings from everybody banned and from a friend while f runs, and says how many of the banned were answered.
func (v *visit) during(f func() error) (leaked, sent int, gap time.Duration, err error) {
	var probers []*prober
	for _, from := range append([]string{friend}, v.banned...) {
		p, err := probe(from)
		if err != nil {
			return 0, 0, 0, err
		}
		probers = append(probers, p)
	}
	time.Sleep(5 * interval)
	err = f()
	// A friend is answered again, so that what was sent while there was no network isn't all there is.
	base := probers[0].answeredNow()
	for end := time.Now().Add(time.Minute); probers[0].answeredNow() < base+25; time.Sleep(interval) {
		if time.Now().After(end) {
			err = errors.Join(err, errors.New("a friend is not answered"))
			break
		}
	}
	for i, p := range probers {
		err = errors.Join(err, p.end())
		if i == 0 {
			continue
		}
		leaked += p.answered
		sent += p.sent
		if p.answered > 0 {
			gap = max(gap, p.last.Sub(p.begun.Add(time.Duration(p.first)*interval)))
		}
	}
	return leaked, sent, gap, err
}

// tight checks that no packet of the banned gets through while f runs, and that everything holds after it.
func (v *visit) tight(name string, f func() error) {
	v.check(name, func() (string, error) {
		leaked, sent, _, err := v.during(f)
		if err == nil && leaked > 0 {
			err = fmt.Errorf("%d of %d packets of the banned get through", leaked, sent)
		}
		return fmt.Sprintf("0 of %d packets", sent), errors.Join(err, v.holds())
	})
}

// healed checks that the daemon puts bans back soon after f took them away, and that everything holds after it.
func (v *visit) healed(name string, f func() error) { v.back(name, 5*time.Second, f) }

// back is healed within a time of its own.
func (v *visit) back(name string, within time.Duration, f func() error) {
	v.check(name, func() (string, error) {
		leaked, sent, gap, err := v.during(f)
		if err == nil && gap > within {
			err = fmt.Errorf("the banned get through for %s", gap)
		}
		text := fmt.Sprintf("0 of %d packets", sent)
		if leaked > 0 {
			text = fmt.Sprintf("%d of %d packets, within %d ms", leaked, sent, gap.Milliseconds())
		}
		return text, errors.Join(err, v.holds())
	})
}

// run is sh where only the error matters.
func (v *visit) run(script string) error {
	_, err := v.sh(script)
	return err
}

// until runs a script in the machine until it succeeds.
func (v *visit) until(limit time.Duration, script string) error {
	_, err := v.shFor(limit+time.Minute, fmt.Sprintf(`# `+firstLine(script)+`
		end=$(($(cut -d. -f1 /proc/uptime) + %d))
		until out=$( (%s) 2>&1); do
			[ $(cut -d. -f1 /proc/uptime) -lt $end ] || { echo "not after %s: $out"; exit 1; }
			sleep 0.2
		done`, int(limit.Seconds()), script, limit))
	return err
}

// waitBanned waits until an address, or its /64, is in the blocklist. Emulated, asking the program would keep the
// machine busy.
func (v *visit) waitBanned(limit time.Duration, address string) error {
	line := address + " "
	if a := netip.MustParseAddr(address); a.Is6() {
		line = netip.PrefixFrom(a, 64).Masked().String() + " "
	}
	return v.until(limit, "grep '^"+line+"' /var/lib/banset/blocklist")
}
