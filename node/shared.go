package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ownConflist is the name of our CNI configuration.
const ownConflist = "00-pinnace.conflist"

// shareNetwork joins a runtime that others use too: its network stays as it
// is unless the operator says who owns it.
func (h *house) shareNetwork(ctx context.Context) error {
	if h.cfg.Network == "cni" {
		return nil
	}
	status, err := h.runtime.Status(ctx)
	if err != nil {
		return err
	}
	bin, conf, err := cniFolders(status.Info["config"])
	if err != nil {
		return err
	}
	if foreign := h.foreignCNI(conf); foreign != "" && h.cfg.Network == "" {
		return fmt.Errorf("the runtime already has a pod network (%s): say --network cni to use it, or --network pinnace to put ours before it", foreign)
	}
	if err := h.installHook(bin, conf); err != nil {
		return err
	}
	return h.awaitNetwork(ctx, filepath.Join(conf, ownConflist))
}

// cniFolders reads where the runtime looks for CNI plugins and configuration
// out of its verbose status.
func cniFolders(config string) (bin, conf string, err error) {
	var c struct {
		CNI struct {
			BinDir  string   `json:"binDir"`
			BinDirs []string `json:"binDirs"`
			ConfDir string   `json:"confDir"`
		} `json:"cni"`
	}
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return "", "", fmt.Errorf("read the runtime's configuration: %w", err)
	}
	bin, conf = c.CNI.BinDir, c.CNI.ConfDir
	if bin == "" && len(c.CNI.BinDirs) > 0 {
		bin = c.CNI.BinDirs[0]
	}
	if bin == "" || conf == "" {
		return "", "", errors.New("the runtime does not tell its CNI folders: say --network cni and configure its network yourself")
	}
	return bin, conf, nil
}

// foreignCNI names the first CNI configuration in dir that is not this agent's.
func (h *house) foreignCNI(dir string) string {
	files, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	for _, f := range files {
		file := filepath.Join(dir, f.Name())
		switch filepath.Ext(f.Name()) {
		case ".conf", ".conflist", ".json":
			if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), strconv.Quote(h.socket())) {
				return file
			}
		}
	}
	return ""
}

// socket is where the hook finds this agent.
func (h *house) socket() string { return filepath.Join(h.cfg.Run, "net.sock") }

// awaitNetwork waits until the runtime has loaded our configuration. It may
// have missed a rename; a plain write is always seen.
func (h *house) awaitNetwork(ctx context.Context, file string) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var reason string
	for try := range 50 {
		status, err := h.runtime.Status(ctx)
		if err != nil {
			return err
		}
		if status.NetworkReady && loaded(status.Info["cniconfig"]) {
			return nil
		}
		reason = cmp.Or(status.Reason, "it uses another configuration")
		if try == 10 {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if err := os.WriteFile(file, text, 0o644); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return fmt.Errorf("the runtime has not loaded %s: %s", file, reason)
}

// loaded reports whether the runtime's verbose status names our network. A
// runtime that does not tell is believed.
func loaded(cniConfig string) bool {
	return cniConfig == "" || strings.Contains(cniConfig, `"pinnace"`)
}
