package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// badDays is what happens to machines and has nothing to do with packets.
func badDays(v *visit) {
	v.quickInstall()
	v.journald()
	v.clock()
	v.disk()
	v.sleep()
}

// journald dies, comes back, and loses its files. Who attacks after that is seen all the same.
func (v *visit) journald() {
	after := func(name, script, from string) {
		v.check(name, func() (string, error) {
			if err := v.run(script); err != nil {
				return "", err
			}
			if _, err := v.attackSSH(from); err != nil {
				return "", err
			}
			// What the daemon itself has to say is heard, too.
			return "", errors.Join(v.verify(), v.until(20*time.Second, "journalctl -u banset -o cat | grep -F 'Ban "+from+"'"))
		})
	}
	after("journald restarted, then sshd attacked", "systemctl restart systemd-journald", freshAttacker(7))
	after("journal vacuumed, then sshd attacked", "journalctl --rotate && journalctl --vacuum-time=1s", freshAttacker(8))
	after("journald killed, then sshd attacked", "systemctl kill -s KILL systemd-journald; sleep 1", freshAttacker(0))
	after("journald away for a while, then sshd attacked", `systemctl stop systemd-journald.socket systemd-journald-dev-log.socket \
		systemd-journald-audit.socket systemd-journald.service; sleep 5
		systemctl start systemd-journald.socket systemd-journald-dev-log.socket systemd-journald.service`, freshAttacker(1))
	after("journal files deleted, then sshd attacked", "rm -rf /var/log/journal/* /run/log/journal/*; systemctl restart systemd-journald",
		freshAttacker(2))
	v.check("all bans", func() (string, error) { return "", v.holds() })
}

// clock sets the clock and the zone.
func (v *visit) clock() {
	v.check("clock two hours forward: a ban of an hour is over", func() (string, error) {
		if err := v.run("banset ban " + short + " --for 1h"); err != nil {
			return "", err
		}
		if err := dropped(short, "22"); err != nil {
			return "", err
		}
		if err := v.run("date -s '2 hours'"); err != nil {
			return "", err
		}
		if err := v.until(time.Minute, "! grep -F "+short+" /var/lib/banset/blocklist"); err != nil {
			return "", err
		}
		return "", errors.Join(welcome(short, sshd), v.verifySoon())
	})
	v.check("then Exim attacked", func() (string, error) { return v.attackSMTP(freshAttacker(3)) })
	v.tight("clock three hours backward", func() error { return errors.Join(v.run("date -s '-3 hours'"), v.verifySoon()) })
	v.check("then sshd attacked", func() (string, error) { return v.attackSSH(freshAttacker(4)) })
	v.tight("daemon restarted with the clock back", func() error { return v.run("systemctl restart banset") })
	v.tight("clock right again", func() error {
		return errors.Join(v.run(fmt.Sprintf("date -s @%d", time.Now().Unix())), v.verifySoon())
	})
	v.tight("time zone changed", func() error {
		return v.run("timedatectl set-timezone America/New_York && systemctl restart exim4")
	})
	v.check("then Exim attacked, local time in its log", func() (string, error) { return v.attackSMTP(freshAttacker(5)) })
	v.tight("daemon restarted in the new zone", func() error { return v.run("systemctl restart banset") })
}

// disk fills the machine's disk, first for everybody but root, and then to its last block.
func (v *visit) disk() {
	// Exim can't write its own log then, and serves nobody.
	v.services = []port{sshd}
	v.full()
	v.lastBlock()
	v.services = []port{sshd, exim}
	v.check("Exim serves again", func() (string, error) {
		return "", errors.Join(v.run("systemctl reset-failed; systemctl restart exim4"), v.until(time.Minute, "ss -tln | grep :25"), v.holds())
	})
}

// fill takes all room that there is for whoever runs the script.
const fill = `fallocate -l $(($(df -B1 --output=avail / | tail -1) / 100 * 99)) /var/tmp/fill; cat /dev/zero >>/var/tmp/fill`

