package config

import "gopkg.in/yaml.v3"

// Load reads the built-in filters (library: files with a filters map and nothing else), then files in order: banset.yaml
// and those of conf.d. A later file wins, key by key: its single values and its lists replace those of earlier files,
// its maps are merged into theirs. A filter that a later file gives failregexes of its own is replaced as a whole; so
// is the filter of a policy by failregexes, and the other way round. Within one file nothing may come twice.
//
// Load returns every problem it finds, in order of file, line and column. The Config is nil when one of them is more
// than a warning. No files at all is a configuration of defaults, with the warning that nothing is watched.
func Load(library, files []File) (*Config, Problems) {
	l := new(list)
	m := maker{list: l, whole: true, raw: &raw{
		policies: make(map[string]*rawPolicy),
		filters:  make(map[string]*rawFilter),
		hooks:    make(map[string]*rawHook),
	}}
	for _, f := range library {
		m.read(f, (*reader).readLibrary)
	}
	for _, f := range files {
		m.read(f, (*reader).readFile)
	}
	cfg := m.config()
	if l.problems.Err() == nil && !l.serious {
		m.watched(cfg, files)
	} else {
		cfg = nil
	}
	return cfg, l.sorted()
}

// read reads one file over those before it.
func (m *maker) read(f File, into func(*reader, *yaml.Node, *raw)) {
	src := newSource(f, m.list)
	if src == nil {
		m.whole = false
		return
	}
	root, ok := src.parse(m.list)
	if !ok {
		m.whole = false
		return
	}
	if root == nil {
		return
	}
	r := newReader(src, m.list)
	into(r, root, m.raw)
	m.whole = m.whole && !r.spent
}
