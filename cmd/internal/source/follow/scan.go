package follow

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"banset/cmd/internal/quietfs"
	"banset/cmd/internal/source"
)

// oversee keeps the chains in step with what the patterns lead to, until ctx ends.
func (f *Follower) oversee(ctx context.Context, g *errgroup.Group, h source.Handler) error {
	start := func(c *chain) {
		cctx, cancel := context.WithCancel(ctx)
		c.cancel = cancel
		g.Go(func() error { defer cancel(); return c.run(cctx, h) })
	}
	f.scan(start, true)
	close(f.looked)
	due := time.Now().Add(f.pause())
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.rescan:
			begun := time.Now()
			f.scan(start, false)
			// Where names come and go all the time, looking at them takes a fifth of the time at most.
			if rest := 4 * time.Since(begun); rest > time.Millisecond {
				select {
				case <-ctx.Done():
				case <-time.After(min(rest, time.Second)):
				}
			}
		case <-timer.C:
			f.scan(start, false)
			f.look()
			due = time.Now().Add(f.pause())
		}
		// What was seen may need a look sooner, but where names come and go the one that is due still comes.
		if soon := time.Now().Add(f.pause()); soon.Before(due) {
			due = soon
		}
		timer.Reset(time.Until(due))
	}
}

// rareLook is the time between looks where notifications tell of everything but what they can't: a file system that is
// mounted over a directory of logs, a directory far behind a symbolic link that is exchanged.
const rareLook = 10 * time.Minute

// pause is the time between looks that nothing asked for.
func (f *Follower) pause() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.watch == nil:
		return min(f.opts.Poll, 250*time.Millisecond)
	case f.slow():
		return min(f.opts.Poll, time.Second)
	case len(f.trouble) > 0 || f.watch.partly() || f.stuck():
		return f.opts.Poll
	}
	return max(f.opts.Poll, rareLook)
}

// slow reports whether a file is where notifications can't be relied on; f.mu is held.
func (f *Follower) slow() bool {
	for _, g := range f.files {
		if g.unwatched && !g.over {
			return true
		}
	}
	return false
}

// stuck reports whether a chain can't read its file, or waits for one that is there; f.mu is held.
func (f *Follower) stuck() bool {
	for _, c := range f.chains {
		if c.failed.Load() != nil || c.had && !c.begun.Load() {
			return true
		}
	}
	return false
}

// look rings for every open file that changed without a notification, and for chains that wait or failed.
func (f *Follower) look() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range f.files {
		var st unix.Stat_t
		if g.fd == nil || unix.Fstat(int(g.fd.Fd()), &st) != nil {
			continue
		}
		if st.Size != g.seenSize.Load() || st.Mtim.Nano() != g.seenMod.Load() {
			g.chain.ring()
		}
	}
	for _, c := range f.chains {
		if c.failed.Load() != nil || !c.begun.Load() {
			c.ring()
		}
	}
}

// A sight is what a configured path leads to at the moment.
type sight struct {
	path    string
	st      unix.Stat_t
	rotated bool // the name is a rotation of another one that we follow
}

// scan looks at all configured paths and gives new files to their chains.
func (f *Follower) scan(start func(*chain), first bool) {
	paths, empty := f.expand()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.empty = empty

	var seen []sight
	absent := map[string]bool{}
	trouble := map[string]error{}
	there := map[string]bool{}
	for path, plain := range paths {
		s := sight{path: path}
		switch err := unix.Stat(path, &s.st); {
		case missing(err):
			absent[path] = plain
		case err != nil:
			trouble[path] = &os.PathError{Op: "stat", Path: path, Err: err}
		case s.st.Mode&unix.S_IFMT == unix.S_IFREG:
			seen = append(seen, s)
			there[path] = true
		case plain || s.st.Mode&unix.S_IFMT != unix.S_IFDIR:
			trouble[path] = notFileError{fileType(s.st.Mode)}
		}
	}
	slices.SortFunc(seen, func(a, b sight) int { return compareStrings(a.path, b.path) })
	for i := range seen {
		seen[i].rotated = slices.ContainsFunc(rotatedFrom(seen[i].path), func(base string) bool {
			_, waits := absent[base]
			return there[base] || waits || trouble[base] != nil || f.chains[base] != nil
		})
	}

	byID := map[fileID][]sight{}
	var order []fileID
	for _, s := range seen {
		id := idOfStat(&s.st)
		if byID[id] == nil {
			order = append(order, id)
		}
		byID[id] = append(byID[id], s)
	}
	f.byPath = map[string]*file{}
	for id, g := range f.files {
		f.rename(g, byID[id])
	}
	for _, id := range order {
		f.meet(id, byID[id], start, trouble)
	}

	for path, plain := range absent {
		if plain && f.chains[path] == nil {
			start(f.newChain(path, nil))
		}
	}
	if first {
		// A log that has no file under its name now may have a rotated one with a rest to read.
		for _, p := range slices.Clone(f.from) {
			if f.chains[p.Path] == nil && f.byPath[p.Path] == nil && trouble[p.Path] == nil && f.wants(p.Path) {
				start(f.newChain(p.Path, nil))
			}
		}
	}
	for path, c := range f.chains {
		if _, named := paths[path]; !named && c.rest() {
			c.cancel()
			delete(f.chains, path)
		}
	}
	f.report(trouble)
}

