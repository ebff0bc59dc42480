package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"banset/cmd/internal/configfile"
	"banset/cmd/internal/daemon"
	"banset/nft"
	"banset/policy/config"
)

// The addresses of the demo's two machines; see RFC 5737.
var (
	demoServer = netip.AddrFrom4([4]byte{192, 0, 2, 25})
	demoClient = netip.AddrFrom4([4]byte{203, 0, 113, 66})
)

// demoConfig is the configuration of the demo; %[1]s is its directory. The policy is the seed's: the one that banset
// was made for.
const demoConfig = `blocklist: %[1]s/blocklist
state: %[1]s/state.db
socket: %[1]s/banset.sock
policies:
  exim2-repeater:
    enabled: true
    filter: exim2
    logpath: [%[1]s/mainlog]
    maxretry: 10
    findtime: 31536000
    bantime: 31536000
`

// demoGuesses is how often the guesser tries at most; the tenth is to be its last.
const demoGuesses = 20

// demoPace is the guesser's pause between two passwords.
const demoPace = 50 * time.Millisecond

// A demo is the stage: the server's side is this process, the guesser's side is the room.
type demo struct {
	a      *app
	dir    string
	config *config.Config
	room   *netRoom
	keeper *nft.Keeper
	daemon *demoDaemon
	mail   mailServer
}

// demoInside plays the demo. The caller is in private network and mount namespaces.
func (a *app) demoInside(ctx context.Context) error {
	began := time.Now()
	if err := furnishRoom(); err != nil {
		return err
	}
	room, err := newNetRoom()
	if err != nil {
		return err
	}
	defer room.Close()
	if err := joinRooms(room, demoServer, demoClient); err != nil {
		return err
	}
	d := &demo{a: a, room: room, dir: "/tmp/banset-demo"}
	d.tell("A mail server, %s, and a password guesser, %s, each in a network namespace of its own.\n"+
		"Nothing of this machine is touched, and nothing is left behind.", demoServer, demoClient)
	if err := d.play(ctx); err != nil {
		return err
	}
	d.tell("\nAll of it is gone again. It took %.1f s.", time.Since(began).Seconds())
	return nil
}

// tell prints lines of the story.
func (d *demo) tell(format string, args ...any) { fmt.Fprintf(d.a.stdout, format+"\n", args...) }

// show prints text that some program wrote, set off from the story.
func (d *demo) show(text string) {
	for line := range strings.Lines(text) {
		line = strings.ReplaceAll(strings.TrimRight(line, "\n"), "\t", "    ")
		d.tell("    %s", printable(line))
	}
}

func (d *demo) play(ctx context.Context) (err error) {
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(d.dir, "mainlog"))
	if err != nil {
		return err
	}
	defer log.Close()
	if err := d.writeConfig(); err != nil {
		return err
	}
	if d.daemon, err = startDemoDaemon(ctx, d.a.configPath, d.config.Socket); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.daemon.stop()) }()
	if d.keeper, err = nft.Open(daemon.KernelConfig(d.config)); err != nil {
		return err
	}
	defer d.keeper.Close()

	listener, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(demoServer, 25)))
	if err != nil {
		return fmt.Errorf("opening port 25 in the private namespace: %w", err)
	}
	d.mail = mailServer{log: log}
	serving := make(chan struct{})
	go func() {
		defer close(serving)
		d.mail.serve(listener)
	}()
	defer func() {
		listener.Close()
		<-serving
	}()
	for _, scene := range []func(context.Context) error{d.attack, d.banned, d.inKernel, d.inFile, d.again, d.outward} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	return nil
}

// writeConfig writes the configuration, shows its policy and reads it back as everybody does.
func (d *demo) writeConfig() error {
	d.a.configPath = filepath.Join(d.dir, "banset.yaml")
	text := fmt.Sprintf(demoConfig, d.dir)
	if err := os.WriteFile(d.a.configPath, []byte(text), 0o600); err != nil {
		return err
	}
	set, err := configfile.Read(d.a.configPath)
	if err != nil {
		return err
	}
	c, problems := set.Load()
	if c == nil {
		return badConfig(problems)
	}
	d.config = c
	_, policies, _ := strings.Cut(text, "policies:\n")
	d.tell("\n1. The daemon, \"banset run\", watches the server's log by this policy:")
	d.show(policies)
	return nil
}

