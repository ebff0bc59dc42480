package deploy_test

import (
	"testing"
	"time"

	"banset/deploy"
	"banset/policy/config"
)

func load(t *testing.T) *config.Config {
	t.Helper()
	var library []config.File
	for _, f := range deploy.Filters() {
		library = append(library, config.File{Name: f.Name, Data: f.Data})
	}
	c, problems := config.Load(library, []config.File{{Name: deploy.ConfigName, Data: deploy.Config}})
	for _, p := range problems {
		t.Error(p.String())
	}
	if c == nil {
		t.FailNow()
	}
	return c
}

func TestSamples(t *testing.T) {
	for _, p := range load(t).CheckSamples(time.Date(2026, 11, 23, 23, 0, 0, 0, time.UTC)) {
		t.Error(p.String())
	}
}
