// Package arch holds the rules of the house: who may import whom, and what the pure packages must never reach.
package arch

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

type pkg struct {
	ImportPath                             string
	Dir                                    string
	GoFiles, CgoFiles, Imports             []string
	TestGoFiles, TestImports, XTestImports []string
}

const module = "banset"

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json", "./...")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		all = append(all, p)
	}
}

func in(path, tree string) bool { return path == tree || strings.HasPrefix(path, tree+"/") }

// TestOnlyHome holds each dependency to the one package that exists to know it.
func TestOnlyHome(t *testing.T) {
	homes := map[string][]string{
		"github.com/hpcloud/tail":     {"banset/cmd/internal/source/follow"},
		"go.etcd.io/bbolt":            {"banset/cmd/internal/state"},
		"gopkg.in/yaml.v3":            {"banset/policy/config"},
		"github.com/google/nftables":  {"banset/nft", "banset/nft/nfttest"},
		"github.com/spf13/cobra":      {"banset/cmd/banset"},
		"github.com/klauspost":        {"banset/cmd/internal/source/follow", "banset/cmd/banset", "banset/test/bench"},
		"github.com/ulikunitz":        {"banset/cmd/internal/source/follow", "banset/cmd/banset"},
		"github.com/prometheus":       {"banset/cmd/internal/metrics"},
		"net/http":                    {"banset/cmd/internal/metrics", "banset/cmd/internal/hook"},
		"github.com/mdlayher/netlink": {"banset/nft", "banset/cmd/internal/daemon", "banset/cmd/banset", "banset/test/bench"},
	}
	used := map[string]bool{}
	for _, p := range packages(t) {
		for _, imp := range p.Imports {
			for dep, allowed := range homes {
				if !in(imp, dep) {
					continue
				}
				used[dep] = true
				if !slices.Contains(allowed, p.ImportPath) {
					t.Errorf("%s imports %s: only %s may", p.ImportPath, imp, strings.Join(allowed, ", "))
				}
			}
		}
	}
	for dep := range homes {
		if !used[dep] {
			t.Errorf("nobody imports %s: take it out of this list and of go.mod", dep)
		}
	}
}

// TestDirections holds who may know whom among our own packages.
func TestDirections(t *testing.T) {
	for _, p := range packages(t) {
		for _, imp := range p.Imports {
			if !in(imp, module) {
				continue
			}
			switch from := p.ImportPath; {
			case in(from, "banset/policy") && !in(imp, "banset/policy"):
				t.Errorf("%s imports %s: policy knows nothing but policy", from, imp)
			case from == "banset/nft" || from == "banset/deploy":
				t.Errorf("%s imports %s: it knows nothing of ours", from, imp)
			case from == "banset/cmd/internal/mirror" && (in(imp, "banset/cmd/internal/source") || in(imp, "banset/cmd/internal/state")):
				t.Errorf("%s imports %s: a mirror knows the book, not where hits come from or counts are kept", from, imp)
			case in(from, "banset/cmd/internal/source") && (in(imp, "banset/policy") || in(imp, "banset/nft")):
				t.Errorf("%s imports %s: a source hands over lines and knows no policy", from, imp)
			case from == "banset/cmd/internal/metrics" && imp != "banset/cmd/internal/source":
				t.Errorf("%s imports %s: metrics shows what it is handed", from, imp)
			case from == "banset/cmd/internal/hook" && !in(imp, "banset/policy"):
				t.Errorf("%s imports %s: a hook is told of bans and knows nobody who makes them", from, imp)
			case in(from, "banset/cmd/internal/state") && in(imp, module):
				t.Errorf("%s imports %s: the state keeps bytes", from, imp)
			case in(from, "banset/cmd/internal") && imp == "banset/cmd/internal/daemon":
				t.Errorf("%s imports %s: the daemon knows its parts, not the other way round", from, imp)
			}
		}
	}
}

// TestPolicyIsPure keeps the world out of policy: no files, no network, no goroutine, no clock of its own, no log.
func TestPolicyIsPure(t *testing.T) {
	forbidden := []string{"os", "io/ioutil", "net", "net/http", "syscall", "log", "log/slog", "os/exec", "os/signal",
		"path/filepath", "golang.org/x/sys", "sync", "sync/atomic", "context", "math/rand", "math/rand/v2"}
	found := 0
	for _, p := range packages(t) {
		if !in(p.ImportPath, "banset/policy") {
			continue
		}
		found++
		for _, imp := range p.Imports {
			if slices.Contains(forbidden, imp) {
				t.Errorf("%s imports %s: policy is pure", p.ImportPath, imp)
			}
		}
		for _, name := range p.GoFiles {
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					t.Errorf("%s: a goroutine: policy starts none", fset.Position(n.Pos()))
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "After", "Sleep"}, n.Sel.Name) {
						t.Errorf("%s: time.%s: now is an argument in policy", fset.Position(n.Pos()), n.Sel.Name)
					}
				}
				return true
			})
		}
	}
	if found < 6 {
		t.Errorf("only %d packages below policy were looked at", found)
	}
}

// TestNoCgo: the binary is static and cross-compiles.
func TestNoCgo(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.CgoFiles) > 0 || slices.Contains(p.Imports, "C") {
			t.Errorf("%s uses cgo", p.ImportPath)
		}
	}
}

// TestTopLevel holds the fixed top of the tree.
func TestTopLevel(t *testing.T) {
	allowed := []string{".ci", ".git", ".gitignore", "LICENSE", "README.md", "cmd", "deploy", "go.mod", "go.sum", "nft", "policy", "test",
		"banset", "vendor"} // the last two are made by go build and go mod vendor, and ignored by git
	entries, err := os.ReadDir(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(allowed, e.Name()) {
			t.Errorf("%s does not belong at the top of the tree", e.Name())
		}
	}
}
