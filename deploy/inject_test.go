package deploy_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"banset/policy/config"
)

// Text of a client must never name a host. These tests play the client: they put hostile text wherever a filter's lines
// have room for it and require that the peer is found, or nobody.

// third are hosts that have done nothing.
var third = []string{"203.0.113.66", "2001:db8:bad::66", "::ffff:203.0.113.66"}

// A hole is a line with room for one text of the client: between before and after.
type hole struct{ before, after string }

func (h hole) fill(s string) string { return h.before + s + h.after }

// possible is what of a hostile text can really be written to a filter's log, where the protocol or the program
// forbids something.
var possible = map[string]func(string) string{
	// The user name of a Basic log-in ends at the first colon.
	"nginx": func(s string) string { return strings.ReplaceAll(s, ":", "") },
}

// holes finds the client's texts of a sample: its named groups, where they stand in the line.
func holes(f *config.Filter, line string) []hole {
	const marker = "Zq7marker"
	var out []hole
	hits := newLog(f).scan(line)
	if len(hits) != 1 {
		return nil
	}
	for _, field := range hits[0].Fields {
		for at := 0; ; {
			n := strings.Index(line[at:], field.Value)
			if n < 0 {
				break
			}
			at += n
			h := hole{line[:at], line[at+len(field.Value):]}
			at++
			for _, m := range newLog(f).scan(h.fill(marker)) {
				for _, got := range m.Fields {
					if got.Name == field.Name && got.Value == marker {
						out = append(out, h)
					}
				}
			}
		}
	}
	return out
}

