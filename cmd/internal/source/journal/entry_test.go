package journal

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"banset/cmd/internal/source"
)

// FuzzExport writes two entries in the export format and reads them back, in pieces of one byte too; and it reads what
// is no export format, which must end.
func FuzzExport(f *testing.F) {
	f.Add("text", "sshd", uint8(0))
	f.Add("two\nlines", "a=b", uint8(3))
	f.Add(strings.Repeat("x", 3*source.MaxLine), "\x00\xff", uint8(1))
	f.Add("", strings.Repeat("i", 300), uint8(2))
	f.Fuzz(func(t *testing.T, message, ident string, how uint8) {
		var b bytes.Buffer
		field := func(name, value string) {
			if how&1 == 0 && !strings.Contains(value, "\n") {
				b.WriteString(name + "=" + value + "\n")
				return
			}
			b.WriteString(name + "\n")
			b.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(value))))
			b.WriteString(value + "\n")
		}
		for range 2 {
			field("__CURSOR", "s=1;i=2")
			field("OTHER", ident+message)
			field("MESSAGE", message)
			field("MESSAGE", "another")
			field("SYSLOG_IDENTIFIER", ident)
			b.WriteString("\n")
		}
		whole := bytes.Clone(b.Bytes())
		var in io.Reader = &b
		if how&2 != 0 && len(whole) < 1<<12 {
			in = iotest.OneByteReader(in)
		}
		r := newExportReader(in)
		var e entry
		for range 2 {
			if err := r.read(&e); err != nil {
				t.Fatal(err)
			}
			if got, want := string(e.message), message[:min(len(message), source.MaxLine)]; got != want || !e.complete {
				t.Fatalf("message %.99q, want %.99q", got, want)
			}
			if got, want := string(e.ident), ident[:min(len(ident), keep)]; got != want {
				t.Fatalf("identifier %.99q, want %.99q", got, want)
			}
			if e.cut != (len(message) > source.MaxLine) || string(e.cursor) != "s=1;i=2" {
				t.Fatalf("cut %v, cursor %q", e.cut, e.cursor)
			}
			line, _ := e.appendLine(nil)
			if n := bytes.IndexByte(line, '\n'); n != len(line)-1 || n > source.MaxLine || bytes.ContainsAny(line[:n], "\r\x00") {
				t.Fatalf("no line: %.99q", line)
			}
		}
		if err := r.read(&e); err != io.EOF {
			t.Fatalf("at the end: %v", err)
		}
		// Broken off anywhere, it ends.
		if cut := int(how) * len(whole) / 256; cut < len(whole) {
			r = newExportReader(bytes.NewReader(whole[cut:]))
			for range 100 {
				if err := r.read(&e); err != nil {
					break
				}
			}
		}
	})
}

func TestPlaceBefore(t *testing.T) {
	t.Parallel()
	const at = "s=a;i=10;b=b;m=100;t=1000;x=7"
	for _, test := range []struct {
		name, entry string
		past, want  bool
	}{
		{"itself", at, false, true},
		{"the one before", "s=a;i=f;b=b;m=100;t=1000;x=6", false, true},
		{"the next", "s=a;i=11;b=b;m=100;t=1000;x=8", false, false},
		{"the next, its clock set back", "s=a;i=11;b=c;m=1;t=500;x=8", false, false},
		{"moved to /var", "s=z;i=3;b=b;m=100;t=1000;x=7", false, true},
		{"moved, before", "s=z;i=2;b=b;m=99;t=999;x=6", false, true},
		{"moved, in the same microsecond, before", "s=z;i=2;b=b;m=100;t=1000;x=6", false, true},
		{"moved, in the same microsecond, after", "s=z;i=4;b=b;m=100;t=1000;x=8", true, false},
		{"moved, after", "s=z;i=4;b=b;m=101;t=1001;x=8", false, false},
		{"of another boot, later", "s=z;i=4;b=c;m=1;t=1001;x=8", false, false},
		{"of another boot, earlier", "s=z;i=4;b=c;m=1;t=1000;x=8", false, true},
	} {
		p := place{cursor: at, id: parseCursor(at)}
		if got := p.before(parseCursor(test.entry), test.past); got != test.want {
			t.Errorf("%s: before is %v", test.name, got)
		}
	}
	if (place{}).before(parseCursor(at), false) {
		t.Error("nothing is before everything")
	}
}
