package state

import (
	"errors"
	"path/filepath"
)

// Free returns ErrInUse, as Open does, when another process has the state at path, and nil otherwise. It looks at the
// lock alone, however large the file is.
func Free(path string) error {
	if p, err := filepath.EvalSymlinks(path); err == nil {
		path = p
	}
	f, err := openLocked(path, true)
	if err == nil {
		unlockClose(f)
	} else if errors.Is(err, ErrInUse) {
		return advise("open state", path, err)
	}
	return nil
}