// full is a disk with no room for anybody but root, who has a reserve: bans go on in the kernel, and are saved when that
// is possible again.
func (v *visit) full() {
	late := freshAttacker(6)
	v.check("the machine's disk full: banset ban, sshd attacked", func() (string, error) {
		// More bans than fit into the blocks that the blocklist has already.
		script := "setpriv --reuid=nobody --regid=nogroup --clear-groups sh -c '" + fill + "' 2>/dev/null; " +
			"banset ban $(seq -f 203.0.113.%g 100 219) --for 7d; true"
		if err := v.run(script); err != nil {
			return "", err
		}
		err := v.guessSSH(late, func() error {
			return v.until(80*time.Second, "nft get element inet banset ban4 { "+late+" }")
		})
		if err != nil {
			return "", err
		}
		v.unsaved = true
		v.banned = append(v.banned, late)
		out, err := v.sh("banset status | head -1")
		if strings.Contains(out, "nothing is wrong") {
			err = errors.Join(err, errors.New("status finds nothing wrong"))
		}
		wrong, _, _ := strings.Cut(out, ";")
		return "status: " + oneLine(wrong), errors.Join(err, v.holds())
	})
	v.tight("that disk full: systemctl restart banset", func() error { return v.run("systemctl restart banset") })
	v.tight("that disk has room again: all is saved", func() error {
		v.unsaved = false
		return errors.Join(v.run("rm /var/tmp/fill"), v.waitBanned(time.Minute, late), v.verifySoon(), v.run("banset ban "+late+" --for 7d"))
	})
}

// lastBlock is a disk that root has filled. What systemd can't start there it tries again until there is room.
func (v *visit) lastBlock() {
	// What a service that stops gives back is taken, too.
	v.starts("root's reserve used up, systemctl stop banset: systemctl start banset", func() error {
		_, err := v.sh("systemctl stop banset; (" + fill + ") 2>/dev/null; systemctl start banset; true")
		return err
	})
	v.starts("reboot with that disk", func() error {
		return errors.Join(v.reboot(), v.until(bootTime, "systemctl is-active banset-restore ssh"))
	})
	v.tight("room again, and nothing else", func() error {
		return errors.Join(v.run("rm /var/tmp/fill"), v.until(time.Minute, "systemctl is-active banset"))
	})
}

// starts is tight for what may leave the daemon not running, and says whether it runs.
func (v *visit) starts(name string, f func() error) {
	v.check(name, func() (string, error) {
		leaked, sent, _, err := v.during(f)
		if err == nil && leaked > 0 {
			err = fmt.Errorf("%d of %d packets of the banned get through", leaked, sent)
		}
		state, lost := v.sh("for i in $(seq 20); do systemctl is-active -q banset && break; sleep 0.5; done; systemctl is-active banset; true")
		why, _ := v.sh("systemctl status banset | grep -o 'status=[0-9]*/[A-Z]*' | head -1")
		note := fmt.Sprintf("0 of %d packets; the daemon is %s", sent, oneLine(state))
		if oneLine(state) != "active" {
			note += ", " + oneLine(why)
		}
		return note, errors.Join(err, lost, v.holds())
	})
}

// sleep suspends the machine to memory, for longer than one of the bans has left.
func (v *visit) sleep() {
	v.tight("suspend and resume", func() error {
		if err := v.run("banset ban " + short + " --for 30s && echo deep >/sys/power/mem_sleep"); err != nil {
			return err
		}
		// The shell sleeps, too: it answers before, and again after.
		if err := v.run("(sleep 2; echo mem >/sys/power/state) >/dev/null 2>&1 &"); err != nil {
			return err
		}
		if err := v.waitStatus("suspended"); err != nil {
			return err
		}
		time.Sleep(40 * time.Second)
		if _, err := v.control("system_wakeup"); err != nil {
			return err
		}
		// The serial line wakes up last; what is sent to it until then is lost.
		err := v.waitStatus("running")
		for range 12 {
			if _, lost := v.shFor(10*time.Second, "true"); lost == nil {
				return err
			}
		}
		return errors.Join(err, errors.New("the shell is not there after the resume"))
	})
	v.check("the ban that ended meanwhile", func() (string, error) {
		if err := v.until(time.Minute, "! grep -F "+short+" /var/lib/banset/blocklist"); err != nil {
			return "", err
		}
		return "", errors.Join(welcome(short, sshd), v.verifySoon())
	})
}

// waitStatus waits until qemu says so of the machine.
func (v *visit) waitStatus(want string) error {
	for end := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		s, err := v.status()
		if err != nil || s == want {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("the machine is %s, not %s", s, want)
		}
	}
}

// verifySoon is verify, after what is under way is done.
func (v *visit) verifySoon() error { return v.until(20*time.Second, "banset verify") }

// freshAttacker is an address that nobody attacked from so far.
func freshAttacker(n int) string { return fmt.Sprintf("198.51.100.%d", firstFresh+n) }

const (
	firstFresh = 100
	fresh      = 9
)

func attackers() []string {
	all := []string{sshAttacker, mailAttacker, byHand, short, friend}
	for n := range fresh {
		all = append(all, freshAttacker(n))
	}
	return all
}
