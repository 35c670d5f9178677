package conformcwmp

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// BuildAgent builds the agent of this source tree into dir, for tests, and returns the path of the binary. It also looks at
// every source file, which is how `go test` learns that a cached result depends on them.
func BuildAgent(dir string) (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(out)))
	binary := filepath.Join(dir, "twinspan")
	if out, err := exec.Command("go", "build", "-o", binary, "twinspan/cmd/twinspan").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	for _, part := range []string{"bridge", "cmd/twinspan", "configs", "cwmp", "datamodel", "store", "usp", "go.mod"} {
		err := filepath.WalkDir(filepath.Join(root, part), func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && !strings.HasSuffix(path, "_test.go") && !strings.Contains(path, "testdata") {
				_, err = os.Stat(path)
			}
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return binary, nil
}
