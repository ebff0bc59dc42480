package match

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// eximLog writes an Exim mainlog of n lines of which about one in a hundred is a failure.
func eximLog(n int) []byte {
	var b bytes.Buffer
	r := rand.New(rand.NewPCG(1, 2))
	at := time.Date(2026, 4, 15, 0, 21, 45, 0, time.UTC)
	for range n {
		at = at.Add(time.Duration(r.IntN(900)) * time.Millisecond)
		b.WriteString(at.Format("2006-01-02 15:04:05 "))
		id := fmt.Sprintf("1w%04X-00%04x-%02x", r.IntN(1<<16), r.IntN(1<<16), r.IntN(256))
		switch k := r.IntN(100); {
		case k == 0:
			fmt.Fprintf(&b, "login authenticator failed for (User) [192.0.2.%d]:%d: 535 Incorrect authentication data (set_id=info%d@example.org)\n",
				r.IntN(250)+1, 1024+r.IntN(60000), r.IntN(50))
		case k < 30:
			fmt.Fprintf(&b, "%s <= user%d@example.org H=mail%d.example.net [198.51.100.%d] P=esmtps X=TLS1.3:TLS_AES_256_GCM_SHA384:256 CV=no S=%d id=%x@example.net\n",
				id, r.IntN(500), r.IntN(90), r.IntN(250)+1, r.IntN(90000), r.Uint64())
		case k < 60:
			fmt.Fprintf(&b, "%s => user%d@example.com R=dnslookup T=remote_smtp H=mx.example.com [203.0.113.%d] X=TLS1.2:ECDHE_RSA_AES_256_GCM_SHA384:256 CV=yes C=\"250 2.0.0 Ok: queued as %X\"\n",
				id, r.IntN(500), r.IntN(250)+1, r.Uint64())
		case k < 85:
			fmt.Fprintf(&b, "%s Completed\n", id)
		default:
			fmt.Fprintf(&b, "H=(host%d.example.net) [198.51.100.%d] F=<a%d@example.net> rejected RCPT <b@example.org>: relay not permitted\n",
				r.IntN(5000), r.IntN(250)+1, r.IntN(500))
		}
	}
	return b.Bytes()
}

// chunks cuts a log into blocks of whole lines as sources deliver them.
func chunks(log []byte, size int) [][]byte {
	var out [][]byte
	for len(log) > 0 {
		n := min(size, len(log))
		if at := bytes.LastIndexByte(log[:n], '\n'); at >= 0 {
			n = at + 1
		}
		out = append(out, log[:n])
		log = log[n:]
	}
	return out
}

func benchmarkScan(b *testing.B, patterns []string, log []byte) {
	f := compile(b, patterns)
	blocks := chunks(log, 256<<10)
	lines := bytes.Count(log, []byte("\n"))
	s := NewScanner([]Job{{Policy: "p", Filter: f, Zone: time.UTC}})
	hits := 0
	b.SetBytes(int64(len(log)))
	b.ReportAllocs()
	for b.Loop() {
		hits = 0
		for _, block := range blocks {
			s.Scan(block, now, func(Match) { hits++ })
		}
	}
	b.ReportMetric(float64(lines)*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
	b.ReportMetric(float64(hits)/float64(lines)*100, "%hits")
}

func BenchmarkEximSeed(b *testing.B) {
	benchmarkScan(b, []string{`\[<HOST>\](?::\d+)?: 535 Incorrect authentication data`}, eximLog(100_000))
}

func BenchmarkEximAnchored(b *testing.B) {
	benchmarkScan(b, []string{
		`^ \S+ authenticator failed for (?:\S+ )?(?:\([^()]*\) )?\[<HOST>\](?::\d+)?: 535 Incorrect authentication data(?: \(set_id=<F-USER>[^)]*</F-USER>\))?$`,
	}, eximLog(100_000))
}

func BenchmarkEximThree(b *testing.B) {
	benchmarkScan(b, []string{
		`^ \S+ authenticator failed for (?:\S+ )?(?:\([^()]*\) )?\[<HOST>\](?::\d+)?: 535 Incorrect authentication data`,
		`^ SMTP protocol synchronization error .*H=(?:\S+ )?\[<HOST>\]`,
		`^ (?:\S+ )?H=(?:\S+ )?\[<HOST>\](?::\d+)? .*: Unrouteable address$`,
	}, eximLog(100_000))
}

func BenchmarkEveryLine(b *testing.B) {
	benchmarkScan(b, []string{`^ \S+ \S+ \[<HOST>\]`}, eximLog(20_000))
}

func BenchmarkStamp(b *testing.B) {
	for _, text := range []string{"2016-04-15 00:21:45", "Nov  5 18:12:45", "Fri Sep 25 12:11:22.654321 2015",
		"10/Oct/2000:13:55:36 -0700", "1700000000.123"} {
		line := []byte(text + " x")
		b.Run(text, func(b *testing.B) {
			f := finder{zone: time.UTC}
			for b.Loop() {
				f.seen = false
				f.look(line)
				f.time(now)
			}
		})
	}
}
