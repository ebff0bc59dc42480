package config

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"banset/policy"
)

// A value is what a key says, and where. The zero value is a key that nobody wrote.
type value[T any] struct {
	v   T
	pos Pos
	set bool // the key is there
	bad bool // it is there, but says nothing that can be used: that has been reported already
	// inside is where a byte of a text stands; only of patterns.
	inside func(offset int) Pos
}

// over takes the other value where that is set.
func (v *value[T]) over(other value[T]) {
	if other.set {
		*v = other
	}
}

// or is the value, or a default for a key that nobody wrote.
func (v *value[T]) or(unset T) T {
	if v.set && !v.bad {
		return v.v
	}
	return unset
}

// A reader walks the nodes of one file.
type reader struct {
	src *source
	*list
	// budget bounds what aliases can make of a small file, in bytes of values.
	budget  int
	spent   bool
	unknown map[*yaml.Node]bool // keys that were reported
}

// aliasRoom is how much aliases may add to a file, in bytes.
const aliasRoom = 1 << 20

func newReader(src *source, l *list) *reader {
	return &reader{src: src, list: l, budget: 2*len(src.text) + aliasRoom, unknown: make(map[*yaml.Node]bool)}
}

func (r *reader) at(n *yaml.Node) Pos { return r.src.at(n) }

// resolve follows an alias. It returns nil when the aliases of the file add up to too much, which it reports once.
func (r *reader) resolve(n *yaml.Node) *yaml.Node {
	at := n
	for hops := 0; n.Kind == yaml.AliasNode && n.Alias != nil && hops < 8; hops++ {
		n = n.Alias
	}
	r.budget -= 1 + len(n.Value)
	if r.budget < 0 {
		if !r.spent {
			r.fail(r.at(at), "write the values out", "the file's aliases (*name) make too much of it")
		}
		r.spent = true
		return nil
	}
	return n
}

// kind says what a node is, for a message.
func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a map"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.Tag {
	case "!!null":
		return "nothing"
	case "!!bool":
		return strings.ToLower(n.Value)
	case "!!int", "!!float":
		return "a number"
	}
	return "a text"
}

// wrong reports a node of the wrong kind.
func (r *reader) wrong(n *yaml.Node, what, want string) {
	r.fail(r.at(n), "", "%s must be %s, not %s", what, want, kind(n))
}

// tagged reports a node with a tag: they change what a value is, and nothing here needs them.
func (r *reader) tagged(n *yaml.Node) bool {
	if n.Style&yaml.TaggedStyle == 0 {
		return false
	}
	r.fail(r.at(n), "remove it; a text that begins with ! goes into single quotes", "the YAML tag %s is not used here",
		quoted(n.Tag))
	return true
}

// A pair is a key of a map and its value, aliases resolved.
type pair struct {
	name  string
	key   *yaml.Node
	value *yaml.Node
}

// pairs reads a map: in order, each key once. It reports what is no map, double keys and keys without a value, and
// says false when n is no map at all.
func (r *reader) pairs(n *yaml.Node, what string) (ps []pair, ok bool) {
	if n = r.resolve(n); n == nil {
		return nil, false
	}
	if n.Kind != yaml.MappingNode {
		hint := ""
		if n.Kind == yaml.SequenceNode {
			hint = "write name: value lines without '- '"
		}
		r.fail(r.at(n), hint, "%s must be a map of names and values, not %s", what, kind(n))
		return nil, false
	}
	if r.tagged(n) {
		return nil, false
	}
	seen := make(map[string]bool)
	r.collect(n, what, seen, &ps, 0)
	return ps, true
}

// collect appends the pairs of a map that are not in seen yet, then those it merges in with <<.
func (r *reader) collect(n *yaml.Node, what string, seen map[string]bool, ps *[]pair, depth int) {
	if depth > 8 {
		r.fail(r.at(n), "write the keys out", "maps merged with << are nested too deep")
		return
	}
	first := make(map[string]*yaml.Node) // in this very map
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := r.resolve(n.Content[i]), r.resolve(n.Content[i+1])
		if k == nil || v == nil {
			return
		}
		if k.Kind != yaml.ScalarNode || k.Tag == "!!null" {
			r.fail(r.at(k), "", "a key must be a word, not %s", kind(k))
			continue
		}
		if r.tagged(k) {
			continue
		}
		if k.Tag == "!!merge" {
			merged = append(merged, v)
			continue
		}
		if at, ok := first[k.Value]; ok {
			r.fail(r.at(k), "keep one of them", "%s has the key %s twice: the first one is in line %d", what,
				quoted(k.Value), r.at(at).Line)
			continue
		}
		first[k.Value] = k
		if seen[k.Value] {
			continue
		}
		seen[k.Value] = true
		if v.Kind == yaml.ScalarNode && v.Tag == "!!null" {
			r.fail(r.at(k), "remove the key to take its default, or give it a value", "%s has no value", quoted(k.Value))
			v = nil
		}
		*ps = append(*ps, pair{k.Value, k, v})
	}
	for _, m := range merged {
		from := []*yaml.Node{m}
		if m.Kind == yaml.SequenceNode {
			from = m.Content
		}
		for _, f := range from {
			if f = r.resolve(f); f == nil {
				return
			}
			if f.Kind != yaml.MappingNode {
				r.wrong(f, "what << merges in", "a map")
				continue
			}
			r.collect(f, what, seen, ps, depth+1)
		}
	}
}

