package main

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"

	"banset/deploy"
	"banset/policy/config"
)

// A rival is a program that does the same work as banset, or as much of it as it can.
type rival struct {
	name   string
	target target // for how many times banset's speed is its speed
	long   contestant
	lines  int // that long reads
	// short reads no line, or few: what it takes is no work on lines and is taken off.
	short      contestant
	shortLines int
	found      func(output string) int // how many failures it found
	same       bool                    // it must find as many as banset
}

// compare measures `banset test --summary` beside its rivals and adds a row for each.
func (b *bench) compare(claim string, lines int, ours contestant, want int, rivals []rival) error {
	racers := []contestant{ours}
	for _, r := range rivals {
		racers = append(racers, r.long)
		if r.short.args != nil {
			racers = append(racers, r.short)
		}
	}
	costs, err := b.race(b.rounds, racers...)
	if err != nil {
		return err
	}
	hits, err := summaryHits(costs[0].output)
	if err != nil {
		return err
	}
	if hits != want {
		return fmt.Errorf("%s: banset found %d failures of %d", claim, hits, want)
	}
	own := costs[0].cpu.Seconds() / float64(lines)
	if len(rivals) == 0 {
		b.add(row{section: "scan", claim: claim, ours: speed(lines, costs[0].cpu)})
	}
	i := 1
	for _, r := range rivals {
		took, n := costs[i].cpu, r.lines
		found := r.found(costs[i].output)
		if r.same && found != hits {
			return fmt.Errorf("%s: %s found %d failures, banset %d: that is other work", claim, r.name, found, hits)
		}
		b.say("%s: %s found %d", claim, r.name, found)
		if i++; r.short.args != nil {
			took, n = took-costs[i].cpu, n-r.shortLines
			i++
		}
		faster := took.Seconds() / float64(n) / own
		b.add(row{section: "scan", claim: claim, ours: speed(lines, costs[0].cpu), theirs: r.name + " " + speed(n, took), value: faster,
			shown: ratio(faster), target: r.target})
	}
	return nil
}

// summaryHits is how many failures `banset test --summary --json` found.
func summaryHits(output string) (n int, err error) {
	var sum struct {
		Policies []struct{ Hits int }
	}
	err = json.Unmarshal([]byte(output), &sum)
	for _, p := range sum.Policies {
		n += p.Hits
	}
	return n, err
}

// summary reads logs as the daemon does, counting and judging included.
func (b *bench) summary(config string, files ...string) contestant {
	return contestant{args: append([]string{b.banset, "test", "--summary", "--json", "--config", config}, files...), finding: true}
}

// policies writes a configuration with one policy for each of the shipped filters that are named, all of them if none
// is named.
func (b *bench) policies(name string, filters ...string) (string, error) {
	var s strings.Builder
	s.WriteString("policies:\n")
	if filters == nil {
		for _, f := range deploy.Filters() {
			filters = append(filters, strings.TrimSuffix(strings.TrimPrefix(f.Name, "filters/"), ".yaml"))
		}
	}
	for _, f := range filters {
		fmt.Fprintf(&s, "  %s: {filter: %s, logpath: [/nowhere/log], maxretry: 10, findtime: 31536000, bantime: 31536000}\n", f, f)
	}
	return b.writeFile(name, s.String())
}

// seedPattern is the pattern that banset grew from.
const seedPattern = `\[<HOST>\]: 535 Incorrect authentication data`

// address is what grep and ripgrep take for <HOST>.
const address = `[0-9A-Fa-f.:]+`

func scan(b *bench) error {
	for _, f := range []func(*bench) error{scanNothing, scanExim, scanAuth, scanMixed, scanAttack, scanPacked} {
		if err := f(b); err != nil {
			return err
		}
	}
	return nil
}

// scanNothing measures what starting costs, which is in every other figure but fail2ban's.
func scanNothing(b *bench) error {
	log, err := b.writeFile("empty", "")
	if err != nil {
		return err
	}
	conf, err := b.policies("seed.yaml", "exim2")
	if err != nil {
		return err
	}
	racers := []contestant{b.summary(conf, log)}
	if b.has("grep") {
		racers = append(racers, contestant{args: []string{"grep", "-c", "-E", seedPattern, log}, finding: true})
	}
	costs, err := b.race(b.rounds, racers...)
	if err != nil {
		return err
	}
	r := row{section: "scan", claim: "an empty log: what starting costs", ours: span(costs[0].cpu)}
	if len(costs) > 1 {
		r.theirs = "grep " + span(costs[1].cpu)
	}
	b.add(r)
	return nil
}

