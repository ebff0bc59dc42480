package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"banset/nft/nfttest"
)

// TestHooks: a real program and a real web server are told of bans and unbans, and never of bans that are put back.
func TestHooks(t *testing.T) {
	h := newHost(t)
	posted := make(chan string, 100)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var e struct{ Event, Addr, Policy string }
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			t.Error(err)
		}
		posted <- e.Event + " " + e.Addr + " " + e.Policy
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	h.writeFile("told", "")
	h.writeFile("program", "#!/bin/sh\necho \"$@\" >> "+h.path("told")+"\n")
	if err := os.Chmod(h.path("program"), 0o755); err != nil {
		t.Fatal(err)
	}
	hooks := fmt.Sprintf(`
hooks:
  program: {command: [%s, '{event}', '{addr}', '{policy}', '{failures}', '{end}', '{seconds}']}
  web: {webhook: 'http://%s/', events: [ban]}
`, h.path("program"), l.Addr())
	h.configure(hooks)
	h.start()
	want := func(what ...string) {
		t.Helper()
		h.until("the program is told "+strings.Join(what, ", "), func() bool {
			lines := strings.FieldsFunc(h.readFile("told"), func(r rune) bool { return r == '\n' })
			if len(lines) > len(what) {
				t.Fatalf("told %q, want %q", lines, what)
			}
			if len(lines) < len(what) {
				return false
			}
			for i, line := range lines {
				if !regexp.MustCompile("^" + what[i] + "$").MatchString(line) {
					t.Fatalf("told %q, want %q", line, what[i])
				}
			}
			return true
		})
	}
	post := func(what string) {
		t.Helper()
		select {
		case got := <-posted:
			if got != what {
				t.Errorf("posted %q, want %q", got, what)
			}
		case <-h.exited:
			t.Fatal("the daemon ended")
		}
	}
	stamp := `20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ`
	told := []string{"ban " + attacker + ` exim2-repeater 10 ` + stamp + ` 3153\d{4}`}
	h.fail(attacker, 10)
	want(told...)
	post("ban " + attacker + " exim2-repeater")

	// Put back after a flush, a crash and a reload: no news.
	nfttest.Run(t, "nft", "flush", "ruleset")
	h.logged("put back 1 ban")
	h.kill()
	nfttest.Run(t, "nft", "flush", "ruleset")
	h.start()
	h.configure(hooks + "ignoreip: [198.51.100.77]\n")
	h.banset("reload")

	h.banset("ban", "2001:db8:7::/64")
	h.banset("unban", attacker)
	h.appendFile("data/blocklist", bystander+"\n")
	told = append(told, "ban 2001:db8:7::/64 by hand 0 forever -1",
		"unban "+attacker+" exim2-repeater 10 "+stamp+" 0", "ban "+bystander+" by hand 0 forever -1")
	want(told...)
	post("ban 2001:db8:7::/64 by hand")
	post("ban " + bystander + " by hand")
	h.verified()
}

// TestMetrics: the figures tell what happened.
func TestMetrics(t *testing.T) {
	h := newHost(t)
	h.configure("metrics: {listen: " + h.path("metrics") + "}\nhooks: {gone: {command: [/nonexistent]}}")
	h.writeFile("mainlog", "") // lines of a log that is there already are live
	h.start()
	h.fail(attacker, 10)
	h.fail(bystander, 3)
	h.logged("[exim2-repeater] Ban " + attacker)
	nfttest.Run(t, "nft", "flush", "ruleset")
	h.logged("put back 1 ban")
	h.banset("ban", other)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", h.path("metrics"))
	}}}
	defer client.CloseIdleConnections()
	text := ""
	shown := func(want string) func() bool {
		return func() bool {
			answer, err := client.Get("http://banset/metrics")
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			page, err := io.ReadAll(answer.Body)
			if err != nil {
				t.Fatal(err)
			}
			text = string(page)
			return strings.Contains(text, want)
		}
	}
	h.until("all failures", shown("banset_failures_total{policy=\"exim2-repeater\"} 13\n"))
	h.until("the hook has failed", shown("banset_hook_events_total{hook=\"gone\",result=\"failed\"} 2\n"))
	h.until("nothing waits", shown("banset_drift_bans{copy=\"state\"} 0\n"))
	for _, want := range []string{
		`banset_bans_total{policy="exim2-repeater"} 1`,
		`banset_bans_total{policy="by hand"} 1`,
		`banset_bans{policy="exim2-repeater"} 1`,
		`banset_drift_bans{copy="kernel"} 0`,
		`banset_drift_bans{copy="blocklist"} 0`,
		`banset_healings_total 1`,
		`banset_line_to_ban_seconds_count 1`,
		`banset_log_lines_total{log="` + h.path("mainlog") + `"} 13`,
		`banset_log_up{log="` + h.path("mainlog") + `"} 1`,
		`banset_problems 0`,
		`banset_tracked_hosts 1`,
		`banset_config_reload_successful 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	h.configure("metrics: {listen: 127.0.0.1:9119, public: maybe}")
	if _, _, status := h.run("reload"); status != 1 {
		t.Errorf("reloading a broken configuration: status %d", status)
	}
	if !shown("banset_config_reload_successful 0\n")() || !strings.Contains(text, "banset_problems 1\n") {
		t.Errorf("after a reload that was refused:\n%s", text)
	}
	h.configure("metrics: {listen: 127.0.0.1:9119}")
	h.banset("reload")
	client.Transport = nil
	answer, err := client.Get("http://127.0.0.1:9119/metrics")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if _, err := os.Lstat(h.path("metrics")); err == nil {
		t.Error("the socket is still there")
	}
	// A port that is taken is a problem, not the end.
	h.configure("")
	h.banset("reload")
	l, err := net.Listen("tcp", "127.0.0.1:9119")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h.configure("metrics: {listen: 127.0.0.1:9119}")
	h.banset("reload")
	if out, _, status := h.run("status"); status != 1 || !strings.Contains(out, "address already in use") {
		t.Errorf("status %d with a port that is taken:\n%s", status, out)
	}
	l.Close()
	h.banset("reload")
	if out, _, status := h.run("status"); status != 0 {
		t.Errorf("status %d after that:\n%s", status, out)
	}
}
