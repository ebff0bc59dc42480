package follow

import (
	"cmp"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A sibling is a file beside a log whose name makes it one of the log's older generations.
type sibling struct {
	path   string
	id     fileID
	size   int64
	mod    int64  // modification time, nanoseconds
	change int64  // that of the inode
	packed string // how it is compressed: an extension of unpackers, or ""
	suffix
}

// A suffix is what a rotation adds to a name.
type suffix struct {
	known bool   // it is one that rotations make; otherwise the name merely begins with the log's
	num   int    // .1 .2 …, the larger the older; -1: none
	date  string // -20261123, .2026-11-23_18: its digits; "": none
}

// siblings lists the older generations of the log at path, the oldest first. Of a file that exists plain and
// compressed, which is one being compressed, it lists the plain one.
//
// A directory read while files in it are renamed may miss some, or show one under two names. So it is read until it
// looks the same twice, unless nothing has changed in it for a while.
func siblings(path string) []sibling {
	var last map[string]sibling
	for try := range 20 {
		var before, after unix.Stat_t
		dir := filepath.Dir(path)
		_ = unix.Stat(dir, &before)
		now, torn := listSiblings(path)
		_ = unix.Stat(dir, &after)
		quiet := before.Mtim == after.Mtim && time.Since(time.Unix(0, after.Mtim.Nano())) > 20*time.Millisecond
		if !torn && (quiet || try > 0 && maps.EqualFunc(last, now, func(a, b sibling) bool { return a.id == b.id })) {
			last = now
			break
		}
		last = now
		if torn {
			time.Sleep(time.Millisecond) // let whoever renames get on
		}
	}
	return inOrder(last)
}

// listSiblings lists by name without the extension of compression. torn says that a file went away meanwhile.
func listSiblings(path string) (byName map[string]sibling, torn bool) {
	byName = map[string]sibling{}
	dir, base := filepath.Split(path)
	d, err := os.Open(dir)
	if err != nil {
		return byName, false
	}
	names, _ := d.Readdirnames(-1)
	d.Close()
	for _, name := range names {
		plain, packed := cutPacked(name)
		suf, ok := rotation(base, name)
		if !ok {
			continue
		}
		var st unix.Stat_t
		if err := unix.Stat(dir+name, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			torn = torn || missing(err) && unix.Lstat(dir+name, &st) != nil
			continue
		}
		if have, twice := byName[plain]; twice && have.packed == "" {
			continue
		}
		byName[plain] = sibling{path: dir + name, id: idOfStat(&st), size: st.Size, mod: st.Mtim.Nano(),
			change: st.Ctim.Nano(), packed: packed, suffix: suf}
	}
	return byName, torn
}

// inOrder sorts by age, the oldest first: by the number or date in the name if all have one, otherwise by time.
func inOrder(byName map[string]sibling) []sibling {
	list := make([]sibling, 0, len(byName))
	allNum, allDate := true, true
	for _, s := range byName {
		list = append(list, s)
		if s.known {
			allNum = allNum && s.num >= 0
			allDate = allDate && s.date != ""
		}
	}
	slices.SortFunc(list, func(a, b sibling) int {
		byTime := cmp.Or(cmp.Compare(a.mod, b.mod), cmp.Compare(b.num, a.num), cmp.Compare(a.date, b.date),
			cmp.Compare(a.path, b.path))
		switch {
		case a.known != b.known:
			if b.known {
				return -1
			}
			return 1
		case !a.known:
			return byTime
		case allNum:
			return cmp.Or(cmp.Compare(b.num, a.num), byTime)
		case allDate:
			return cmp.Or(cmp.Compare(a.date, b.date), byTime)
		}
		return byTime
	})
	return list
}

// rotation tells what was added to base to make name. false: name is no sibling.
func rotation(base, name string) (suffix, bool) {
	if rest, ok := strings.CutPrefix(name, base); ok {
		if rest == "" {
			return suffix{}, false
		}
		added, packed := cutPacked(rest)
		if added == "" || added == ".old" {
			return suffix{known: packed != "" || added != "", num: -1}, true
		}
		s, _ := digits(added)
		s.known = s.date != "" || s.num >= 0 && added[0] == '.'
		return s, true
	}
	// logrotate's "extension": mail.log becomes mail.1.log or mail-20261123.log.
	ext := filepath.Ext(base)
	mid, ok := strings.CutPrefix(name, strings.TrimSuffix(base, ext))
	if !ok || ext == "" || ext == base {
		return suffix{}, false
	}
	mid, _ = cutPacked(mid)
	if mid, ok = strings.CutSuffix(mid, ext); !ok {
		return suffix{}, false
	}
	s, ok := digits(mid)
	s.known = s.date != "" // app.1.log and access-8080.log may well be logs of their own
	return s, ok
}

// digits reads ".1", "-20261123", ".2026-11-23_18:00".
func digits(s string) (suffix, bool) {
	none := suffix{num: -1}
	if len(s) < 2 || !strings.ContainsRune(".-_", rune(s[0])) || s[1] < '0' || s[1] > '9' {
		return none, false
	}
	var b strings.Builder
	for _, r := range s[1:] {
		switch {
		case '0' <= r && r <= '9':
			b.WriteRune(r)
		case !strings.ContainsRune(".-_:T", r):
			return none, false
		}
	}
	if d := b.String(); len(d) >= 8 {
		return suffix{num: -1, date: d}, true
	}
	n, err := strconv.Atoi(s[1:])
	if err != nil {
		return none, false
	}
	return suffix{num: n}, true
}

// rotatedFrom lists the names of which name may be a rotation, in its directory.
func rotatedFrom(path string) []string {
	dir, name := filepath.Split(path)
	plain, packed := cutPacked(name)
	var bases []string
	add := func(base string) {
		if s, ok := rotation(base, name); ok && s.known && !slices.Contains(bases, dir+base) {
			bases = append(bases, dir+base)
		}
	}
	if packed != "" {
		add(plain)
	}
	for i := 1; i < len(plain); i++ {
		if strings.ContainsRune(".-_", rune(plain[i])) {
			add(plain[:i])
			if ext := filepath.Ext(plain); len(plain)-len(ext) > i {
				add(plain[:i] + ext)
			}
		}
	}
	return bases
}

func idOfStat(st *unix.Stat_t) fileID { return fileID{st.Dev, st.Ino} }

// strays lists what else is in the directory of path: a file may have been renamed in a way no rotation does.
func strays(path string) (list []sibling) {
	dir := filepath.Dir(path)
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(1 << 14)
	slices.Sort(names)
	for _, name := range names {
		var st unix.Stat_t
		_, packed := cutPacked(name)
		if err := unix.Stat(filepath.Join(dir, name), &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
			list = append(list, sibling{path: filepath.Join(dir, name), id: idOfStat(&st), size: st.Size,
				mod: st.Mtim.Nano(), change: st.Ctim.Nano(), packed: packed, suffix: suffix{num: -1}})
		}
	}
	return list
}
