package deploy_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banset/deploy"
	"banset/policy/config"
	"banset/policy/match"
)

// now is when the samples are read: after all of them, in the year that those without one mean.
var now = time.Date(2026, 11, 23, 23, 0, 0, 0, time.UTC)

func library() []config.File {
	var files []config.File
	for _, f := range deploy.Filters() {
		files = append(files, config.File{Name: f.Name, Data: f.Data})
	}
	return files
}

// load reads what `run` reads without a configuration of its own. A warning is an error here too.
func load(t testing.TB) *config.Config {
	t.Helper()
	c, problems := config.Load(library(), []config.File{{Name: deploy.ConfigName, Data: deploy.Config}})
	for _, p := range problems {
		t.Error(p.String())
	}
	if c == nil {
		t.FailNow()
	}
	return c
}

// A log scans the lines of one log with one filter.
type log struct{ *match.Scanner }

func newLog(f *config.Filter) log {
	return log{match.NewScanner([]match.Job{{Policy: f.Name, Filter: f.Filter, Date: f.Date, Zone: time.UTC}})}
}

func (l log) scan(lines string) []match.Match {
	var hits []match.Match
	l.Scan([]byte(lines+"\n"), now, func(m match.Match) { hits = append(hits, m) })
	return hits
}

// Every sample gets its verdict, and every failregex is hit by one.
func TestSamples(t *testing.T) {
	for _, p := range load(t).CheckSamples(now) {
		t.Error(p.String())
	}
}

func TestFilters(t *testing.T) {
	for name, f := range load(t).Filters {
		if f.Description == "" {
			t.Errorf("%s: no description", name)
		}
		var lookalikes, v6 int
		for _, s := range f.Samples {
			if !s.Host.IsValid() {
				lookalikes++
				continue
			}
			if s.Host.Addr().Is6() {
				v6++
			}
			for _, m := range newLog(f).scan(s.Line) {
				if m.Stamp.IsZero() || m.Stamp.After(now) || now.Sub(m.Stamp) > 20*365*24*time.Hour {
					t.Errorf("%s: the stamp is read as %v in %s", name, m.Stamp, s.Line)
				}
			}
		}
		if lookalikes < 2 {
			t.Errorf("%s: %d samples that must not match, want 2", name, lookalikes)
		}
		if v6 == 0 && name != "exim2" {
			t.Errorf("%s: no sample of an IPv6 host", name)
		}
		// The prefilter lives on texts that are rare in the log.
		for i, texts := range f.Filter.Literals() {
			if len(texts) == 0 {
				t.Errorf("%s: failregex %d has no text to look for", name, i+1)
			}
			for _, text := range texts {
				if len(text) < 5 {
					t.Errorf("%s: failregex %d looks for %q, which is too short", name, i+1, text)
				}
			}
		}
		for i, src := range f.Fail {
			if name != "exim2" && !strings.HasPrefix(src, "^") {
				t.Errorf("%s: failregex %d is not anchored", name, i+1)
			}
		}
	}
}

// Each policy's filter is shipped, and each shipped filter has its policy and is named in the reference.
func TestPolicies(t *testing.T) {
	c := load(t)
	off := map[string]bool{"postfix-relay": true, "nginx-probe": true}
	used := make(map[string]bool)
	for _, p := range c.Policies {
		used[p.FilterName] = true
		if p.Enabled == off[p.Name] {
			t.Errorf("policy %s: enabled is %v", p.Name, p.Enabled)
		}
		if p.MaxRetry < 5 {
			t.Errorf("policy %s: maxretry %d locks people out", p.Name, p.MaxRetry)
		}
	}
	_, list, _ := strings.Cut(string(deploy.Config), "or shipped (")
	list, _, _ = strings.Cut(list, ")")
	named := make(map[string]bool)
	for word := range strings.FieldsSeq(strings.ReplaceAll(list, "#", " ")) {
		named[word] = true
	}
	for name := range c.Filters {
		if !used[name] {
			t.Errorf("filter %s has no policy", name)
		}
	}
	if diff := cmp.Diff(used, named); diff != "" {
		t.Errorf("filters of policies (-) and of the reference's list (+):\n%s", diff)
	}
}

// The seed is the owner's and stays as it is.
func TestSeed(t *testing.T) {
	c := load(t)
	if diff := cmp.Diff([]string{`\[<HOST>\]: 535 Incorrect authentication data`}, c.Filters["exim2"].Fail); diff != "" {
		t.Error(diff)
	}
	for _, p := range c.Policies {
		if p.Name != "exim2-repeater" {
			continue
		}
		const year = 31536000 * time.Second
		if p.MaxRetry != 10 || p.FindTime != year || len(p.BanTime) != 1 || p.BanTime[0] != year ||
			len(p.LogPath) != 1 || p.LogPath[0] != "/var/mailcleaner/log/exim_stage1/mainlog" {
			t.Errorf("exim2-repeater is %+v", p)
		}
		return
	}
	t.Error("there is no exim2-repeater")
}

// The reference shows the defaults: leaving its options out changes nothing.
func TestReferenceShowsDefaults(t *testing.T) {
	c := load(t)
	bare, problems := config.Load(library(), []config.File{{Name: "bare", Data: []byte(
		"policies: {p: {enabled: true, filter: exim2, logpath: [/x]}}\n")}})
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*config.Config{c, bare} {
		c.Policies, c.Filters = nil, nil
	}
	if diff := cmp.Diff(bare, c, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("defaults (-) and reference (+):\n%s", diff)
	}
	withDefaults, problems := config.Load(library(), []config.File{{Name: "a", Data: []byte(
		"defaults: {maxretry: 5, findtime: 10m, bantime: 1h}\npolicies: {p: {enabled: true, filter: exim2, logpath: [/x]}}\n")}})
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(deploy.Config), "defaults:\n  maxretry: 5 ") {
		t.Error("the reference's defaults: have another maxretry")
	}
	p := withDefaults.Policies[0].Policy
	if p.MaxRetry != config.DefaultMaxRetry || p.FindTime != config.DefaultFindTime || p.BanTime[0] != config.DefaultBanTime {
		t.Errorf("the reference's defaults: differ from the code's: %+v", p)
	}
}

func TestFiltersAreTheCallersCopy(t *testing.T) {
	a := deploy.Filters()
	a[0].Data[0] ^= 0xff
	if b := deploy.Filters(); a[0].Data[0] == b[0].Data[0] {
		t.Error("a write to the data of Filters is seen by the next caller")
	}
	for i := 1; i < len(a); i++ {
		if a[i-1].Name >= a[i].Name {
			t.Errorf("%s comes before %s", a[i-1].Name, a[i].Name)
		}
	}
}
