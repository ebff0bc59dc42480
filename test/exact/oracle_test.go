package exact

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"banset/policy"
	"banset/policy/blocklist"
	"banset/policy/judge"
)

// A failure is one line that was written and names a host as having failed.
type failure struct {
	host    netip.Addr
	stamp   time.Time // as the line has it, in whole seconds or finer
	written time.Time
}

// A memory is what banset remembers: the failures, where hosts stand on the ladder, and the bans. Keys are a policy, a
// space and a host.
type memory struct {
	failures map[string][]int64 // seconds, ascending
	ladder   map[string]rung
	bans     map[netip.Prefix]policy.Ban
}

type rung struct{ offences, end int64 }

// judged is what one uninterrupted judge makes of the failures: the oracle that never crashed.
func judged(policies []policy.Policy, logs []*logfile) memory {
	j := judge.New(judge.Settings{Policies: policies, IPv6Prefix: 64, MaxHosts: 1 << 20, MaxBans: 1 << 20})
	for _, l := range logs {
		for _, f := range l.failures {
			for _, name := range l.policies {
				j.Hit(l.path, policy.Hit{
					Policy: name, Host: netip.PrefixFrom(f.host, f.host.BitLen()), Stamp: f.stamp, Arrived: f.written, Live: true,
				})
			}
		}
	}
	m := memory{failures: map[string][]int64{}, ladder: map[string]rung{}, bans: map[netip.Prefix]policy.Ban{}}
	j.Changed(func(p judge.Part, key, value []byte) {
		if value != nil {
			m.put(string(p), key, value)
		}
	})
	for b := range j.Book().All() {
		m.bans[b.Host] = b
	}
	return m
}

// put takes one record as the state keeps it.
func (m *memory) put(bucket string, key, value []byte) {
	if bucket != "windows" && bucket != "ladder" {
		return
	}
	name, host, _ := bytes.Cut(key, []byte{0})
	var p netip.Prefix
	if err := p.UnmarshalBinary(host); err != nil {
		panic(fmt.Sprintf("%s: key %q: %v", bucket, key, err))
	}
	k := string(name) + " " + p.String()
	switch bucket {
	case "windows":
		at := int64(0)
		for len(value) > 0 {
			d, n := binary.Uvarint(value)
			if n <= 0 {
				panic(fmt.Sprintf("%s: key %q: value %x", bucket, key, value))
			}
			at, value = at+int64(d), value[n:]
			m.failures[k] = append(m.failures[k], at)
		}
	case "ladder":
		offences, n := binary.Varint(value)
		end, _ := binary.Varint(value[n:])
		m.ladder[k] = rung{offences, end}
	}
}

// remembered is what a daemon, stopped by now, has on its disk: counts in the state, bans in the blocklist.
func (d *daemon) remembered() memory {
	d.t.Helper()
	m := memory{failures: map[string][]int64{}, ladder: map[string]rung{}, bans: map[netip.Prefix]policy.Ban{}}
	d.state(m.put)
	for _, b := range d.blocklist() {
		if _, twice := m.bans[b.Host]; twice {
			d.t.Errorf("%s: the blocklist has %s twice", d.name, b.Host)
		}
		m.bans[b.Host] = b
	}
	return m
}

// state reads a copy of the state file, which may be in use. A commit leaves the pages of the last one alone, the next
// but one does not: so the copy is good when no commit ended while it was made, which the two meta pages tell.
func (d *daemon) state(fn func(bucket string, key, value []byte)) {
	d.t.Helper()
	source, err := os.Open(d.path("state.db"))
	if os.IsNotExist(err) {
		return
	}
	if err != nil {
		d.t.Fatal(err)
	}
	defer source.Close()
	var text []byte
	for metas := make([]byte, 2*os.Getpagesize()); ; {
		if text, err = io.ReadAll(io.NewSectionReader(source, 0, 1<<40)); err != nil {
			d.t.Fatal(err)
		}
		if n, err := source.ReadAt(metas, 0); err == nil && bytes.HasPrefix(text, metas[:n]) {
			break
		} else if err == io.EOF {
			return // made, and not yet filled
		} else if err != nil {
			d.t.Fatal(err)
		}
	}
	file, err := os.CreateTemp(d.dir, "copy-")
	if err != nil {
		d.t.Fatal(err)
	}
	defer os.Remove(file.Name())
	copied := file.Name()
	_, err = file.Write(text)
	if err := errors.Join(err, file.Close()); err != nil {
		d.t.Fatal(err)
	}
	db, err := bolt.Open(copied, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		d.t.Fatal(err)
	}
	defer db.Close()
	if err := db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				fn(string(name), k, v)
				return nil
			})
		})
	}); err != nil {
		d.t.Fatal(err)
	}
}

