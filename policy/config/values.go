package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"banset/policy"
	"banset/policy/match"
)

// maxSocket is the longest path of a unix socket: sun_path of unix(7) less its NUL.
const maxSocket = 107

// path reads the absolute path of one file.
func (r *reader) path(n *yaml.Node, what string) (string, bool) {
	s, ok := r.text(n, what)
	switch {
	case !ok:
	case !strings.HasPrefix(s, "/"):
		r.fail(r.at(n), "write the whole path, beginning with /", "%s must be an absolute path, not %s", what, quoted(s))
	case strings.HasSuffix(s, "/"):
		r.fail(r.at(n), "write the path of a file", "%s must be a file, not the directory %s", what, quoted(s))
	default:
		return path.Clean(s), true
	}
	return "", false
}

func (r *reader) socket(n *yaml.Node, what string) (string, bool) {
	s, ok := r.path(n, what)
	if ok && len(s) > maxSocket {
		r.fail(r.at(n), "take a shorter path", "%s has %d bytes, a socket's path may have %d", what, len(s), maxSocket)
		return "", false
	}
	return s, ok
}

// logPath reads one item of logpath: a path that may hold globs.
func (r *reader) logPath(n *yaml.Node, what string) (string, bool) {
	s, ok := r.text(n, what)
	if !ok {
		return "", false
	}
	_, globErr := path.Match(s, "")
	switch {
	case !strings.HasPrefix(s, "/"):
		r.fail(r.at(n), "write the whole path, beginning with /", "%s must hold absolute paths, not %s", what, quoted(s))
	case strings.HasSuffix(s, "/"):
		r.fail(r.at(n), "name the files: "+printable(s)+"*.log", "%s names the directory %s", what, quoted(s))
	case globErr != nil:
		r.fail(r.at(n), `* ? and [a-z] are globs; write \[ for a [ in a name`, "%s holds the broken glob %s", what, quoted(s))
	default:
		if i := strings.Index(s, " /"); i >= 0 {
			r.warn(r.src.inside(n, i), "write a list for several files: [/var/log/a, /var/log/b]",
				"%s holds a space in one name: %s", what, quoted(s))
		}
		return s, true
	}
	return "", false
}

// A journalWord is one term of journalmatch and where it stands.
type journalWord struct {
	text string
	pos  Pos
}

// journalWords are the terms of journalmatch: the items of a list as they are, a text on its own cut at its spaces as a
// shell cuts journalctl's command line.
func (r *reader) journalWords(n *yaml.Node, what string) ([]journalWord, bool) {
	if n.Kind == yaml.ScalarNode {
		s, ok := r.text(n, what)
		var words []journalWord
		at := 0
		for word := range strings.FieldsSeq(s) {
			at += strings.Index(s[at:], word)
			words = append(words, journalWord{word, r.src.inside(n, at)})
			at += len(word)
		}
		return words, ok
	}
	nodes, ok := r.items(n, what)
	if nodes == nil {
		return nil, false
	}
	if len(nodes) == 0 && ok {
		r.fail(r.at(n), "remove the key, or name a unit: _SYSTEMD_UNIT=ssh.service", "%s is empty", what)
		return nil, false
	}
	var words []journalWord
	for _, n := range nodes {
		s, good := r.text(n, what)
		if good && (strings.Contains(s, " + ") || strings.Contains(s, " _")) {
			r.warn(r.at(n), "make each term an item: ['_SYSTEMD_UNIT=ssh.service', '+', '_COMM=sshd']",
				"%s holds several terms in one item: %s", what, quoted(s))
		}
		ok = ok && good
		words = append(words, journalWord{s, r.at(n)})
	}
	return words, ok
}

// journalTerm reports whether s is FIELD=VALUE.
func journalTerm(s string) bool {
	field, _, ok := strings.Cut(s, "=")
	for i := range len(field) {
		c := field[i]
		ok = ok && (c == '_' || 'A' <= c && c <= 'Z' || i > 0 && '0' <= c && c <= '9')
	}
	return ok && field != ""
}