// A key is one word that a map may hold, and what reads its value.
type key struct {
	name string
	read func(n *yaml.Node)
	// none is told of a key that is there without a value, which has been reported.
	none func(at Pos)
}

// field makes a key whose value is read by read into v.
func field[T any](r *reader, name string, v *value[T], read func(n *yaml.Node, what string) (T, bool)) key {
	return key{
		name: name,
		read: func(n *yaml.Node) {
			got, ok := read(n, name)
			*v = value[T]{v: got, pos: r.at(n), set: true, bad: !ok}
		},
		none: func(at Pos) { *v = value[T]{pos: at, set: true, bad: true} },
	}
}

// keys reads a map whose words are fixed. strange are words that people try, and what to do instead.
func (r *reader) keys(n *yaml.Node, what string, strange map[string]string, keys ...key) {
	ps, ok := r.pairs(n, what)
	if !ok {
		return
	}
	known := make([]string, len(keys))
	for i, k := range keys {
		known[i] = k.name
	}
next:
	for _, p := range ps {
		for _, k := range keys {
			switch {
			case k.name != p.name:
			case p.value != nil:
				k.read(p.value)
				continue next
			default:
				if k.none != nil {
					k.none(r.at(p.key))
				}
				continue next
			}
		}
		if r.unknown[p.key] {
			continue // reported where an alias brought it in before
		}
		r.unknown[p.key] = true
		hint, ok := strange[p.name]
		if !ok {
			hint = oneOf(p.name, known)
		}
		r.fail(r.at(p.key), hint, "%s has no key %s", what, quoted(p.name))
	}
}

// named reads a map whose words are names that a person chose: of policies, of filters.
func (r *reader) named(n *yaml.Node, what, one string, read func(name string, key, value *yaml.Node)) {
	ps, ok := r.pairs(n, what)
	if !ok {
		return
	}
	for _, p := range ps {
		if !policy.ValidName(p.name) {
			r.fail(r.at(p.key),
				fmt.Sprintf("allowed: letters, digits, - _ . beginning with a letter or digit, at most %d", policy.MaxName),
				"%s can't name a %s", quoted(p.name), one)
			continue
		}
		if p.value != nil {
			read(p.name, p.key, p.value)
		}
	}
}

// scalar is the text of a single value, whatever YAML takes it for.
func (r *reader) scalar(n *yaml.Node, what string) (string, bool) {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		r.fail(r.at(n), "write a value, or remove the item", "%s has an empty value", what)
		return "", false
	case n.Kind != yaml.ScalarNode:
		r.wrong(n, what, "a single value")
		return "", false
	case r.tagged(n):
		return "", false
	}
	return n.Value, true
}

// text is a scalar on one line that holds something.
func (r *reader) text(n *yaml.Node, what string) (string, bool) {
	s, ok := r.scalar(n, what)
	if !ok {
		return "", false
	}
	if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		s = strings.TrimSuffix(s, "\n")
	}
	switch {
	case strings.TrimSpace(s) == "":
		r.fail(r.at(n), "write a value, or remove the key", "%s is empty", what)
		return "", false
	case strings.ContainsAny(s, "\n\r\x00"):
		r.fail(r.at(n), "", "%s must be one line", what)
		return "", false
	}
	return s, true
}

