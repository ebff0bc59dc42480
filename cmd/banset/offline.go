package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"banset/cmd/internal/control"
	"banset/cmd/internal/daemon"
	"banset/cmd/internal/mirror"
	"banset/nft"
	"banset/policy"
	"banset/policy/blocklist"
	"banset/policy/config"
	"banset/policy/judge"
)

// withoutDaemon does a request while no daemon runs. What only reads takes the blocklist, and the kernel where the
// rights suffice; ban, unban and flush work on both, which takes root.
func (a *app) withoutDaemon(ctx context.Context, c *config.Config, name string, r control.Request) (control.Answer, error) {
	switch r.Op {
	case control.OpList:
		book, err := a.readBook(c)
		if err != nil {
			return control.Answer{}, err
		}
		a.notice("these are the bans of %s", c.Blocklist)
		return control.Answer{Bans: book.bans()}, nil
	case control.OpWhy:
		return a.whyOffline(ctx, c, r.Hosts)
	case control.OpStatus:
		return a.statusOffline(c, name)
	case control.OpBan, control.OpUnban:
		return daemon.Offline(ctx, c, slog.New(warnings{a}), r)
	case control.OpFlush:
		if err := daemon.Flush(ctx, c); err != nil {
			return control.Answer{}, err
		}
		return control.Answer{Text: fmt.Sprintf("table inet %s is gone from the kernel; %s keeps its bans for the next start",
			c.NFTables.Table, c.Blocklist)}, nil
	}
	return control.Answer{}, errNoDaemonRuns
}

// A book is the blocklist as a start would take it: without what has ended or is allowlisted.
type book struct {
	judge *judge.Judge
	lines int      // bans, whether in force or not
	wrong []string // what can't be read or is not applied, with line numbers
}

// readBook reads the blocklist. One that does not exist is empty.
func (a *app) readBook(c *config.Config) (*book, error) {
	settings, err := daemon.Settings(c)
	if err != nil {
		return nil, err
	}
	b := &book{judge: judge.New(settings)}
	b.lines, b.wrong, err = a.readBans(c, b.judge.Allow(), func(x policy.Ban) { b.judge.Take(x) })
	return b, err
}

// readBans hands over the bans of the blocklist that are in force, each host once. It returns how many there are in all
// and what is wrong.
func (a *app) readBans(c *config.Config, allow judge.Allow, each func(policy.Ban)) (lines int, wrong []string, err error) {
	thrifty()
	file, done, err := mirror.ReadContent(c.Blocklist, blocklistOptions(c))
	if err != nil {
		return 0, nil, fmt.Errorf("reading the blocklist: %w", err)
	}
	defer done()
	problems, total := file.Problems()
	for _, p := range problems {
		wrong = append(wrong, fmt.Sprintf("%s: %s", c.Blocklist, p))
	}
	if more := total - len(problems); more > 0 {
		wrong = append(wrong, fmt.Sprintf("%s: %s", c.Blocklist, plural(more, "more problem")))
	}
	now := a.now()
	for e := range file.Entries() {
		if e.Ban.Ended(now) {
			continue
		}
		if x, ok := allow.Covers(e.Ban.Host); ok {
			wrong = append(wrong, fmt.Sprintf("%s: line %d: %s is not banned: the allowlist has %s", c.Blocklist, e.Line,
				showHost(e.Ban.Host), showHost(x)))
			continue
		}
		each(e.Ban)
	}
	if err := file.Err(); err != nil {
		return 0, nil, fmt.Errorf("reading the blocklist: %w", err)
	}
	return file.Len(), wrong, nil
}

func blocklistOptions(c *config.Config) blocklist.Options {
	return blocklist.Options{Location: time.Local, LegacyBan: c.LongestBan()}
}

// bans are those in force, the latest first.
func (b *book) bans() []control.Ban {
	list := b.judge.Book()
	bans := make([]control.Ban, 0, list.Len())
	for x := range list.All() {
		bans = append(bans, banned(x))
	}
	slices.SortFunc(bans, latestFirst)
	return bans
}

func (a *app) whyOffline(ctx context.Context, c *config.Config, hosts []netip.Prefix) (control.Answer, error) {
	book, err := a.readBook(c)
	if err != nil {
		return control.Answer{}, err
	}
	keeper, err := nft.Open(daemon.KernelConfig(c))
	if err != nil {
		return control.Answer{}, err
	}
	defer keeper.Close()
	a.notice("this is what blocklist and kernel know; the daemon also knows failures and offences")
	var answer control.Answer
	for _, h := range hosts {
		w := control.Why{Host: h, Counted: h}
		if h.IsSingleIP() {
			w.Counted = policy.HostPrefix(h.Addr(), c.IPv6Prefix)
		}
		if x, ok := book.judge.Allow().Covers(h); ok {
			w.Allowed = showHost(x)
		}
		for _, b := range book.judge.Book().Covering(h) {
			w.Bans = append(w.Bans, banned(b))
		}
		w.Kernel = mirror.InKernel(ctx, keeper, w.Counted, h, c.IPv6Prefix)
		answer.Whys = append(answer.Whys, w)
	}
	return answer, nil
}

// statusOffline is what configuration and blocklist tell; its PID is 0.
func (a *app) statusOffline(c *config.Config, name string) (control.Answer, error) {
	s := &control.Status{Version: readVersion().Version, Config: name, Problems: []string{errNoDaemonRuns.Error()}}
	s.Blocklist.Path = c.Blocklist
	settings, err := daemon.Settings(c)
	if err != nil {
		return control.Answer{}, err
	}
	of := make(map[string]int)
	s.Blocklist.Lines, s.Blocklist.Problems, err = a.readBans(c, judge.NewAllow(settings.Allow), func(b policy.Ban) {
		s.Bans++
		of[b.Policy]++
	})
	switch {
	case err != nil:
		s.Problems = append(s.Problems, explain(err))
		s.Bans = 0
		clear(of)
	case c.MaxBans > 0 && s.Bans > c.MaxBans:
		s.Problems = append(s.Problems, fmt.Sprintf("%s: %s more than max_bans: the first lines are not applied", c.Blocklist,
			plural(s.Bans-c.MaxBans, "ban")))
	}
	s.Problems = append(s.Problems, s.Blocklist.Problems...)
	for _, p := range c.Policies {
		s.Policies = append(s.Policies, control.PolicyStatus{Name: p.Name, Enabled: p.Enabled, Bans: of[p.Name]})
	}
	return control.Answer{Status: s}, nil
}

// thrifty keeps the memory of a command that reads a million bans near what they take: most of it has no pointers, so that
// it costs next to nothing to collect often.
func thrifty() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(20)
	}
}

// warnings prints what the daemon's own parts warn of while they work for a command; what they do is the command's to
// tell.
type warnings struct{ a *app }

func (w warnings) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (w warnings) WithAttrs([]slog.Attr) slog.Handler           { return w }
func (w warnings) WithGroup(string) slog.Handler                { return w }

func (w warnings) Handle(_ context.Context, r slog.Record) error {
	w.a.complain("%s", r.Message)
	return nil
}
