package window

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"banset/policy"
)

// model is the Book as one would write it without a thought to speed.
type model struct {
	max     int
	hosts   map[modelKey][]int64
	order   []modelKey // by the last failure counted
	evicted uint64
}

type modelKey struct {
	policy string
	host   netip.Prefix
}

func newModel(max int) *model {
	return &model{max: max, hosts: map[modelKey][]int64{}}
}

func (m *model) drop(k modelKey) {
	delete(m.hosts, k)
	m.order = slices.DeleteFunc(m.order, func(o modelKey) bool { return o == k })
}

func (m *model) add(k modelKey, at int64, maxretry int, findtime time.Duration) (int, bool) {
	stamps, known := m.hosts[k]
	newest := at
	for _, s := range stamps {
		newest = max(newest, s)
	}
	inside := func(s int64) bool { return time.Duration(newest-s) <= findtime/time.Second }
	stamps = slices.DeleteFunc(slices.Clone(stamps), func(s int64) bool { return !inside(s) })
	if !inside(at) {
		m.hosts[k] = stamps
		return len(stamps), false
	}
	stamps = append(stamps, at)
	slices.Sort(stamps)
	if len(stamps) >= max(maxretry, 1) {
		m.drop(k)
		return len(stamps), true
	}
	if !known && len(m.hosts) >= m.max {
		m.drop(m.order[0])
		m.evicted++
	}
	m.drop(k)
	m.hosts[k] = stamps
	m.order = append(m.order, k)
	return len(stamps), false
}

func (m *model) count(k modelKey, now int64, findtime time.Duration) (n int, last int64) {
	for _, s := range m.hosts[k] {
		last = max(last, s)
	}
	for _, s := range m.hosts[k] {
		if time.Duration(max(now, last)-s) <= findtime/time.Second {
			n++
		}
	}
	if n == 0 {
		return 0, 0
	}
	return n, last
}

// expire forgets what no longer counts, each policy's hosts in order up to the first that does.
func (m *model) expire(now int64, findtime func(string) time.Duration) int {
	stop := map[string]bool{}
	var out []modelKey
	for _, k := range m.order {
		if stop[k.policy] {
			continue
		}
		if now-slices.Max(m.hosts[k]) > int64(findtime(k.policy)/time.Second) {
			out = append(out, k)
		} else {
			stop[k.policy] = true
		}
	}
	for _, k := range out {
		m.drop(k)
	}
	return len(out)
}

// contents reads all of a Book by way of the store's encoding.
func contents(t testing.TB, b *Book) map[modelKey][]int64 {
	t.Helper()
	got := map[modelKey][]int64{}
	for slot := b.all.oldest; slot != 0; slot = b.records.at(slot).link(inAll).newer {
		r := b.records.at(slot)
		k := r.key()
		var stamps []int64
		for _, s := range b.stamps.block(r.class(), r.block)[:r.count-1] {
			stamps = append(stamps, int64(s))
		}
		got[modelKey{b.policies[r.policy].name, k.host()}] = append(stamps, int64(r.newest))
	}
	return got
}

// check compares the whole Book with the model, and the Book with itself.
func check(t testing.TB, b *Book, m *model) {
	t.Helper()
	if b.Len() != len(m.hosts) || b.Evicted() != m.evicted {
		t.Fatalf("Len, Evicted = %d, %d; want %d, %d", b.Len(), b.Evicted(), len(m.hosts), m.evicted)
	}
	if got := contents(t, b); !maps.EqualFunc(got, m.hosts, slices.Equal) {
		t.Fatalf("holds %v\nwant  %v", got, m.hosts)
	}
	places, words, inLists := 0, 0, 0
	for i := range b.index {
		s := &b.index[i]
		if s.places == nil {
			continue
		}
		n := 0
		for _, e := range s.places {
			if e != 0 {
				n++
			}
		}
		if n != s.n {
			t.Fatalf("shard %d holds %d entries, says %d", i, n, s.n)
		}
		places += n
	}
	for i := range b.policies {
		inLists += b.policies[i].list.n
	}
	for slot := b.all.oldest; slot != 0; slot = b.records.at(slot).link(inAll).newer {
		words += capOf(b.records.at(slot).class())
	}
	if places != b.Len() || inLists != b.Len() || words != b.stamps.words {
		t.Fatalf("%d hosts, %d in the index, %d in policies' lists; %d words in blocks, says %d",
			b.Len(), places, inLists, words, b.stamps.words)
	}
}

