package resident

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
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
		b.Run("bans="+strconv.Itoa(n), func(b *testing.B) { resident(b, binary, n) })
	}
}

func resident(b *testing.B, binary string, n int) {
	for b.Loop() {
		d := newDaemon(b, binary, bansText(n), fmt.Sprintf("max_bans: %d\n", n+1000))
		for _, name := range []string{"", "again-"} {
			began := time.Now()
			d.start()
			b.ReportMetric(time.Since(began).Seconds(), name+"start-s")
			b.ReportMetric(float64(d.cpu())/100, name+"start-cpu-s")
			d.settle()
			b.ReportMetric(float64(d.status("VmRSS"))/1e6, name+"MB")
			b.ReportMetric(float64(d.status("VmHWM"))/1e6, name+"peak-MB")
			b.ReportMetric(float64(d.status("RssAnon"))/1e6, name+"heap-MB")
			d.stop()
		}
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkHosts measures the daemon with hosts that failed nine times each, of the ten that earn a ban:
//
//	go test -run '^$' -bench Hosts -benchtime 1x ./test/resident
//
// They come from a log of nine million lines, so this is the way of the hits through scan, judge and state, too. B/host
// is what is resident at rest beyond what the daemon takes without any, the again- figure that of the next start, and
// again-start-s how long that takes until it is ready, of which again-start-cpu-s of a processor.
func BenchmarkHosts(b *testing.B) {
	binary := build(b, b.TempDir())
	const n = 1_000_000
	for b.Loop() {
		none := newDaemon(b, binary, "", "max_hosts: 2000000\n")
		none.start()
		none.settle()
		empty := none.status("VmRSS")
		none.stop()

		d := newDaemon(b, binary, "", "max_hosts: 2000000\n")
		f, err := os.Create(filepath.Join(d.dir, "log"))
		if err != nil {
			b.Fatal(err)
		}
		w := bufio.NewWriterSize(f, 1<<20)
		var line []byte
		now := time.Now().Add(-2 * time.Hour)
		for round := range 9 {
			// Minutes apart: what is stored of each failure takes more than a byte.
			line = now.Add(time.Duration(10*round)*time.Minute).AppendFormat(line[:0], "2006-01-02 15:04:05 from ")
			stamp := len(line)
			for i := range n {
				host := netip.AddrFrom4([4]byte{198, byte(i >> 16), byte(i >> 8), byte(i)})
				line = append(host.AppendTo(line[:stamp]), '\n')
				w.Write(line) // an error stays until Flush
			}
		}
		if err := errors.Join(w.Flush(), f.Close()); err != nil {
			b.Fatal(err)
		}
		for _, name := range []string{"", "again-"} {
			began := time.Now()
			d.start()
			b.ReportMetric(time.Since(began).Seconds(), name+"start-s")
			b.ReportMetric(float64(d.cpu())/100, name+"start-cpu-s")
			d.settle()
			b.ReportMetric(float64(d.status("VmRSS")-empty)/n, name+"B/host")
			b.ReportMetric(float64(d.status("VmHWM"))/1e6, name+"peak-MB")
			d.hosts(n)
			d.stop()
		}
	}
	b.ReportMetric(0, "ns/op")
}

// hosts fails the benchmark unless so many hosts are tracked.
func (d *daemon) hosts(want int) {
	d.b.Helper()
	out, err := exec.Command(d.binary, "status", "--json", "--config", filepath.Join(d.dir, "banset.yaml")).Output()
	var status struct{ Hosts int }
	if jsonErr := json.Unmarshal(out, &status); jsonErr != nil || status.Hosts != want {
		d.b.Fatalf("%d hosts are tracked, want %d: %v %v\n%s", status.Hosts, want, err, jsonErr, out)
	}
}

// BenchmarkIdle measures how often the daemon wakes up with 20 quiet logs and one that is not there:
//
//	go test -run '^$' -bench Idle -benchtime 1x ./test/resident
//
// switches are the context switches of all its threads in a minute. Go's own clock makes one or two of them.
func BenchmarkIdle(b *testing.B) {
	binary := build(b, b.TempDir())
	for b.Loop() {
		d := newDaemon(b, binary, bansText(1000), "")
		for i := range 20 {
			if err := os.WriteFile(filepath.Join(d.dir, fmt.Sprintf("log%d", i)), []byte("a line\n"), 0o600); err != nil {
				b.Fatal(err)
			}
		}
		waiting := fmt.Sprintf("  waiting: {failregex: ['from <HOST>$'], logpath: [%s/not/there/yet]}\n", d.dir)
		name := filepath.Join(d.dir, "banset.yaml")
		config, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(name, append(config, waiting...), 0o600)
		}
		if err != nil {
			b.Fatal(err)
		}
		d.start()
		d.settle()
		before := d.switches()
		time.Sleep(time.Minute)
		b.ReportMetric(float64(d.switches()-before), "switches")
	}
	b.ReportMetric(0, "ns/op")
}

// switches are the context switches of all threads so far.
func (d *daemon) switches() (n int64) {
	d.b.Helper()
	tasks, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(d.cmd.Process.Pid), "task", "*"))
	if err != nil || len(tasks) == 0 {
		d.b.Fatalf("no threads: %v", err)
	}
	for _, task := range tasks {
		n += d.value(filepath.Join(task, "status"), "voluntary_ctxt_switches") +
			d.value(filepath.Join(task, "status"), "nonvoluntary_ctxt_switches")
	}
	return n
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

// settle waits until the daemon has used no processor for 40 seconds: half a minute may lie between two commits of a
// flood, and five seconds after the last one memory is given back.
func (d *daemon) settle() {
	d.b.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	for used := int64(-1); ; time.Sleep(40 * time.Second) {
		now := d.cpu()
		if now == used {
			return
		}
		if used = now; time.Now().After(deadline) {
			d.b.Fatal("it does not come to rest")
		}
	}
}

// cpu is the processor time that it used so far, in ticks of 10 ms.
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
	return d.value(filepath.Join("/proc", strconv.Itoa(d.cmd.Process.Pid), "status"), key)
}

// value is one of a file like that.
func (d *daemon) value(name, key string) int64 {
	d.b.Helper()
	text, err := os.ReadFile(name)
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
