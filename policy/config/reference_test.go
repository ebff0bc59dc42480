package config

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// reference is the file that shows every option.
const reference = "../../deploy/reference.yaml"

// referenceText is the file, and its root.
func referenceText(t *testing.T) (File, *yaml.Node) {
	t.Helper()
	data, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	docs, err := parseYAML(data, 1)
	if err != nil || len(docs) != 1 {
		t.Fatal(err)
	}
	return File{reference, data}, docs[0].Content[0]
}

// under yields the maps at a path of a node, * for each member of a map or list.
func under(n *yaml.Node, path ...string) []*yaml.Node {
	if len(path) == 0 {
		return []*yaml.Node{n}
	}
	var found []*yaml.Node
	if n.Kind == yaml.SequenceNode {
		for _, c := range n.Content {
			found = append(found, under(c, path[1:]...)...)
		}
		return found
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if path[0] == "*" || n.Content[i].Value == path[0] {
			found = append(found, under(n.Content[i+1], path[1:]...)...)
		}
	}
	return found
}

// TestReferenceKeys holds the reference to every option that there is, and each to a comment where it stands first.
func TestReferenceKeys(t *testing.T) {
	file, root := referenceText(t)
	lines := strings.Split(string(file.Data), "\n")
	for _, tt := range []struct {
		config string
		path   []string
	}{
		{"zzzz: 1", nil},
		{"nftables: {zzzz: 1}", []string{"nftables"}},
		{"metrics: {zzzz: 1}", []string{"metrics"}},
		{"hooks: {a: {zzzz: 1}}", []string{"hooks", "*"}},
		{"defaults: {zzzz: 1}", []string{"defaults"}},
		{"policies: {a: {zzzz: 1}}", []string{"policies", "*"}},
		{"filters: {a: {zzzz: 1}}", []string{"filters", "*"}},
		{"filters: {a: {samples: [{zzzz: 1}]}}", []string{"filters", "*", "samples", "*"}},
	} {
		first := make(map[string]int)
		for _, m := range under(root, tt.path...) {
			for i := 0; i+1 < len(m.Content); i += 2 {
				if _, ok := first[m.Content[i].Value]; !ok {
					first[m.Content[i].Value] = m.Content[i].Line
				}
			}
		}
		for _, key := range allowed(t, tt.config) {
			line, ok := first[key]
			switch {
			case !ok:
				t.Errorf("%s: no %s", strings.Join(tt.path, "."), key)
			case key == "line" || key == "findtime" || key == "bantime": // told with samples and maxretry
			case !strings.Contains(lines[line-1], " # ") && !strings.HasPrefix(strings.TrimSpace(lines[line-2]), "#"):
				t.Errorf("line %d: nothing is said of %s", line, key)
			}
		}
	}
}

// TestReferenceDefaults holds what the reference shows to what is in force without it.
func TestReferenceDefaults(t *testing.T) {
	file, _ := referenceText(t)
	got, problems := Load(nil, []File{file})
	for _, p := range problems {
		if p.Msg != "no policy is enabled: nothing is watched" {
			t.Error(p)
		}
	}
	if got == nil {
		t.FailNow()
	}
	for _, p := range got.CheckSamples(now) {
		t.Error(p)
	}
	const less = "policies: {a: {failregex: x <HOST>, logpath: /a}}\nhooks: {tell: {command: [/a]}}\n"
	want := load(t, less)
	tell := got.Hooks[slices.IndexFunc(got.Hooks, func(h *Hook) bool { return h.Name == "tell" })]
	tell.Command, tell.Pos = want.Hooks[0].Command, want.Hooks[0].Pos
	if !reflect.DeepEqual(tell, want.Hooks[0]) {
		t.Errorf("the hook is %+v, want %+v", tell, want.Hooks[0])
	}
	// The defaults of policies show in a policy that says nothing itself.
	with, problems := Load(nil, []File{file, {"less", []byte(less)}})
	if with == nil {
		t.Fatal(problems)
	}
	a := with.Policies[slices.IndexFunc(with.Policies, func(p *Policy) bool { return p.Name == "a" })]
	if !reflect.DeepEqual(a.Policy, want.Policies[0].Policy) {
		t.Errorf("a policy is %+v, want %+v", a.Policy, want.Policies[0].Policy)
	}
	got.Policies, got.Filters, got.Hooks = want.Policies, want.Filters, want.Hooks
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the reference says %+v, in force is %+v", got, want)
	}
}