// script runs operations that data spells against Book and model; it is the oracle of the fuzz test and of the
// random one.
func script(t testing.TB, data []byte) {
	const maxHosts = 12
	var (
		b        = New(maxHosts)
		m        = newModel(maxHosts)
		names    = []string{"sshd", "exim2", "forever", "big"}
		maxretry = map[string]int{"sshd": 3, "exim2": 10, "forever": 4, "big": 40}
		findtime = map[string]time.Duration{"sshd": 10 * time.Second, "exim2": 100 * time.Second,
			"forever": policy.Forever, "big": 90*time.Second + 999*time.Millisecond}
		find  = func(name string) time.Duration { return findtime[name] }
		now   = int64(1_800_000_000)
		store = map[string][]byte{}
		next  = func() int {
			if len(data) == 0 {
				return 0
			}
			c := data[0]
			data = data[1:]
			return int(c)
		}
	)
	hosts := make([]netip.Prefix, 16)
	for i := range hosts {
		switch i % 4 {
		case 0, 1:
			hosts[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 32)
		case 2:
			hosts[i] = netip.MustParsePrefix(fmt.Sprintf("2001:db8:0:%x::/64", i))
		case 3:
			hosts[i] = netip.MustParsePrefix(fmt.Sprintf("198.51.%d.0/24", i))
		}
	}
	for len(data) > 0 {
		op, name, host := next(), names[next()%len(names)], hosts[next()%len(hosts)]
		k := modelKey{name, host}
		switch {
		case op < 200:
			at := now + int64(next()%32) - 24
			if op < 20 {
				at = now - int64(next())*2
			}
			gotN, gotE := b.Add(b.Policy(name), host, at, maxretry[name], findtime[name])
			wantN, wantE := m.add(k, at, maxretry[name], findtime[name])
			if gotN != wantN || gotE != wantE {
				t.Fatalf("Add(%s, %v, %d) = %d, %v; want %d, %v", name, host, at, gotN, gotE, wantN, wantE)
			}
		case op < 215:
			now += int64(next() % 40)
		case op < 222:
			gotN, gotL := b.Count(b.Policy(name), host, now, findtime[name])
			if wantN, wantL := m.count(k, now, findtime[name]); gotN != wantN || gotL != wantL {
				t.Fatalf("Count(%s, %v) = %d, %d; want %d, %d", name, host, gotN, gotL, wantN, wantL)
			}
		case op < 226:
			_, want := m.hosts[k]
			m.drop(k)
			if got := b.Forget(b.Policy(name), host); got != want {
				t.Fatalf("Forget(%s, %v) = %v, want %v", name, host, got, want)
			}
		case op < 229:
			want := 0
			for _, n := range names {
				if _, ok := m.hosts[modelKey{n, host}]; ok {
					want++
				}
				m.drop(modelKey{n, host})
			}
			if got := b.ForgetHost(host); got != want {
				t.Fatalf("ForgetHost(%v) = %d, want %d", host, got, want)
			}
		case op < 233:
			want := m.expire(now, find)
			got := 0
			for {
				n := b.Expire(now, 2, find)
				if got += n; n < 2 {
					break
				}
			}
			if got != want {
				t.Fatalf("Expire = %d, want %d", got, want)
			}
		case op < 236:
			b.Drop(name)
			for k := range maps.Clone(m.hosts) {
				if k.policy == name {
					m.drop(k)
				}
			}
		case op < 240: // a reload
			maxretry[name] = 1 + next()%20
			if name != "forever" {
				findtime[name] = time.Duration(next()) * time.Second
			}
		case op < 252:
			syncStore(t, b, store)
		default: // a restart
			syncStore(t, b, store)
			b = restart(t, store, maxHosts)
			b.evicted = m.evicted
			b.settle()
			slices.SortStableFunc(m.order, func(x, y modelKey) int {
				return int(slices.Max(m.hosts[x]) - slices.Max(m.hosts[y]))
			})
			adoptOrder(b, m)
		}
		check(t, b, m)
	}
	syncStore(t, b, store)
	if b2 := restart(t, store, maxHosts); !maps.EqualFunc(contents(t, b2), m.hosts, slices.Equal) {
		t.Fatalf("after the store: %v\nwant %v", contents(t, b2), m.hosts)
	}
}

// adoptOrder takes the order of hosts whose last failures fall into the same second from the Book.
func adoptOrder(b *Book, m *model) {
	var order []modelKey
	for slot := b.all.oldest; slot != 0; slot = b.records.at(slot).link(inAll).newer {
		k := b.records.at(slot).key()
		order = append(order, modelKey{b.policies[k.policy].name, k.host()})
	}
	byNewest := func(keys []modelKey) bool {
		return slices.IsSortedFunc(keys, func(x, y modelKey) int {
			return int(slices.Max(m.hosts[x]) - slices.Max(m.hosts[y]))
		})
	}
	if len(order) == len(m.order) && byNewest(order) {
		m.order = order
	}
}

