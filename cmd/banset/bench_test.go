package main

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A logMaker writes logs like those of real servers, of addresses that are for documentation.
type logMaker struct{ *rand.Rand }

func (m logMaker) pick(s ...string) string { return s[m.IntN(len(s))] }
func (m logMaker) user() string            { return m.pick("root", "admin", "test", "ubuntu", "git", "www-data") }
func (m logMaker) pid() int                { return 1000 + m.IntN(60000) }

// host is one of a few friends, or of many attackers.
func (m logMaker) host(attacker bool) string {
	if attacker {
		return fmt.Sprintf("198.%d.%d.%d", 18+m.IntN(2), m.IntN(80), 1+m.IntN(250))
	}
	return fmt.Sprintf("203.0.113.%d", 1+m.IntN(250))
}

func (m logMaker) sshd(failure bool) string {
	pid, host, port := m.pid(), m.host(failure), 1024+m.IntN(60000)
	if failure {
		switch m.IntN(3) {
		case 0:
			return fmt.Sprintf("sshd[%d]: Invalid user %s from %s port %d", pid, m.user(), host, port)
		case 1:
			return fmt.Sprintf("sshd[%d]: Connection closed by authenticating user %s %s port %d [preauth]", pid, m.user(), host, port)
		}
		return fmt.Sprintf("sshd[%d]: Failed password for %s from %s port %d ssh2", pid, m.user(), host, port)
	}
	switch m.IntN(6) {
	case 0:
		return fmt.Sprintf("sshd[%d]: Accepted publickey for %s from %s port %d ssh2: ED25519 SHA256:%016x%016x", pid, m.user(), host, port, m.Uint64(), m.Uint64())
	case 1:
		return fmt.Sprintf("sshd[%d]: pam_unix(sshd:session): session opened for user %s(uid=%d) by (uid=0)", pid, m.user(), m.IntN(2000))
	case 2:
		return fmt.Sprintf("sshd[%d]: Received disconnect from %s port %d:11: disconnected by user", pid, host, port)
	case 3:
		return fmt.Sprintf("CRON[%d]: pam_unix(cron:session): session closed for user root", pid)
	case 4:
		return fmt.Sprintf("systemd-logind[612]: New session %d of user %s.", m.IntN(90000), m.user())
	}
	return fmt.Sprintf("sshd[%d]: Connection closed by %s port %d [preauth]", pid, host, port)
}

func (m logMaker) exim(failure bool) string {
	id := fmt.Sprintf("1w%04X-00%04x-%02x", m.IntN(1<<16), m.IntN(1<<16), m.IntN(256))
	if failure {
		return fmt.Sprintf("login authenticator failed for (User) [%s]: 535 Incorrect authentication data (set_id=%s@example.org)", m.host(true), m.user())
	}
	switch m.IntN(3) {
	case 0:
		return fmt.Sprintf("%s <= user%d@example.org H=mail%d.example.net [%s] P=esmtps X=TLS1.3:TLS_AES_256_GCM_SHA384:256 CV=no S=%d id=%x@example.net",
			id, m.IntN(500), m.IntN(90), m.host(false), m.IntN(90000), m.Uint64())
	case 1:
		return fmt.Sprintf("%s => user%d@example.com R=dnslookup T=remote_smtp H=mx.example.com [%s] X=TLS1.2:ECDHE_RSA_AES_256_GCM_SHA384:256 CV=yes C=\"250 2.0.0 Ok: queued as %X\"",
			id, m.IntN(500), m.host(false), m.Uint64())
	}
	return id + " Completed"
}

func (m logMaker) mixed(failure bool) string {
	if failure {
		return m.sshd(true)
	}
	switch m.IntN(5) {
	case 0:
		return fmt.Sprintf("postfix/qmgr[%d]: %X: from=<user%d@example.org>, size=%d, nrcpt=1 (queue active)", m.pid(), m.Uint32(), m.IntN(500), m.IntN(90000))
	case 1:
		return fmt.Sprintf("dovecot: imap-login: Login: user=<user%d>, method=PLAIN, rip=%s, lip=192.0.2.25, mpid=%d, TLS, session=<%x>", m.IntN(500), m.host(false), m.pid(), m.Uint64())
	case 2:
		return fmt.Sprintf("systemd[1]: Started apt-daily%d.service - Daily apt download activities.", m.IntN(10))
	case 3:
		return fmt.Sprintf("postfix/smtpd[%d]: connect from mail%d.example.net[%s]", m.pid(), m.IntN(90), m.host(false))
	}
	return m.sshd(false)
}

// write writes a log of n lines, of which percent in a hundred are failures.
func (m logMaker) write(tb testing.TB, n, percent int, layout string, line func(failure bool) string) string {
	name := filepath.Join(tb.TempDir(), "log")
	f, err := os.Create(name)
	if err != nil {
		tb.Fatal(err)
	}
	w := bufio.NewWriter(f)
	at := time.Now().Add(-24 * time.Hour)
	for range n {
		at = at.Add(time.Duration(m.IntN(300)) * time.Millisecond)
		fmt.Fprintf(w, "%s%s\n", at.Format(layout), line(m.IntN(100) < percent))
	}
	if err := w.Flush(); err != nil {
		tb.Fatal(err)
	}
	f.Close()
	return name
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkSummary is `test --summary` with shipped filters, its configuration read each time. What to look at is the
// processor's time, which several goroutines and a busy machine don't change much.
func BenchmarkSummary(b *testing.B) {
	const lines = 200_000
	m := logMaker{rand.New(rand.NewPCG(1, 2))}
	const iso, syslog = "2006-01-02 15:04:05 ", "Jan _2 15:04:05 mx1 "
	every := []string{"apache", "dovecot", "exim", "exim2", "nginx-probe", "nginx", "postfix-relay", "postfix", "sshd", "vsftpd"}
	for _, bm := range []struct {
		name    string
		filters []string
		log     string
	}{
		{"exim2", []string{"exim2"}, m.write(b, lines, 1, iso, m.exim)},
		{"sshd", []string{"sshd"}, m.write(b, lines, 1, syslog, m.sshd)},
		{"every filter", every, m.write(b, lines, 1, syslog, m.mixed)},
		{"exim2 attacked", []string{"exim2"}, m.write(b, lines, 100, iso, m.exim)},
		{"sshd attacked", []string{"sshd"}, m.write(b, lines, 100, syslog, m.sshd)},
	} {
		b.Run(bm.name, func(b *testing.B) {
			text := "policies:\n"
			for _, f := range bm.filters {
				text += fmt.Sprintf("  %s: {filter: %s, logpath: [/log]}\n", f, f)
			}
			conf := filepath.Join(b.TempDir(), "banset.yaml")
			if err := os.WriteFile(conf, []byte(text), 0o666); err != nil {
				b.Fatal(err)
			}
			began := cpuTime()
			b.ReportAllocs()
			for b.Loop() {
				var stdout, stderr bytes.Buffer
				if Main([]string{"test", "--summary", "--config", conf, bm.log}, strings.NewReader(""), &stdout, &stderr) != 0 {
					b.Fatal(stdout.String(), stderr.String())
				}
			}
			b.ReportMetric(float64(cpuTime()-began)/float64(b.N)/lines, "cpu-ns/line")
		})
	}
}
