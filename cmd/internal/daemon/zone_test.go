package daemon

import (
	"context"
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banset/policy/config"
)

// tzif is a zone file of one offset, in seconds, as tzfile(5) has it.
func tzif(name string, offset int32) []byte {
	block := func(version byte) []byte {
		b := append([]byte("TZif"), version)
		b = append(b, make([]byte, 15)...)
		for _, n := range []uint32{0, 0, 0, 0, 1, uint32(len(name)) + 1} {
			b = binary.BigEndian.AppendUint32(b, n)
		}
		b = binary.BigEndian.AppendUint32(b, uint32(offset))
		b = append(b, 0, 0)
		return append(append(b, name...), 0)
	}
	return append(block('2'), append(block('2'), "\n\n"...)...)
}

func TestSystemZone(t *testing.T) {
	unsetTZ(t)
	path := filepath.Join(t.TempDir(), "localtime")
	if z, err := systemZone(path); err != nil || z.Location != time.UTC {
		t.Errorf("no file: %v, %v", z.Location, err)
	}
	write := func(data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(tzif("FIVE", 5*3600))
	z, err := systemZone(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := time.Date(2026, 11, 23, 18, 0, 0, 0, z.Location).UTC().Hour(); got != 13 {
		t.Errorf("18:00 there is %d:00 UTC", got)
	}
	write([]byte("no zone at all"))
	if z, err := systemZone(path); err == nil || z.Location != time.Local {
		t.Errorf("a broken file: %v, %v", z.Location, err)
	}
	t.Setenv("TZ", "")
	if z, err := systemZone(path); err != nil || z.Location != time.Local {
		t.Errorf("with TZ in the environment: %v, %v", z.Location, err)
	}
}

func unsetTZ(t *testing.T) {
	t.Helper()
	t.Setenv("TZ", "") // so that it is put back
	if err := os.Unsetenv("TZ"); err != nil {
		t.Fatal(err)
	}
}

// A policy's own zone stays; the configuration itself is nobody's to change.
func TestInZone(t *testing.T) {
	there := time.FixedZone("FIVE", 5*3600)
	policies := []*config.Policy{{FilterName: "local"}, {FilterName: "own", Zone: time.UTC}}
	got := inZone(policies, zone{there, nil})
	if got[0].Zone != there || got[1].Zone != time.UTC || policies[0].Zone != nil {
		t.Errorf("%v, %v; before: %v", got[0].Zone, got[1].Zone, policies[0].Zone)
	}
}

// The task hears of a link that is replaced, in either way, and of nothing else in the directory.
func TestZoneWatch(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "localtime")
	changed := make(chan struct{}, 100)
	w := newZoneWatch(path, slog.New(slog.DiscardHandler), func(context.Context) { changed <- struct{}{} })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	<-changed // the first look, behind which nothing is lost
	link := func(target string) {
		t.Helper()
		tmp := path + ".new"
		if err := os.Symlink(target, tmp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, path); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "hosts"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	link("/nonexistent/a")
	<-changed
	link("/nonexistent/b")
	<-changed
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	<-changed
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := len(changed); n != 0 {
		t.Errorf("%d times too often", n)
	}
}

// However an event is cut, reading it ends; lost events count as one of the name.
func TestNames(t *testing.T) {
	event := func(mask, size uint32, name string) []byte {
		b := make([]byte, 16, 16+size)
		binary.NativeEndian.PutUint32(b[4:], mask)
		binary.NativeEndian.PutUint32(b[12:], size)
		return append(b, (name + strings.Repeat("\x00", int(size)-len(name)))...)
	}
	for _, tt := range []struct {
		name   string
		events []byte
		want   bool
	}{
		{"none", nil, false},
		{"another", event(0x100, 16, "hosts"), false},
		{"a longer name", event(0x100, 16, "localtime.new"), false},
		{"it", event(0x100, 16, "localtime"), true},
		{"behind another", append(event(0x100, 16, "hosts"), event(0x80, 32, "localtime")...), true},
		{"lost", event(0x4000, 0, ""), true},
		{"cut", event(0x100, 16, "hosts")[:20], true},
		{"cut in the head", event(0x100, 16, "hosts")[:10], false},
	} {
		if got := names(tt.events, "localtime"); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
