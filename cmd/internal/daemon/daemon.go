// Package daemon is banset at work: it opens the state, fills the book of bans, puts it into the kernel, and then
// follows the logs, as a list of tasks that start one after the other and stop in the opposite order.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/sdnotify"

	"banset/cmd/internal/control"
	"banset/cmd/internal/mirror"
	"banset/cmd/internal/source"
	"banset/cmd/internal/state"
	"banset/nft"
	"banset/policy"
	"banset/policy/blocklist"
	"banset/policy/config"
	"banset/policy/judge"
)

// Options is what the daemon is started with.
type Options struct {
	// Load reads and checks the configuration; again at every reload. Its error is for people: all problems.
	Load    func() (*config.Config, error)
	Config  string // what people call that configuration: the file, or that there is none
	Version string
	Log     *slog.Logger
	Reload  <-chan struct{} // asks for a reload (SIGHUP); may be nil
	Ready   func()          // called when protection stands and the logs are followed; may be nil
	// Localtime is the file that says what the system's zone is; "" is /etc/localtime.
	Localtime string
}

// house is what the daemon and the commands without a daemon both work on.
type house struct {
	log    *slog.Logger
	court  *court
	keeper *nft.Keeper
	kernel *mirror.Kernel
	file   *mirror.File
	memory *memory

	mu        sync.Mutex // of what a reload replaces
	config    *config.Config
	loaded    time.Time
	positions []source.Position // where the state says that reading resumes
}

// open opens the state, fills the book and the counts from it and from the blocklist, and prepares kernel and file.
// It changes neither.
func open(cfg *config.Config, log *slog.Logger) (h *house, err error) {
	h = &house{log: log, config: cfg, loaded: time.Now()}
	set, err := Settings(cfg)
	if err != nil {
		return nil, err
	}
	for _, path := range []string{cfg.State, cfg.Blocklist} {
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return nil, fmt.Errorf("making the directory for %s: %w", path, err)
		}
	}
	store, err := state.Open(cfg.State, state.Options{})
	if err != nil {
		return nil, err
	}
	j := judge.New(set)
	h.court = newCourt(j, log)
	h.memory = newMemory(cfg.State, store, h.court, log)
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	h.memory.heed()
	positions, err := load(store, j, log)
	if err != nil {
		return nil, err
	}
	h.positions = positions
	for _, p := range positions {
		h.court.positions[positionKey(p)] = p
	}
	h.file = mirror.NewFile(cfg.Blocklist, h.court.do, log, h.parsing, h.court.copied)
	var failed error
	if err := h.file.Load(j, remembered(store, log, &failed), time.Now()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the blocklist: %w", err)
	}
	if failed != nil {
		return nil, failed
	}
	if h.keeper, err = nft.Open(KernelConfig(cfg)); err != nil {
		return nil, err
	}
	h.kernel = mirror.NewKernel(h.keeper, h.court.do, log, cfg.IPv6Prefix, h.court.copied)
	return h, nil
}

func (h *house) close() error {
	var errs []error
	if h.keeper != nil {
		errs = append(errs, h.keeper.Close())
	}
	return errors.Join(append(errs, h.memory.close())...)
}

// parsing says how the blocklist is to be read now.
func (h *house) parsing() blocklist.Options { return parsing(h.current()) }

func parsing(cfg *config.Config) blocklist.Options {
	return blocklist.Options{Location: time.Local, LegacyBan: cfg.LongestBan()}
}

func (h *house) current() *config.Config {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.config
}

// Settings is what a configuration says to the judge, with this host's addresses where it says self.
func Settings(cfg *config.Config) (judge.Settings, error) {
	s := judge.Settings{
		Allow:      slices.Clone(cfg.IgnoreIP),
		IPv6Prefix: cfg.IPv6Prefix,
		MaxHosts:   cfg.MaxHosts,
		MaxBans:    cfg.MaxBans,
	}
	var own []netip.Prefix
	if usesSelf(cfg) {
		var err error
		if own, err = OwnAddresses(); err != nil {
			return s, err
		}
	}
	if cfg.IgnoreSelf {
		s.Allow = append(s.Allow, own...)
	}
	s.AllowFor = make(map[string][]netip.Prefix)
	for _, p := range cfg.Policies {
		if !p.Enabled {
			continue
		}
		s.Policies = append(s.Policies, p.Policy)
		allow := slices.Clone(p.IgnoreIP)
		if p.IgnoreSelf {
			allow = append(allow, own...)
		}
		if len(allow) > 0 {
			s.AllowFor[p.Name] = allow
		}
	}
	return s, nil
}

// usesSelf reports whether an allowlist has the word self.
func usesSelf(cfg *config.Config) bool {
	return cfg.IgnoreSelf || slices.ContainsFunc(cfg.Policies, func(p *config.Policy) bool { return p.Enabled && p.IgnoreSelf })
}

