package blocklist

import (
	"os"
	"testing"
)

func writeGolden(t *testing.T, path, text string) {
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