// committed reports whether the state says that all of this file was read.
func (d *daemon) committed(ino uint64, size int64) bool {
	found := false
	d.state(func(bucket string, _, value []byte) {
		var p struct {
			Ino    uint64 `json:"ino"`
			Offset int64  `json:"offset"`
		}
		if bucket == "positions" && json.Unmarshal(value, &p) == nil && p.Ino == ino && p.Offset == size {
			found = true
		}
	})
	return found
}

// blocklist is the bans of the blocklist, ended ones included.
func (d *daemon) blocklist() []policy.Ban {
	d.t.Helper()
	text, err := os.ReadFile(d.path("blocklist"))
	if err != nil && !os.IsNotExist(err) {
		d.t.Fatal(err)
	}
	var bans []policy.Ban
	for e := range blocklist.Parse(text, blocklist.Options{Location: time.Local}).Entries() {
		bans = append(bans, e.Ban)
	}
	return bans
}

// A verdict is how a daemon's memory compares with the oracle's.
type verdict struct {
	lost, double int // lines
	differences  []string
}

// compare holds got against want. Bans that end between the two times may be there or not, and so may failures that
// no policy can count any more. loose are logs whose failures count at their arrival, so only their number is known.
func compare(got, want memory, policies []policy.Policy, began, ended time.Time, loose func(netip.Prefix) bool) verdict {
	var v verdict
	differ := func(format string, args ...any) { v.differences = append(v.differences, fmt.Sprintf(format, args...)) }
	findtime := map[string]time.Duration{}
	for _, p := range policies {
		findtime[p.Name] = p.FindTime
	}
	for _, k := range keys(got.failures, want.failures) {
		name, host := cutKey(k)
		g, w := got.failures[k], want.failures[k]
		if name == tally {
			v.lost += max(0, len(w)-len(g))
			v.double += max(0, len(g)-len(w))
		}
		switch {
		case slices.Equal(g, w), loose(host) && len(g) == len(w):
		case len(g) == 0 && w[len(w)-1] < began.Add(-findtime[name]).Unix():
		default:
			differ("failures of %s: %d, the oracle has %d: %s", k, len(g), len(w), firstDifference(g, w))
		}
	}
	for _, k := range keys(got.ladder, want.ladder) {
		if g, w := got.ladder[k], want.ladder[k]; g != w {
			differ("ladder of %s: offence %d until %d, the oracle has %d until %d", k, g.offences, g.end, w.offences, w.end)
		}
	}
	for _, k := range keys(got.bans, want.bans) {
		g, w := got.bans[k], want.bans[k]
		over := max(g.Until, w.Until) <= ended.Unix()+1
		if g != w && !(over && (g.Until == 0 || w.Until == 0)) {
			differ("ban of %s:\n\t%+v, the oracle has\n\t%+v", k, g, w)
		}
	}
	return v
}

func cutKey(k string) (name string, host netip.Prefix) {
	n, h, _ := bytes.Cut([]byte(k), []byte(" "))
	return string(n), netip.MustParsePrefix(string(h))
}

func firstDifference(g, w []int64) string {
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("number %d at %d, the oracle's at %d", i+1, g[i], w[i])
		}
	}
	if len(g) > len(w) {
		return fmt.Sprintf("more from %d on", g[len(w)])
	}
	return fmt.Sprintf("missing from %d on", w[len(g)])
}

// keys are the keys of both, sorted by their text.
func keys[K comparable, V any](a, b map[K]V) []K {
	var all []K
	for k := range a {
		all = append(all, k)
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			all = append(all, k)
		}
	}
	slices.SortFunc(all, func(x, y K) int { return bytes.Compare(fmt.Append(nil, x), fmt.Append(nil, y)) })
	return all
}