// journal reads the terms of journalmatch: FIELD=VALUE, and + for "or".
func (r *reader) journal(n *yaml.Node, what string) ([]string, bool) {
	words, ok := r.journalWords(n, what)
	if !ok {
		return nil, false
	}
	var terms []string
	for i, w := range words {
		switch {
		case w.text == "+" && (i == 0 || i == len(words)-1 || words[i-1].text == "+"):
			r.fail(w.pos, "put it between two terms", "%s has a + with nothing to join", what)
			ok = false
		case w.text != "+" && !journalTerm(w.text):
			hint := "write FIELD=VALUE, like _SYSTEMD_UNIT=ssh.service, or +; see journalctl(1)"
			if n.Kind == yaml.ScalarNode && i > 0 {
				hint = "a value that holds a space goes into a list: ['SYSLOG_IDENTIFIER=my program']"
			}
			r.fail(w.pos, hint, "%s can't be %s", what, quoted(w.text))
			ok = false
		}
		terms = append(terms, w.text)
	}
	return terms, ok
}

// duration reads one length of time.
func (r *reader) duration(n *yaml.Node, what string) (time.Duration, bool) {
	s, ok := r.scalar(n, what)
	if !ok {
		return 0, false
	}
	d, err := policy.ParseDuration(s)
	if err != nil {
		r.fail(r.at(n), "", "%s: %s", what, err)
		return 0, false
	}
	return d, true
}

// ladder reads ban times: one, or a list of them for repeat offenders.
func (r *reader) ladder(n *yaml.Node, what string) ([]time.Duration, bool) {
	nodes, ok := r.items(n, what)
	if nodes == nil {
		return nil, false
	}
	if len(nodes) == 0 && ok {
		r.fail(r.at(n), "write one ban time, or several: [10m, 1d, 30d, forever]", "%s is an empty list", what)
		return nil, false
	}
	var rungs []time.Duration
	for _, n := range nodes {
		d, good := r.duration(n, what)
		if !good {
			ok = false
			continue
		}
		if len(rungs) > 0 && d < rungs[len(rungs)-1] {
			r.warn(r.at(n), "the ladder is climbed from left to right, and its last rung repeats",
				"%s gets shorter: %s after %s", what, policy.FormatDuration(d), policy.FormatDuration(rungs[len(rungs)-1]))
		}
		rungs = append(rungs, d)
	}
	return rungs, ok
}

// allow is what an ignoreip list says.
type allow struct {
	prefixes []netip.Prefix
	self     bool
}

// self is the word of ignoreip that stands for every address of this host.
const self = "self"

// ignoreIP reads a list of addresses and prefixes that are never banned.
func (r *reader) ignoreIP(n *yaml.Node, what string) (allow, bool) {
	nodes, ok := r.items(n, what)
	if nodes == nil {
		return allow{}, false
	}
	var a allow
	first := make(map[netip.Prefix]Pos)
	for _, n := range nodes {
		if n.Kind == yaml.MappingNode && len(n.Content) == 2 && n.Content[1].Tag == "!!null" {
			if _, err := netip.ParseAddr(n.Content[0].Value + ":"); err == nil {
				r.fail(r.at(n), "put an IPv6 address that ends in : in quotes", "%s holds a map, not an address", what)
				ok = false
				continue
			}
		}
		s, good := r.text(n, what)
		if !good {
			ok = false
			continue
		}
		if s == self {
			if a.self {
				r.fail(r.at(n), "keep one of them", "%s holds self twice", what)
				ok = false
			}
			a.self = true
			continue
		}
		p, good := r.prefix(n, what, s)
		if !good {
			ok = false
			continue
		}
		if at, dup := first[p]; dup {
			r.fail(r.at(n), "keep one of them", "%s holds %s twice: the first one is in line %d", what, p, at.Line)
			ok = false
			continue
		}
		first[p] = r.at(n)
		a.prefixes = append(a.prefixes, p)
	}
	return a, ok
}

// prefix reads an address or a prefix of an allowlist.
func (r *reader) prefix(n *yaml.Node, what, s string) (netip.Prefix, bool) {
	p, err := parsePrefix(s)
	if err != nil {
		r.fail(r.at(n), oneOfAddress(s), "%s: %s is no address, prefix or the word self", what, quoted(s))
		return p, false
	}
	if p.Bits() == 0 {
		r.fail(r.at(n), "remove it, or set enabled: false on the policies", "%s: %s covers every address: nobody would be banned",
			what, p)
		return p, false
	}
	if masked := p.Masked(); masked != p {
		r.warn(r.at(n), "write "+masked.String()+", or the address alone",
			"%s: %s has bits beyond its length and is taken as %s", what, p, masked)
		p = masked
	}
	// Everything that is routed in IPv6 is 2000::/3; the local prefixes fc00::/7 and fe80::/10 are short by nature.
	routed := p.Addr().Is4() || p.Overlaps(netip.MustParsePrefix("2000::/3"))
	if least := map[bool]int{true: 8, false: 12}[p.Addr().Is4()]; routed && p.Bits() < least {
		r.warn(r.at(n), "", "%s: %s is a large part of the internet, from which nobody will be banned", what, p)
	}
	return p, true
}

