package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// claimName is the file that makes a folder an agent's own.
const claimName = "claim.json"

// claim stands in the root and the run folder from before anything else is
// made there. It says whose they are and how that agent was started, so that
// no typing error hands one agent's folder, runtime or network to another,
// and cleanup knows what there is to clean without being told.
type claim struct {
	Instance    string `json:"instance"`
	Root        string `json:"root"`
	Run         string `json:"run"`
	CRIEndpoint string `json:"criEndpoint,omitempty"`
	Network     string `json:"network"`
	CgroupRoot  string `json:"cgroupRoot"`
}

func (c *Config) claim() claim {
	network := c.Network
	if network == "" {
		network = "pinnace"
	}
	return claim{
		Instance: c.Instance(), Root: filepath.Clean(c.Root), Run: filepath.Clean(c.Run),
		CRIEndpoint: c.CRIEndpoint, Network: network, CgroupRoot: c.cgroupRoot(),
	}
}

// adopt starts from what a claim says: cleanup's flags need not repeat it.
func (c *Config) adopt(was claim) {
	c.Run, c.CRIEndpoint, c.Network = was.Run, was.CRIEndpoint, was.Network
	c.CgroupRoot = strings.TrimSuffix(was.CgroupRoot, "/"+cgroupPrefix+was.Instance)
}

// own takes both folders for this agent, or says why it cannot; then it has
// left nothing in them.
func (c *Config) own() (release func(), err error) {
	folders := []folder{
		{"--root", c.Root, []string{"images", "registry.json", "seccomp"}},
		{"--run", c.Run, nil},
	}
	for _, f := range folders {
		if err := f.allows(c.claim()); err != nil {
			return nil, err
		}
	}
	var unlocks []func()
	release = func() {
		for _, unlock := range unlocks {
			unlock()
		}
	}
	for _, f := range folders {
		unlock, err := lock(f.dir)
		if err == nil {
			unlocks = append(unlocks, unlock)
			err = f.take(c.claim())
		}
		if err != nil {
			release()
			return nil, err
		}
	}
	return release, nil
}

// folder is one that an agent wants for itself.
type folder struct {
	flag, dir string
	prepared  []string // what an operator may have put there before
}

// allows reports why a folder cannot be this claim's: it is another's, or was
// begun in another way, or holds what is nobody's of ours.
func (f folder) allows(want claim) error {
	switch was, err := readClaim(f.dir); {
	case err == nil && was == want:
		return nil
	case err == nil && was.Instance != want.Instance:
		return fmt.Errorf("%s %s: belongs to the agent of --root %s; give each its own", f.flag, f.dir, was.Root)
	case err == nil:
		return fmt.Errorf("%s %s: was started with %s, now with %s, and may still have pods there: "+
			"start it as before, or run `pinnace cleanup --root %s` first", f.flag, f.dir, was.flags(), want.flags(), was.Root)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if name := e.Name(); name != lockName && name != claimName+".new" && !slices.Contains(f.prepared, name) {
			return fmt.Errorf("%s %s: holds %s, which is not ours; give the agent a folder of its own", f.flag, f.dir, name)
		}
	}
	return nil
}

// take writes the claim, unless somebody was quicker.
func (f folder) take(want claim) error {
	if err := f.allows(want); err != nil {
		return err
	}
	text, err := json.Marshal(want)
	if err != nil {
		return err
	}
	file := filepath.Join(f.dir, claimName)
	if err := os.WriteFile(file+".new", append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// flags are the parts of a claim that a command line may change.
func (c claim) flags() string {
	s := "--run " + c.Run + " --network " + c.Network + " --cgroup-root " + filepath.Dir(c.CgroupRoot)
	if c.CRIEndpoint != "" {
		s += " --cri-endpoint " + c.CRIEndpoint
	}
	return s
}

func readClaim(dir string) (claim, error) {
	var c claim
	text, err := os.ReadFile(filepath.Join(dir, claimName))
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, fmt.Errorf("read %s: %w", filepath.Join(dir, claimName), err)
	}
	return c, nil
}

// claimed finds the claim of this root's agent: in the root, or, when the root
// has been emptied, in the run folder.
func (c *Config) claimed() (claim, error) {
	for _, dir := range []string{c.Root, c.Run} {
		was, err := readClaim(dir)
		if err == nil && was.Instance == c.Instance() {
			return was, nil
		}
		if err == nil {
			return claim{}, fmt.Errorf("%s belongs to the agent of --root %s", dir, was.Root)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return claim{}, err
		}
	}
	return claim{}, fs.ErrNotExist
}

const lockName = "lock"

// lock keeps a second agent out of a folder. The lock goes with the process.
func lock(dir string) (func(), error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return func() { f.Close() }, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("lock %s: another agent, or its cleanup, is at work there", dir)
	}
	return nil, fmt.Errorf("lock %s: %w", dir, err)
}
