package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"banset/test/e2e/program"
)

// A machine is a Debian in qemu, with a shell on its second serial line. What it writes to its disk is forgotten at its
// end, not at a reboot.
type machine struct {
	dir     string
	cmd     *exec.Cmd
	shell   net.Conn
	answers chan answer
	monitor net.Conn
	replies *bufio.Scanner
	number  int
	kernel  string
	exited  chan error
}

type answer struct {
	number, status int
	output         string
}

// bootTime bounds a boot. Alone, an emulated one takes half a minute.
const bootTime = 8 * time.Minute

// mac is the machine's Ethernet address.
const mac = "52:54:00:12:34:56"

// accelerators are what qemu can run the machines' processors with, and what the results say of it.
var accelerators = map[string]string{"kvm": "on KVM", "tcg": "emulated (no KVM)"}

// accelerator is kvm where the processor can virtualize. /dev/kvm alone says little: there are hosts whose KVM runs none
// but kernels made for it.
func accelerator() string {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return "tcg"
	}
	f.Close()
	text, err := os.ReadFile("/proc/cpuinfo")
	_, flags, _ := strings.Cut(string(text), "\nflags")
	flags, _, _ = strings.Cut(flags, "\n")
	words := strings.Fields(flags)
	if err != nil || !slices.Contains(words, "vmx") && !slices.Contains(words, "svm") {
		return "tcg"
	}
	return "kvm"
}

// boot starts a machine from an image and waits for its shell. dir gets its console and sockets; packages is its second
// disk.
func boot(image, dir, packages, accel string) (*machine, error) {
	m := &machine{dir: dir, answers: make(chan answer, 16), exited: make(chan error, 1)}
	cpu := "qemu64,-svm"
	if accel == "kvm" {
		cpu = "host"
	}
	m.cmd = exec.Command("qemu-system-x86_64", "-accel", accel, "-machine", "pc", "-cpu", cpu, "-smp", "2", "-m", "1024",
		"-nodefaults", "-display", "none", "-snapshot",
		"-kernel", filepath.Join(image, "vmlinuz"), "-initrd", filepath.Join(image, "initrd"),
		"-append", "root=/dev/vda ro console=ttyS0,115200 net.ifnames=0 quiet systemd.show_status=0 "+
			"module_blacklist=ata_piix,pata_acpi,i2c_piix4,pcspkr,floppy,psmouse,parport_pc",
		"-drive", "file="+filepath.Join(image, "disk")+",format=raw,if=virtio",
		"-drive", "file="+packages+",format=raw,if=virtio,readonly=on",
		"-netdev", "tap,id=n,ifname=tap0,script=no,downscript=no", "-device", "virtio-net-pci,netdev=n,mac="+mac,
		"-device", "virtio-rng-pci",
		"-serial", "file:"+m.console(), "-serial", "unix:"+filepath.Join(dir, "shell")+",server=on,wait=off",
		"-qmp", "unix:"+filepath.Join(dir, "monitor")+",server=on,wait=off")
	m.cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	out, err := os.Create(filepath.Join(dir, "qemu"))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	m.cmd.Stdout, m.cmd.Stderr = out, out
	if err := program.Spawn(m.cmd); err != nil {
		return nil, fmt.Errorf("start qemu: %w", err)
	}
	go func() { m.exited <- m.cmd.Wait() }()
	if m.shell, err = m.dial("shell"); err == nil {
		m.monitor, err = m.dial("monitor")
	}
	if err != nil {
		m.close()
		text, _ := os.ReadFile(out.Name())
		return nil, fmt.Errorf("%w\n%s", err, text)
	}
	go m.listen()
	m.replies = bufio.NewScanner(m.monitor)
	m.replies.Scan() // the greeting
	if _, err := m.control("qmp_capabilities"); err != nil {
		m.close()
		return nil, err
	}
	if err := m.booted(); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *machine) console() string { return filepath.Join(m.dir, "console") }

// dial connects to one of qemu's sockets, which are there a moment after its start.
func (m *machine) dial(name string) (net.Conn, error) {
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("unix", filepath.Join(m.dir, name))
		if err == nil || time.Now().After(end) {
			return c, err
		}
		select {
		case err := <-m.exited:
			m.exited <- err
			return nil, fmt.Errorf("qemu ended: %w", err)
		default:
		}
	}
}

