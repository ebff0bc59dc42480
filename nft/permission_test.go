package nft

import (
	"context"
	"errors"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"banset/nft/nfttest"

	"golang.org/x/sys/unix"
)

// withCapabilities runs f in a thread that has these capabilities and no other, and as another user than root where
// that can be had.
func withCapabilities(t *testing.T, caps uint32, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with this goroutine
		err := func() error {
			if !nfttest.InUserNamespace() {
				if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
					return err
				}
				if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
					return errno
				}
			}
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			data := [2]unix.CapUserData{{Effective: caps, Permitted: caps}}
			return unix.Capset(&header, &data[0])
		}()
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestWithoutCapability(t *testing.T) {
	nfttest.Clean(t)
	withCapabilities(t, 0, func() {
		k := another(t)
		a := elem("198.51.100.7", 0)
		for name, err := range map[string]error{
			"Apply":   k.Apply(ctx, []Change{{Element: a}}),
			"Replace": k.Replace(ctx, slices.Values([]Element{a})),
			"Remove":  k.Remove(ctx),
			"Dump":    k.Dump(ctx, Ban4, nil),
			"Ensure":  func() error { _, err := k.Ensure(ctx); return err }(),
			"Check":   func() error { _, err := k.Check(ctx); return err }(),
			"Get":     func() error { _, _, err := k.Get(ctx, Ban4, a.First); return err }(),
			"Count":   func() error { _, err := k.Count(ctx, Ban4); return err }(),
			"Dropped": func() error { _, _, err := k.Dropped(ctx); return err }(),
			"Watch":   k.Watch(ctx, nil, nil),
		} {
			if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// CAP_NET_ADMIN alone is enough for everything.
func TestWithOneCapability(t *testing.T) {
	nfttest.Clean(t)
	withCapabilities(t, 1<<unix.CAP_NET_ADMIN, func() {
		k := another(t)
		for range 2 {
			if _, err := k.Ensure(ctx); err != nil {
				t.Error(err)
			}
		}
		if err := k.Apply(ctx, many(20_000, host4)); err != nil {
			t.Error(err)
		}
		if err := k.Apply(ctx, []Change{add("10.0.0.0/8", time.Hour), del("10.0.0.7")}); err != nil {
			t.Error(err)
		}
		for s, want := range map[Set]int{Ban4: 19_999, Net4: 1, Net6: 0} {
			if n, err := k.Count(ctx, s); err != nil || n != want {
				t.Errorf("%v: %d elements, %v", s, n, err)
			}
		}
		if _, found, err := k.Get(ctx, Ban4, host4(1).First); err != nil || !found {
			t.Errorf("Get: %v, %v", found, err)
		}
		if err := k.Replace(ctx, slices.Values([]Element{elem("198.51.100.7", 0)})); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(ctx)
		if err := k.Watch(ctx, cancel, nil); err != nil {
			t.Error(err)
		}
		if err := k.Remove(context.Background()); err != nil {
			t.Error(err)
		}
	})
}
