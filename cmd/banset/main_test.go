package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// inPrivateRoom starts the running program again, so the test's own banset does what these first arguments say.
const (
	roomCheckArg = "test-room-check" // roomCheck
	listCheckArg = "test-list-check" // listCheck
	roomExecArg  = "test-room-exec"  // the program that follows
)

// TestMain makes this test program banset itself whenever it is started under that name, so that scripts and the
// namespaces of demo run the real Main. Under the name inroom it runs a program in private namespaces.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"banset": func() { os.Exit(bansetOrTest(os.Args[1:])) },
		"inroom": func() {
			status, err := inPrivateRoom(append([]string{roomExecArg}, os.Args[1:]...), os.Stdout, os.Stderr)
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				status = exitCant
			}
			os.Exit(status)
		},
	})
}

func bansetOrTest(args []string) int {
	var err error
	switch {
	case len(args) == 1 && args[0] == roomCheckArg:
		err = roomCheck()
	case len(args) == 1 && args[0] == listCheckArg:
		err = listCheck()
	case len(args) > 1 && args[0] == roomExecArg:
		cmd := exec.Command(args[1], args[2:]...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		err = cmd.Run()
	default:
		return Main(args, os.Stdin, os.Stdout, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "scripts"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE") != "",
		Condition: func(cond string) (bool, error) {
			if cond != "root" {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			return os.Getuid() == 0, nil
		},
		Setup: func(e *testscript.Env) error {
			e.Setenv("TZ", "UTC")
			e.Setenv("TMP", filepath.Join(e.WorkDir, ".tmp"))
			return nil
		},
	})
}
