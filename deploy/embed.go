// Package deploy holds what banset ships beside its program: the configuration that runs when there is none, and the
// filters for the logs of common servers. It imports nothing of ours, so that anybody may embed it.
package deploy

import (
	"embed"
	"io/fs"
)

// Config is banset.yaml: the configuration that `run` takes without a file of its own. It names filters of [Filters]
// and is no whole configuration without them. Nobody may write to it.
//
//go:embed banset.yaml
var Config []byte

// ConfigName is the name under which problems in [Config] are reported.
const ConfigName = "banset.yaml"

// FS holds banset.yaml and filters/*.yaml.
//
//go:embed banset.yaml filters/*.yaml
var FS embed.FS

// A File is one embedded file.
type File struct {
	Name string // its path below deploy, with slashes: filters/sshd.yaml
	Data []byte // the caller's own copy
}

// Filters returns the shipped filters, one file each, in order of name. Each file is a configuration with a filters
// map and nothing else.
func Filters() []File {
	names, err := fs.Glob(FS, "filters/*.yaml") // in order: Glob reads a sorted directory
	if err != nil {
		return nil // only a bad pattern fails, and this one is constant
	}
	files := make([]File, 0, len(names))
	for _, name := range names {
		data, err := FS.ReadFile(name)
		if err != nil {
			continue // can't be: Glob has just seen it, and an embedded file does not go away
		}
		files = append(files, File{name, data})
	}
	return files
}
