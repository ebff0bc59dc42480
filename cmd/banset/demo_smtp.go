package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// A mailServer is as much of an SMTP server as a password guesser needs: it refuses every password, and writes the log
// line that Exim writes then.
type mailServer struct {
	log io.Writer

	mu   sync.Mutex
	told []time.Time // just before each line was written
	open []net.Conn
}

// serve answers connections to l until it is closed; then it cuts off those that are left.
func (s *mailServer) serve(l net.Listener) {
	var sessions sync.WaitGroup
	for {
		c, err := l.Accept()
		if err != nil {
			break // closed: the demo is over
		}
		s.mu.Lock()
		s.open = append(s.open, c)
		s.mu.Unlock()
		sessions.Go(func() {
			defer c.Close()
			s.talk(c)
		})
	}
	// The guesser's goodbye may have been dropped.
	for _, c := range s.open {
		c.Close()
	}
	sessions.Wait()
}

// wrote is when line n, from 1, was about to be written.
func (s *mailServer) wrote(n int) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n > len(s.told) {
		return time.Time{}
	}
	return s.told[n-1]
}

// talk is one SMTP session.
func (s *mailServer) talk(c net.Conn) {
	peer := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	in := bufio.NewReader(io.LimitReader(c, 64<<10))
	helo := ""
	answer := "220 mail.example ESMTP"
	for {
		if _, err := io.WriteString(c, answer+"\r\n"); err != nil {
			return
		}
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case verb == "EHLO":
			helo, answer = rest, "250 AUTH LOGIN"
		case verb == "AUTH":
			answer = "334 " + base64.StdEncoding.EncodeToString([]byte("Password:"))
			if _, err := io.WriteString(c, answer+"\r\n"); err != nil {
				return
			}
			if _, err := in.ReadString('\n'); err != nil {
				return
			}
			if err := s.refused(peer, helo, rest); err != nil {
				return
			}
			answer = "535 Incorrect authentication data"
		case verb == "QUIT":
			io.WriteString(c, "221 mail.example closing connection\r\n")
			return
		default:
			answer = "500 unrecognized command"
		}
	}
}

// refused writes the log line of one wrong password.
func (s *mailServer) refused(peer netip.Addr, helo, auth string) error {
	_, initial, _ := strings.Cut(auth, " ")
	user, err := base64.StdEncoding.DecodeString(initial)
	if err != nil {
		return err
	}
	line := fmt.Sprintf("%s login authenticator failed for (%s) [%s]: 535 Incorrect authentication data (set_id=%s)",
		time.Now().Format("2006-01-02 15:04:05"), escaped(helo), peer, escaped(string(user)))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, time.Now())
	_, err = io.WriteString(s.log, line+"\n")
	return err
}

// patience is how long the guesser waits for a packet before it believes that none comes.
const patience = time.Second

// A guesser tries passwords.
type guesser struct {
	dial func() (net.Conn, error)
	c    net.Conn
	in   *bufio.Reader
}

// guess tries one password and returns the server's verdict, over the connection that is open or a new one.
func (g *guesser) guess(user, password string) (string, error) {
	if g.c == nil {
		c, err := g.dial()
		if err != nil {
			return "", err
		}
		g.c, g.in = c, bufio.NewReader(c)
		if _, err := g.hear(); err != nil {
			return "", err
		}
		if _, err := g.tell("EHLO User"); err != nil {
			return "", err
		}
	}
	if _, err := g.tell("AUTH LOGIN " + base64.StdEncoding.EncodeToString([]byte(user))); err != nil {
		return "", err
	}
	return g.tell(base64.StdEncoding.EncodeToString([]byte(password)))
}

// tell sends a line and returns the answer.
func (g *guesser) tell(line string) (string, error) {
	if _, err := io.WriteString(g.c, line+"\r\n"); err != nil {
		return "", err
	}
	return g.hear()
}

func (g *guesser) hear() (string, error) {
	if err := g.c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	line, err := g.in.ReadString('\n')
	return strings.TrimSpace(line), err
}

// hangUp closes the connection without a word.
func (g *guesser) hangUp() {
	if g.c != nil {
		g.c.Close()
		g.c = nil
	}
}