// close ends the machine as if its plug were pulled.
func (m *machine) close() {
	m.cmd.Process.Kill()
	m.exited <- <-m.exited
	for _, c := range []net.Conn{m.shell, m.monitor} {
		if c != nil {
			c.Close()
		}
	}
}

// listen reads what the machine's shell says until the machine ends.
func (m *machine) listen() {
	defer close(m.answers)
	r := bufio.NewReader(m.shell)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		// A boot may leave noise of the line before the first word.
		fields := strings.Fields(strings.TrimLeft(line, "\x00"))
		if len(fields) == 2 {
			fields = append(fields, "")
		}
		if len(fields) != 3 {
			continue
		}
		number, err1 := strconv.Atoi(fields[0])
		status, err2 := strconv.Atoi(fields[1])
		output, err3 := base64.StdEncoding.DecodeString(fields[2])
		if errors.Join(err1, err2, err3) == nil {
			m.answers <- answer{number, status, string(output)}
		}
	}
}

// booted waits for the shell of a boot.
func (m *machine) booted() error {
	end := time.After(bootTime)
	for {
		select {
		case a, ok := <-m.answers:
			if !ok {
				return errors.New("qemu ended during a boot")
			}
			if a.number == 0 {
				m.kernel = strings.TrimSpace(a.output)
				return nil
			}
		case <-end:
			text, _ := os.ReadFile(m.console())
			return fmt.Errorf("no shell after %s; the console ends:\n%s", bootTime, lastLines(string(text), 15))
		}
	}
}

// sh runs a script in the machine and returns what it wrote, both streams, and an error if it failed.
func (m *machine) sh(script string) (string, error) { return m.shFor(5*time.Minute, script) }

// shFor is sh with another bound than five minutes.
func (m *machine) shFor(limit time.Duration, script string) (string, error) {
	m.number++
	if _, err := fmt.Fprintf(m.shell, "%d %s\n", m.number, base64.StdEncoding.EncodeToString([]byte(script))); err != nil {
		return "", fmt.Errorf("shell: %w", err)
	}
	end := time.After(limit)
	for {
		select {
		case a, ok := <-m.answers:
			switch {
			case !ok:
				return "", errors.New("qemu ended")
			case a.number == 0:
				return "", errors.New("the machine booted by itself")
			case a.number != m.number:
				continue
			case a.status != 0:
				return a.output, fmt.Errorf("%q: exit status %d: %s", firstLine(script), a.status, lastLines(a.output, 6))
			}
			return a.output, nil
		case <-end:
			return "", fmt.Errorf("%q: no end after %s", firstLine(script), limit)
		}
	}
}

// control asks qemu itself for something.
func (m *machine) control(command string) (map[string]any, error) {
	if err := json.NewEncoder(m.monitor).Encode(map[string]string{"execute": command}); err != nil {
		return nil, fmt.Errorf("monitor: %w", err)
	}
	for m.replies.Scan() {
		var r struct {
			Return map[string]any
			Error  *struct{ Desc string }
			Event  string
		}
		if err := json.Unmarshal(m.replies.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("monitor: %w", err)
		}
		switch {
		case r.Error != nil:
			return nil, fmt.Errorf("monitor: %s: %s", command, r.Error.Desc)
		case r.Event == "":
			return r.Return, nil
		}
	}
	return nil, errors.New("monitor: qemu ended")
}

// status is what qemu says of the machine: running, suspended, paused.
func (m *machine) status() (string, error) {
	r, err := m.control("query-status")
	s, _ := r["status"].(string)
	return s, err
}

// reboot goes down in order and comes up again.
func (m *machine) reboot() error {
	if _, err := m.sh("systemctl --no-block reboot"); err != nil {
		return err
	}
	return m.booted()
}

// reset is a power cut: what was not on the disk is lost.
func (m *machine) reset() error {
	if _, err := m.control("system_reset"); err != nil {
		return err
	}
	return m.booted()
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