func scanExim(b *bench) error {
	log, err := b.log("mainlog", b.lines, eximForm)
	if err != nil {
		return err
	}
	conf, err := b.policies("seed.yaml", "exim2")
	if err != nil {
		return err
	}
	want, err := countLines(log, "]: 535 Incorrect authentication data")
	if err != nil {
		return err
	}
	pattern := strings.ReplaceAll(seedPattern, "<HOST>", address)
	var rivals []rival
	if b.has("grep") {
		rivals = append(rivals, rival{name: "grep -c -E", target: atLeast(1), lines: b.lines, found: number, same: true,
			long: contestant{args: []string{"grep", "-c", "-E", pattern, log}, env: []string{"LC_ALL=C"}}})
	}
	if b.has("ripgrep") {
		rivals = append(rivals, rival{name: "rg -j1 -c", target: atLeast(0.5), lines: b.lines, found: number, same: true,
			long: contestant{args: []string{"rg", "--no-config", "-j1", "-c", pattern, log}}})
	}
	if rivals, err = b.fail2ban(rivals, log, 300, seedPattern); err != nil {
		return err
	}
	if rivals, err = b.sshguard(rivals, log); err != nil {
		return err
	}
	return b.compare("exim mainlog, the seed's policy", b.lines, b.summary(conf, log), want, rivals)
}

func scanAuth(b *bench) error {
	log, err := b.log("auth.log", b.lines, authForm)
	if err != nil {
		return err
	}
	conf, err := b.policies("sshd.yaml", "sshd")
	if err != nil {
		return err
	}
	want, err := countLines(log, "Failed password for ", "Invalid user ", "Connection closed by authenticating user ")
	if err != nil {
		return err
	}
	patterns, err := alternation("sshd")
	if err != nil {
		return err
	}
	var rivals []rival
	if b.has("ripgrep") {
		rivals = append(rivals, rival{name: "rg -j1 -c", target: atLeast(1), lines: b.lines, found: number, same: true,
			long: contestant{args: []string{"rg", "--no-config", "-j1", "-c", patterns, log}}})
	}
	if rivals, err = b.fail2ban(rivals, log, 300, "/etc/fail2ban/filter.d/sshd.conf"); err != nil {
		return err
	}
	if rivals, err = b.sshguard(rivals, log); err != nil {
		return err
	}
	return b.compare("auth.log, every sshd pattern", b.lines, b.summary(conf, log), want, rivals)
}

func scanMixed(b *bench) error {
	log, err := b.log("syslog", b.lines, mixedForm)
	if err != nil {
		return err
	}
	conf, err := b.policies("all.yaml")
	if err != nil {
		return err
	}
	want, err := countLines(log, "Failed password for ", "Invalid user ", "Connection closed by authenticating user ",
		"SASL LOGIN authentication failed", "(auth failed, ", "FAIL LOGIN: ")
	if err != nil {
		return err
	}
	rivals, err := b.fail2ban(nil, log, 50, "/etc/fail2ban/filter.d/sshd.conf")
	if err != nil {
		return err
	}
	for i := range rivals {
		rivals[i].name += ", sshd's filter alone,"
	}
	return b.compare("mixed syslog, every shipped filter", b.lines, b.summary(conf, log), want, rivals)
}

func scanAttack(b *bench) error {
	log, err := b.log("attack.log", b.lines, attackForm)
	if err != nil {
		return err
	}
	conf, err := b.policies("sshd.yaml", "sshd")
	if err != nil {
		return err
	}
	costs, err := b.race(b.rounds, b.summary(conf, log))
	if err != nil {
		return err
	}
	if hits, err := summaryHits(costs[0].output); err != nil || hits != b.lines {
		return fmt.Errorf("attack log: %d failures found of %d: %v", hits, b.lines, err)
	}
	v := float64(b.lines) / costs[0].cpu.Seconds()
	b.add(row{section: "scan", claim: "attack: every line a failure, counted, judged", ours: speed(b.lines, costs[0].cpu), value: v,
		target: target{limit: 1e6, text: "≥ 1 M lines/s"}})
	return nil
}

