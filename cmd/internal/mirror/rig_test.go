package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"banset/nft"
	"banset/nft/nfttest"
	"banset/policy"
	"banset/policy/blocklist"
	"banset/policy/judge"
	"banset/policy/ledger"
)

func TestMain(m *testing.M) {
	if os.Getenv(stopEnv) != "" {
		stopChild()
	}
	nfttest.Main(m)
}

// rig is a judge with both mirrors running, on the real kernel and a real file.
type rig struct {
	t      *testing.T
	path   string
	keeper *nft.Keeper
	kernel *Kernel
	file   *File
	quick  bool // people see at once what was put back
	log    *logBuffer
	allow  []netip.Prefix
	ahead  atomic.Int64 // how far the kernel mirror's wall clock is ahead of the real one, in nanoseconds

	mu      sync.Mutex
	judge   *judge.Judge
	changed chan struct{}       // closed and made anew at every change
	taken   func(c ledger.Copy) // called when a mirror has taken work; may be nil
	quit    func()              // tells both mirrors to end
	stop    func()
}

type logBuffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	grew chan struct{} // closed at the next line; nil: nobody waits for one
}

// grows is closed at the next line.
func (l *logBuffer) grows() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grew == nil {
		l.grew = make(chan struct{})
	}
	return l.grew
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grew != nil {
		close(l.grew)
		l.grew = nil
	}
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func kernelConfig() nft.Config {
	return nft.Config{Table: "banset", Hook: "prerouting", Priority: -190, Direction: "original", Verdict: "drop",
		IPv6Prefix: 64, Size: 131072}
}

// newRig starts both mirrors. text is the file at the start; "" for none.
func newRig(t *testing.T, text string, allow ...string) *rig {
	t.Helper()
	nfttest.Clean(t)
	return startRig(t, &rig{t: t, path: filepath.Join(t.TempDir(), "blocklist")}, text, allow)
}

// newRigAt is newRig with the file at a path, and none there yet.
func newRigAt(t *testing.T, path string) *rig {
	t.Helper()
	nfttest.Clean(t)
	return startRig(t, &rig{t: t, path: path}, "", nil)
}

func startRig(t *testing.T, r *rig, text string, allow []string) *rig {
	t.Helper()
	for _, a := range allow {
		r.allow = append(r.allow, netip.MustParsePrefix(a))
	}
	if text != "" {
		r.write(text)
	}
	r.start(nil)
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			t.Logf("log:\n%s", r.log)
		}
	})
	return r
}

// start begins with an empty book, as a daemon does, and waits until both copies hold it; remembered is what its state
// would know.
func (r *rig) start(remembered []Remembered) {
	r.t.Helper()
	r.begin(remembered)
	r.settled()
}

// begin is start without waiting for the file.
func (r *rig) begin(remembered []Remembered) {
	r.t.Helper()
	r.log = &logBuffer{}
	log := slog.New(slog.NewTextHandler(r.log, nil))
	r.judge = judge.New(judge.Settings{
		Policies: []policy.Policy{{Name: "sshd", MaxRetry: 3, FindTime: time.Hour, BanTime: []time.Duration{time.Hour}}},
		Allow:    r.allow, IPv6Prefix: 64, MaxHosts: 1000, MaxBans: 131072,
	})
	r.changed = make(chan struct{})
	var err error
	if r.keeper, err = nft.Open(kernelConfig()); err != nil {
		r.t.Fatal(err)
	}
	r.keeper.SetWatchBuffer(watchBuffer)
	options := func() blocklist.Options { return blocklist.Options{Location: time.Local, LegacyBan: policy.Forever} }
	r.file = NewFile(r.path, r.do, log, options, func(error) {})
	if r.quick {
		r.file.recent.unseen = 0
	}
	if err := r.file.Load(r.judge, slices.Values(remembered), time.Now()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.t.Fatal(err)
	}
	r.kernel = NewKernel(r.keeper, r.do, log, 64, func(error) {})
	ctx, cancel := context.WithCancel(context.Background())
	r.quit = cancel
	r.kernel.Now = func() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) }
	var wg sync.WaitGroup
	kernelErr := make(chan error, 1)
	wg.Go(func() { kernelErr <- r.kernel.Run(ctx) })
	fileCtx, stopFile := context.WithCancel(ctx)
	fileOver := make(chan struct{})
	go func() {
		defer close(fileOver)
		r.file.Run(fileCtx)
	}()
	r.stop = sync.OnceFunc(func() {
		stopFile()
		<-fileOver // as in the daemon: one goroutine has the file
		if err := r.file.Finish(context.Background()); err != nil {
			r.t.Errorf("finishing the file: %v", err)
		}
		cancel()
		wg.Wait()
		r.keeper.Close()
	})
	select {
	case <-r.kernel.Ready():
	case err := <-kernelErr:
		r.t.Fatalf("kernel: %v", err)
	}
	r.file.Wake()
}

