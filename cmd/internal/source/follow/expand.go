package follow

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A pattern is a configured path: plain, or with the glob characters of filepath.Match.
type pattern struct {
	text  string
	parts []part
	glob  bool
}

func parsePattern(text string) pattern {
	text = filepath.Clean(text)
	p := pattern{text: text}
	for s := range strings.SplitSeq(strings.TrimPrefix(text, "/"), "/") {
		glob := strings.ContainsAny(s, `*?[\`)
		p.parts = append(p.parts, part{s, glob})
		p.glob = p.glob || glob
	}
	return p
}

func (p pattern) match(path string) bool {
	if !p.glob {
		return p.text == path
	}
	ok, _ := filepath.Match(p.text, path)
	return ok
}

// expand finds the paths that p stands for now: itself for a plain one, existing or not; what exists for a glob,
// compressed files left out. It notes in want which names matter in which directories for the answer to change.
func (p pattern) expand(want map[string][]part) (paths []string) {
	dirs := []string{"/"}
	for i, part := range p.parts {
		last := i == len(p.parts)-1
		var next []string
		for _, dir := range dirs {
			note(want, dir, part)
			if !part.glob {
				next = append(next, filepath.Join(dir, part.text))
				continue
			}
			d, err := os.Open(dir)
			if err != nil {
				continue
			}
			names, _ := d.Readdirnames(-1)
			d.Close()
			slices.Sort(names)
			for _, name := range names {
				if _, packed := cutPacked(name); part.match(name) && !(last && packed != "") {
					next = append(next, filepath.Join(dir, name))
				}
			}
		}
		dirs = next
		if last {
			break
		}
		dirs = slices.DeleteFunc(dirs, func(dir string) bool {
			st, err := os.Stat(dir)
			return err != nil || !st.IsDir()
		})
	}
	if !p.glob {
		paths = []string{p.text}
	} else {
		paths = slices.DeleteFunc(dirs, func(path string) bool {
			_, err := os.Lstat(path)
			return err != nil
		})
	}
	for _, path := range paths {
		noteLinks(want, path)
	}
	return paths
}

// noteLinks notes where the symbolic links that path leads through point.
func noteLinks(want map[string][]part, path string) {
	for range 8 {
		to, err := os.Readlink(path)
		if err != nil {
			return
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
		note(want, filepath.Dir(path), part{text: filepath.Base(path)})
	}
}

func note(want map[string][]part, dir string, p part) {
	if !slices.Contains(want[dir], p) {
		want[dir] = append(want[dir], p)
	}
}
