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
// that must not lift a ban, to the package's removal.
func install(v *visit) {
	v.installPackage()
	v.attacks()
	v.check("all of them at once", func() (string, error) { return "", v.holds() })
}

// installPackage installs the first package, as somebody who just downloaded it.
func (v *visit) installPackage() {
	v.check("apt install ./banset.deb", func() (string, error) {
		out, err := v.sh("DEBIAN_FRONTEND=noninteractive apt-get install -y /root/deb/old.deb")
		if err != nil {
			return "", err
		}
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
		return "", v.run("banset ban " + byHand + " --for 1d --reason test")
	})
}

// attackSSH tries passwords until the ban is on the list.
func (v *visit) attackSSH(from string) (string, error) {
	if err := welcome(from, "22", "SSH-2.0-"); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 3 {
		user := []string{"alice", "root", "nobodyhere"}[i]
		wg.Go(func() { v.net.attackSSH(ctx, from, machineFor(from), user) })
	}
	err := v.waitBanned(80*time.Second, from)
	cancel()
	wg.Wait()
	if err != nil {
		log, _ := v.sh("journalctl -n 8 --no-pager -o cat -t sshd -t sshd-session; banset status")
		return "", fmt.Errorf("%w; %s", err, log)
	}
	v.banned = append(v.banned, from)
	why, err := v.sh("banset why " + from)
	return oneLine(why), errors.Join(err, dropped(from, "22"))
}

// attackSMTP tries log-ins until nobody answers any more.
func (v *visit) attackSMTP(from string) (string, error) {
	refused := 0
	for end := time.Now().Add(90 * time.Second); time.Now().Before(end); {
		n := attackSMTP(from, machineFor(from), 5)
		if refused += n; n == 0 && refused > 0 {
			break
		}
	}
	if err := v.waitBanned(10*time.Second, from); err != nil {
		log, _ := v.sh("tail -5 /var/log/exim4/mainlog; banset status")
		return "", fmt.Errorf("after %d refusals: %w; %s", refused, err, log)
	}
	v.banned = append(v.banned, from)
	return fmt.Sprintf("after %d refusals", refused), dropped(from, "25")
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
