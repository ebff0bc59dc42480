package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banset/cmd/internal/source"
)

// deploy is where the manual and the dashboard are.
var deploy = filepath.Join("..", "..", "..", "deploy")

// full is a snapshot in which every metric has a value.
func full() Snapshot {
	now := time.Unix(1795457565, 0)
	return Snapshot{
		Version: "v1", Started: now, Loaded: now, Problems: 1, Hosts: 2, MaxHosts: 3, LostHosts: 4, MaxBans: 5, LostBans: 6,
		Healings: 7, Pending: map[string]int{"kernel": 8}, Dropped: 9, DroppedBytes: 10,
		Policies: []Policy{{"sshd", 11, 12, 13, 14}, {"by hand", 0, 15, 16, 17}},
		Logs: []Log{
			{source.Status{Name: "/var/log/auth.log", State: source.Following, Lines: 18, Bytes: 19, LastLine: now}, 2 * time.Hour},
			{source.Status{Name: "/var/log/mail.log", State: source.Waiting}, 0},
		},
		Hooks: []Hook{{"tell", 20, 21, 22, 23, 24}},
	}
}

// serve shows a snapshot on a socket and returns a client for it, and what asks.
func serve(t *testing.T, snapshot func(context.Context) (Snapshot, error)) (*Metrics, func(path string) (int, string)) {
	t.Helper()
	dir, err := os.MkdirTemp("", "metrics-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "socket")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	m := New(snapshot)
	m.now = func() time.Time { return time.Unix(1795457575, 0) }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket's file stays: %v", err)
		}
	})
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	t.Cleanup(client.CloseIdleConnections)
	return m, func(path string) (int, string) {
		t.Helper()
		answer, err := client.Get("http://banset" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(text)
	}
}

func fixed(s Snapshot) func(context.Context) (Snapshot, error) {
	return func(context.Context) (Snapshot, error) { return s, nil }
}

var (
	typeLine = regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`)
	label    = regexp.MustCompile(`(\w+)="`)
)

