package control

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Every operation, asked for by several users over a real socket. Only root can become others; everybody is himself.
func TestRights(t *testing.T) {
	path := socketAt(t)
	serve(t, path, echo)
	const (
		stranger = "65534 65534"
		outside  = "denied: permission denied: you must be root, or in the group of the socket"
	)
	tests := []struct {
		who         string // uid gid groups...
		mode        os.FileMode
		look, touch string // the answer to operations that read, and to the others; %s is the operation
	}{
		{"", 0o660, `{"text":"%s"}`, `{"text":"%s"}`}, // who the daemon is
		{"0 0", 0o660, `{"text":"%s"}`, `{"text":"%s"}`},
		{"0 65534", 0o660, `{"text":"%s"}`, `{"text":"%s"}`},
		{"65534 4711", 0o660, `{"text":"%s"}`, "denied: permission denied: only root may %s"},
		{"65534 65534 1 2 4711", 0o660, `{"text":"%s"}`, "denied: permission denied: only root may %s"},
		{stranger, 0o660, "no connection", "no connection"},
		{"65534 0 1", 0o660, "no connection", "no connection"},
		{stranger, 0o666, outside, outside},
	}
	if os.Getuid() != 0 {
		tests = tests[:1]
	} else if err := os.Lchown(path, -1, 4711); err != nil { // as an administrator may
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run("as "+strings.ReplaceAll(tt.who, " ", ","), func(t *testing.T) {
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			args := []string{tt.who, path}
			var want []string
			for op, right := range rights {
				args = append(args, string(op))
				w := tt.look
				if right == owner {
					w = tt.touch
				}
				want = append(want, strings.ReplaceAll(w, "%s", string(op)))
			}
			out, err := part("call", args...).Output()
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, strings.Split(strings.TrimSpace(string(out)), "\n")); d != "" {
				t.Errorf("answers to %v (-want +got):\n%s", args[2:], d)
			}
		})
	}
}

func TestAllow(t *testing.T) {
	self := uint32(os.Geteuid())
	const group = 4711
	for _, tt := range []struct {
		c           Cred
		groups      []uint32
		look, touch bool
	}{
		{Cred{UID: 0, GID: 1}, nil, true, true},
		{Cred{UID: self, GID: 1}, nil, true, true},
		{Cred{UID: self + 1, GID: group}, nil, true, false},
		{Cred{UID: self + 1, GID: 1}, []uint32{2, group}, true, false},
		{Cred{UID: self + 1, GID: 1}, []uint32{2, 3}, false, false},
		{Cred{UID: self + 1, GID: 0}, nil, false, false},
	} {
		for op, right := range rights {
			want := tt.look
			if right == owner {
				want = tt.touch
			}
			err := allow(tt.c, tt.groups, group, op)
			if (err == nil) != want || err != nil && !errors.Is(err, errDenied) {
				t.Errorf("%+v in %v may %s: %v", tt.c, tt.groups, op, err)
			}
		}
	}
}

// Strangers that the socket's mode lets in can't keep the owner out, however many.
func TestOthersHaveTheirPlaces(t *testing.T) {
	s := &Server{}
	other := Cred{UID: uint32(os.Geteuid()) + 1}
	var places []*int
	for {
		n := s.place(other)
		if n == nil {
			break
		}
		places = append(places, n)
	}
	if len(places) != maxOthers {
		t.Errorf("%d places", len(places))
	}
	if s.place(Cred{UID: 0}) == nil {
		t.Error("root finds no place")
	}
	*places[0]--
	if s.place(other) == nil {
		t.Error("a place that was left is not taken again")
	}
}
