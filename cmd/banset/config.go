package main

import (
	"fmt"

	"banset/cmd/internal/configfile"
	"banset/policy/config"
)

// loadConfig reads and checks the configuration for a command that needs all of it. A bad one is an error that names
// the first problem and where to see the rest.
func (a *app) loadConfig() (*config.Config, error) {
	set, err := configfile.Read(a.configPath)
	if err != nil {
		return nil, err
	}
	c, problems := set.LoadUsed()
	if c == nil || problems.Err() != nil {
		return nil, badConfig(problems)
	}
	return c, nil
}

// badConfig is the error for a configuration that can't be used.
func badConfig(problems config.Problems) error {
	serious, first := 0, ""
	for _, p := range problems {
		if p.Warning {
			continue
		}
		if serious++; first == "" {
			first = p.String()
		}
	}
	if serious > 1 {
		return fmt.Errorf("%s (and %s; see banset check)", first, plural(serious-1, "more problem"))
	}
	return fmt.Errorf("%s", first)
}