// families is the names of what is shown, each with its labels in order: name{label,label}.
func families(t *testing.T, text string) (all []string) {
	t.Helper()
	for _, m := range typeLine.FindAllStringSubmatch(text, -1) {
		name := m[1]
		sample := regexp.MustCompile(`(?m)^` + name + `(?:_bucket)?(?:\{([^}]*)\})? `).FindStringSubmatch(text)
		if sample == nil {
			t.Errorf("%s has no value", name)
			continue
		}
		var labels []string
		for _, l := range label.FindAllStringSubmatch(sample[1], -1) {
			if l[1] != "le" {
				labels = append(labels, l[1])
			}
		}
		if len(labels) > 0 {
			name += "{" + strings.Join(labels, ",") + "}"
		}
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// TestManual holds the manual to exactly what is shown.
func TestManual(t *testing.T) {
	_, get := serve(t, fixed(full()))
	status, text := get("/metrics")
	if status != http.StatusOK {
		t.Fatal(status, text)
	}
	page, err := os.ReadFile(filepath.Join(deploy, "man", "banset.8"))
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, m := range regexp.MustCompile(`(?m)^\.It Li (banset_\S+)$`).FindAllStringSubmatch(string(page), -1) {
		told = append(told, m[1])
	}
	slices.Sort(told)
	if diff := cmp.Diff(families(t, text), told); diff != "" {
		t.Errorf("what is shown (-) and the manual (+):\n%s", diff)
	}
}

// TestDashboard holds every query of the dashboard to metrics and labels that there are.
func TestDashboard(t *testing.T) {
	_, get := serve(t, fixed(full()))
	_, text := get("/metrics")
	labels := make(map[string][]string)
	for _, f := range families(t, text) {
		name, rest, _ := strings.Cut(f, "{")
		labels[name] = append(strings.Split(strings.TrimSuffix(rest, "}"), ","), "instance")
		if name == "banset_line_to_ban_seconds" {
			labels[name+"_bucket"] = []string{"le", "instance"}
		}
	}
	data, err := os.ReadFile(filepath.Join(deploy, "grafana", "banset.json"))
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
		Templating struct {
			List []struct{ Query any }
		}
	}
	if err := json.Unmarshal(data, &board); err != nil {
		t.Fatal(err)
	}
	metric := regexp.MustCompile(`\bbanset_\w+`)
	queries, used := 0, make(map[string]bool)
	for _, p := range board.Panels {
		for _, q := range p.Targets {
			queries++
			names := metric.FindAllString(q.Expr, -1)
			if len(names) == 0 {
				t.Errorf("%s: no metric in %s", p.Title, q.Expr)
			}
			for _, name := range names {
				used[name] = true
				have, ok := labels[name]
				if !ok {
					t.Errorf("%s: there is no %s", p.Title, name)
				}
				var wanted []string
				for _, m := range regexp.MustCompile(`by \(([^)]*)\)|(\w+)=~?"|\{\{(\w+)\}\}`).FindAllStringSubmatch(q.Expr+q.LegendFormat, -1) {
					wanted = append(wanted, strings.Split(m[1]+m[2]+m[3], ", ")...)
				}
				for _, l := range wanted {
					if !slices.Contains(have, l) {
						t.Errorf("%s: %s has no label %s", p.Title, name, l)
					}
				}
			}
		}
	}
	if queries < 20 {
		t.Errorf("only %d queries were looked at", queries)
	}
	for _, v := range board.Templating.List {
		for _, name := range metric.FindAllString(fmt.Sprint(v.Query), -1) {
			if _, ok := labels[name]; !ok {
				t.Errorf("a variable asks for %s, which there is not", name)
			}
		}
	}
}

// The values are those of the snapshot.
func TestValues(t *testing.T) {
	m, get := serve(t, fixed(full()))
	m.Landed(3 * time.Millisecond)
	_, text := get("/metrics")
	for _, want := range []string{
		`banset_build_info{version="v1"} 1`,
		`banset_start_time_seconds 1.795457565e+09`,
		`banset_config_reload_successful 1`,
		`banset_failures_total{policy="sshd"} 11`,
		`banset_bans_total{policy="sshd"} 12`,
		`banset_unbans_total{policy="sshd"} 13`,
		`banset_bans{policy="sshd"} 14`,
		`banset_bans{policy="by hand"} 17`,
		`banset_drift_bans{copy="kernel"} 8`,
		`banset_log_up{log="/var/log/auth.log"} 1`,
		`banset_log_up{log="/var/log/mail.log"} 0`,
		`banset_log_last_line_seconds{log="/var/log/auth.log"} 10`,
		`banset_log_skew_seconds{log="/var/log/auth.log"} 7200`,
		`banset_hook_events_total{hook="tell",result="timeout"} 22`,
		`banset_hook_waiting{hook="tell"} 24`,
		`banset_line_to_ban_seconds_bucket{le="0.0025"} 0`,
		`banset_line_to_ban_seconds_bucket{le="0.005"} 1`,
		`banset_line_to_ban_seconds_count 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if strings.Contains(text, `log_last_line_seconds{log="/var/log/mail.log"}`) {
		t.Error("a log without a line has a last one")
	}
}

// However many logs there are and whatever their names, the answer stays small and whole.
func TestBounded(t *testing.T) {
	s := full()
	s.Logs = nil
	for i := range 10 * maxLogs {
		s.Logs = append(s.Logs, Log{Status: source.Status{Name: fmt.Sprintf("/var/log/\xff\n\"%d", i), State: source.Following, Lines: 1}})
	}
	// Two names of which a label shows the same.
	s.Logs[0].Name, s.Logs[1].Name = "/a\xff", "/a\xfe"
	_, get := serve(t, fixed(s))
	status, text := get("/metrics")
	if status != http.StatusOK {
		t.Fatal(status, text[:min(len(text), 500)])
	}
	if n := strings.Count(text, "\nbanset_log_lines_total{"); n != maxLogs+1 {
		t.Errorf("%d logs", n)
	}
	for _, want := range []string{`banset_log_lines_total{log="/a?"} 2`, fmt.Sprintf(`banset_log_lines_total{log="others"} %d`, 9*maxLogs-1)} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
}

// When the daemon does not answer, there are no figures instead of old ones.
func TestNoSnapshot(t *testing.T) {
	_, get := serve(t, func(context.Context) (Snapshot, error) { return Snapshot{}, errors.New("busy") })
	if status, text := get("/metrics"); status != http.StatusServiceUnavailable || !strings.Contains(text, "busy") {
		t.Error(status, text)
	}
	if status, _ := get("/"); status != http.StatusOK {
		t.Error(status)
	}
	if status, _ := get("/debug/pprof/"); status != http.StatusNotFound {
		t.Error(status)
	}
}

// People who hold connections open take no more of the daemon's descriptors than there is room for.
func TestConnections(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	few := &fewConnections{Listener: l, room: make(chan struct{}, 2), over: t.Context().Done()}
	defer l.Close()
	accepted := make(chan net.Conn)
	go func() {
		for {
			conn, err := few.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- conn
		}
	}()
	for range 3 {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	first := <-accepted
	second := <-accepted
	select {
	case <-accepted:
		t.Fatal("a third connection was accepted")
	default:
	}
	if len(few.room) != 2 {
		t.Errorf("%d of 2 places are taken", len(few.room))
	}
	first.Close()
	first.Close() // twice gives one place back
	third := <-accepted
	if len(few.room) != 2 {
		t.Errorf("%d of 2 places are taken", len(few.room))
	}
	second.Close()
	third.Close()
}

// A dead socket is replaced, a live one and any other file are left alone.
func TestListen(t *testing.T) {
	dir, err := os.MkdirTemp("", "metrics-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "socket")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != socketMode {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "somebody else") {
		t.Errorf("a live socket: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if l, err = Listen(path); err != nil {
		t.Fatalf("a dead socket: %v", err)
	}
	l.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("a file: %v", err)
	}
}

// A ban costs one observation and no memory.
func TestLandedAllocates(t *testing.T) {
	m := New(fixed(Snapshot{}))
	if n := testing.AllocsPerRun(100, func() { m.Landed(time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
