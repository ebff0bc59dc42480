package nfttest

import (
	"net"
	"os"
	"strings"
	"testing"
)

func TestMain(m *testing.M) { Main(m) }

func TestNamespaceIsPrivate(t *testing.T) {
	mine, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	parent, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(parent[strings.LastIndexByte(string(parent), ')')+1:]))
	theirs, err := os.Readlink("/proc/" + fields[1] + "/ns/net")
	if err == nil && mine == theirs {
		t.Errorf("the namespace is that of the process that started the tests: %s", mine)
	}
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		if i.Flags&net.FlagUp != 0 && i.Name != "lo" {
			t.Errorf("interface %s is up", i.Name)
		}
	}
	c, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("lo is not up: %v", err)
	}
	c.Close()
}

func TestClean(t *testing.T) {
	t.Run("leaves a table", func(t *testing.T) {
		Clean(t)
		Nft(t, "add table inet left")
		if got := Run(t, "nft", "list", "tables"); got != "table inet left\n" {
			t.Errorf("tables: %q", got)
		}
	})
	if got := Run(t, "nft", "list", "tables"); got != "" {
		t.Errorf("left: %q", got)
	}
}

func TestPeer(t *testing.T) {
	Clean(t)
	p := NewPeer(t)
	for _, addr := range []string{Here4, Here6} {
		l, err := net.Listen("tcp", net.JoinHostPort(addr, "25"))
		if err != nil {
			t.Fatal(err)
		}
		var c net.Conn
		p.Do(func() { c, err = net.Dial("tcp", net.JoinHostPort(addr, "25")) })
		if err != nil {
			t.Fatal(err)
		}
		from, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if host, _, _ := net.SplitHostPort(from.RemoteAddr().String()); host != There4 && host != There6 {
			t.Errorf("came from %s", host)
		}
		from.Close()
		c.Close()
		l.Close()
	}
	if got := p.Run("ip", "-o", "address", "show", "dev", "there"); !strings.Contains(got, There4+"/24") {
		t.Errorf("the peer has %s", got)
	}
}

// Where a namespace can't be had the tests fail, with a word on what to do.
func TestNoNamespace(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Within a user namespace the limit is its own, and stops nobody else's tests.
	script := `echo 0 >/proc/sys/user/max_net_namespaces && exec "$0" -test.run=NONE`
	cmd := Command(t, "unshare", "-Ur", "sh", "-c", script, exe)
	cmd.Env = append(os.Environ(), inside+"=")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "kernel.unprivileged_userns_clone=1") {
		t.Errorf("%v: %s", err, out)
	}
}
