package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"time"

	"banset/cmd/internal/control"
	"banset/cmd/internal/mirror"
	"banset/cmd/internal/source"
	"banset/nft"
	"banset/policy"
	"banset/policy/judge"
	"banset/policy/ledger"
)

// patience is how long a ban or unban by hand waits for kernel and file.
const patience = 15 * time.Second

// answer does what one request of the control socket asks for.
func (d *daemon) answer(ctx context.Context, r control.Request) control.Answer {
	switch r.Op {
	case control.OpStatus:
		return d.status(ctx)
	case control.OpReload:
		if err := d.reload(ctx); err != nil {
			return control.Answer{Error: "the running configuration stays as it is", Problems: err.Error()}
		}
		return control.Answer{Text: "reloaded"}
	case control.OpFlush:
		return control.Answer{Error: `the daemon is running and would put its table back: "banset unban --all" ends all bans; ` +
			`to take the table out of the kernel stop the daemon first`}
	}
	return d.house.answer(ctx, r, func(hosts []netip.Prefix) error {
		var done <-chan error
		if err := d.court.do(ctx, func(*judge.Judge) { done = d.court.await(hosts) }); err != nil {
			return err
		}
		select {
		case err := <-done:
			if err == nil {
				// Else a crash would leave the state with the step before, which a person may have taken a moment ago:
				// ban, unban and ban again of a host look alike in the file.
				d.memory.save(ctx)
			}
			return err
		case <-time.After(patience):
			return errors.New("kernel or file did not take it in time; see the daemon's log")
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// answer does what works with and without a daemon. settle returns when kernel and file hold what the book says of
// the hosts.
func (h *house) answer(ctx context.Context, r control.Request, settle func([]netip.Prefix) error) control.Answer {
	var a control.Answer
	var err error
	switch r.Op {
	case control.OpList:
		var places []ledger.Place
		if err = h.court.do(ctx, func(j *judge.Judge) { places = j.Book().Latest() }); err == nil {
			a.Each = h.bans(ctx, places, r.Hosts)
		}
	case control.OpWhy:
		for _, host := range r.Hosts {
			w, whyErr := h.why(ctx, host)
			a.Whys = append(a.Whys, w)
			err = errors.Join(err, whyErr)
		}
	case control.OpBan:
		a.Changes, err = h.ban(ctx, r)
	case control.OpUnban:
		a.Changes, err = h.unban(ctx, r)
	default:
		err = fmt.Errorf("no such request: %q", r.Op)
	}
	if err == nil && len(a.Changes) > 0 {
		var hosts []netip.Prefix
		for _, c := range a.Changes {
			if c.Done {
				hosts = append(hosts, c.Host)
			}
		}
		err = settle(hosts)
	}
	if err != nil {
		a.Error, a.Denied = err.Error(), errors.Is(err, fs.ErrPermission)
	}
	return a
}

// listedAtOnce is how many bans the judgement is asked for at once: it goes on in between.
const listedAtOnce = 2000

// bans yields the bans at those places, as far as they overlap one of some hosts, if there are any.
func (h *house) bans(ctx context.Context, places []ledger.Place, hosts []netip.Prefix) func(func(control.Ban) error) error {
	return func(yield func(control.Ban) error) error {
		some := make([]policy.Ban, 0, min(len(places), listedAtOnce))
		for rest := places; len(rest) > 0; {
			now := rest[:min(len(rest), listedAtOnce)]
			rest = rest[len(now):]
			some = some[:0]
			if err := h.court.do(ctx, func(j *judge.Judge) {
				for _, at := range now {
					if b, ok := j.Book().At(at); ok && (len(hosts) == 0 || slices.ContainsFunc(hosts, b.Host.Overlaps)) {
						some = append(some, b)
					}
				}
			}); err != nil {
				return err
			}
			for _, b := range some {
				if err := yield(show(b)); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

func show(b policy.Ban) control.Ban {
	out := control.Ban{Host: b.Host, At: time.Unix(b.At, 0).UTC(), Policy: b.Policy, Failures: b.Failures, Reason: b.Reason()}
	if b.Until != policy.Never {
		out.Until = time.Unix(b.Until, 0).UTC()
	}
	return out
}

func (h *house) ban(ctx context.Context, r control.Request) (changes []control.Change, err error) {
	now := time.Now()
	err = h.court.do(ctx, func(j *judge.Judge) {
		for _, host := range r.Hosts {
			b := policy.Ban{Host: host.Masked(), At: now.Unix(), Until: policy.Never, Note: policy.CleanNote(r.Reason)}
			if r.For != 0 && r.For != policy.Forever {
				// Up to a whole second: a ban is never shorter than what was asked for.
				b.Until = now.Add(r.For + time.Second - 1).Unix()
			}
			c := control.Change{Host: b.Host}
			outcome, covered, ok := j.Take(b)
			switch {
			case !ok:
				c.Failed = true
				c.Text = fmt.Sprintf("not banned: ignoreip has %s", mirror.Host(covered))
			case outcome == ledger.Unchanged:
				c.Text = "already banned " + mirror.Until(b)
			default:
				c.Done = true
				c.Text = "banned " + mirror.Until(b)
				if outcome == ledger.Moved {
					c.Text = "now banned " + mirror.Until(b)
				}
				h.log.Info(fmt.Sprintf("[%s] Ban %s %s (%s)", mirror.Label(b), mirror.Host(b.Host), mirror.Until(b), "banset ban"))
			}
			if ok {
				s := show(b)
				c.Ban = &s
			}
			changes = append(changes, c)
		}
	})
	return changes, err
}

func (h *house) unban(ctx context.Context, r control.Request) (changes []control.Change, err error) {
	err = h.court.do(ctx, func(j *judge.Judge) {
		hosts := r.Hosts
		if r.All {
			hosts = nil
			for _, b := range j.Book().Sorted() {
				hosts = append(hosts, b.Host)
			}
		}
		for _, host := range hosts {
			host = host.Masked()
			c := control.Change{Host: host}
			b, ok := j.Pardon(host)
			if !ok && host.IsSingleIP() {
				// An IPv6 host is banned as its prefix.
				if counted := policy.HostPrefix(host.Addr(), h.current().IPv6Prefix); counted != host {
					if b, ok = j.Pardon(counted); ok {
						c.Host = counted
					}
				}
			}
			if ok {
				s := show(b)
				c.Done, c.Text, c.Ban = true, "unbanned, and its failures are forgotten", &s
				h.log.Info(fmt.Sprintf("[%s] Unban %s (banset unban)", mirror.Label(b), mirror.Host(c.Host)))
			} else if wide := j.Book().Covering(host); len(wide) > 0 {
				c.Text = fmt.Sprintf("not banned itself: the ban of %s covers it", mirror.Host(wide[len(wide)-1].Host))
			} else {
				c.Text = "was not banned"
			}
			changes = append(changes, c)
		}
	})
	return changes, err
}

func (h *house) why(ctx context.Context, host netip.Prefix) (w control.Why, err error) {
	bits := h.current().IPv6Prefix
	w = control.Why{Host: host, Counted: host}
	if host.IsSingleIP() {
		w.Counted = policy.HostPrefix(host.Addr(), bits)
	}
	now := time.Now()
	err = h.court.do(ctx, func(j *judge.Judge) {
		if x, ok := j.Allow().Covers(host); ok {
			w.Allowed = mirror.Host(x)
		}
		for _, b := range j.Book().Covering(host) {
			w.Bans = append(w.Bans, show(b))
		}
		for _, s := range j.Standings(w.Counted, now) {
			if s.Failures > 0 {
				c := control.Count{Policy: s.Policy.Name, Failures: s.Failures, MaxRetry: s.Policy.MaxRetry, Last: s.Last}
				for _, f := range h.court.recent.last(s.Policy.Name, w.Counted) {
					c.Fields = append(c.Fields, control.Field{Name: f.Name, Value: f.Value})
				}
				w.Counts = append(w.Counts, c)
			}
			if s.Offences > 0 {
				r := control.Rung{Policy: s.Policy.Name, Offences: s.Offences}
				if s.LastEnd != policy.Never {
					r.LastEnd = time.Unix(s.LastEnd, 0).UTC()
				}
				w.Ladder = append(w.Ladder, r)
			}
		}
	})
	if err != nil {
		return w, err
	}
	h.mu.Lock()
	keeper := h.keeper
	h.mu.Unlock()
	w.Kernel = mirror.InKernel(ctx, keeper, w.Counted, host, bits)
	return w, nil
}

func (d *daemon) status(ctx context.Context) control.Answer {
	s, err := d.overview(ctx)
	if err != nil {
		return control.Answer{Error: err.Error()}
	}
	d.mu.Lock()
	keeper := d.keeper
	d.mu.Unlock()
	for _, set := range nft.Sets {
		n, known, err := keeper.Counted(ctx, set)
		if err != nil {
			s.Problems = append(s.Problems, err.Error())
			break
		}
		if known {
			s.Kernel[set.String()] = n
		}
	}
	return control.Answer{Status: s}
}

// overview is a status without the numbers of elements in the kernel, which cost a dump where it does not count them
// itself.
func (d *daemon) overview(ctx context.Context) (*control.Status, error) {
	cfg := d.current()
	d.mu.Lock()
	keeper, kernel, loaded := d.keeper, d.kernel, d.loaded
	d.mu.Unlock()
	s := &control.Status{
		Version: d.options.Version, PID: os.Getpid(), Started: d.started, Config: d.options.Config, ConfigFrom: loaded,
		Kernel: make(map[string]int), Healings: kernel.Healings(),
	}
	d.reloading.Lock()
	logs := d.logs
	d.reloading.Unlock()
	waiting := map[string]bool{}
	if logs != nil {
		s.Logs, waiting = logs.status()
	}
	err := d.court.do(ctx, func(j *judge.Judge) {
		book := j.Book()
		s.Bans = book.Len()
		var lostHosts uint64
		s.Hosts, lostHosts = j.Hosts()
		if n := book.Evicted(); n > 0 {
			s.Problems = append(s.Problems, fmt.Sprintf("%d bans had to end early: max_bans is %d", n, cfg.MaxBans))
		}
		if lostHosts > 0 {
			s.Problems = append(s.Problems, fmt.Sprintf("the failures of %d hosts were forgotten: max_hosts is %d", lostHosts, cfg.MaxHosts))
		}
		for _, p := range cfg.Policies {
			ps := control.PolicyStatus{Name: p.Name, Enabled: p.Enabled, Waiting: p.Enabled && waiting[p.Name], Bans: book.Of(p.Name)}
			if st := d.court.stats[p.Name]; st != nil {
				ps.Found, ps.Banned, ps.Last = st.found, st.banned, st.last
			}
			s.Policies = append(s.Policies, ps)
		}
		for i := range s.Logs {
			s.Logs[i].Skew = j.Skew(s.Logs[i].Name)
			if skew := s.Logs[i].Skew; skew != 0 {
				s.Problems = append(s.Problems, fmt.Sprintf("%s: time stamps are off by %s; lines count at their arrival (set the policy's timezone?)",
					s.Logs[i].Name, policy.FormatDuration(skew.Abs().Round(time.Minute))))
			}
		}
		for name, n := range map[string]int{"kernel": book.Pending(ledger.Kernel), "blocklist": book.Pending(ledger.File)} {
			if n > 1000 {
				s.Problems = append(s.Problems, fmt.Sprintf("%d bans wait for the %s", n, name))
			}
		}
	})
	if err != nil {
		return nil, err
	}
	for _, l := range s.Logs {
		if l.Error != "" {
			s.Problems = append(s.Problems, l.Name+": "+l.Error)
		}
		if text := deafness(l.Status, time.Now()); text != "" {
			s.Problems = append(s.Problems, text)
		}
	}
	s.Blocklist.Path = cfg.Blocklist
	s.Blocklist.Lines, s.Blocklist.Problems = d.file.Status()
	s.Problems = append(s.Problems, s.Blocklist.Problems...)
	d.outsideStatus(s)
	if packets, _, err := keeper.Dropped(ctx); err == nil {
		s.Dropped = packets
	}
	slices.SortFunc(s.Policies, func(a, b control.PolicyStatus) int { return cmp.Compare(a.Name, b.Name) })
	return s, nil
}

// deafFor is how long after a reader was found deaf people are told: it hears again, but may go deaf again.
const deafFor = time.Hour

// deafness says that a reader was found deaf lately, or nothing.
func deafness(s source.Status, now time.Time) string {
	if s.Deaf == 0 || now.Sub(s.DeafAt) > deafFor {
		return ""
	}
	times := "once"
	if s.Deaf > 1 {
		times = fmt.Sprintf("%d times", s.Deaf)
	}
	return fmt.Sprintf("%s: journalctl stopped hearing new entries, %s since the start, last at %s; it was started anew and "+
		"nothing is lost, but bans came late", s.Name, times, s.DeafAt.UTC().Format("2006-01-02 15:04:05Z"))
}
