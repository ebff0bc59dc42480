package blocklist

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"banset/policy"
)

// TestRewriterIsEdit: in pieces and without the text, the same comes out as with Edit.
func TestRewriterIsEdit(t *testing.T) {
	lines := strings.SplitAfter(corpus, "\n")
	var known []netip.Prefix
	for e := range Parse([]byte(corpus), Options{}).Entries() {
		known = append(known, e.Ban.Host)
	}
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 3))
		var text []byte
		for range rng.IntN(12) {
			text = append(text, lines[rng.IntN(len(lines))]...)
		}
		if rng.IntN(3) == 0 {
			text = bytes.TrimSuffix(text, []byte("\n"))
		}
		host := func() netip.Prefix {
			if rng.IntN(4) == 0 {
				return netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(rng.IntN(9))}), 32)
			}
			return known[rng.IntN(len(known))]
		}
		var set []policy.Ban
		var remove []netip.Prefix
		for range rng.IntN(4) {
			set = append(set, policy.Ban{Host: host(), At: 1795457565, Until: 1795457565 + int64(rng.IntN(9)), Policy: "sshd", Failures: 5})
		}
		for range rng.IntN(4) {
			remove = append(remove, host())
		}
		f := Parse(bytes.Clone(text), Options{})
		before := f.Len()
		added, appended := f.Edit(set, remove)
		want := f.Bytes()

		r := NewRewriter(set, remove, Options{})
		piece := func(look func([]byte)) {
			for rest := bytes.Clone(text); len(rest) > 0; {
				n := bytes.IndexByte(rest, '\n') + 1
				if more := bytes.IndexByte(rest[n:], '\n') + 1; more > 0 && rng.IntN(2) == 0 {
					n += more
				}
				if n == 0 || n > len(rest) {
					n = len(rest)
				}
				look(rest[:n])
				rest = rest[n:]
			}
		}
		piece(r.Look)
		change, more := r.Edit()
		if change != (!appended || len(added) > 0) || more != f.Len()-before {
			t.Fatalf("%q: changes: %v, hosts: %+d; want %v, %+d", text, change, more, !appended || len(added) > 0, f.Len()-before)
		}
		var got []byte
		piece(func(p []byte) { got = r.Rewrite(got, p) })
		if got = r.Rest(got); !bytes.Equal(got, want) {
			t.Fatalf("set %v, remove %v in\n%q\nbecomes\n%q\nwant\n%q", set, remove, text, got, want)
		}
	}
}

// TestRewriterKeepsLittle: of a file of many lines only those are in memory that it is about.
func TestRewriterKeepsLittle(t *testing.T) {
	var text []byte
	for i := range 1000 {
		text = AppendLine(text, policy.Ban{Host: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 32),
			At: 1795457565, Until: 1826993565, Policy: "sshd", Failures: 5})
	}
	r := NewRewriter(nil, []netip.Prefix{netip.MustParsePrefix("198.18.0.7/32")}, Options{})
	r.Look(text)
	r.Edit()
	out := make([]byte, 0, len(text))
	if n := testing.AllocsPerRun(10, func() { r.next = 0; out = r.Rewrite(out[:0], text) }); n != 0 || len(r.text) > 100 {
		t.Errorf("%v allocations, %d bytes kept", n, len(r.text))
	}
}
