package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// roomCheckArg makes the test's own banset run roomCheck: inPrivateRoom starts the running program again.
const roomCheckArg = "test-room-check"

// TestMain makes this test program banset itself whenever it is started under that name, so that scripts and the
// namespaces of demo run the real Main.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"banset": func() {
			if len(os.Args) > 1 && os.Args[1] == roomCheckArg {
				if err := roomCheck(); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				return
			}
			os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
		},
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "scripts"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE") != "",
		Setup: func(e *testscript.Env) error {
			e.Setenv("TZ", "UTC")
			e.Setenv("TMP", filepath.Join(e.WorkDir, ".tmp"))
			return nil
		},
	})
}
