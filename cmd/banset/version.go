package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// A version is what the program knows of its own making.
type version struct {
	Version  string `json:"version"`            // of the package or module; "(devel)" for a build from a work tree
	Revision string `json:"revision,omitempty"` // of the sources
	Time     string `json:"time,omitempty"`     // of that revision, RFC 3339
	Modified bool   `json:"modified,omitempty"` // the sources were not as in that revision
	Go       string `json:"go"`
	Target   string `json:"target"`
}

// release is the version of a package; the build of the package sets it.
var release string

// readVersion reads what the Go tool wrote into the program.
func readVersion() version {
	v := version{Version: "(unknown)"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Version, v.Go = info.Main.Version, info.GoVersion
	if release != "" {
		v.Version = release
	}
	if v.Version == "" {
		v.Version = "(devel)"
	}
	set := map[string]string{}
	for _, s := range info.Settings {
		set[s.Key] = s.Value
	}
	v.Revision, v.Time, v.Modified = set["vcs.revision"], set["vcs.time"], set["vcs.modified"] == "true"
	v.Target = set["GOOS"] + "/" + set["GOARCH"]
	return v
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "say which banset this is",
		Example: `  $ banset version
  banset v1.0.0, revision 2c4f9d0e31ab, go1.26.0 linux/amd64`,
		Args: atMost(0),
		RunE: func(*cobra.Command, []string) error {
			v := readVersion()
			if a.json {
				return a.printJSON(v)
			}
			text := "banset " + v.Version
			if v.Revision != "" {
				text += ", revision " + v.Revision[:min(12, len(v.Revision))]
				if v.Modified {
					text += " with changes"
				}
			}
			_, err := fmt.Fprintf(a.stdout, "%s, %s %s\n", text, v.Go, v.Target)
			return err
		},
	}
}