// KernelConfig is what the table of a configuration looks like.
func KernelConfig(cfg *config.Config) nft.Config {
	n := cfg.NFTables
	return nft.Config{
		Table: n.Table, Hook: n.Hook, Priority: n.Priority, Direction: n.Direction, Verdict: n.Verdict,
		Counters: n.Counters, IPv6Prefix: cfg.IPv6Prefix, Size: uint32(min(cfg.MaxBans, math.MaxInt32)),
		Owner: n.Protect == "owner",
	}
}

// since is how far back a log without a position is read: what a policy could still count.
func since(cfg *config.Config, now time.Time) time.Time {
	longest := time.Duration(0)
	for _, p := range cfg.Policies {
		if p.Enabled {
			longest = max(longest, p.FindTime)
		}
	}
	if longest == policy.Forever {
		return time.Unix(1, 0)
	}
	return now.Add(-longest)
}

// daemon is the house with its tasks running.
type daemon struct {
	*house
	options Options
	started time.Time
	tasks   *tasks

	reloading sync.Mutex
	logs      *logs
	zone      zone
	outside   outside
}

// newLogs prepares the task that follows the logs of a configuration from positions on.
func (d *daemon) newLogs(cfg *config.Config, from []source.Position) *logs {
	return newLogs(d.court, d.log, inZone(cfg.Policies, d.zone), from, since(cfg, time.Now()))
}

// Run works until ctx ends or something makes going on impossible. Set and rules stay in the kernel. A lack of rights
// is an fs.ErrPermission, a second daemon a [state.ErrInUse].
func Run(ctx context.Context, o Options) (err error) {
	cfg, err := o.Load()
	if err != nil {
		return err
	}
	h, err := open(cfg, o.Log)
	if err != nil {
		return err
	}
	d := &daemon{house: h, options: o, started: time.Now(), tasks: newTasks()}
	if d.options.Localtime == "" {
		d.options.Localtime = localtime
	}
	defer func() {
		d.tasks.stopAll()
		err = errors.Join(err, d.close())
	}()
	c := d.court
	c.wakeKernel, c.wakeFile, c.wakeState = func() { d.wakeKernel() }, d.file.Wake, d.memory.Wake
	listener, err := control.Listen(cfg.Socket)
	if err != nil {
		return err
	}
	defer listener.Close()
	start := func(t task) {
		if err == nil {
			err = d.tasks.start(ctx, t)
		}
	}
	wall, err := newClock(d.log, d.clockChanged)
	if err != nil {
		return err
	}
	start(c)
	d.memory.after = d.kernel.Ready()
	start(d.memory)
	start(d.kernel)
	start(&fileTask{d.file})
	d.reloading.Lock() // a reload that comes before the logs waits for them
	started := sync.OnceFunc(d.reloading.Unlock)
	defer started()
	start(newServer(listener, d))
	start(newSelf(d.selfChanged))
	start(wall)
	start(&watchdog{watchdogEvery(os.Getenv), c.do, d.alive})
	if err != nil {
		return d.ended(ctx, err)
	}
	// What the start put back has been put back: from now on changes are news.
	if err = d.goOutside(ctx); err != nil {
		return d.ended(ctx, err)
	}
	if d.zone, err = systemZone(d.options.Localtime); err != nil {
		d.log.Warn(fmt.Sprintf("time zone: %v", err))
	}
	d.logs = d.newLogs(cfg, d.positions)
	start(d.logs)
	if err != nil {
		return d.ended(ctx, err)
	}
	d.positions = nil
	d.announce()
	started()
	start(newZoneWatch(d.options.Localtime, d.log, d.zoneChanged))
	if err != nil {
		return d.ended(ctx, err)
	}
	for {
		select {
		case <-ctx.Done():
			d.notify(sdnotify.Stopping)
			d.log.Info("stopping: the bans stay in the kernel")
			return nil
		case err := <-d.tasks.fail:
			return err
		case <-o.Reload:
			if err := d.reload(ctx); err != nil {
				d.log.Error(fmt.Sprintf("reload: the running configuration stays as it is:\n%v", err))
			}
		}
	}
}

// ended is the error of a start: none when it was told to stop meanwhile.
func (d *daemon) ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

func (d *daemon) wakeKernel() {
	d.mu.Lock()
	k := d.kernel
	d.mu.Unlock()
	k.Wake()
}

func (d *daemon) announce() {
	_, waits := d.logs.status()
	waiting := len(waits)
	var bans int
	d.court.do(context.Background(), func(j *judge.Judge) { bans = j.Book().Len() })
	d.log.Info(fmt.Sprintf("ready: %s (waiting for a log: %d), %s in table inet %s; configuration: %s",
		plural(len(d.logs.policies), "policy"), waiting, plural(bans, "ban"), d.keeper.Config().Table, d.options.Config))
	d.notify(sdnotify.Ready)
	d.memory.started()
	if d.options.Ready != nil {
		d.options.Ready()
	}
}

var errNotStarted = errors.New("the daemon did not start")

