package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Defaults of metrics and hooks.
const (
	DefaultHookTimeout   = 10 * time.Second
	DefaultHookPerMinute = 60
)

// MaxHooks is the most hooks of a configuration: each has a worker and a queue of its own.
const MaxHooks = 16

// Metrics says where the daemon shows its figures to Prometheus.
type Metrics struct {
	Listen string // "" for nowhere; an absolute path is a unix socket, everything else an address with a port
	Public bool   // Listen may be an address that others reach
}

// A Hook is what is to be told of bans and unbans: a program or a web address.
type Hook struct {
	Name       string
	Enabled    bool
	Ban, Unban bool // of which it is told
	// Command is a program with its arguments, in which [Placeholders] stand; empty for a webhook. The first is an
	// absolute path.
	Command   []string
	Webhook   string // http or https; "" for a command
	Timeout   time.Duration
	PerMinute int
	Pos       Pos // its name, where it is defined first
}

// Placeholders are the words that stand in braces in the arguments of a hook's command.
var Placeholders = []string{"event", "addr", "policy", "failures", "end", "seconds"}

type rawMetrics struct {
	listen value[string]
	public value[bool]
}

type rawHook struct {
	pos       Pos
	broken    bool
	enabled   value[bool]
	events    value[[]value[string]]
	command   value[[]string]
	webhook   value[string]
	timeout   value[time.Duration]
	perMinute value[int]
}

// over lays what a later file says over h, key by key. A command of the one replaces a webhook of the other.
func (h *rawHook) over(later *rawHook) {
	if later.command.set {
		h.webhook = later.webhook
	}
	if later.webhook.set {
		h.command = later.command
	}
	h.broken = h.broken || later.broken
	h.enabled.over(later.enabled)
	h.events.over(later.events)
	h.command.over(later.command)
	h.webhook.over(later.webhook)
	h.timeout.over(later.timeout)
	h.perMinute.over(later.perMinute)
}

func (r *reader) readMetrics(n *yaml.Node, m *rawMetrics) {
	r.keys(n, "metrics", map[string]string{"address": "it is called listen", "port": "write listen: 127.0.0.1:9119"},
		field(r, "listen", &m.listen, r.listen),
		field(r, "public", &m.public, r.boolean))
}

// listen reads where metrics are to be had: none, a socket's path, or an address and a port.
func (r *reader) listen(n *yaml.Node, what string) (string, bool) {
	const like = "like 127.0.0.1:9119, '[::1]:9119', the path of a socket, or none"
	s, ok := r.text(n, what)
	switch {
	case !ok:
		return "", false
	case s == "none":
		return "", true
	case strings.HasPrefix(s, "/"):
		return r.socket(n, what)
	}
	a, err := netip.ParseAddrPort(s)
	switch {
	case err != nil && strings.HasPrefix(s, ":"):
		r.fail(r.at(n), "write the address too: 127.0.0.1"+printable(s), "%s has no address: %s would be all of them", what, quoted(s))
	case err != nil && strings.HasPrefix(s, "localhost:"):
		r.fail(r.at(n), "write 127.0.0.1"+printable(strings.TrimPrefix(s, "localhost")), "%s: names are not looked up", what)
	case err != nil:
		r.fail(r.at(n), like, "%s: %s is no address with a port", what, quoted(s))
	case a.Port() == 0:
		r.fail(r.at(n), like, "%s: port 0 is none", what)
	case a.Addr().Zone() != "":
		r.fail(r.at(n), like, "%s: an address with a zone is not taken", what)
	default:
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String(), true
	}
	return "", false
}

// hookWords are words that people may try in a hook.
var hookWords = map[string]string{
	"actionban":   "write events: [ban] and command: [/path/to/program, '{addr}']",
	"actionunban": "write events: [unban] and command: [/path/to/program, '{addr}']",
	"on":          "it is called events",
	"url":         "it is called webhook",
	"exec":        "it is called command",
	"shell":       "there is no shell: write command: [/path/to/program, '{addr}']",
}

func (r *reader) readHook(name string, k, n *yaml.Node) *rawHook {
	h := &rawHook{pos: r.at(k)}
	before := r.errors
	defer func() { h.broken = r.errors > before }()
	r.keys(n, "hook "+name, hookWords,
		field(r, "enabled", &h.enabled, r.boolean),
		field(r, "events", &h.events, func(n *yaml.Node, what string) ([]value[string], bool) {
			return r.texts(n, what, func(n *yaml.Node, what string) (string, bool) { return r.word(n, what, "ban", "unban") })
		}),
		field(r, "command", &h.command, r.command),
		field(r, "webhook", &h.webhook, r.webhook),
		field(r, "timeout", &h.timeout, r.hookTimeout),
		field(r, "per_minute", &h.perMinute, r.between(1, 6000)))
	return h
}