// elsewhere are lines with client's text that no group of the filters names: {} is the hole.
var elsewhere = map[string][]string{
	"exim2": {
		`2026-11-23 20:40:46 login authenticator failed for (User) [192.0.2.7]: 535 Incorrect authentication data (set_id={})`,
	},
	"exim": {
		`2026-11-23 20:43:34 SMTP protocol error in "AUTH {}" H=(User) [192.0.2.7] AUTH command used when not advertised`,
		`2026-11-23 20:43:34 SMTP protocol error in "AUTH {}" H=[192.0.2.7] AUTH command used when not advertised`,
		`2026-11-23 20:43:37 SMTP protocol error in "AUTH NTLM {}" H=(u) [192.0.2.7]:51731 I=[198.51.100.1]:25 NTLM authentication mechanism not supported`,
		`2026-11-23 20:43:37 SMTP syntax error in "{}" H=(u) [192.0.2.7] unrecognized command`,
		`2026-11-23 20:40:50 SMTP call from (u) [192.0.2.7] dropped: too many syntax or protocol errors (last command was "AUTH {}",  C=EHLO,AUTH,AUTH,AUTH)`,
		`2026-11-23 20:40:50 SMTP call from (u) [192.0.2.7] dropped: too many unrecognized commands (last was "{}")`,
		`2026-11-23 20:40:51 H=(denyme) [192.0.2.7] rejected AUTH {}: no AUTH here`,
		`2026-11-23 20:40:51 H=(denyme) [192.0.2.7] X=TLS1.3:X:256 CV=no DN="{}" rejected AUTH PLAIN`,
		`2026-11-23 20:40:52 H=(u) [192.0.2.7] F=<{}> rejected RCPT <x@other.example>: relay not permitted`,
		`2026-11-23 20:40:48 rejected EHLO from [192.0.2.7]: syntactically invalid argument(s): {}`,
		`2026-11-23 20:40:46 login authenticator failed for (User) [192.0.2.7] U={}: 535 Incorrect authentication data (set_id=a)`,
		`2026-11-23 20:50:00 1vNbXr-0001Ab-2C <= {} H=(u) [192.0.2.7] P=esmtp S=512 T="x"`,
		`2026-11-23 20:50:00 1vNbXr-0001Ab-2C <= a@example.net H=(u) [192.0.2.7] P=esmtp S=512 T="{}"`,
	},
	"sshd": {
		`Nov 23 20:37:40 mx1 sshd[15302]: Received disconnect from 192.0.2.7 port 33076:11: {} [preauth]`,
		`Nov 23 20:37:40 mx1 sshd[15302]: Received disconnect from 192.0.2.7 port 33076:11: {}`,
		`Nov 23 20:34:58 mx1 sshd[15202]: error: kex_exchange_identification: client sent invalid protocol identifier "{}"`,
		`Nov 23 20:34:58 mx1 sshd[15202]: Disconnecting invalid user {} 192.0.2.7 port 39673: Too many authentication failures [preauth]`,
		`Nov 23 20:34:58 mx1 sshd[15202]: Disconnecting authenticating user root 192.0.2.7 port 39673: Change of username or service not allowed: (root,ssh-connection) -> ({},ssh-connection) [preauth]`,
		`Nov 23 20:34:58 mx1 sshd[15202]: Connection closed by invalid user {} 192.0.2.7 port 39673 [preauth]`,
		`Nov 23 20:34:35 mx1 sshd[15162]: error: PAM: Authentication failure for illegal user {} from 192.0.2.7`,
		`Nov 23 20:34:58 mx1 sshd[15202]: Unable to negotiate with 192.0.2.7 port 39673: no matching key exchange method found. Their offer: {} [preauth]`,
		`Nov 23 20:34:58 mx1 sshd[15202]: Accepted publickey for {} from 192.0.2.7 port 39673 ssh2`,
		`Nov 23 20:34:58 mx1 app[15202]: {}`,
	},
	"postfix": {
		`Nov 23 20:59:43 mx2 postfix/smtpd[9041]: warning: non-SMTP command from unknown[192.0.2.7]: {}`,
		`Nov 23 20:59:43 mx2 postfix/smtpd[9037]: NOQUEUE: reject: RCPT from unknown[192.0.2.7]: 554 5.7.1 <{}>: Relay access denied; from=<{}> to=<{}> proto=ESMTP helo=<{}>`,
		`Nov 23 20:59:43 mx2 postfix/cleanup[9050]: 4fF0aB1Zz0z1: warning: header Subject: {}`,
	},
	"postfix-relay": {
		`Nov 23 20:59:43 mx2 postfix/smtpd[9041]: warning: non-SMTP command from unknown[192.0.2.7]: {}`,
		`Nov 23 20:59:43 mx2 postfix/smtpd[9037]: NOQUEUE: reject: RCPT from unknown[192.0.2.7]: 554 5.7.1 <{}>: Relay access denied; from=<a@b> to=<{}> proto=ESMTP helo=<{}>`,
		`Nov 23 20:59:43 mx2 postfix/smtpd[9037]: NOQUEUE: reject: RCPT from unknown[192.0.2.7]: 554 5.7.1 <a@b>: Relay access denied; from=<{}> to=<a@b> proto=ESMTP helo=<u>`,
		`Nov 23 20:59:43 mx2 postfix/smtpd[9037]: NOQUEUE: reject: MAIL from unknown[192.0.2.7]: 550 5.1.0 <{}>: Sender address rejected: x; from=<{}> proto=ESMTP helo=<u>`,
	},
	"dovecot": {
		`Nov 23 20:53:08 mx1 dovecot: imap-login: Login: user=<{}>, method=PLAIN, rip=192.0.2.7, lip=198.51.100.1, mpid=1247, session=<LyT/x/dgnbvAAAIH>`,
		`Nov 23 20:53:08 mx1 dovecot: imap-login: Disconnected: Connection closed (no auth attempts in 0 secs): user=<{}>, rip=192.0.2.7, lip=198.51.100.1, session=<X8iuwfdg+b/AAAIH>`,
		`Nov 23 20:53:08 mx1 dovecot: lmtp(alice)<1><x>: msgid=<{}>: saved mail to INBOX`,
	},
	"vsftpd": {
		`Mon Nov 23 20:58:15 2026 [pid 7079] [alice] FTP command: Client "::ffff:192.0.2.7", "{}"`,
		`Mon Nov 23 20:58:15 2026 [pid 7079] FTP command: Client "::ffff:192.0.2.7", "{}"`,
		`Mon Nov 23 20:58:15 2026 [pid 7079] [{}] OK LOGIN: Client "::ffff:192.0.2.7"`,
		`Mon Nov 23 20:58:15 2026 [pid 7079] [alice] OK UPLOAD: Client "::ffff:192.0.2.7", "/{}", 12 bytes, 1.00Kbyte/sec`,
		`Nov 23 20:57:42 mx1 vsftpd: pam_unix(vsftpd:auth): authentication failure; logname= uid=0 euid=0 tty=ftp ruser={} rhost=::ffff:192.0.2.7 `,
	},
	"nginx": {
		`2026/11/23 20:55:20 [error] 2423#2423: *2 user "alice": password mismatch, client: 192.0.2.7, server: www.example.org, request: "GET {} HTTP/1.1", host: "www.example.org"`,
		`2026/11/23 20:55:20 [error] 2423#2423: *2 user "alice": password mismatch, client: 192.0.2.7, server: www.example.org, request: "GET / HTTP/1.1", host: "{}", referrer: "{}"`,
		`2026/11/23 20:55:22 [error] 2423#2423: *25 open() "/srv/www/{}" failed (2: No such file or directory), client: 192.0.2.7, server: www.example.org, request: "GET {} HTTP/1.1", host: "www.example.org"`,
	},
	"nginx-probe": {
		`192.0.2.7 - - [23/Nov/2026:20:55:22 +0000] "GET /.env HTTP/1.1" 404 153 "{}" "{}"`,
		`192.0.2.7 - {} [23/Nov/2026:20:55:22 +0000] "GET /.env HTTP/1.1" 404 153 "-" "-"`,
		`192.0.2.7 - - [23/Nov/2026:20:55:22 +0000] "{}" 400 153 "-" "-"`,
		`192.0.2.7 - - [23/Nov/2026:20:55:22 +0000] "GET /{}/.env HTTP/1.1" 404 153 "-" "-"`,
	},
	"apache": {
		`[Mon Nov 23 20:55:22.860407 2026] [auth_basic:error] [pid 2428:tid 2439] [client 192.0.2.7:35805] AH01617: user alice: authentication failure for "{}": Password Mismatch, referer: {}`,
		`[Mon Nov 23 20:55:22.911251 2026] [auth_basic:error] [pid 2428:tid 2440] [client 192.0.2.7:60119] AH01618: user nobody not found: {}`,
		`[Mon Nov 23 20:55:25.507974 2026] [auth_digest:error] [pid 2428:tid 2439] [client 192.0.2.7:47663] AH01788: realm mismatch - got '{}' but expected 'realm'`,
		`[Mon Nov 23 20:55:23.892888 2026] [authz_core:error] [pid 2437:tid 2453] [client 192.0.2.7:33069] AH01630: client denied by server configuration: /srv/www/{}`,
	},
}

