package match

import (
	"slices"
	"strings"
)

// hostTags are the tags that stand for an address.
var hostTags = map[string]hostKind{
	"HOST": hostAny, "ADDR": hostAny, "IP4": hostIP4, "IP6": hostIP6, "SUBNET": hostSubnet, "CIDR": hostSubnet,
}

// refusedTags are fail2ban's other tags, with the reason why they are not taken.
var refusedTags = map[string]string{
	"DNS":         "names are never resolved; write <HOST> where the line has the address",
	"F-DNS":       "names are never resolved; write <HOST> where the line has the address",
	"F-ID":        "only addresses can be banned; write <HOST> where the line has the address",
	"F-IP4":       "write <IP4>",
	"F-IP6":       "write <IP6>",
	"F-ADDR":      "write <HOST>",
	"F-CIDR":      "write <SUBNET>",
	"F-HOST":      "write <HOST>",
	"F-NOFAIL":    "it marks a line that is no failure; leave that pattern out",
	"F-MLFID":     "lines are judged one by one; use a line that has the address itself",
	"F-MLFFORGET": "lines are judged one by one; leave that pattern out",
	"F-MLFGAINED": "lines are judged one by one; leave that pattern out",
	"F-CONTENT":   "there is no prefregex; write its text in front of the pattern",
	"SKIPLINES":   "lines are judged one by one; use a line that has the address itself",
	"HOSTNAME":    "names are never resolved; write <HOST> where the line has the address",
}

// readTag reads <NAME>, </NAME> or <NAME/> at the start of s. A name begins with a capital and has only capitals,
// digits, "-" and "_": anything else is plain text.
func readTag(s string) (name string, closing bool, n int, ok bool) {
	n = 1
	if strings.HasPrefix(s[n:], "/") {
		closing = true
		n++
	}
	from := n
	for n < len(s) && ('A' <= s[n] && s[n] <= 'Z' || n > from && (isDigit(s[n]) || s[n] == '-' || s[n] == '_')) {
		n++
	}
	name = s[from:n]
	if name == "" {
		return "", false, 0, false
	}
	if strings.HasPrefix(s[n:], "/>") {
		n++
	}
	if !strings.HasPrefix(s[n:], ">") {
		// <F-ALT_user> and the like: a tag all the same, so that it is reported.
		if !strings.HasPrefix(name, "F-") {
			return "", false, 0, false
		}
		for n < len(s) && isWord(s[n]) {
			n++
		}
		if !strings.HasPrefix(s[n:], ">") {
			return "", false, 0, false
		}
		name = s[from:n]
	}
	return name, closing, n + 1, true
}

// tag replaces the tag at i, or takes a plain "<" over, and returns where it ends.
func (t *translation) tag(i int) int {
	name, closing, n, ok := readTag(t.src[i:])
	if !ok {
		t.copy(i, i+1)
		return i + 1
	}
	end, selfClosing := i+n, strings.HasSuffix(t.src[i:i+n], "/>")
	kind, isHost := hostTags[name]
	switch why := refusedTags[name]; {
	case why != "":
		if !closing {
			t.problem(i, "the tag %s is not supported: %s", t.src[i:end], why)
		}
	case isHost && (closing || selfClosing):
		t.problem(i, "%s: the tag is <%s> alone, there is nothing to close", t.src[i:end], name)
	case isHost:
		t.groups++
		glued := i > 0 && wordBefore(t.src[:i])
		t.hosts = append(t.hosts, hostGroup{t.groups, kind, glued})
		t.write(i, kind.expr(glued))
	case strings.HasPrefix(name, "F-") && selfClosing:
		t.problem(i, `%s has no pattern of its own; write <%s>\S+</%s>`, t.src[i:end], name, name)
	case strings.HasPrefix(name, "F-") && len(name) > 2 && !closing:
		t.groups++
		t.fields = append(t.fields, fieldGroup{t.groups, strings.ReplaceAll(strings.ToLower(name[2:]), "-", "_")})
		t.open = append(t.open, opened{i, name})
		t.write(i, "(")
	case strings.HasPrefix(name, "F-") && len(name) > 2:
		t.closeTag(i, name)
	default:
		msg := "there is no tag " + t.src[i:end]
		if near := nearest(name, tagNames()); near != "" {
			msg += "; did you mean <" + near + ">?"
		}
		t.problem(i, `%s Tags are %s and <F-NAME>...</F-NAME>; write \< for a plain "<"`,
			strings.TrimSuffix(msg, ".")+sentenceEnd(msg), "<"+strings.Join(tagNames(), ">, <")+">")
	}
	return end
}

func sentenceEnd(s string) string {
	if strings.HasSuffix(s, "?") {
		return ""
	}
	return "."
}

// closeTag ends the group of <F-NAME>.
func (t *translation) closeTag(i int, name string) {
	n := len(t.open)
	switch {
	case n > 0 && t.open[n-1].tag == name:
		t.open = t.open[:n-1]
		t.write(i, ")")
	case slices.ContainsFunc(t.open, func(o opened) bool { return o.tag == name }):
		o := t.open[n-1]
		if o.tag == "" {
			t.problem(i, `</%s> comes before the ) of a group that began inside; write \( for a plain "("`, name)
		} else {
			t.problem(i, "</%s> comes before </%s>", name, o.tag)
		}
		for t.open[len(t.open)-1].tag != name {
			t.open = t.open[:len(t.open)-1]
		}
		t.open = t.open[:len(t.open)-1]
	default:
		t.problem(i, "</%s> was never opened; write <%s> before it", name, name)
	}
}

// wordBefore reports whether the pattern ends in a plain letter or underscore, which so stands right before the tag.
func wordBefore(before string) bool {
	n := len(before)
	if c := before[n-1]; !isLetter(c) && c != '_' {
		return false
	}
	slashes := 0
	for i := n - 2; i >= 0 && before[i] == '\\'; i-- {
		slashes++
	}
	return slashes%2 == 0
}

func tagNames() []string { return []string{"HOST", "ADDR", "IP4", "IP6", "SUBNET", "CIDR"} }

// nearest is the one of names that s was probably meant to be, or "".
func nearest(s string, names []string) string {
	best, least := "", len(s)/3+2
	for _, name := range names {
		if d := distance(s, name); d < least {
			best, least = name, d
		}
	}
	return best
}

// distance is how many letters must be put in, taken out, changed or swapped with their neighbour to make a b.
func distance(a, b string) int {
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			d := last[j]
			if a[i] != b[j] {
				d++
			}
			d = min(d, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				d = min(d, before[j-1]+1)
			}
			row[j+1] = d
		}
	}
	return row[len(b)]
}
