// Package ansible holds the example deployment to what the program takes.
package ansible

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"banset/deploy"
	"banset/policy/config"
)

// load reads one YAML file of the example.
func load(t *testing.T, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestExample: what the role writes on each group of hosts is right, laid over the package's configuration, and its
// samples get their verdicts. The template does what this does: it writes the data down as YAML.
func TestExample(t *testing.T) {
	groups, err := filepath.Glob("group_vars/*.yml")
	if err != nil || len(groups) != 2 {
		t.Fatalf("groups %q, %v", groups, err)
	}
	for _, group := range groups {
		t.Run(filepath.Base(group), func(t *testing.T) {
			var vars struct {
				Config map[string]any `yaml:"banset_config"`
			}
			load(t, group, &vars)
			if len(vars.Config) == 0 {
				t.Fatal("banset_config is empty")
			}
			written, err := yaml.Marshal(vars.Config)
			if err != nil {
				t.Fatal(err)
			}
			var library []config.File
			for _, f := range deploy.Filters() {
				library = append(library, config.File{Name: f.Name, Data: f.Data})
			}
			c, problems := config.Load(library, []config.File{
				{Name: deploy.ConfigName, Data: deploy.Config}, {Name: "ansible.yaml", Data: written},
			})
			if c != nil {
				problems = append(problems, c.CheckSamples(time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC))...)
			}
			if len(problems) > 0 {
				t.Errorf("%s", problems.Format())
			}
		})
	}
}

// TestTasks: the files of the role are YAML of the shape that Ansible takes, and every task has a name.
func TestTasks(t *testing.T) {
	for _, path := range []string{"roles/banset/tasks/main.yml", "roles/banset/handlers/main.yml", "site.yml"} {
		var tasks []map[string]any
		load(t, path, &tasks)
		if len(tasks) == 0 {
			t.Errorf("%s has no task", path)
		}
		for i, task := range tasks {
			if name, ok := task["name"].(string); !ok || name == "" {
				t.Errorf("%s: task %d has no name", path, i+1)
			}
		}
	}
}