// items are the members of a list, aliases resolved; a single value is a list of one. They are nil when there is nothing
// to go on with; otherwise ok may still be false.
func (r *reader) items(n *yaml.Node, what string) ([]*yaml.Node, bool) {
	switch n.Kind {
	case yaml.ScalarNode:
		return []*yaml.Node{n}, true
	case yaml.MappingNode:
		r.wrong(n, what, "one value or a list of them")
		return nil, false
	}
	if r.tagged(n) {
		return nil, false
	}
	items, ok := make([]*yaml.Node, 0, len(n.Content)), true
	for _, c := range n.Content {
		if c = r.resolve(c); c == nil {
			return nil, false
		}
		if c.Kind == yaml.SequenceNode {
			r.fail(r.at(c), "one list is enough; a pattern that begins with [ goes into single quotes",
				"%s holds a list in its list", what)
			ok = false
			continue
		}
		items = append(items, c)
	}
	return items, ok
}

// mapForText reports a map where a text was meant: mostly one that holds ": ", or an address that ends in "::".
func (r *reader) mapForText(n *yaml.Node, what, want string) {
	hint := ""
	if len(n.Content) >= 2 && n.Content[0].Kind == yaml.ScalarNode {
		hint = "a text that holds ': ' or ends in ':' goes into single quotes"
		if n.Style&yaml.FlowStyle != 0 {
			hint = "a text that begins with { goes into single quotes"
		}
	}
	r.fail(r.at(n), hint, "%s must be %s, not a map", what, want)
}

// texts reads a list of texts with read, and reports those that are there twice.
func (r *reader) texts(n *yaml.Node, what string, read func(n *yaml.Node, what string) (string, bool)) (
	vs []value[string], ok bool) {
	nodes, ok := r.items(n, what)
	if nodes == nil {
		return nil, false
	}
	first := make(map[string]Pos)
	for _, n := range nodes {
		if n.Kind == yaml.MappingNode {
			r.mapForText(n, "one item of "+what, "a text")
			ok = false
			continue
		}
		s, good := read(n, what)
		if !good {
			ok = false
			continue
		}
		if at, dup := first[s]; dup {
			r.fail(r.at(n), "keep one of them", "%s holds this twice: the first one is in line %d", what, at.Line)
			ok = false
			continue
		}
		first[s] = r.at(n)
		vs = append(vs, value[string]{
			v: s, pos: r.at(n), set: true, inside: func(offset int) Pos { return r.src.inside(n, offset) },
		})
	}
	return vs, ok
}

// boolean reads true or false and nothing else.
func (r *reader) boolean(n *yaml.Node, what string) (bool, bool) {
	if n.Kind == yaml.ScalarNode && n.Style == 0 {
		switch n.Value {
		case "true":
			return true, true
		case "false":
			return false, true
		}
	}
	hint := "write true or false"
	if n.Kind == yaml.ScalarNode {
		switch strings.ToLower(n.Value) {
		case "true", "yes", "on", "y", "1", "enabled":
			hint = "did you mean true? (without quotes)"
		case "false", "no", "off", "n", "0", "disabled":
			hint = "did you mean false? (without quotes)"
		}
		r.fail(r.at(n), hint, "%s must be true or false, not %s", what, quoted(n.Value))
		return false, false
	}
	r.fail(r.at(n), hint, "%s must be true or false, not %s", what, kind(n))
	return false, false
}

// integer reads a decimal number between two others.
func (r *reader) integer(n *yaml.Node, what string, least, most int) (int, bool) {
	want := fmt.Sprintf("a whole number from %d to %d", least, most)
	if n.Kind != yaml.ScalarNode {
		r.wrong(n, what, want)
		return 0, false
	}
	if r.tagged(n) {
		return 0, false
	}
	hint := ""
	i, err := strconv.Atoi(n.Value)
	if err == nil && strconv.Itoa(i) == n.Value {
		if n.Style != 0 {
			hint = "remove the quotes"
		} else if least <= i && i <= most {
			return i, true
		}
	} else if f, err := strconv.ParseFloat(n.Value, 64); err == nil && f == float64(int64(f)) && f >= float64(least) &&
		f <= float64(most) {
		hint = fmt.Sprintf("write %d", int64(f))
	}
	r.fail(r.at(n), hint, "%s must be %s, not %s", what, want, quoted(n.Value))
	return 0, false
}

// word reads one of a few words.
func (r *reader) word(n *yaml.Node, what string, allowed ...string) (string, bool) {
	s, ok := r.scalar(n, what)
	if !ok {
		return "", false
	}
	for _, a := range allowed {
		if s == a {
			return s, true
		}
	}
	r.fail(r.at(n), oneOf(s, allowed), "%s can't be %s", what, quoted(s))
	return "", false
}

// quoted is a text of the file in a message: printable, in quotes, not too long.
func quoted(s string) string {
	const most = 80
	if len(s) <= most {
		return strconv.Quote(s)
	}
	cut := most
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strconv.Quote(s[:cut]) + "..."
}