// hostile are pieces of a filter's own lines about a third host: every piece that begins and ends where a word or a
// sign does and holds the address.
func hostile(f *config.Filter, evil string, fine bool) []string {
	edge := func(s string, i int) bool {
		if i == 0 || i == len(s) {
			return true
		}
		sign := func(c byte) bool { return strings.IndexByte(` []()<>"',:;=`, c) >= 0 }
		if !fine {
			return s[i] == ' ' || s[i-1] == ' '
		}
		return sign(s[i]) || sign(s[i-1])
	}
	seen := make(map[string]bool)
	for _, s := range f.Samples {
		if !s.Host.IsValid() {
			continue
		}
		line := strings.ReplaceAll(s.Line, s.Host.Addr().String(), evil)
		at := strings.Index(line, evil)
		if at < 0 {
			continue
		}
		for i := 0; i <= at; i++ {
			for j := at + len(evil); edge(line, i) && j <= len(line); j++ {
				if edge(line, j) {
					seen[line[i:j]] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// innocent checks that lines name the peer or nobody.
func innocent(t *testing.T, l log, peer, lines string) {
	t.Helper()
	for _, m := range l.scan(lines) {
		if got := m.Host.Addr().String(); got != peer {
			t.Fatalf("failregex %d finds %s, the peer is %s, in\n%s", m.Pattern+1, got, peer, lines)
		}
	}
}

func TestInjection(t *testing.T) {
	for name, f := range load(t).Filters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			can := possible[name]
			if can == nil {
				can = func(s string) string { return s }
			}
			rnd := rand.New(rand.NewPCG(1, 2))
			l := newLog(f)
			groups, tried := 0, 0
			for _, evil := range third {
				pieces := hostile(f, evil, true)
				// All pieces for one hole would be millions: take each hole's share by chance, but the same every time.
				const share = 600
				for _, s := range f.Samples {
					if !s.Host.IsValid() {
						continue
					}
					peer := s.Host.Addr().String()
					hs := holes(f, s.Line)
					groups += len(hs)
					for _, h := range hs {
						for range share {
							text := can(pieces[rnd.IntN(len(pieces))])
							innocent(t, l, peer, h.fill(text))
							innocent(t, l, peer, h.fill("x"+text+"x"))
							if name == "nginx" { // writes line ends as they come
								innocent(t, l, peer, h.fill("x\n"+text))
								innocent(t, l, peer, h.fill(text+"\n"+text))
							}
							tried++
						}
					}
				}
				for _, pattern := range elsewhere[name] {
					for range share {
						piece := func() string { return pieces[rnd.IntN(len(pieces))] }
						same := piece()
						innocent(t, l, "192.0.2.7", strings.ReplaceAll(pattern, "{}", same))
						line := pattern
						for strings.Contains(line, "{}") {
							line = strings.Replace(line, "{}", piece(), 1)
						}
						innocent(t, l, "192.0.2.7", line)
						tried++
					}
				}
			}
			if groups == 0 && name != "exim2" && name != "postfix-relay" {
				t.Error("no sample has a named group to fill: the test tests nothing")
			}
			if len(elsewhere[name]) == 0 || tried == 0 {
				t.Error("no line with a hole: the test tests nothing")
			}
		})
	}
}

// Two texts of one client, on both sides of the peer, can work together.
func TestInjectionOnBothSides(t *testing.T) {
	f := load(t).Filters["exim"]
	l := newLog(f)
	rnd := rand.New(rand.NewPCG(3, 4))
	lines := []string{
		`2026-11-23 20:40:46 login authenticator failed for (%s) [192.0.2.7]: 535 Incorrect authentication data (set_id=%s)`,
		`2026-11-23 20:43:33 [25677] login authenticator failed for (%s) [192.0.2.7]:50733 I=[198.51.100.1]:25: 535 Incorrect authentication data (set_id=%s)`,
		`2026-11-23 20:40:51 H=(%s) [192.0.2.7] rejected AUTH %s`,
		`2026-11-23 20:40:51 H=(%s) [192.0.2.7] rejected AUTH PLAIN: no AUTH for %s`,
		`2026-11-23 20:40:50 SMTP call from (%s) [192.0.2.7] dropped: too many syntax or protocol errors (last command was "AUTH %s",  C=EHLO,AUTH,AUTH,AUTH)`,
		`2026-11-23 20:43:34 SMTP protocol error in "AUTH %s" H=(%s) [192.0.2.7] AUTH command used when not advertised`,
		`2026-11-23 20:43:37 SMTP protocol error in "AUTH %s" H=(%s) [192.0.2.7] NTLM authentication mechanism not supported`,
	}
	for _, evil := range third {
		pieces := hostile(f, evil, true)
		for range 20000 {
			a, b := pieces[rnd.IntN(len(pieces))], pieces[rnd.IntN(len(pieces))]
			innocent(t, l, "192.0.2.7", fmt.Sprintf(lines[rnd.IntN(len(lines))], a, b))
		}
	}
}