// command reads a program and its arguments.
func (r *reader) command(n *yaml.Node, what string) ([]string, bool) {
	if n.Kind == yaml.ScalarNode {
		words := strings.Fields(printable(n.Value))
		for i, w := range words {
			if strings.ContainsAny(w, "{}[],'\"") {
				words[i] = "'" + strings.ReplaceAll(w, "'", "''") + "'"
			}
		}
		hint := "write a list: [" + strings.Join(words, ", ") + "]"
		if !strings.HasPrefix(n.Value, "/") {
			hint = "write a list: [/path/to/program, '{event}', '{addr}']"
		}
		r.fail(r.at(n), hint, "%s must be a list of the program and its arguments: no shell takes it apart", what)
		return nil, false
	}
	nodes, ok := r.items(n, what)
	if nodes == nil {
		return nil, false
	}
	if len(nodes) == 0 && ok {
		r.fail(r.at(n), "write [/path/to/program, '{event}', '{addr}']", "%s is an empty list", what)
		return nil, false
	}
	var args []string
	for i, n := range nodes {
		if n.Kind == yaml.MappingNode {
			hint := "put it in quotes"
			if len(n.Content) > 0 && n.Content[0].Kind == yaml.ScalarNode {
				hint = "put it in quotes: '{" + printable(n.Content[0].Value) + "}'"
			}
			r.fail(r.at(n), hint, "an argument of %s must be a text, not a map", what)
			ok = false
			continue
		}
		s, good := r.argument(n, what, i == 0)
		ok = ok && good
		args = append(args, s)
	}
	return args, ok
}

func (r *reader) argument(n *yaml.Node, what string, program bool) (string, bool) {
	s, ok := r.scalar(n, what)
	switch {
	case !ok:
		return "", false
	case strings.ContainsRune(s, 0):
		r.fail(r.at(n), "", "an argument of %s can't hold a NUL", what)
		return "", false
	case program && (!strings.HasPrefix(s, "/") || strings.HasSuffix(s, "/")):
		r.fail(r.at(n), "write its whole path, beginning with /", "%s must begin with a program, not %s", what, quoted(s))
		return "", false
	case program:
		if strings.ContainsAny(s, "{}") {
			r.fail(r.at(n), "", "%s: the program's name can't have a placeholder: %s", what, quoted(s))
			return "", false
		}
		return path.Clean(s), true
	}
	for rest := s; ; {
		i := strings.IndexAny(rest, "{}")
		if i < 0 {
			return s, true
		}
		at := r.src.inside(n, len(s)-len(rest)+i)
		name, after, closed := strings.Cut(rest[i+1:], "}")
		if rest[i] == '}' || !closed {
			r.fail(at, "allowed: {"+strings.Join(Placeholders, "} {")+"}", "an argument of %s has a single %c: %s", what, rest[i], quoted(s))
			return "", false
		}
		if !slices.Contains(Placeholders, name) {
			r.fail(at, oneOf(name, Placeholders), "%s has no placeholder %s", what, quoted("{"+name+"}"))
			return "", false
		}
		rest = after
	}
}

func (r *reader) webhook(n *yaml.Node, what string) (string, bool) {
	s, ok := r.text(n, what)
	if !ok {
		return "", false
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		r.fail(r.at(n), "like https://example.org/path", "%s: this is no http or https address", what)
		return "", false
	}
	if u.Fragment != "" {
		r.fail(r.at(n), "remove it", "%s: what follows # is never sent", what)
		return "", false
	}
	return s, true
}

func (r *reader) hookTimeout(n *yaml.Node, what string) (time.Duration, bool) {
	d, ok := r.duration(n, what)
	if ok && (d < time.Second || d > 10*time.Minute) {
		r.fail(r.at(n), "", "%s must be from 1s to 10m", what)
		return 0, false
	}
	return d, ok
}

// metrics makes Metrics of what the files say.
func (m *maker) makeMetrics() Metrics {
	c := Metrics{Listen: m.metrics.listen.or(""), Public: m.metrics.public.or(false)}
	if a, err := netip.ParseAddrPort(c.Listen); err == nil && !a.Addr().IsLoopback() && !c.Public {
		hint := fmt.Sprintf("write 127.0.0.1:%d, or public: true beside it: then everybody who reaches it sees what this host watches and how it goes", a.Port())
		m.fail(m.metrics.listen.pos, hint, "metrics would be open to others on %s", c.Listen)
	}
	return c
}

func (m *maker) makeHook(name string, r *rawHook) *Hook {
	h := &Hook{
		Name: name, Enabled: r.enabled.or(true), Command: r.command.v, Webhook: r.webhook.v,
		Timeout: r.timeout.or(DefaultHookTimeout), PerMinute: r.perMinute.or(DefaultHookPerMinute), Pos: r.pos,
	}
	events := []string{"ban", "unban"}
	if r.events.set {
		events = texts(r.events.v)
		if len(events) == 0 && !r.events.bad {
			m.fail(r.events.pos, "write [ban, unban], or enabled: false", "hook %s has no events", name)
		}
	}
	h.Ban, h.Unban = slices.Contains(events, "ban"), slices.Contains(events, "unban")
	switch {
	case !m.whole || r.broken:
	case r.command.set && r.webhook.set:
		m.fail(r.webhook.pos, "make two hooks of it", "hook %s has both a command and a webhook", name)
	case !r.command.set && !r.webhook.set:
		m.fail(r.pos, "write command: [/path/to/program, '{event}', '{addr}'], or webhook: https://...",
			"hook %s has neither a command nor a webhook", name)
	}
	return h
}
