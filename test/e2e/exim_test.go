package e2e

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"banset/nft/nfttest"
	"banset/test/e2e/program"
)

// eximConfig is a mail server that offers AUTH to everybody and lets nobody in.
const eximConfig = `
log_file_path = %[1]s/%%slog
spool_directory = %[1]s/spool
pid_file_path = %[1]s/exim.pid
primary_hostname = mail.example.org
daemon_smtp_ports = 25
host_lookup =
rfc1413_query_timeout = 0s
auth_advertise_hosts = *
tls_advertise_hosts =
keep_environment =
exim_user = root
exim_group = root
never_users =
begin acl
begin authenticators
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = no
  server_set_id = $auth1
`

// eximBinary finds Debian's Exim, or skips.
func eximBinary(t *testing.T) string {
	t.Helper()
	if nfttest.InUserNamespace() {
		t.Skip("Exim calls setgroups, which an unprivileged user's namespace refuses: run this test as root")
	}
	for _, path := range []string{"/usr/sbin/exim4", "/usr/sbin/exim"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Skip("there is no Exim here: apt install exim4-daemon-heavy")
	return ""
}

// startExim runs Exim in the host's namespace and waits until it listens.
func (h *host) startExim(path string) {
	h.t.Helper()
	h.writeFile("exim.conf", fmt.Sprintf(eximConfig, h.dir))
	cmd := exec.Command(path, "-C", h.path("exim.conf"), "-bdf")
	// A file, not a pipe: Exim's children would hold a pipe open.
	out, err := os.Create(h.path("exim.out"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := program.Spawn(cmd); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", nfttest.Here4+":25")
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			h.t.Fatalf("Exim does not listen: %v\n%s", err, h.readFile("exim.out"))
		}
	}
}

// smtp is an attacker's connection to Exim.
type smtp struct {
	net.Conn
	*textproto.Reader
}

func (h *host) dialSMTP(src string) (*smtp, error) {
	var c net.Conn
	var err error
	h.peer.Do(func() {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(src)}, Timeout: 2 * time.Second}
		c, err = d.Dial("tcp", net.JoinHostPort(here(src), "25"))
	})
	if err != nil {
		return nil, err
	}
	s := &smtp{c, textproto.NewReader(bufio.NewReader(c))}
	if err := errors.Join(s.expect(220), s.say("EHLO User", 250)); err != nil {
		c.Close()
		return nil, err
	}
	return s, nil
}

func (s *smtp) expect(code int) error {
	s.SetDeadline(time.Now().Add(2 * time.Second))
	_, _, err := s.ReadResponse(code)
	return err
}

func (s *smtp) say(line string, code int) error {
	if _, err := fmt.Fprintf(s, "%s\r\n", line); err != nil {
		return err
	}
	return s.expect(code)
}

// guess tries one password.
func (s *smtp) guess(password string) error {
	word := base64.StdEncoding.EncodeToString
	for _, step := range []struct {
		line string
		code int
	}{{"AUTH LOGIN", 334}, {word([]byte("bob")), 334}, {word([]byte(password)), 535}} {
		if err := s.say(step.line, step.code); err != nil {
			return err
		}
	}
	return nil
}

// TestRealExim is the main job: a real mail server, a real attacker, the seed's policy, until the line goes dead.
func TestRealExim(t *testing.T) {
	exim := eximBinary(t)
	h := newHost(t)
	h.neighbour(attacker)
	h.neighbour(bystander)
	h.configure("ignoreip: [self]")
	h.start()
	h.startExim(exim)
	guesses, cut := 0, error(nil)
	for calls := 0; cut == nil && calls < 20; calls++ {
		s, err := h.dialSMTP(attacker)
		for err == nil {
			if err = s.guess(fmt.Sprint("secret", guesses)); err == nil {
				guesses++
			}
		}
		// Exim itself hangs up after some failures; a time-out is ours.
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			cut = err
		}
	}
	if cut == nil {
		t.Fatalf("after %d guesses the attacker is still heard; Exim's log:\n%s", guesses, h.readFile("mainlog"))
	}
	h.logged("[exim2-repeater] Ban " + attacker + " until ")
	if guesses < 10 {
		t.Errorf("cut after %d guesses, want at least 10", guesses)
	}
	t.Logf("cut after %d guesses", guesses)
	h.mustDrop(attacker)
	h.mustPass(bystander)
	if s, err := h.dialSMTP(bystander); err != nil {
		t.Errorf("somebody else's mail: %v", err)
	} else {
		s.Close()
	}
	h.verified()
	if out := h.banset("list"); !strings.Contains(out, attacker) || !strings.Contains(out, "exim2-repeater") {
		t.Errorf("banset list:\n%s", out)
	}
}
