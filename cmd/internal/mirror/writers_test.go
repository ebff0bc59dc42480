package mirror

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"banset/nft/nfttest"
	"banset/policy/judge"
	"banset/policy/ledger"
)

// editors are ways to save a text over the file, by what an editor does.
var editors = map[string]func(t *testing.T, path, text string){
	"rename": func(t *testing.T, path, text string) { // sed -i, and most that are careful
		writeNew(t, path+".tmp", text)
		rename(t, path+".tmp", path)
	},
	"backup, then a new file": func(t *testing.T, path, text string) { // vim, backupcopy=no
		rename(t, path, path+"~")
		writeNew(t, path, text)
	},
	"truncate and write": func(t *testing.T, path, text string) { inPlace(t, path, []string{text}, 0) }, // nano, cp, cat >
	"truncate and write in pieces": func(t *testing.T, path, text string) {
		var pieces []string
		for len(text) > 0 {
			n := min(37, len(text))
			pieces, text = append(pieces, text[:n]), text[n:]
		}
		inPlace(t, path, pieces, 3*settle/2)
	},
	"delete and create": func(t *testing.T, path, text string) {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
		writeNew(t, path, text)
	},
}

func writeNew(t *testing.T, path, text string) {
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Error(err)
	}
}

func rename(t *testing.T, from, to string) {
	if err := os.Rename(from, to); err != nil {
		t.Error(err)
	}
}

func inPlace(t *testing.T, path string, pieces []string, pause time.Duration) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer file.Close()
	for _, p := range pieces {
		if _, err := file.WriteString(p); err != nil {
			t.Error(err)
		}
		time.Sleep(pause) // a slow program: nothing is waited for
	}
}

// without is a text without the lines of a host.
func without(text, host string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, host+" ") && line != host+"\n" {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// TestEditors: each way to save is one will: a line less, a line more, and nothing else happens on the way.
func TestEditors(t *testing.T) {
	for name, save := range editors {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "")
			r.takeMany(0, 30)
			r.settled()
			save(t, r.path, without(r.text(), "198.51.0.7")+"203.0.113.5\n")
			r.banned("203.0.113.5/32", true)
			r.banned("198.51.0.7/32", false)
			r.onlyOneUnban("198.51.0.7")
		})
	}
}

// onlyOneUnban checks that one host alone was unbanned, and nothing was taken for an accident.
func (r *rig) onlyOneUnban(host string) {
	r.t.Helper()
	for line := range strings.Lines(r.log.String()) {
		if strings.Contains(line, "Unban ") && !strings.Contains(line, "Unban "+host+" ") || strings.Contains(line, "accident") {
			r.t.Errorf("log: %s", line)
		}
	}
}

// TestEditorPrograms runs the real ones: those that every Debian has, and editors where they are installed.
func TestEditorPrograms(t *testing.T) {
	const vim = `-c 'g/^198\.51\.0\.7 /d' -c '$put =\"203.0.113.5\"' -c wq "$0" </dev/null`
	scripts := map[string]string{
		"perl":  `perl -ni -e 'print unless /^198\.51\.0\.7 /; print "203.0.113.5\n" if eof' "$0"`,
		"sed":   `sed -i '/^198\.51\.0\.7 /d; $a 203.0.113.5' "$0"`,
		"shell": `grep -v '^198\.51\.0\.7 ' "$0" >"$0.x"; echo 203.0.113.5 >>"$0.x"; cat "$0.x" >"$0"`,
		"mv":    `grep -v '^198\.51\.0\.7 ' "$0" >"$0.x"; echo 203.0.113.5 >>"$0.x"; mv "$0.x" "$0"`,
		"sort":  `grep -v '^198\.51\.0\.7 ' "$0" >"$0.x"; echo 203.0.113.5 >>"$0.x"; sort -o "$0" "$0.x"`,
	}
	if _, err := exec.LookPath("vim"); err == nil {
		scripts["vim, a copy as backup"] = `vim -es -c 'set backup backupcopy=yes' ` + vim
		scripts["vim, renamed as backup"] = `vim -es -c 'set backup backupcopy=no' ` + vim
	}
	if _, err := exec.LookPath("ed"); err == nil {
		scripts["ed"] = `printf 'g/^198\.51\.0\.7 /d\n$a\n203.0.113.5\n.\nw\nq\n' | ed -s "$0"`
	}
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "")
			r.takeMany(0, 30)
			r.settled()
			shell(t, script, r.path)
			r.banned("203.0.113.5/32", true)
			r.banned("198.51.0.7/32", false)
			r.onlyOneUnban("198.51.0.7")
		})
	}
}