// scanPacked compares reading a packed log with unpacking it alone, by the same library.
func scanPacked(b *bench) error {
	plain, err := b.log("mainlog", b.lines, eximForm)
	if err != nil {
		return err
	}
	conf, err := b.policies("seed.yaml", "exim2")
	if err != nil {
		return err
	}
	for _, ending := range []string{".gz", ".zst"} {
		packed := plain + ending
		if err := pack(plain, packed); err != nil {
			return err
		}
		costs, err := b.race(b.rounds, b.summary(conf, packed), b.helper("unpack", packed))
		if err != nil {
			return err
		}
		v := costs[0].cpu.Seconds() / costs[1].cpu.Seconds()
		b.add(row{section: "scan", claim: "rotated mainlog" + ending, ours: speed(b.lines, costs[0].cpu),
			theirs: "unpacking alone " + speed(b.lines, costs[1].cpu), value: v, shown: ratio(v) + " the time", target: atMost(1.2)})
	}
	return nil
}

// fail2ban adds fail2ban-regex on samples of a log: it would take minutes for all of it.
func (b *bench) fail2ban(rivals []rival, log string, times float64, filter string) ([]rival, error) {
	if !b.has("fail2ban") {
		return rivals, nil
	}
	lines := min(b.lines, 20_000)
	long, err := b.head(log, lines)
	if err != nil {
		return nil, err
	}
	short, err := b.head(log, lines/10)
	if err != nil {
		return nil, err
	}
	regex := func(file string) contestant {
		return contestant{args: []string{"fail2ban-regex", "--no-check-all", "--print-no-missed", "--print-no-ignored", file, filter}}
	}
	return append(rivals, rival{name: "fail2ban-regex", target: atLeast(times), long: regex(long), lines: lines, short: regex(short),
		shortLines: lines / 10, found: func(output string) int {
			if m := matched.FindStringSubmatch(output); m != nil {
				return number(m[1])
			}
			return -1
		}}), nil
}

var matched = regexp.MustCompile(`ignored, (\d+) matched`)

// sshguard adds its parser on a sample of a log. It reads from standard input and knows its own patterns only.
func (b *bench) sshguard(rivals []rival, log string) ([]rival, error) {
	if !b.has("sshguard") {
		return rivals, nil
	}
	lines := min(b.lines, 500_000)
	sample, err := b.head(log, lines)
	if err != nil {
		return nil, err
	}
	return append(rivals, rival{name: "sshguard's parser", lines: lines,
		long:  contestant{args: []string{"sh", "-c", `exec /usr/libexec/sshguard/sshg-parser <"$0"`, sample}},
		found: func(output string) int { return strings.Count(output, "\n") }}), nil
}

// alternation is all patterns of a shipped filter as one for ripgrep: with the time stamp, which banset cuts out.
func alternation(filter string) (string, error) {
	var library []config.File
	for _, f := range deploy.Filters() {
		library = append(library, config.File{Name: f.Name, Data: f.Data})
	}
	c, problems := config.Load(library, nil)
	if c == nil {
		return "", fmt.Errorf("the shipped filters: %v", problems)
	}
	var all []string
	for _, p := range c.Filters[filter].Fail {
		p = strings.Replace(p, `^ ?`, `^[\dT:.-]+\+\d\d:\d\d `, 1)
		p = groupName.ReplaceAllString(p, "(?:")
		all = append(all, "(?:"+strings.ReplaceAll(p, "<HOST>", address)+")")
	}
	return strings.Join(all, "|"), nil
}

var groupName = regexp.MustCompile(`\(\?P<\w+>`)

// number is a number that stands alone.
func number(s string) int {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		return -1
	}
	return n
}

// countLines is how many lines of a file hold one of the texts.
func countLines(path string, texts ...string) (n int, err error) {
	err = eachLine(path, func(line string) {
		for _, t := range texts {
			if strings.Contains(line, t) {
				n++
				return
			}
		}
	})
	return n, err
}

// pack compresses a file as its new name says.
func pack(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	var w io.WriteCloser = gzip.NewWriter(out)
	if strings.HasSuffix(to, ".zst") {
		if w, err = zstd.NewWriter(out, zstd.WithEncoderConcurrency(1)); err != nil {
			return err
		}
	}
	if _, err := io.Copy(w, in); err != nil {
		return err
	}
	return w.Close()
}
