package exact

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"banset/nft/nfttest"
	"banset/policy"
)

// TestFirstStart: a daemon that knows nothing reads the rotated files within findtime, the oldest first, whatever they
// are compressed with, and reads none of them twice afterwards.
func TestFirstStart(t *testing.T) {
	nfttest.Clean(t)
	dir := t.TempDir()
	log := &logfile{t: t, mercy: new(atomic.Int32), path: filepath.Join(dir, "mail.log"), policies: []string{"week"}}
	week := policy.Policy{Name: "week", MaxRetry: 12, FindTime: 7 * 24 * time.Hour,
		BanTime: []time.Duration{14 * 24 * time.Hour, policy.Forever}}
	now := time.Now().Truncate(time.Second)
	guilty, innocent := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:5::1")
	// The oldest file was last written before findtime, the others within it.
	for day, ext := range []string{"", ".1", ".2.gz", ".3.zst", ".4.xz", ".5.gz"} {
		var lines []string
		end := now.Add(-time.Duration(day) * 40 * time.Hour)
		for i := range 4 {
			host := guilty
			if i == 3 {
				host = innocent
			}
			at := end.Add(-time.Duration(4-i) * 6 * time.Hour)
			lines = append(lines, fmt.Sprintf("%s mail auth[1]: login failed for user from %s\n", at.Format("2006-01-02 15:04:05"), host))
			if now.Sub(end) <= week.FindTime {
				log.failures = append(log.failures, failure{host, at, at})
			}
		}
		file, err := os.Create(log.path + ext)
		if err != nil {
			t.Fatal(err)
		}
		if packed := filepath.Ext(ext); packed == "" || packed == ".1" {
			_, err = file.WriteString(strings.Join(lines, ""))
		} else {
			err = pack(file, strings.NewReader(strings.Join(lines, "")), packed)
		}
		if err != nil {
			t.Fatal(err)
		}
		file.Close()
		if err := os.Chtimes(file.Name(), end, end); err != nil {
			t.Fatal(err)
		}
	}
	// The oracle gets them in the order in which they were written.
	slices.SortStableFunc(log.failures, func(a, b failure) int { return a.stamp.Compare(b.stamp) })
	d := newDaemon(t, "first", fmt.Sprintf(`policies:
  week: {failregex: ['login failed for \S+ from <HOST>$'], logpath: [%s], maxretry: 12, findtime: 7d, bantime: [14d, forever]}
`, log.path))
	want := judged([]policy.Policy{week}, []*logfile{log})
	if b := want.bans[netip.PrefixFrom(guilty, 32)]; b.Failures != 12 || b.Until == policy.Never {
		t.Fatalf("the oracle bans %+v, want the first rung after 12 failures", b)
	}
	log.readers = []*daemon{d}
	for life, end := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL, syscall.SIGTERM} {
		d.start()
		d.mustLog("ready: ")
		log.awaitCommit()
		d.verified()
		d.end(end)
		for _, text := range compare(d.remembered(), want, []policy.Policy{week}, now, now, func(netip.Prefix) bool { return false }).differences {
			t.Errorf("after life %d: %s", life, text)
		}
	}
}
