package agentproc

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// binEnv names a folder that has the binaries already.
const binEnv = "PINNACE_TEST_BIN"

// Build makes the binaries in dir, unless the environment names a folder that
// has them, and leaves that name to child processes.
func Build(dir string) error {
	if os.Getenv(binEnv) != "" {
		return nil
	}
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "pinnace").Output()
	if err != nil {
		return fmt.Errorf("find the module's folder: %w", err)
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir+"/", "./cmd/...")
	cmd.Dir = strings.TrimSpace(string(root))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the binaries: %w: %s", err, out)
	}
	return os.Setenv(binEnv, dir)
}

func binary(name string) string { return filepath.Join(os.Getenv(binEnv), name) }
