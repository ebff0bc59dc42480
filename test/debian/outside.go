package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Addresses of the machine, of those outside, and of the network behind the machine.
const (
	machine4   = "192.0.2.2"
	machine6   = "2001:db8:1::2"
	container4 = "192.0.2.130"

	sshAttacker  = "198.51.100.11"
	sshAttacker6 = "2001:db8:bad:1::7"
	mailAttacker = "198.51.100.12"
	byHand       = "198.51.100.13"
	short        = "198.51.100.14" // whose ban is short
	friend       = "203.0.113.5"
	friend6      = "2001:db8:f::5"
)

// outside is the world that the machine's network card is connected to: this process's network namespace.
type outside struct {
	askpass string // a program that says a wrong password
}

// newOutside sets up the namespace this process was started in. dir gets a program that ssh needs.
func newOutside(dir string) (*outside, error) {
	if links, err := net.Interfaces(); err != nil || len(links) != 1 {
		return nil, errors.Join(err, errors.New("this is not a fresh network namespace"))
	}
	script := `set -e
		ip link set lo up
		ip tuntap add tap0 mode tap
		ip addr add 192.0.2.1/25 dev tap0
		ip addr add 2001:db8:1::1/64 dev tap0 nodad
		ip link set tap0 up
		# The machine is known from its first moment: nobody waits for an answer to ARP.
		ip neigh replace ` + machine4 + ` lladdr ` + mac + ` dev tap0 nud permanent
		ip neigh replace ` + machine6 + ` lladdr ` + mac + ` dev tap0 nud permanent
		ip route add 192.0.2.128/25 via ` + machine4 + "\n"
	for _, a := range attackers() {
		script += "ip addr add " + a + "/32 dev lo\n"
	}
	for _, a := range []string{sshAttacker6, friend6} {
		script += "ip addr add " + a + "/128 dev lo nodad\n"
	}
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	o := &outside{}
	f, err := os.CreateTemp(dir, "askpass-")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	o.askpass = f.Name()
	if _, err := f.WriteString("#!/bin/sh\necho wrong\n"); err != nil {
		return nil, err
	}
	if err := f.Chmod(0o755); err != nil {
		return nil, err
	}
	// Everybody outside answers on this port, for the machine's own connections.
	l, err := net.Listen("tcp", ":2222")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, "hello")
			c.Close()
		}
	}()
	return o, nil
}

// banner connects from an address and reads the first line that the server says.
func banner(from, to, port string) (string, error) {
	c, err := dialFrom(from, to, port)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), err
}

// dialFrom connects from an address. Emulated, a server that answers does so within a fraction of the time given.
func dialFrom(from, to, port string) (net.Conn, error) {
	d := net.Dialer{Timeout: 3 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return d.Dial("tcp", net.JoinHostPort(to, port))
}

// unheard says whether an error is that of packets nobody answers, and not of a refusal.
func unheard(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// attackSSH tries a wrong password up to three times, as a bot does.
func (o *outside) attackSSH(ctx context.Context, from, to, user string) {
	cmd := exec.CommandContext(ctx, "ssh", "-F", "none", "-b", from, "-o", "UserKnownHostsFile=/dev/null",
		"-o", "StrictHostKeyChecking=no", "-o", "GlobalKnownHostsFile=/dev/null", "-o", "ConnectTimeout=10",
		"-o", "PreferredAuthentications=password,keyboard-interactive", "-o", "PubkeyAuthentication=no", user+"@"+to)
	cmd.Env = []string{"SSH_ASKPASS=" + o.askpass, "SSH_ASKPASS_REQUIRE=force", "PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Run() // a refusal, one way or another
}

// attackSMTP tries wrong passwords until the server or somebody before it has enough of it, and returns how many tries were
// refused in words.
func attackSMTP(from, to string, tries int) (refused int) {
	c, err := dialFrom(from, to, "25")
	if err != nil {
		return 0
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	r := bufio.NewReader(c)
	say := func(line string) string {
		if line != "" {
			fmt.Fprintf(c, "%s\r\n", line)
		}
		for {
			text, err := r.ReadString('\n')
			if err != nil {
				return ""
			}
			if len(text) < 4 || text[3] != '-' {
				return text
			}
		}
	}
	word := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	say("")
	say("EHLO bot.example.net")
	for range tries {
		if !strings.HasPrefix(say("AUTH LOGIN "+word("alice")), "334") {
			break
		}
		if !strings.HasPrefix(say(word("wrong")), "535") {
			break
		}
		refused++
	}
	return refused
}

// A prober sends an echo request every few milliseconds from one address and counts the answers.
type prober struct {
	from     string
	mu       sync.Mutex
	sent     int
	answered int
	first    int // the number of the first request that was answered; -1: none
	last     time.Time
	begun    time.Time
	cancel   context.CancelFunc
	done     sync.WaitGroup
	err      error
}

// interval is the time between two requests of one prober.
const interval = 20 * time.Millisecond

// probe begins to send from an address to the machine.
func probe(from string) (*prober, error) {
	return probeTo(from, machineFor(from))
}

func machineFor(from string) string {
	if strings.Contains(from, ":") {
		return machine6
	}
	return machine4
}

func probeTo(from, to string) (*prober, error) {
	network, kind, reply := "ip4:icmp", byte(8), byte(0)
	if strings.Contains(from, ":") {
		network, kind, reply = "ip6:ipv6-icmp", 128, 129
	}
	c, err := net.ListenPacket(network, from)
	if err != nil {
		return nil, err
	}
	dst := &net.IPAddr{IP: net.ParseIP(to)}
	ctx, cancel := context.WithCancel(context.Background())
	p := &prober{from: from, first: -1, begun: time.Now(), cancel: cancel}
	ident := uint16(time.Now().UnixNano() >> 10)
	p.done.Add(2)
	go func() {
		defer p.done.Done()
		defer c.Close()
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for n := 0; ; n++ {
			b := []byte{kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
			binary.BigEndian.PutUint16(b[4:], ident)
			binary.BigEndian.PutUint32(b[8:], uint32(n))
			if kind == 8 {
				binary.BigEndian.PutUint16(b[2:], checksum(b))
			}
			_, err := c.WriteTo(b, dst)
			p.mu.Lock()
			p.sent = n + 1
			if err != nil && p.err == nil && !errors.Is(err, syscall.ENOBUFS) {
				p.err = err
			}
			p.mu.Unlock()
			select {
			case <-tick.C:
			case <-ctx.Done():
				// What was answered so far may still be under way.
				time.Sleep(500 * time.Millisecond)
				return
			}
		}
	}()
	go func() {
		defer p.done.Done()
		b := make([]byte, 1500)
		seen := map[uint32]bool{}
		for {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			if n < 12 || b[0] != reply || binary.BigEndian.Uint16(b[4:]) != ident {
				continue
			}
			number := binary.BigEndian.Uint32(b[8:])
			if seen[number] {
				continue
			}
			seen[number] = true
			p.mu.Lock()
			p.answered++
			if p.first < 0 {
				p.first = int(number)
			}
			p.last = time.Now()
			p.mu.Unlock()
		}
	}()
	return p, nil
}

// end stops the prober and waits for what is under way.
func (p *prober) end() error {
	p.cancel()
	p.done.Wait()
	return p.err
}

// answeredNow is how many requests were answered so far.
func (p *prober) answeredNow() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answered
}

// checksum is that of the Internet protocols (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