func syncStore(t testing.TB, b *Book, store map[string][]byte) {
	t.Helper()
	sets := false
	b.Changed(func(key, value []byte) {
		if value == nil {
			if sets {
				t.Fatal("Changed told of a host that is gone after one that is there")
			}
			if _, ok := store[string(key)]; !ok {
				t.Fatalf("Changed removes %q, which the store never had", key)
			}
			delete(store, string(key))
			return
		}
		sets = true
		store[string(key)] = bytes.Clone(value)
	})
	b.Changed(func(key, _ []byte) { t.Fatalf("Changed told of %q twice", key) })
	if len(store) != b.Len() {
		t.Fatalf("the store holds %d hosts, the Book %d", len(store), b.Len())
	}
}

func restart(t testing.TB, store map[string][]byte, maxHosts int) *Book {
	t.Helper()
	b := New(maxHosts)
	for k, v := range store {
		if err := b.Load([]byte(k), v); err != nil {
			t.Fatal(err)
		}
	}
	b.Changed(func(key, _ []byte) { t.Fatalf("Changed tells of %q, which was loaded", key) })
	return b
}

func TestRandomAgainstModel(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		data := make([]byte, 6000)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		script(t, data)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func FuzzBook(f *testing.F) {
	f.Add([]byte{100, 0, 1, 24, 100, 0, 1, 24, 100, 0, 1, 30})
	f.Add([]byte{100, 3, 1, 24, 5, 3, 1, 9, 40, 245, 0, 0, 255, 0, 0, 100, 3, 1, 2})
	f.Fuzz(func(t *testing.T, data []byte) { script(t, data[:min(len(data), 2000)]) })
}

// What may come from the store is never trusted: any bytes load or fail, and what loads comes back the same.
func FuzzLoad(f *testing.F) {
	f.Add([]byte("sshd\x00\xc0\x00\x02\x01\x20"), binary.AppendUvarint(nil, 1_800_000_000))
	f.Add([]byte("sshd\x00\xc0\x00\x02\x01\x18"), []byte{1})
	f.Add([]byte("sshd\x00\xc0\x00\x02\x01\x20"), []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 1})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		b := New(10)
		if b.Load(key, value) != nil {
			if b.Len() != 0 {
				t.Fatal("a failed Load left a host")
			}
			return
		}
		if err := b.Load(key, value); err == nil {
			t.Fatal("loaded twice")
		}
		b.MarkAll()
		n := 0
		b.Changed(func(k, v []byte) {
			n++
			if !bytes.Equal(k, key) {
				t.Fatalf("key %q came back as %q", key, k)
			}
			got, _ := decodeStamps(v)
			want, _ := decodeStamps(value)
			if !slices.Equal(got, want) {
				t.Fatalf("stamps %v came back as %v", want, got)
			}
		})
		if n != 1 {
			t.Fatalf("%d hosts came back", n)
		}
	})
}

// The kept failures, and when they all fit in one window also the verdict, don't depend on the order.
func TestOrderDoesNotMatter(t *testing.T) {
	host := netip.MustParsePrefix("192.0.2.1/32")
	rng := rand.New(rand.NewPCG(7, 7))
	for range 300 {
		maxretry := 2 + rng.IntN(12)
		findtime := time.Duration(rng.IntN(60)) * time.Second
		stamps := make([]int64, maxretry+rng.IntN(20))
		for i := range stamps {
			stamps[i] = 1_700_000_000 + int64(rng.IntN(1+int(findtime/time.Second)))
		}
		var want []int
		for round := range 5 {
			rng.Shuffle(len(stamps), func(i, j int) { stamps[i], stamps[j] = stamps[j], stamps[i] })
			b := New(1)
			var got []int
			for _, at := range stamps {
				n, earned := b.Add(b.Policy("p"), host, at, maxretry, findtime)
				if earned != (n == maxretry) {
					t.Fatalf("count %d of %d: earned %v", n, maxretry, earned)
				}
				got = append(got, n)
			}
			if round == 0 {
				want = got
			} else if !slices.Equal(got, want) {
				t.Fatalf("counts %v in one order, %v in another", want, got)
			}
		}
		// Stamps all over the place, no ban: what is kept is what lies in the window of the last.
		for i := range stamps {
			stamps[i] = 1_700_000_000 + int64(rng.IntN(500))
		}
		b := New(1)
		for _, at := range stamps {
			b.Add(b.Policy("p"), host, at, math.MaxInt, findtime)
		}
		var kept []int64
		for _, at := range stamps {
			if slices.Max(stamps)-at <= int64(findtime/time.Second) {
				kept = append(kept, at)
			}
		}
		slices.Sort(kept)
		if got := contents(t, b)[modelKey{"p", host}]; !slices.Equal(got, kept) {
			t.Fatalf("kept %v, want %v", got, kept)
		}
	}
}