// expand finds the paths that the patterns stand for, true for plain ones, and the globs that stand for nothing. It
// watches the directories that matter first, so that nothing happens between the look and the watch.
func (f *Follower) expand() (paths map[string]bool, empty []string) {
	for range 4 {
		want := map[string][]part{}
		paths, empty = map[string]bool{}, nil
		for _, p := range f.patterns {
			found := p.expand(want)
			for _, path := range found {
				paths[path] = paths[path] || !p.glob
			}
			if len(found) == 0 {
				empty = append(empty, p.text)
			}
		}
		if !f.watch.setDirs(want) {
			break
		}
	}
	return paths, empty
}

// wants reports whether a pattern matches path.
func (f *Follower) wants(path string) bool {
	return slices.ContainsFunc(f.patterns, func(p pattern) bool { return p.match(path) })
}

// rename takes note of the paths that lead to g now.
func (f *Follower) rename(g *file, now []sight) {
	before := g.paths
	g.paths = map[string]bool{}
	named := false
	for _, s := range now {
		g.paths[s.path] = true
		f.byPath[s.path] = g
		named = named || !s.rotated
		if i := slices.Index(g.leaving, s.path); i >= 0 {
			g.leaving = slices.Delete(g.leaving, i, i+1)
		}
		if !slices.Contains(g.names, s.path) {
			g.names = append(slices.Clone(g.names), s.path)
			slices.Sort(g.names)
		}
	}
	// A file that lost all its names keeps them: it was rotated, and what it still holds is theirs. One that goes on
	// under another name only finishes what it has for the name that left.
	for path := range before {
		if !g.paths[path] && named && !slices.Contains(g.leaving, path) {
			g.leaving = append(g.leaving, path)
		}
	}
	if len(g.leaving) > 0 || len(before) > 0 && len(g.paths) == 0 {
		g.chain.ring()
	}
	if g.over && len(g.paths) == 0 {
		delete(f.files, g.id)
		g.chain.addDone(g.position())
	}
}

// meet takes care of a file that paths lead to: nothing if it is read already, otherwise it goes to the chain of the
// file that had the paths before, or to a new one.
func (f *Follower) meet(id fileID, as []sight, start func(*chain), trouble map[string]error) {
	g := f.files[id]
	if g != nil && !g.over {
		return
	}
	if g != nil && as[0].st.Size == g.off && as[0].st.Mtim.Nano() == g.mod {
		return
	}
	rotated := !slices.ContainsFunc(as, func(s sight) bool { return !s.rotated })
	if g == nil && rotated {
		return // its chain finds it by itself, if it is a generation of its own and not a copy
	}
	fd, st, err := openFile(as[0].path)
	if err != nil {
		if missing(err) {
			f.ringNames()
			return
		}
		for _, s := range as {
			trouble[s.path] = err
		}
		return
	}
	if idOfStat(&st) != id {
		fd.Close()
		f.ringNames() // exchanged since we looked: look again
		return
	}
	if g != nil {
		if g.holds(fd, st.Size) {
			g.fd, g.over, g.revived = fd, false, true
			f.watchFile(g)
			g.chain.push(g)
			return
		}
		delete(f.files, id) // the inode is another file's now
		g.chain.addDone(g.position())
		if rotated {
			fd.Close()
			return
		}
	}
	g = &file{id: id, fd: fd, paths: map[string]bool{}}
	var keys []string
	for _, s := range as {
		g.paths[s.path] = true
		g.names = append(g.names, s.path)
		f.byPath[s.path] = g
		if !s.rotated {
			keys = append(keys, s.path)
		}
	}
	c := f.predecessor(keys)
	isNew := c == nil
	if isNew {
		key := keys[0]
		for _, k := range keys {
			if fi, err := os.Lstat(k); err == nil && fi.Mode().IsRegular() {
				key = k
				break
			}
		}
		g.start = st.Size
		c = f.newChain(key, g)
	} else if !c.had || time.Since(time.Unix(0, st.Mtim.Nano())) > time.Minute || slices.ContainsFunc(keys, f.troubled) {
		g.start = st.Size // not what somebody wrote just now in the place of a file that we followed
	}
	c.had = true
	g.chain = c
	g.noteOff()
	g.seenSize.Store(st.Size)
	f.files[id] = g
	c.setBase(resolve(keys[0]), g.names)
	f.watchFile(g)
	c.push(g)
	if isNew {
		start(c)
	}
}

