package resident

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkResident measures the daemon with live bans in kernel, file and state:
//
//	go test -run '^$' -bench Resident -benchtime 1x ./test/resident
//
// The bans come from the blocklist at the first start, which is the worst of all starts: none of them is known. MB is
// what is resident once the daemon has come to rest (VmRSS), peak-MB the most that ever was (VmHWM), heap-MB what of it
// is memory of its own rather than pages of its files (RssAnon). The again- figures are those of the next start, whose
// bans the state knows.
func BenchmarkResident(b *testing.B) {
	binary := build(b, b.TempDir())
	for _, n := range []int{0, 100_000, 1_000_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) { resident(b, binary, n) })
	}
}

func resident(b *testing.B, binary string, n int) {
	for b.Loop() {
		d := newDaemon(b, binary, bansText(n), fmt.Sprintf("max_bans: %d\n", n+1000))
		for _, name := range []string{"", "again-"} {
			began := time.Now()
			d.start()
			b.ReportMetric(time.Since(began).Seconds(), name+"start-s")
			d.settle()
			b.ReportMetric(float64(d.status("VmRSS"))/1e6, name+"MB")
			b.ReportMetric(float64(d.status("VmHWM"))/1e6, name+"peak-MB")
			b.ReportMetric(float64(d.status("RssAnon"))/1e6, name+"heap-MB")
			d.stop()
		}
	}
	b.ReportMetric(0, "ns/op")
}

// bansText is a blocklist of n bans of a policy, of which none ends soon.
func bansText(n int) string {
	var text []byte
	now := time.Now().UTC()
	for i := range n {
		host := netip.AddrFrom4([4]byte{198, 18 + byte(i>>16), byte(i >> 8), byte(i)})
		at := now.Add(time.Duration(i-n) * time.Second)
		text = fmt.Appendf(text, "%s # banset/%s until %s: exim2-repeater: 10 failures\n", host, at.Format("2006-01-02 15:04:05Z"),
			at.AddDate(1, 0, 0).Format("2006-01-02 15:04:05Z"))
	}
	return string(text)
}

// settle waits until the daemon has used no processor for two seconds.
func (d *daemon) settle() {
	d.b.Helper()
	deadline := time.Now().Add(patience)
	for used := int64(-1); ; time.Sleep(2 * time.Second) {
		now := d.cpu()
		if now == used {
			return
		}
		if used = now; time.Now().After(deadline) {
			d.b.Fatal("it does not come to rest")
		}
	}
}

// cpu is the processor time that it used so far, in ticks.
func (d *daemon) cpu() int64 {
	d.b.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(d.cmd.Process.Pid), "stat"))
	if err != nil {
		d.b.Fatal(err)
	}
	// See proc_pid_stat(5): utime and stime are the 14th and 15th, the name in brackets is the second.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		d.b.Fatal(err)
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	if err != nil {
		d.b.Fatal(err)
	}
	return user + system
}

// status is a value of /proc/PID/status, in bytes where it has a unit.
func (d *daemon) status(key string) int64 {
	d.b.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(d.cmd.Process.Pid), "status"))
	if err != nil {
		d.b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		value, ok := strings.CutPrefix(line, key+":")
		if !ok {
			continue
		}
		number, unit, _ := strings.Cut(strings.TrimSpace(value), " ")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			d.b.Fatal(err)
		}
		if unit == "kB" {
			n *= 1024
		}
		return n
	}
	d.b.Fatalf("no %s in\n%s", key, text)
	return 0
}
