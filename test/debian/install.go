package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// install is the life of a mail server: the package is installed, somebody attacks, and then everything happens to it
// that must not lift a ban.
func install(v *visit) {
	v.installPackage()
	v.check("systemd-analyze security", func() (string, error) {
		out, err := v.sh("systemd-analyze security --no-pager banset.service | tail -1")
		if err != nil {
			return "", err
		}
		var score float64
		_, rest, _ := strings.Cut(out, "banset.service: ")
		if _, err := fmt.Sscan(rest, &score); err != nil {
			return "", fmt.Errorf("%q: %w", out, err)
		}
		if score > 1.5 {
			return "", fmt.Errorf("%.1f, more than 1.5", score)
		}
		return fmt.Sprintf("%.1f", score), nil
	})
	v.attacks()
	v.check("the four bans", func() (string, error) { return "", v.holds() })
	v.rulesets()
	v.daemonDeaths()
	v.tight("upgrade of the package", func() error {
		if err := v.run("DEBIAN_FRONTEND=noninteractive apt-get install -y /root/deb/new.deb"); err != nil {
			return err
		}
		return v.run("banset status | grep -F " + newVersion)
	})
	v.tight("reboot, from the first packet", func() error { return errors.Join(v.reboot(), v.up()) })
	v.tight("power cut, from the first packet", func() error { return errors.Join(v.reset(), v.up()) })
	v.check("a short ban ends by itself", func() (string, error) {
		if err := v.run("banset ban " + short + " --for 8s"); err != nil {
			return "", err
		}
		if err := dropped(short, "22"); err != nil {
			return "", err
		}
		if err := v.until(30*time.Second, "! grep -F "+short+" /var/lib/banset/blocklist"); err != nil {
			return "", err
		}
		return "", errors.Join(welcome(short, sshd), v.holds())
	})
	v.owner()
	v.check("systemctl disable --now nftables", func() (string, error) {
		return "", errors.Join(v.run("systemctl disable --now nftables"), v.holds())
	})
}

// rulesets are the three ways in which a ruleset is loaded that begins with "flush ruleset", as Debian's does.
func (v *visit) rulesets() {
	v.healed("systemctl enable --now nftables", func() error { return v.run("systemctl enable --now nftables") })
	v.healed("systemctl restart nftables", func() error { return v.run("systemctl restart nftables") })
	v.healed("nft -f /etc/nftables.conf", func() error { return v.run("nft -f /etc/nftables.conf") })
	v.healed("nft flush ruleset", func() error { return v.run("nft flush ruleset") })
}

// daemonDeaths stops the daemon, in order and by force.
func (v *visit) daemonDeaths() {
	v.tight("systemctl stop banset", func() error { return v.run("systemctl stop banset") })
	// Nobody watches the kernel now: the unit that restores at boot comes with the ruleset.
	restored := func(script string) func() error {
		return func() error {
			return errors.Join(v.run(script), v.until(time.Minute, "nft list set inet banset ban4 | grep -F "+byHand))
		}
	}
	v.back("systemctl restart nftables, banset stopped", time.Minute, restored("systemctl restart nftables"))
	v.back("systemctl reload nftables, banset stopped", time.Minute, restored("systemctl reload nftables"))
	v.back("systemctl stop and start nftables, banset stopped", time.Minute,
		restored("systemctl stop nftables; systemctl start nftables"))
	v.tight("systemctl start banset", func() error { return v.run("systemctl start banset") })
	v.tight("kill -9", func() error {
		return errors.Join(v.run("systemctl kill -s KILL banset.service"),
			v.until(time.Minute, "systemctl is-active banset.service"))
	})
}

// owner makes the table the daemon's own, which only newer kernels can.
func (v *visit) owner() {
	const set = `printf 'nftables: {protect: owner}\n' >/etc/banset/conf.d/owner.yaml; systemctl restart banset`
	flush := func() error { return v.run("nft flush ruleset") }
	v.tight("protect: owner", func() error { return v.run("mkdir -p /etc/banset/conf.d; " + set) })
	if v.release == "12" {
		v.healed("nft flush ruleset, protect: owner", flush)
	} else {
		v.tight("nft flush ruleset, protect: owner", flush)
	}
	v.tight("kill -9, protect: owner", func() error {
		return errors.Join(v.run("systemctl kill -s KILL banset.service"),
			v.until(time.Minute, "systemctl is-active banset.service"))
	})
	v.tight("protect: none again", func() error {
		return v.run("rm /etc/banset/conf.d/owner.yaml; systemctl restart banset")
	})
}