// predecessor is the chain that goes on with a new file at these paths: one that had them, and none of whose files
// goes on under another name.
func (f *Follower) predecessor(keys []string) *chain {
	for _, key := range keys {
		for _, c := range f.chains {
			if c.path() != key && !slices.Contains(c.names(), key) {
				continue
			}
			lives := false
			for _, g := range f.files {
				if g.chain == c && !g.over {
					for p := range g.paths {
						lives = lives || !f.rotatedName(p)
					}
				}
			}
			if !lives {
				return c
			}
		}
	}
	return nil
}

func (f *Follower) troubled(path string) bool { return f.trouble[path] != nil }

// rotatedName reports whether path is a rotation of a log that has a chain.
func (f *Follower) rotatedName(path string) bool {
	return slices.ContainsFunc(rotatedFrom(path), func(base string) bool { return f.chains[base] != nil })
}

// newChain makes the chain of a log whose first file is g, or that waits for one. It is to be started once it has g.
func (f *Follower) newChain(key string, g *file) *chain {
	if old := f.chains[key]; old != nil {
		// Its file goes on under other names, one of which it takes for its own.
		delete(f.chains, key)
		for _, o := range f.files {
			for p := range o.paths {
				if o.chain == old && p != key && f.chains[p] == nil {
					old.key.Store(&p)
				}
			}
		}
		f.chains[old.path()] = old
	}
	c := &chain{f: f, wake: make(chan struct{}, 1), mod: time.Now().UnixNano(), seen: map[fileID]trace{}, heads: map[fileID]head{}}
	c.key.Store(&key)
	f.chains[key] = c
	c.setBase(resolve(key), []string{key})
	names := []string{key}
	if g != nil {
		names = g.names
	}
	f.from = slices.DeleteFunc(f.from, func(p source.Position) bool {
		mine := slices.Contains(names, p.Path)
		if !mine && g != nil && idOf(p) == g.id {
			m := markOf(p)
			st, err := g.stat()
			mine = err == nil && m.holds(g.fd, st.Size)
		}
		if mine {
			c.from = append(c.from, p)
		}
		return mine
	})
	return c
}

// watchFile has the kernel ring for g.
func (f *Follower) watchFile(g *file) {
	watched := f.watch.addFile(g)
	if !watched && f.watch != nil && !f.slow() {
		f.log.Warn("no notifications for a log, looking at it every second instead: fs.inotify.max_user_watches may be "+
			"too low", "log", g.fd.Name())
	}
	g.unwatched = !watched || quietfs.Is(g.fd)
}

// closeLocked closes g's descriptor; f.mu is held.
func (f *Follower) closeLocked(g *file) {
	if g.fd == nil {
		return
	}
	f.watch.removeFile(g)
	f.unhold(g)
	if g.stream != nil {
		g.stream.Close()
		g.stream = nil
	}
	g.fd.Close()
	g.fd = nil
}

// report logs what can't be read from now on, or can again.
func (f *Follower) report(trouble map[string]error) {
	for path, err := range trouble {
		if f.trouble[path] == nil {
			f.log.Warn("log can't be read, waiting", "log", path, "error", errorText(err))
		}
	}
	for path := range f.trouble {
		if trouble[path] == nil {
			f.log.Info("log is no longer unreadable", "log", path)
		}
	}
	f.trouble = trouble
}

// errorText says in a few words what is wrong, for a line that names the log already.
func errorText(err error) string {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return fmt.Sprintf("%s: %v", pe.Op, pe.Err)
	}
	return err.Error()
}

// resolve is the file that path leads to, or path itself.
func resolve(path string) string {
	if to, err := filepath.EvalSymlinks(path); err == nil {
		return to
	}
	return path
}

func compareStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
