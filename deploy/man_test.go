package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banset/deploy"
	"banset/policy/config"
)

// filtersPage is the manual of filters.
func filtersPage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("man", "banset-filters.5"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestManualFilters holds the manual's list to the filters that are shipped, and what it says of each to the filter's own
// words.
func TestManualFilters(t *testing.T) {
	_, list, ok := strings.Cut(filtersPage(t), "\n.Sh SHIPPED FILTERS\n")
	if !ok {
		t.Fatal("no list of filters")
	}
	list, _, _ = strings.Cut(list, "\n.Sh ")
	told, shipped := map[string]string{}, map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\.It Ic (\S+)\n(.*)$`).FindAllStringSubmatch(list, -1) {
		told[m[1]] = m[2]
	}
	for name, f := range load(t).Filters {
		shipped[name] = f.Description
	}
	if diff := cmp.Diff(shipped, told); diff != "" {
		t.Errorf("shipped (-) and told (+):\n%s", diff)
	}
}

// TestManualFilterExamples holds the manual's filters to their samples.
func TestManualFilterExamples(t *testing.T) {
	blocks := regexp.MustCompile(`(?s)\n\.Bd -literal[^\n]*\n(filters:.*?)\n\.Ed`).FindAllStringSubmatch(filtersPage(t), -1)
	if len(blocks) != 3 {
		t.Fatalf("%d examples", len(blocks))
	}
	const policy = "policies: {a: {failregex: x <HOST>, logpath: /a}}\n"
	for i, b := range blocks {
		text := strings.ReplaceAll(b[1], `\e`, `\`) + "\n"
		files := []config.File{{Name: "policy", Data: []byte(policy)}, {Name: "example", Data: []byte(text)}}
		c, problems := config.Load(library(), files)
		if c != nil {
			problems = append(problems, c.CheckSamples(now)...)
		}
		if len(problems) > 0 {
			t.Errorf("example %d:\n%s", i+1, problems.Format(files...))
		}
	}
	// The trick that the page tells of works without anchors, and only then.
	right := strings.ReplaceAll(blocks[1][1], `\e`, `\`)
	wrong := strings.NewReplacer("'^ portal", "'portal", ".* ip=", ".*? ip=", "[a-z]+$'", "[a-z]+'").Replace(right)
	if wrong == right {
		t.Fatal("the example has changed")
	}
	c, problems := config.Load(nil, []config.File{{Name: "wrong", Data: []byte(policy + wrong + "\n")}})
	if c == nil {
		t.Fatal(problems)
	}
	if len(c.CheckSamples(now)) != 2 {
		t.Errorf("an unanchored pattern fails in %v", c.CheckSamples(now))
	}
}

// TestReadmeExamples holds the README's configurations to being right.
func TestReadmeExamples(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)\n```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) == 0 {
		t.Fatal("no configurations")
	}
	for _, b := range blocks {
		files := []config.File{{Name: deploy.ConfigName, Data: deploy.Config}, {Name: "README.md", Data: []byte(b[1])}}
		if _, problems := config.Load(library(), files); len(problems) > 0 {
			t.Error(problems.Format(files...))
		}
	}
}
