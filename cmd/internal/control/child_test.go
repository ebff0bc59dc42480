package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Tests of other users and other daemons need other processes: this binary again, which then plays a part.
const partEnv = "CONTROL_TEST_PART"

func TestMain(m *testing.M) {
	switch os.Getenv(partEnv) {
	case "":
		os.Exit(m.Run())
	case "call":
		callAs(os.Args[1], os.Args[2], os.Args[3:])
	case "serve":
		serveUntilEOF(os.Args[1])
	}
}

func part(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), partEnv+"="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

// callAs becomes another user ("uid gid group...", nothing: stays who it is), makes a call for each op and prints what came of it,
// a line each.
func callAs(who, path string, ops []string) {
	var ids []int
	for _, f := range strings.Fields(who) {
		n, err := strconv.Atoi(f)
		if err != nil {
			panic(err)
		}
		ids = append(ids, n)
	}
	if len(ids) > 0 {
		// For all threads, unlike x/sys's.
		err := errors.Join(syscall.Setgroups(ids[2:]), syscall.Setgid(ids[1]), syscall.Setuid(ids[0]))
		if err != nil {
			panic(err)
		}
	}
	for _, op := range ops {
		a, err := Call(context.Background(), path, Request{Op: Op(op)})
		switch {
		case errors.Is(err, fs.ErrPermission):
			fmt.Println("no connection")
		case err != nil:
			fmt.Println(err)
		case a.Denied:
			fmt.Println("denied:", a.Error)
		default:
			text, _ := json.Marshal(a)
			fmt.Println(string(text))
		}
	}
}

// serveUntilEOF is a daemon that knows nothing.
func serveUntilEOF(path string) {
	s, err := Listen(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	fmt.Println("serving")
	if err := s.Serve(ctx, func(context.Context, Cred, Request) Answer { return Answer{Text: "child"} }); err != nil {
		fmt.Println(err)
	}
}