// attack lets the guesser guess until it is cut off.
func (d *demo) attack(ctx context.Context) error {
	d.tell("\n2. The guesser tries passwords over SMTP:")
	g := guesser{dial: func() (net.Conn, error) { return d.callServer(ctx) }}
	defer g.hangUp()
	for n := 1; n <= demoGuesses; n++ {
		said, err := g.guess("info@mail.example", fmt.Sprintf("secret%d", n))
		switch {
		case timedOut(err):
			d.tell("    guess %2d: no answer any more", n)
			return d.showLog()
		case err != nil:
			return fmt.Errorf("the guesser's connection: %w", err)
		case n <= 2 || n >= d.config.Policies[0].MaxRetry:
			d.tell("    guess %2d: %s", n, said)
		case n == 3:
			d.tell("    …")
		}
		select {
		case <-time.After(demoPace):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.New("the guesser was never cut off: the demo shows a fault of banset; please report it")
}

// showLog shows the last line of the mail server's log.
func (d *demo) showLog() error {
	text, err := os.ReadFile(filepath.Join(d.dir, "mainlog"))
	if err != nil {
		return err
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	d.tell("   Its %d failures are in the log, the last one like this:", len(lines))
	d.show(string(lines[len(lines)-1]))
	return nil
}

// banned shows what the daemon logged.
func (d *demo) banned(ctx context.Context) error {
	line, at, err := d.daemon.find(ctx, "Ban "+demoClient.String())
	if err != nil {
		return err
	}
	earned := d.config.Policies[0].MaxRetry
	took := at.Sub(d.mail.wrote(earned))
	d.tell("\n3. The daemon's log, %.1f ms after line %d was written:", float64(took)/float64(time.Millisecond), earned)
	d.show(line)
	return nil
}

// inKernel shows the set the way nft does.
func (d *demo) inKernel(ctx context.Context) error {
	text, err := listSet(ctx, d.keeper)
	if err != nil {
		return err
	}
	d.tell("\n4. The kernel, as \"nft list set inet %s %s\" shows it; the time runs out there by itself:", d.config.NFTables.Table,
		nft.Ban4)
	d.show(text)
	return nil
}

// inFile shows the blocklist's line, for which it may have to wait: the kernel comes first.
func (d *demo) inFile(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		text, err := os.ReadFile(d.config.Blocklist)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, demoClient.String()+" ") {
				d.tell("\n5. The blocklist, from which a ban comes back after a reboot:")
				d.show(line)
				return nil
			}
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return errors.New("the ban did not get into the blocklist in 5 s")
		}
	}
}

// again lets the guesser call once more, and shows that its packets are dropped.
func (d *demo) again(ctx context.Context) error {
	before, _, err := d.keeper.Dropped(ctx)
	if err != nil {
		return err
	}
	c, err := d.callServer(ctx)
	if err == nil {
		c.Close()
		return errors.New("the banned guesser could connect again: the demo shows a fault of banset; please report it")
	}
	if !timedOut(err) {
		return fmt.Errorf("the guesser's second call: %w", err)
	}
	after, _, err := d.keeper.Dropped(ctx)
	if err != nil {
		return err
	}
	if after == before {
		return errors.New("no packet was dropped: the demo shows a fault of banset; please report it")
	}
	d.tell("\n6. The guesser calls again: no answer in %v. Packets dropped so far: %d, before that call %d.", patience, after, before)
	return nil
}

// outward shows that the server's own connections to the banned host work.
func (d *demo) outward(ctx context.Context) error {
	var l net.Listener
	var err error
	d.room.do(func() { l, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(demoClient, 80))) })
	if err != nil {
		return fmt.Errorf("opening a port at the guesser's side: %w", err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			io.WriteString(c, "hello\n")
			c.Close()
		}
	}()
	dialer := net.Dialer{Timeout: 5 * time.Second}
	c, err := dialer.DialContext(ctx, "tcp4", l.Addr().String())
	if err != nil {
		return fmt.Errorf("the server's own connection to the banned host: %w", err)
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	said, err := io.ReadAll(c)
	if err != nil {
		return fmt.Errorf("the server's own connection to the banned host: %w", err)
	}
	d.tell("\n7. The server's own connections to the guesser's address still work: %s says %q.", l.Addr(), said)
	return nil
}

// callServer connects to the mail server from the guesser's side.
func (d *demo) callServer(ctx context.Context) (c net.Conn, err error) {
	d.room.do(func() {
		dialer := net.Dialer{Timeout: patience}
		c, err = dialer.DialContext(ctx, "tcp4", netip.AddrPortFrom(demoServer, 25).String())
	})
	return c, err
}

// timedOut reports whether a connection failed because nothing came.
func timedOut(err error) bool {
	neterr, ok := errors.AsType[net.Error](err)
	return ok && neterr.Timeout()
}
