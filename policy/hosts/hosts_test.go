package hosts

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
)

func TestKeyIsThePrefix(t *testing.T) {
	seen := map[Key]string{}
	for _, text := range []string{"0.0.0.0/0", "0.0.0.0/32", "192.0.2.1/32", "192.0.2.1/24", "192.0.2.0/24", "::/0", "::/128",
		"::192.0.2.1/128", "::ffff:192.0.2.1/128", "::ffff:192.0.2.0/120", "::ffff:0:0/96", "2001:db8::/32", "2001:db8::1/64", "2001:db8::1/128"} {
		p := netip.MustParsePrefix(text)
		for kind := range uint16(3) {
			k := KeyOf(p, kind)
			if k.Host() != p || k.Kind() != kind {
				t.Errorf("%s, kind %d: comes back as %s, kind %d", text, kind, k.Host(), k.Kind())
			}
			if other, ok := seen[k]; ok {
				t.Errorf("%s, kind %d has the key of %s", text, kind, other)
			}
			seen[k] = fmt.Sprintf("%s, kind %d", text, kind)
		}
	}
	if got := KeyOf(netip.Prefix{}, 1).Host(); got != (netip.Prefix{}) {
		t.Errorf("no prefix comes back as %v", got)
	}
	if _, ok := seen[KeyOf(netip.Prefix{}, 0)]; ok {
		t.Error("no prefix has the key of one")
	}
}

// TestModel compares random work with a map.
func TestModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{10, 1000, 20_000} {
		table, model, slots := New[int64](), map[Key]int64{}, map[Key]uint32{}
		for i := range 5 * size {
			var b [16]byte
			b[15], b[14] = byte(rng.IntN(size)), byte(rng.IntN(size)>>8)
			k := KeyOf(netip.PrefixFrom(netip.AddrFrom16(b), 127+rng.IntN(2)), uint16(rng.IntN(2)))
			slot := table.Find(k)
			if _, ok := model[k]; ok != (slot != 0) || slot != slots[k] {
				t.Fatalf("%v is at %d, want %d", k, slot, slots[k])
			}
			switch {
			case slot == 0:
				slot = table.Insert(k)
				if *table.At(slot) != 0 {
					t.Fatalf("a new record holds %d", *table.At(slot))
				}
				*table.At(slot) = int64(i)
				model[k], slots[k] = int64(i), slot
			case rng.IntN(2) == 0:
				table.Remove(slot)
				delete(model, k)
				delete(slots, k)
			}
		}
		if table.Len() != len(model) {
			t.Fatalf("%d records, want %d", table.Len(), len(model))
		}
		found := 0
		for slot := range table.Slots() {
			found++
			if want, ok := model[table.Key(slot)]; !ok || *table.At(slot) != want || table.Find(table.Key(slot)) != slot {
				t.Fatalf("%v holds %d, want %d, %v", table.Key(slot), *table.At(slot), want, ok)
			}
		}
		if found != len(model) {
			t.Fatalf("%d records are yielded, want %d", found, len(model))
		}
	}
}

func TestNoAllocations(t *testing.T) {
	table := New[[6]uint64]()
	host := func(i int) Key {
		return KeyOf(netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 32), 0)
	}
	for i := range 1000 {
		table.Insert(host(i))
	}
	if n := testing.AllocsPerRun(100, func() {
		for i := range 1000 {
			table.Remove(table.Find(host(i)))
			table.Insert(host(i))
		}
	}); n != 0 {
		t.Errorf("%v allocations for records that had room", n)
	}
}

// BenchmarkMemory: go test -run '^$' -bench Memory ./policy/hosts. Of the bytes a host 48 are its value.
func BenchmarkMemory(b *testing.B) {
	const n = 1_000_000
	for b.Loop() {
		before := heap()
		table := New[[6]uint64]()
		for i := range n {
			table.Insert(KeyOf(netip.PrefixFrom(netip.AddrFrom4([4]byte{198, byte(i >> 16), byte(i >> 8), byte(i)}), 32), 0))
		}
		b.ReportMetric(float64(heap()-before)/n, "B/host")
		runtime.KeepAlive(table)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