func shell(t *testing.T, script string, args ...string) {
	t.Helper()
	if out, err := exec.Command("sh", append([]string{"-ec", script}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// TestNewestLineRemoved: a person who sees a ban and takes its line out at once means it.
func TestNewestLineRemoved(t *testing.T) {
	r := newRig(t, "")
	for i := range 5 {
		r.takeMany(i, 1)
		r.settled()
		shell(t, fmt.Sprintf(`sed -i '/^198\.51\.0\.%d /d' "$0"`, i), r.path)
		r.banned(host(i), false)
	}
}

// TestStaleSave: a person opens the file, the daemon bans, and the person saves what they had on the screen.
func TestStaleSave(t *testing.T) {
	for name, save := range editors {
		for _, readers := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/readers %v", name, readers), func(t *testing.T) {
				r := newRig(t, "")
				r.takeMany(0, 30)
				r.settled()
				screen := r.text()
				r.takeMany(1000, 60)
				r.do(t.Context(), func(j *judge.Judge) { j.Pardon(netip.MustParsePrefix(host(3))) })
				r.inStep() // and nobody reads the file
				if readers {
					r.verify()
				}
				save(t, r.path, without(screen, "198.51.0.7")+"203.0.113.5\n")
				r.banned("203.0.113.5/32", true)
				r.banned("198.51.0.7/32", false)
				for i := range 60 {
					if _, ok := r.ban(host(1000 + i)); !ok {
						t.Fatalf("%s was unbanned by a text that is older than its ban", host(1000+i))
					}
				}
				if _, ok := r.ban(host(3)); ok {
					t.Error("a host was banned by a text that is older than its pardon")
				}
				r.onlyOneUnban("198.51.0.7")
				r.logged("a text was saved from before our last 61 changes")
			})
		}
	}
}

// TestStaleSaveUnchanged: the text comes back as it was, and nobody has read the file since: that is no will either.
func TestStaleSaveUnchanged(t *testing.T) {
	r := newRig(t, "")
	r.takeMany(0, 3)
	r.settled()
	screen := r.text()
	for i := range 3 {
		r.takeMany(1000+i, 1)
		r.inStep()
		editors["truncate and write"](t, r.path, screen)
		r.until("put back", func(*judge.Judge) bool { return strings.Count(r.log.String(), "a text was saved from before") > i })
		r.inStep()
		if _, ok := r.ban(host(1000 + i)); !ok {
			t.Fatal("a ban was lifted by a text that is older")
		}
	}
	r.settled()
}

// TestStaleSaveOfMoreChanges: a line that is in the text as it is now, but was so before too, does not show that the text
// is new; and one that is there as it was two changes ago shows that it is old.
func TestStaleSaveOfMoreChanges(t *testing.T) {
	r := newRig(t, "")
	r.takeMany(0, 3)
	r.settled()
	screen := r.text()
	lifted, longer, short := netip.MustParsePrefix(host(1000)), host(1001), host(1002)
	r.take(lifted.Addr().String()+"/32", time.Hour)
	r.take(longer, time.Hour)
	r.take(short, time.Hour)
	r.inStep()
	r.do(t.Context(), func(j *judge.Judge) { j.Pardon(lifted) })
	r.take(longer, 2*time.Hour)
	r.inStep()
	r.verify() // somebody reads it
	r.write(screen + "203.0.113.5\n")
	r.banned("203.0.113.5/32", true)
	r.inStep()
	r.banned(lifted.String(), false)
	r.banned(longer, true)
	r.banned(short, true)
}

// TestStaleSaveInsisted: what may be a will is one the second time.
func TestStaleSaveInsisted(t *testing.T) {
	nfttest.Clean(t)
	r := startRig(t, &rig{t: t, path: filepath.Join(t.TempDir(), "blocklist"), quick: true}, "", nil)
	r.takeMany(0, 3)
	r.settled()
	screen := r.text()
	r.takeMany(1000, 1)
	r.settled()
	r.write(screen + "203.0.113.5\n")
	r.logged("Ban 198.51.3.232 until")
	r.logged(" is kept")
	r.banned("203.0.113.5/32", true)
	r.write(without(r.text(), "198.51.3.232") + "203.0.113.6\n")
	r.banned("203.0.113.6/32", true)
	r.banned(host(1000), false)
}

// inStep is settled without a look at the file.
func (r *rig) inStep() {
	r.t.Helper()
	r.until("both copies hold the book", func(j *judge.Judge) bool { return j.Book().Pending(ledger.Kernel)+j.Book().Pending(ledger.File) == 0 })
}