// reload reads the configuration anew and goes over to it. An error leaves everything as it was.
func (d *daemon) reload(ctx context.Context) (err error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	if d.logs == nil {
		return errNotStarted
	}
	defer func() { d.outside.refused = err != nil }()
	d.notify(sdnotify.Reloading)
	defer d.notify(sdnotify.Ready)
	cfg, err := d.options.Load()
	if err != nil {
		return err
	}
	set, err := Settings(cfg)
	if err != nil {
		return err
	}
	old := d.current()
	for _, fixed := range []struct{ name, old, new string }{
		{"blocklist", old.Blocklist, cfg.Blocklist}, {"state", old.State, cfg.State}, {"socket", old.Socket, cfg.Socket},
	} {
		if fixed.old != fixed.new {
			return fmt.Errorf("%s: a reload can't move it from %s to %s; restart the daemon", fixed.name, fixed.old, fixed.new)
		}
	}
	var keeper *nft.Keeper
	if next := KernelConfig(cfg); next != KernelConfig(old) {
		if keeper, err = nft.Open(next); err != nil {
			return err
		}
	}
	// From here on nothing is refused any more. Reading stops first, so that each line is judged by one configuration.
	d.tasks.stop(d.logs)
	if keeper != nil {
		// The old mirror would make of the new shapes of bans what they are not in its table.
		d.tasks.stop(d.kernel)
	}
	var lifted []policy.Ban
	var positions []source.Position
	if err := d.court.do(ctx, func(j *judge.Judge) {
		lifted = j.Reconfigure(set)
		positions = d.court.places()
	}); err != nil {
		return err
	}
	for _, b := range lifted {
		d.log.Info(fmt.Sprintf("[%s] Unban %s (now on the allowlist)", mirror.Label(b), mirror.Host(b.Host)))
	}
	d.mu.Lock()
	d.config, d.loaded = cfg, time.Now()
	d.mu.Unlock()
	if keeper != nil {
		if err := d.changeKernel(ctx, keeper, old.IPv6Prefix != cfg.IPv6Prefix); err != nil {
			return err
		}
	}
	d.file.Reread()
	d.wakeKernel()
	if z, err := systemZone(d.options.Localtime); err != nil {
		d.log.Warn(fmt.Sprintf("time zone: %v; it stays as it is", err))
	} else {
		d.zone = z
	}
	d.logs = d.newLogs(cfg, positions)
	if err := d.tasks.start(ctx, d.logs); err != nil {
		return err
	}
	// Last: a hook that is on its way out may take its time, and no log waits for it.
	if err := d.changeOutside(ctx, old, cfg); err != nil {
		return err
	}
	d.log.Info(fmt.Sprintf("reloaded: %s, %s lifted", plural(len(d.logs.policies), "policy"), plural(len(lifted), "ban")))
	return nil
}

// changeKernel goes over to a table that looks different. The old one stands until the new one does; its mirror has
// stopped.
func (d *daemon) changeKernel(ctx context.Context, keeper *nft.Keeper, anew bool) error {
	d.mu.Lock()
	oldKeeper := d.keeper
	d.mu.Unlock()
	if err := oldKeeper.Release(); err != nil {
		d.log.Error(fmt.Sprintf("kernel: giving the table over: %v", err))
	}
	next := mirror.NewKernel(keeper, d.court.do, d.log, keeper.Config().IPv6Prefix, d.court.copied)
	next.Anew = anew
	d.mu.Lock()
	d.kernel, d.keeper = next, keeper
	d.mu.Unlock()
	if err := d.tasks.start(ctx, next); err != nil {
		return err
	}
	if oldKeeper.Config().Table != keeper.Config().Table {
		if err := oldKeeper.Remove(ctx); err != nil {
			d.log.Error(fmt.Sprintf("kernel: the old table stays: %v", err))
		}
	}
	return oldKeeper.Close()
}

// selfChanged brings the allowlist up to date with this host's addresses.
func (d *daemon) selfChanged(ctx context.Context) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	if !usesSelf(d.current()) {
		return // a reload may bring the word
	}
	set, err := Settings(d.current())
	if err != nil {
		d.log.Error(fmt.Sprintf("allowlist: %v; it stays as it is", err))
		return
	}
	d.court.do(ctx, func(j *judge.Judge) {
		if !j.AllowChanges(set) {
			return
		}
		for _, b := range j.Reconfigure(set) {
			d.log.Info(fmt.Sprintf("[%s] Unban %s (now an address of this host)", mirror.Label(b), mirror.Host(b.Host)))
		}
		d.log.Info("allowlist: this host's addresses changed")
	})
}

// fileTask runs the blocklist's mirror and lets it finish its work at the end.
type fileTask struct{ *mirror.File }

func (t *fileTask) Ready() <-chan struct{} { return closed }

func (t *fileTask) Run(ctx context.Context) error {
	err := t.File.Run(ctx)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(err, t.Finish(last))
}

var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()
