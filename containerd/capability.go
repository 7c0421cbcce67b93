package containerd

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MissingSysResource reports whether this process, and so whatever it starts,
// lacks CAP_SYS_RESOURCE. Without it runc cannot lower a container's OOM score,
// and Config.RestrictOOM must be set.
func MissingSysResource() bool {
	raw, err := os.ReadFile("/proc/self/status")
	return err == nil && lacksSysResource(string(raw))
}

func lacksSysResource(status string) bool {
	for line := range strings.Lines(status) {
		if text, ok := strings.CutPrefix(line, "CapEff:"); ok {
			caps, err := strconv.ParseUint(strings.TrimSpace(text), 16, 64)
			return err == nil && caps&(1<<unix.CAP_SYS_RESOURCE) == 0
		}
	}
	return false
}

// Advice says what to do about a runtime's error that does not explain
// itself; it is empty when there is nothing to add.
func Advice(err string) string {
	if strings.Contains(err, "can't get final child's PID from pipe: EOF") {
		return "runc was not allowed to lower the OOM score: this host lacks CAP_SYS_RESOURCE; " +
			"set restrict_oom_score_adj = true in containerd's CRI configuration"
	}
	return ""
}