// TestLateWriter: a program that opened the file before the daemon replaced it adds its lines where nobody would read
// them.
func TestLateWriter(t *testing.T) {
	r := newRig(t, "")
	r.takeMany(0, 3)
	r.settled()
	file, err := os.OpenFile(r.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for i := range 3 {
		r.do(t.Context(), func(j *judge.Judge) { j.Pardon(netip.MustParsePrefix(host(i))) })
		r.inStep()
	}
	fmt.Fprint(file, "203.0.113.5\n203.0.1")
	r.banned("203.0.113.5/32", true)
	if _, ok := r.ban("203.0.0.1/32"); ok || strings.Contains(r.text(), "203.0.1\n") {
		t.Error("half a line was taken")
	}
	fmt.Fprint(file, "13.6\n")
	r.banned("203.0.113.6/32", true)
}

// TestLinkModeAndOwnerStay: a symbolic link stays one, also one that leads nowhere yet, and what is replaced keeps its
// look.
func TestLinkModeAndOwnerStay(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real", "list"), filepath.Join(dir, "blocklist")
	if err := os.Symlink("real/list", link); err != nil {
		t.Fatal(err)
	}
	r := newRigAt(t, link)
	r.takeMany(0, 3)
	r.settled()
	if err := os.Chmod(real, 0o604); err != nil {
		t.Fatal(err)
	}
	r.do(t.Context(), func(j *judge.Judge) { j.Pardon(netip.MustParsePrefix(host(0))) })
	r.settled()
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is no link any more: %v %v", info, err)
	}
	if info, err := os.Lstat(real); err != nil || info.Mode() != 0o604 {
		t.Errorf("the file's mode: %v %v, want 0604", info, err)
	}
	// sed -i replaces the link itself; from then on that is the blocklist.
	shell(t, `sed -i '/^198\.51\.0\.1 /d' "$0"`, link)
	r.banned(host(1), false)
	r.takeMany(10, 1)
	r.settled()
}

// TestFirstOwner: a blocklist that root begins belongs to the user whom the directory was made for.
func TestFirstOwner(t *testing.T) {
	dir := t.TempDir()
	uid := os.Geteuid()
	if os.Chown(dir, 4711, 4711) == nil { // root, and not in a user namespace
		uid = 4711
	}
	path := filepath.Join(dir, "blocklist")
	r := newRigAt(t, path)
	r.takeMany(0, 3)
	r.settled()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := int(info.Sys().(*syscall.Stat_t).Uid); got != uid {
		t.Errorf("it belongs to user %d, not %d", got, uid)
	}
}

// TestNotAFile: what can't be a blocklist is set aside.
func TestNotAFile(t *testing.T) {
	for what, script := range map[string]string{
		"directory": `rm "$0"; mkdir "$0"`, "FIFO": `rm "$0"; mkfifo "$0"`,
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t, "")
			r.takeMany(0, 3)
			r.settled()
			shell(t, script, r.path)
			r.logged("not a regular file")
			r.until("a new file", func(*judge.Judge) bool { return strings.Contains(r.text(), "198.51.0.2 ") })
			r.settled()
		})
	}
}

// TestTwoWriters: people and daemon change the file as fast as they can, and no change of either is lost.
func TestTwoWriters(t *testing.T) {
	r := newRig(t, "")
	const rounds = 60
	var wg sync.WaitGroup
	person := func(i int) string { return fmt.Sprintf("203.0.113.%d", i) }
	other := func(i int) string { return fmt.Sprintf("192.0.2.%d", i) }
	// One edits with sed -i, or slower with a copy: adds a line, and takes the one before the last out again.
	wg.Go(func() {
		for i := range rounds {
			edit := fmt.Sprintf(`'$a %s'`, person(i))
			if i > 1 && i%2 == 0 {
				edit = fmt.Sprintf(`'/^%s$/d; $a %s'`, strings.ReplaceAll(person(i-2), ".", `\.`), person(i))
			}
			script := `sed -i ` + edit + ` "$0"`
			if i%3 > 0 {
				script = `cp "$0" "$0.x"; sleep 0.03; sed -i ` + edit + ` "$0.x"; mv "$0.x" "$0"`
			}
			shell(t, script, r.path)
			r.until("the person's edit", func(j *judge.Judge) bool {
				_, ok := j.Book().Get(netip.MustParsePrefix(person(i) + "/32"))
				return ok
			})
		}
	})
	// Another adds with >>, and may lose it to the first: that is between them.
	wg.Go(func() {
		for i := range rounds {
			shell(t, `echo "$1" >>"$0"`, r.path, other(i))
			time.Sleep(20 * time.Millisecond) // a rate, nothing is waited for
		}
	})
	want := make(map[string]bool)
	wg.Go(func() {
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range 400 {
			r.takeMany(i, 1)
			want[host(i)] = true
			if i > 10 && i%4 == 0 {
				lift := host(rng.IntN(i))
				delete(want, lift)
				r.do(context.Background(), func(j *judge.Judge) { j.Pardon(netip.MustParsePrefix(lift)) })
			}
			time.Sleep(time.Duration(rng.IntN(5)) * time.Millisecond) // a rate, nothing is waited for
		}
	})
	wg.Wait()
	r.settled()
	got := make(map[string]bool)
	r.mu.Lock()
	for b := range r.judge.Book().All() {
		got[b.Host.String()] = true
	}
	r.mu.Unlock()
	for i := range rounds {
		if gone := i%2 == 0 && i+2 < rounds; gone == got[person(i)+"/32"] {
			t.Errorf("%s banned: %v, want %v", person(i), gone, !gone)
		}
	}
	for i := range 400 {
		if got[host(i)] != want[host(i)] {
			t.Errorf("%s banned: %v, want %v", host(i), got[host(i)], want[host(i)])
		}
	}
}
