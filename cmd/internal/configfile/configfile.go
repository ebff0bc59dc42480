// Package configfile knows which files make up the configuration of this host, and reads them, so that every command
// and the daemon mean the same by --config.
package configfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"banset/deploy"
	"banset/policy/config"
)

// The default place: a file, and a directory of *.yaml files that are read after it, in order of name.
const (
	DefaultFile = "/etc/banset/banset.yaml"
	DefaultDir  = "/etc/banset/conf.d"
)

// Embedded is the Name of a Set that took the built-in configuration because there is no file.
const Embedded = "(embedded default)"

// A Set is the text of a whole configuration, not yet checked.
type Set struct {
	Name    string        // the main file's path, or Embedded
	Files   []config.File // the main file first
	Library []config.File // the shipped filters, which Files may name
}

// Read reads the configuration at path, which stands alone: no directory beside it is read. An empty path means the
// default place: [DefaultFile], or the built-in configuration where that does not exist, and the files of [DefaultDir].
// A file that exists but can't be read is an error, never skipped.
func Read(path string) (Set, error) { return read(path, DefaultFile, DefaultDir) }

func read(path, defaultFile, defaultDir string) (Set, error) {
	s := Set{Name: path}
	for _, f := range deploy.Filters() {
		s.Library = append(s.Library, config.File{Name: f.Name, Data: f.Data})
	}
	if path != "" {
		f, err := readFile(path)
		s.Files = []config.File{f}
		return s, err
	}
	s.Name = defaultFile
	f, err := readFile(defaultFile)
	if errors.Is(err, fs.ErrNotExist) {
		s.Name = Embedded
		f, err = config.File{Name: deploy.ConfigName, Data: slices.Clone(deploy.Config)}, nil
	}
	if err != nil {
		return s, err
	}
	s.Files = []config.File{f}
	entries, err := os.ReadDir(defaultDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("reading the configuration: %w", err)
	}
	for _, e := range entries { // in order of name: ReadDir sorts
		if e.IsDir() || filepath.Ext(e.Name()) != ".yaml" || e.Name()[0] == '.' {
			continue
		}
		f, err := readFile(filepath.Join(defaultDir, e.Name()))
		if err != nil {
			return s, err
		}
		s.Files = append(s.Files, f)
	}
	return s, nil
}

// readFile reads one file, up to a byte more than a configuration may have, which is enough to be told so.
func readFile(path string) (config.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return config.File{}, fmt.Errorf("reading the configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, config.MaxFile+1))
	if err != nil {
		return config.File{}, fmt.Errorf("reading the configuration: %w", err)
	}
	return config.File{Name: path, Data: data}, nil
}

// Load checks the set. The Config is nil when one of the problems is more than a warning.
func (s Set) Load() (*config.Config, config.Problems) { return config.Load(s.Library, s.Files) }

// LoadUsed is Load for those who need no filter but the policies' own: shipped filters whose names the files don't have
// anywhere are not read, which is most of the work. The Config's Filters may lack those.
func (s Set) LoadUsed() (*config.Config, config.Problems) {
	used := Set{Name: s.Name, Files: s.Files}
	for _, f := range s.Library {
		name := strings.TrimSuffix(filepath.Base(f.Name), ".yaml")
		if slices.ContainsFunc(s.Files, func(file config.File) bool { return bytes.Contains(file.Data, []byte(name)) }) {
			used.Library = append(used.Library, f)
		}
	}
	if c, problems := used.Load(); c != nil && len(problems) == 0 {
		return c, nil
	}
	return s.Load() // which knows what could have been meant
}