// do is the court's: one at a time, and the mirrors are woken for what it left.
func (r *rig) do(ctx context.Context, f func(*judge.Judge)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	f(r.judge)
	r.judge.Book().EndOver(time.Now())
	for _, c := range []ledger.Copy{ledger.Kernel, ledger.File} {
		if book := r.judge.Book(); r.taken != nil && book.Pending(c) > book.Waiting(c) {
			r.taken(c)
		}
	}
	if r.kernel != nil && r.judge.Book().Waiting(ledger.Kernel) > 0 {
		r.kernel.Wake()
	}
	if r.judge.Book().Waiting(ledger.File) > 0 {
		r.file.Wake()
	}
	close(r.changed)
	r.changed = make(chan struct{})
	return nil
}

// until waits until cond holds in the judge's goroutine.
func (r *rig) until(what string, cond func(*judge.Judge) bool) {
	r.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		logged := r.log.grows()
		r.mu.Lock()
		ok, changed := cond(r.judge), r.changed
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-logged:
		case <-deadline:
			r.t.Fatalf("never came: %s\nlog:\n%s\nfile:\n%s\nkernel:\n%s", what, r.log, r.text(), nfttest.Run(r.t, "nft", "list", "ruleset"))
		}
	}
}

// settled waits until both copies hold the book, and verifies that they do.
func (r *rig) settled() {
	r.t.Helper()
	r.until("both copies hold the book", func(j *judge.Judge) bool {
		return j.Book().Pending(ledger.Kernel) == 0 && j.Book().Pending(ledger.File) == 0
	})
	r.verify()
}

func (r *rig) verify() {
	r.t.Helper()
	r.mu.Lock()
	allow := r.judge.Allow()
	bans := NewBook(64, allow)
	for b := range r.judge.Book().All() {
		bans.Take(b)
	}
	r.mu.Unlock()
	file := blocklist.Parse([]byte(r.text()), blocklist.Options{Location: time.Local, LegacyBan: policy.Forever})
	err := Verify(context.Background(), r.keeper, bans, parsed{file}, allow, time.Now(), nil, nil, func(d Drift) {
		r.t.Errorf("drift: %v %s", d.Host, d.Text)
	})
	if err != nil {
		r.t.Errorf("verify: %v", err)
	}
}

func (r *rig) take(host string, length time.Duration) policy.Ban {
	r.t.Helper()
	now := time.Now().Unix()
	b := policy.Ban{Host: netip.MustParsePrefix(host), At: now, Until: policy.Never}
	if length != policy.Forever {
		b.Until = now + int64(length/time.Second)
	}
	r.do(context.Background(), func(j *judge.Judge) {
		if _, _, ok := j.Take(b); !ok {
			r.t.Errorf("%s was refused", host)
		}
	})
	return b
}

func (r *rig) ban(host string) (policy.Ban, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.judge.Book().Get(netip.MustParsePrefix(host))
}

// banned waits until a host is or is not in the book, and then for both copies.
func (r *rig) banned(host string, want bool) {
	r.t.Helper()
	p := netip.MustParsePrefix(host)
	r.until(fmt.Sprintf("%s banned: %v", host, want), func(j *judge.Judge) bool {
		_, ok := j.Book().Get(p)
		return ok == want
	})
	r.settled()
}

func (r *rig) text() string {
	text, err := os.ReadFile(r.path)
	if err != nil {
		return ""
	}
	return string(text)
}

// write replaces the file as an editor does that renames.
func (r *rig) write(text string) {
	r.t.Helper()
	tmp := r.path + ".edit"
	if err := os.WriteFile(tmp, []byte(text), 0o640); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(tmp, r.path); err != nil {
		r.t.Fatal(err)
	}
}

// logged waits for a line of the log.
func (r *rig) logged(part string) {
	r.t.Helper()
	r.until("log line with "+part, func(*judge.Judge) bool { return strings.Contains(r.log.String(), part) })
}

func nftRun(t *testing.T, args ...string) string { t.Helper(); return nfttest.Run(t, "nft", args...) }
