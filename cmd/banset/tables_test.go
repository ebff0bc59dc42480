package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"banset/cmd/internal/control"
)

// TestTables holds what is printed of an answer. Each file of testdata/tables has an answer.json, args, and what comes
// of it; UPDATE=1 writes the last anew. The time is 2026-11-23 18:12:45Z.
func TestTables(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "tables", "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var answer control.Answer
			var args []string
			want := -1
			for i, f := range ar.Files {
				switch f.Name {
				case "answer.json":
					d := json.NewDecoder(bytes.NewReader(f.Data))
					d.DisallowUnknownFields()
					if err := d.Decode(&answer); err != nil {
						t.Fatal(err)
					}
				case "args":
					args = strings.Fields(string(f.Data))
				case "want":
					want = i
				}
			}
			got := show(t, args, answer)
			if os.Getenv("UPDATE") != "" {
				if want < 0 {
					want = len(ar.Files)
					ar.Files = append(ar.Files, txtar.File{Name: "want"})
				}
				ar.Files[want].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(ar), 0o666); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want < 0 {
				t.Fatal("the file has no want")
			}
			if d := cmp.Diff(string(ar.Files[want].Data), got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

// show prints an answer the way the command that args name does.
func show(t *testing.T, args []string, answer control.Answer) string {
	now := time.Date(2026, 11, 23, 18, 12, 45, 0, time.UTC)
	var out bytes.Buffer
	a := &app{stdout: &out, stderr: &out, now: func() time.Time { return now }}
	var err error
	switch args[0] {
	case "list":
		var hosts []netip.Prefix
		if hosts, err = parseHosts(args[1:]); err != nil {
			t.Fatal(err)
		}
		err = a.printList(answer.Bans, hosts, "")
	case "list-policy":
		err = a.printList(answer.Bans, nil, args[1])
	case "list-json":
		a.json = true
		err = a.printList(answer.Bans, nil, "")
	case "status":
		err = writeStatus(&out, answer.Status, now)
	case "why":
		for _, w := range answer.Whys {
			if err := writeWhy(&out, w, now); err != nil {
				t.Fatal(err)
			}
		}
	case "ban":
		err = a.printChanges(answer.Changes, false)
	case "unban":
		err = a.printChanges(answer.Changes, true)
	default:
		t.Fatalf("args: %q", args)
	}
	a.report(err)
	return out.String() + "status " + string(rune('0'+status(err))) + "\n"
}