// removal takes the package away: its bans stay until it is purged.
func removal(v *visit) {
	v.quickInstall()
	v.tight("apt remove", func() error {
		v.installed = false
		return v.run("apt-get remove -y banset")
	})
	v.tight("installed again", func() error {
		v.installed = true
		return v.run("dpkg -i /root/deb/new.deb")
	})
	v.check("apt purge", func() (string, error) {
		v.installed = false
		if err := v.run("apt-get purge -y banset"); err != nil {
			return "", err
		}
		err := v.run(`set -e
			! nft list table inet banset
			for path in /var/lib/banset /run/banset /etc/banset /usr/sbin/banset /etc/systemd/system/*/banset*; do
				[ ! -e "$path" ] || { echo "$path is left"; exit 1; }
			done
			[ -z "$(systemctl --failed --no-legend)" ] || { systemctl --failed; exit 1; }`)
		for _, from := range v.banned {
			err = errors.Join(err, welcome(from, sshd))
		}
		return "", err
	})
}

// installPackage installs the first package, as somebody who just downloaded it.
func (v *visit) installPackage() {
	v.check("apt install ./banset.deb", func() (string, error) {
		out, err := v.sh("DEBIAN_FRONTEND=noninteractive apt-get install -y /root/deb/old.deb")
		if err != nil {
			return "", err
		}
		v.installed = true
		for _, unit := range []string{"banset.service", "banset-restore.service"} {
			if state, err := v.sh("systemctl is-active " + unit); err != nil {
				return "", fmt.Errorf("%s is %s", unit, state)
			}
			if state, err := v.sh("systemctl is-enabled " + unit); err != nil {
				return "", fmt.Errorf("%s is %s", unit, state)
			}
		}
		var said []string
		for line := range strings.Lines(out) {
			if text, ok := strings.CutPrefix(line, "banset: "); ok {
				said = append(said, strings.TrimSpace(text))
			}
		}
		note("it says:\n\t%s", strings.Join(said, "\n\t"))
		for _, word := range []string{"sshd", "exim"} {
			if !strings.Contains(strings.Join(said, "\n"), word) {
				return "", fmt.Errorf("it does not say a word of %s: %q", word, said)
			}
		}
		return "", nil
	})
}

// attacks is what every mail server on the Internet sees, from three addresses, and one ban by hand.
func (v *visit) attacks() {
	v.check("sshd attacked, IPv4", func() (string, error) { return v.attackSSH(sshAttacker) })
	v.check("sshd attacked, IPv6", func() (string, error) { return v.attackSSH(sshAttacker6) })
	v.check("Exim attacked", func() (string, error) { return v.attackSMTP(mailAttacker) })
	v.check("banset ban", func() (string, error) {
		v.banned = append(v.banned, byHand)
		return "", v.run("banset ban " + byHand + " --for 7d --reason test")
	})
}

// attackSSH tries passwords until the ban is on the list.
func (v *visit) attackSSH(from string) (string, error) {
	if err := v.guessSSH(from, func() error { return v.waitBanned(80*time.Second, from) }); err != nil {
		return "", err
	}
	return "", v.extend(from)
}

// guessSSH tries passwords until banned returns, and then checks that sshd can't be reached any more.
func (v *visit) guessSSH(from string, banned func() error) error {
	if err := welcome(from, sshd); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 3 {
		user := []string{"alice", "root", "nobodyhere"}[i]
		wg.Go(func() { v.net.attackSSH(ctx, from, machineFor(from), user) })
	}
	err := banned()
	cancel()
	wg.Wait()
	if err != nil {
		log, _ := v.sh("journalctl -n 8 --no-pager -o cat -t sshd -t sshd-session; banset status")
		return fmt.Errorf("%w; %s", err, log)
	}
	return dropped(from, "22")
}

// extend makes a ban last to the end of the visit: by default a first one lasts ten minutes.
func (v *visit) extend(from string) error {
	v.banned = append(v.banned, from)
	return v.run("banset ban " + from + " --for 7d")
}

// attackSMTP tries log-ins until the ban is on the list.
func (v *visit) attackSMTP(from string) (string, error) {
	refused := guessSMTP(from)
	if err := v.waitBanned(10*time.Second, from); err != nil {
		log, _ := v.sh("tail -5 /var/log/exim4/mainlog; banset status")
		return "", fmt.Errorf("after %d refusals: %w; %s", refused, err, log)
	}
	return fmt.Sprintf("after %d refusals", refused), errors.Join(dropped(from, "25"), v.extend(from))
}

// guessSMTP tries log-ins, on three connections at a time, until nobody answers any more, and returns how many were
// refused in words.
func guessSMTP(from string) (refused int) {
	for end := time.Now().Add(90 * time.Second); time.Now().Before(end); {
		var wg sync.WaitGroup
		var some [3]int
		for i := range some {
			wg.Go(func() { some[i] = attackSMTP(from, machineFor(from), 5) })
		}
		wg.Wait()
		n := some[0] + some[1] + some[2]
		if refused += n; n == 0 && refused > 0 {
			break
		}
	}
	return refused
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
