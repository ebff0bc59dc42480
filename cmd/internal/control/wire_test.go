package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// An answer is one line, and exactly what encoding/json takes for an Answer: other programs may read it.
func TestAnswerOnTheWire(t *testing.T) {
	ban := Ban{Host: netip.MustParsePrefix("192.0.2.1/32"), At: time.Unix(1e9, 0).UTC(), Reason: "by hand: <x>\n"}
	for _, a := range []Answer{
		{},
		{Error: "no", Denied: true},
		{Bans: []Ban{ban}},
		{Bans: []Ban{ban, ban}, Text: "two"},
		{Status: &Status{PID: 1, Kernel: map[string]int{"ban4": 2}, Started: time.Unix(1, 0).UTC()}},
		{Whys: []Why{{Host: ban.Host, Bans: []Ban{ban}}}, Changes: []Change{{Host: ban.Host, Ban: &ban}}},
	} {
		var b bytes.Buffer
		if err := writeAnswer(&b, a); err != nil {
			t.Fatal(err)
		}
		if n := bytes.IndexByte(b.Bytes(), '\n'); n != b.Len()-1 {
			t.Errorf("the line ends at %d of %d bytes", n, b.Len())
		}
		var std Answer
		if err := json.Unmarshal(b.Bytes(), &std); err != nil {
			t.Fatalf("%v in %s", err, b.Bytes())
		}
		if d := cmp.Diff(a, std, comparePrefix); d != "" {
			t.Errorf("encoding/json reads (-want +got):\n%s", d)
		}
		ours, err := readAnswer(&b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(a, ours, comparePrefix); d != "" {
			t.Errorf("readAnswer reads (-want +got):\n%s", d)
		}
	}
}

// A newer daemon may say more.
func TestAnswerWithMore(t *testing.T) {
	a, err := readAnswer(strings.NewReader(`{"new":[{"x":1}], "text":"t", "bans":[{"host":"192.0.2.1/32","new":true}]}`))
	if err != nil || a.Text != "t" || len(a.Bans) != 1 {
		t.Errorf("got %+v, %v", a, err)
	}
}

// readAnswer takes what encoding/json takes, and finds the same in it.
func FuzzReadAnswer(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"bans":[]}`, `{"bans":[{"host":"192.0.2.1/32"}],"text":"x"}`, `{"bans":[{"host":"192.0.2.1/32"}`, `[]`, `null`,
		`{"text":1}`, `{"bans":{}}`, `{"a":"b","a":{}}`, "{\"\x00\":1}", `{"bans":null}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, err := readAnswer(bytes.NewReader(b))
		if err != nil {
			return
		}
		var std Answer
		dec := json.NewDecoder(bytes.NewReader(b))
		if err := dec.Decode(&std); err != nil {
			t.Fatalf("encoding/json does not take it: %v", err)
		}
		if bytes.Count(b, []byte("ans")) > 1 || bytes.ContainsAny(b, "BANS\\ſ") {
			return // names twice, or in capitals, which encoding/json takes for the same
		}
		if d := cmp.Diff(std, ours, comparePrefix, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("-json +ours:\n%s", d)
		}
	})
}

// A request that is taken is one that the handlers may rely on.
func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{
		`{"op":"status"}`, `{"op":"ban","hosts":["192.0.2.1/32","2001:db8::/64"],"for":-1,"reason":"x"}`,
		`{"op":"unban","all":true}`, `{"op":"why","hosts":[null]}`, `{"op":"ban","hosts":[""]}`, `{}`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		req, err := parseRequest(b)
		if err != nil {
			return
		}
		if _, ok := rights[req.Op]; !ok {
			t.Errorf("operation %q", req.Op)
		}
		for _, h := range req.Hosts {
			if !h.IsValid() || h.Addr().Zone() != "" {
				t.Errorf("host %v", h)
			}
		}
		again, err := json.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		same, err := parseRequest(again)
		if d := cmp.Diff(req, same, comparePrefix, cmpopts.EquateEmpty()); err != nil || d != "" {
			t.Errorf("written and read again (%v):\n%s", err, d)
		}
	})
}

func manyBans(n int) []Ban {
	bans := make([]Ban, n)
	for i := range bans {
		bans[i] = Ban{
			Host:   netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 32),
			At:     time.Unix(1e9+int64(i), 0),
			Until:  time.Unix(2e9+int64(i), 0),
			Policy: "exim2-repeater", Failures: 10,
			Reason: fmt.Sprintf("exim2-repeater: %d failures", i%100),
		}
	}
	return bans
}

func BenchmarkWriteMillionBans(b *testing.B) {
	a := Answer{Bans: manyBans(1_000_000)}
	for b.Loop() {
		if err := writeAnswer(io.Discard, a); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadMillionBans(b *testing.B) {
	var buf bytes.Buffer
	if err := writeAnswer(&buf, Answer{Bans: manyBans(1_000_000)}); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(buf.Len()))
	for b.Loop() {
		if _, err := readAnswer(bytes.NewReader(buf.Bytes())); err != nil {
			b.Fatal(err)
		}
	}
}

// TestEach: bans that are given one by one read like those of a slice, and an answer that broke off is none.
func TestEach(t *testing.T) {
	bans := manyBans(3)
	for n := range len(bans) + 1 {
		var slice, each bytes.Buffer
		a := Answer{Text: "x", Bans: bans[:n]}
		if err := writeAnswer(&slice, a); err != nil {
			t.Fatal(err)
		}
		a.Bans, a.Each = nil, func(yield func(Ban) error) error {
			for _, b := range bans[:n] {
				if err := yield(b); err != nil {
					return err
				}
			}
			return nil
		}
		if err := writeAnswer(&each, a); err != nil {
			t.Fatal(err)
		}
		if slice.String() != each.String() {
			t.Errorf("%d bans: %q, want %q", n, each.String(), slice.String())
		}
	}
	var broken bytes.Buffer
	stop := errors.New("stop")
	if err := writeAnswer(&broken, Answer{Each: func(yield func(Ban) error) error { return errors.Join(yield(bans[0]), stop) }}); !errors.Is(err, stop) {
		t.Errorf("error %v, want that of Each", err)
	}
	if _, err := readAnswer(&broken); err == nil {
		t.Error("an answer that broke off was read")
	}
}
