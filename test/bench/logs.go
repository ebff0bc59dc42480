package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"time"
)

// A writer makes up the lines of one log, the same ones each time. One line in a hundred is a failure.
type writer struct {
	*rand.Rand
	at time.Time // of the line that is being written
}

// A form is a kind of log: it makes up the next line.
type form func(*writer) string

// log writes a log of n lines that cover the last day, once, and returns its path.
func (b *bench) log(name string, n int, f form) (string, error) {
	if path, ok := b.logs[name]; ok {
		return path, nil
	}
	path := b.path(name)
	file, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	out := bufio.NewWriterSize(file, 1<<20)
	if err := f.writeTo(out, n, b.stamp); err != nil {
		return "", err
	}
	if err := out.Flush(); err != nil {
		return "", err
	}
	b.logs[name] = path
	return path, nil
}

// writeTo writes n lines, the last one a second before end.
func (f form) writeTo(w io.Writer, n int, end time.Time) error {
	g := &writer{Rand: rand.New(rand.NewPCG(1, 2))}
	for i := range n {
		g.at = end.Add(-time.Second - time.Duration(n-1-i)*(24*time.Hour/time.Duration(n)))
		if _, err := io.WriteString(w, f(g)+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// head makes a log of the first n lines of another one.
func (b *bench) head(path string, n int) (string, error) {
	name := fmt.Sprintf("%s.head%d", path, n)
	in, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer in.Close()
	out, err := os.Create(name)
	if err != nil {
		return "", err
	}
	defer out.Close()
	lines := bufio.NewScanner(in)
	w := bufio.NewWriter(out)
	for ; n > 0 && lines.Scan(); n-- {
		w.Write(lines.Bytes())
		w.WriteByte('\n')
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	return name, w.Flush()
}

// attacker is host i of those that are counted and banned: of the network that is set aside for benchmarks (RFC 2544),
// and of those behind it where a million hosts are wanted.
func attacker(i int) netip.Addr {
	n := uint32(198<<24|18<<16) + uint32(i)
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// attackers is how many hosts fail in a generated log: a few often, most seldom.
const attackers = 5000

func (g *writer) attacker() netip.Addr {
	if g.IntN(2) == 0 {
		return attacker(g.IntN(50))
	}
	return attacker(g.IntN(attackers))
}

func (g *writer) failure() bool { return g.IntN(100) == 0 }

func (g *writer) pick(all ...string) string { return all[g.IntN(len(all))] }

// word is a made-up identifier of n letters and digits.
func (g *writer) word(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	p := make([]byte, n)
	for i := range p {
		p[i] = letters[g.IntN(len(letters))]
	}
	return string(p)
}

// guest is somebody who does nothing wrong.
func (g *writer) guest() string {
	return fmt.Sprintf("%s.%d", g.pick("192.0.2", "198.51.100", "203.0.113"), 1+g.IntN(254))
}

func (g *writer) user() string {
	return g.pick("alice", "bob", "carol", "dave", "erin", "info", "office", "sales", "root", "admin")
}

// eximForm is Exim's mainlog.
func eximForm(g *writer) string {
	const stamp = "2006-01-02 15:04:05"
	if g.failure() {
		return eximFailure(g.at, g.attacker(), g.user())
	}
	id := fmt.Sprintf("1t%s-%s-%s", g.word(4), g.word(6), g.word(2))
	text := ""
	switch g.IntN(10) {
	case 0, 1:
		text = fmt.Sprintf("%s <= %s@example.net H=(mail.example.net) [%s] P=esmtps X=TLS1.3:ECDHE_X25519__RSA_PSS_RSAE_SHA256"+
			"__AES_256_GCM:256 CV=no S=%d id=%s@example.net", id, g.user(), g.guest(), 1000+g.IntN(90000), g.word(22))
	case 2, 3, 4:
		text = fmt.Sprintf("%s => %s@example.org R=dnslookup T=remote_smtp H=mx.example.org [%s] X=TLS1.3:ECDHE_X25519__RSA_PSS"+
			"_RSAE_SHA256__AES_256_GCM:256 CV=yes C=\"250 2.0.0 Ok: queued as %s\"", id, g.user(), g.guest(), g.word(11))
	case 5, 6:
		text = id + " Completed"
	case 7:
		text = fmt.Sprintf("H=(%s.example.com) [%s] F=<%s@example.com> rejected RCPT <%s@example.org>: Unrouteable address",
			g.word(6), g.guest(), g.word(5), g.user())
	case 8:
		text = fmt.Sprintf("no host name found for IP address %s", g.guest())
	case 9:
		text = fmt.Sprintf("SMTP connection from [%s]:%d closed by QUIT", g.guest(), 1024+g.IntN(64000))
	}
	return g.at.Format(stamp) + " " + text
}

func eximFailure(at time.Time, host netip.Addr, user string) string {
	return fmt.Sprintf("%s login authenticator failed for (User) [%s]: 535 Incorrect authentication data (set_id=%s@example.org)",
		at.Format("2006-01-02 15:04:05"), host, user)
}

// isoStamp is how rsyslog on Debian 12 and 13 writes the time.
const isoStamp = "2006-01-02T15:04:05.000000-07:00"

// syslog puts time, host and tag before a text.
func (g *writer) syslog(program, text string) string {
	return fmt.Sprintf("%s mx1 %s[%d]: %s", g.at.Format(isoStamp), program, 300+g.IntN(30000), text)
}

// authForm is auth.log.
func authForm(g *writer) string {
	if g.failure() {
		return sshFailure(g)
	}
	user := g.user()
	switch g.IntN(10) {
	case 0, 1:
		return g.syslog("CRON", fmt.Sprintf("pam_unix(cron:session): session opened for user %s(uid=%d) by (uid=0)", user, g.IntN(2000)))
	case 2, 3:
		return g.syslog("CRON", "pam_unix(cron:session): session closed for user "+user)
	case 4:
		return g.syslog("sshd", fmt.Sprintf("Accepted publickey for %s from %s port %d ssh2: ED25519 SHA256:%s", user, g.guest(),
			1024+g.IntN(64000), g.word(43)))
	case 5:
		return g.syslog("sshd", fmt.Sprintf("pam_unix(sshd:session): session opened for user %s(uid=1000) by (uid=0)", user))
	case 6:
		return g.syslog("sshd", fmt.Sprintf("Received disconnect from %s port %d:11: disconnected by user", g.guest(), 1024+g.IntN(64000)))
	case 7:
		return g.syslog("sshd", fmt.Sprintf("Disconnected from user %s %s port %d", user, g.guest(), 1024+g.IntN(64000)))
	case 8:
		return g.syslog("systemd-logind", fmt.Sprintf("New session %d of user %s.", g.IntN(100000), user))
	}
	return g.syslog("sudo", fmt.Sprintf("%s : TTY=pts/%d ; PWD=/home/%s ; USER=root ; COMMAND=/usr/bin/apt-get update", user, g.IntN(9), user))
}

// sshFailure is one of the ways in which sshd tells of a failure, the frequent ones more often.
func sshFailure(g *writer) string {
	host, port := g.attacker(), 1024+g.IntN(64000)
	text := ""
	switch g.IntN(8) {
	case 0, 1, 2:
		text = fmt.Sprintf("Failed password for %s from %s port %d ssh2", g.user(), host, port)
	case 3, 4:
		text = fmt.Sprintf("Failed password for invalid user %s from %s port %d ssh2", g.word(6), host, port)
	case 5, 6:
		text = fmt.Sprintf("Invalid user %s from %s port %d", g.word(6), host, port)
	case 7:
		text = fmt.Sprintf("Connection closed by authenticating user %s %s port %d [preauth]", g.user(), host, port)
	}
	return g.syslog("sshd", text)
}

// mixedForm is a syslog in which every service writes.
func mixedForm(g *writer) string {
	if g.failure() {
		host := g.attacker()
		switch g.IntN(4) {
		case 0:
			return sshFailure(g)
		case 1:
			return g.syslog("postfix/smtpd", fmt.Sprintf("warning: unknown[%s]: SASL LOGIN authentication failed: authentication failure, "+
				"sasl_username=%s", host, g.user()))
		case 2:
			return fmt.Sprintf("%s mx1 dovecot: imap-login: Disconnected: Connection closed (auth failed, 1 attempts in 2 secs): "+
				"user=<%s>, method=PLAIN, rip=%s, lip=192.0.2.1, session=<%s>", g.at.Format(isoStamp), g.user(), host, g.word(16))
		}
		return g.syslog("vsftpd", fmt.Sprintf("[%s] FAIL LOGIN: Client \"%s\"", g.user(), host))
	}
	switch g.IntN(12) {
	case 0:
		return fmt.Sprintf("%s mx1 kernel: [%6d.%06d] eth0: link is up, 1000 Mbps full duplex", g.at.Format(isoStamp), g.IntN(900000), g.IntN(1000000))
	case 1:
		return g.syslog("systemd", fmt.Sprintf("Started session-%d.scope - Session %d of User %s.", g.IntN(9999), g.IntN(9999), g.user()))
	case 2:
		return g.syslog("systemd", "logrotate.service: Deactivated successfully.")
	case 3:
		return g.syslog("postfix/smtpd", fmt.Sprintf("connect from mail.example.net[%s]", g.guest()))
	case 4:
		return g.syslog("postfix/qmgr", fmt.Sprintf("%s: from=<%s@example.net>, size=%d, nrcpt=1 (queue active)", g.word(11), g.user(), g.IntN(90000)))
	case 5:
		return g.syslog("postfix/smtp", fmt.Sprintf("%s: to=<%s@example.org>, relay=mx.example.org[%s]:25, delay=1.2, delays=0.1/0/0.5/0.6, "+
			"dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as %s)", g.word(11), g.user(), g.guest(), g.word(11)))
	case 6:
		return fmt.Sprintf("%s mx1 dovecot: imap-login: Login: user=<%s>, method=PLAIN, rip=%s, lip=192.0.2.1, mpid=%d, TLS, session=<%s>",
			g.at.Format(isoStamp), g.user(), g.guest(), g.IntN(30000), g.word(16))
	case 7:
		return fmt.Sprintf("%s mx1 dovecot: imap(%s)<%d><%s>: Disconnected: Logged out in=%d out=%d deleted=0", g.at.Format(isoStamp), g.user(),
			g.IntN(30000), g.word(16), g.IntN(900), g.IntN(90000))
	case 8:
		return g.syslog("named", fmt.Sprintf("client @0x7f%s %s#%d (www.example.org): query: www.example.org IN A + (192.0.2.1)", g.word(10),
			g.guest(), 1024+g.IntN(64000)))
	}
	return authForm(g)
}

// attackForm is an auth.log in which every line is a failure.
func attackForm(g *writer) string { return sshFailure(g) }