// parsePrefix reads an address as a prefix of one, or a prefix. IPv4 written as IPv6 becomes IPv4.
func parsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, err
		}
		if a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q has a zone", s)
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err == nil && p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p, err
}

// oneOfAddress says how to write what s was meant to be.
func oneOfAddress(s string) string {
	addr, tail, slash := strings.Cut(s, "/")
	_, isAddr := netip.ParseAddr(addr)
	mask, isMask := netip.ParseAddr(tail)
	switch {
	case strings.ContainsAny(s, ", "):
		return "write a list: [192.0.2.1, 198.51.100.0/24]"
	case slash && isAddr == nil && isMask == nil && mask.Is4():
		return "write the length of the prefix, like 198.51.100.0/24, not a mask"
	case strings.Contains(s, "%"):
		return "leave out the zone after %"
	case nearest(s, []string{self}) != "":
		return "did you mean self?"
	case strings.ContainsAny(s, "ghijklmnopqrstuvwxyz"):
		return "names are not looked up: write the address"
	}
	return "like 192.0.2.1, 198.51.100.0/24, '2001:db8::1' or self"
}

// table reads the name of the nftables table: what the nft program takes for a name too.
func (r *reader) table(n *yaml.Node, what string) (string, bool) {
	s, ok := r.scalar(n, what)
	if !ok {
		return "", false
	}
	ok = s != "" && len(s) <= policy.MaxName
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		ok = ok && (letter || i > 0 && ('0' <= c && c <= '9' || c == '_' || c == '-' || c == '.'))
	}
	switch {
	case !ok:
		r.fail(r.at(n),
			fmt.Sprintf("allowed: letters, digits, _ - . beginning with a letter, at most %d", policy.MaxName),
			"%s can't be %s", what, quoted(s))
	case nftWords[s]:
		r.fail(r.at(n), "take another name", "%s can't be %s, a word of nft's own language", what, quoted(s))
		ok = false
	}
	return s, ok
}

// zone reads a name of the zone database.
func (r *reader) zone(n *yaml.Node, what string) (*time.Location, bool) {
	s, ok := r.text(n, what)
	if !ok {
		return nil, false
	}
	loc, err := time.LoadLocation(s)
	if err != nil {
		r.fail(r.at(n), "write a name of the zone database, like Europe/Zurich, or UTC", "%s %s is not known", what, quoted(s))
		return nil, false
	}
	return loc, true
}

// pattern reads a text for which every character counts: a regular expression, a line of a log.
func (r *reader) pattern(n *yaml.Node, what string) (string, bool) {
	switch {
	case n.Kind == yaml.ScalarNode && strings.Contains(strings.TrimSuffix(n.Value, "\n"), "\n"):
		r.fail(r.at(n), "write a list with one item a line", "%s holds several lines in one text", what)
		return "", false
	case n.Kind == yaml.MappingNode:
		r.mapForText(n, what, "a text")
		return "", false
	}
	s, ok := r.text(n, what)
	if ok && r.src.commented(n) {
		r.fail(r.at(n), "put it in single quotes; a comment goes on a line of its own",
			"%s ends at ' #', where YAML sees a comment", what)
		return "", false
	}
	return s, ok
}

// date reads a datepattern.
func (r *reader) date(n *yaml.Node, what string) (*match.DatePattern, bool) {
	s, ok := r.pattern(n, what)
	if !ok {
		return nil, false
	}
	d, err := match.CompileDate(s)
	if err != nil {
		at := r.at(n)
		if e := (*match.DateError)(nil); errors.As(err, &e) {
			at = r.src.inside(n, e.Offset)
		}
		r.fail(at, "", "%s: %s", what, err)
		return nil, false
	}
	return d, true
}
