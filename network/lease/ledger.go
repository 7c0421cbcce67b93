package lease

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

var sandboxPattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// Ledger keeps each lease in a small file of its own. Nothing is synced to
// disk: a lease is worth nothing after a reboot, and each file says which
// boot wrote it.
type Ledger struct {
	dir  string
	boot string
}

// entry is a lease as it lies in its file.
type entry struct {
	Boot      string        `json:"boot"`
	Addresses []netip.Addr  `json:"addresses"`
	Since     time.Duration `json:"since"`
	Released  time.Duration `json:"released,omitempty"`
	Netns     string        `json:"netns,omitempty"`
}

// NewLedger keeps leases in dir, in the name of a boot.
func NewLedger(dir, boot string) Ledger { return Ledger{dir: dir, boot: boot} }

// ValidID reports whether a sandbox id is one by CNI's rule, and so also a
// safe file name.
func ValidID(sandbox string) bool { return sandboxPattern.MatchString(sandbox) }

// Save writes a lease so that a reader sees the old file or the new one.
func (g Ledger) Save(l Lease) error {
	raw, err := json.Marshal(entry{g.boot, l.Addresses, l.Since, l.Released, l.Netns})
	if err != nil {
		return fmt.Errorf("record lease of sandbox %s: %w", l.Sandbox, err)
	}
	if err := os.MkdirAll(g.dir, 0o700); err != nil {
		return fmt.Errorf("record lease of sandbox %s: %w", l.Sandbox, err)
	}
	if err := Replace(filepath.Join(g.dir, l.Sandbox), raw); err != nil {
		return fmt.Errorf("record lease of sandbox %s: %w", l.Sandbox, err)
	}
	return nil
}

// Drop forgets a sandbox; the absent is forgotten already.
func (g Ledger) Drop(sandbox string) error {
	if err := os.Remove(filepath.Join(g.dir, sandbox)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget lease of sandbox %s: %w", sandbox, err)
	}
	return nil
}

// Load reads every lease of this boot and removes all other files: those of
// an earlier boot, half-written ones, and what cannot be read as a lease.
func (g Ledger) Load(logger *slog.Logger) ([]Lease, error) {
	files, err := os.ReadDir(g.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read leases: %w", err)
	}
	var leases []Lease
	for _, f := range files {
		path := filepath.Join(g.dir, f.Name())
		l, err := g.read(path)
		if err == nil {
			leases = append(leases, l)
			continue
		}
		logger.Info("dropped lease", "file", path, "reason", err)
		if err := os.RemoveAll(path); err != nil {
			return nil, fmt.Errorf("drop lease: %w", err)
		}
	}
	return leases, nil
}

func (g Ledger) read(path string) (Lease, error) {
	name := filepath.Base(path)
	if !sandboxPattern.MatchString(name) {
		return Lease{}, errors.New("not named for a sandbox")
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return Lease{}, err
	}
	return g.parse(name, raw)
}

func (g Ledger) parse(sandbox string, raw []byte) (Lease, error) {
	var e entry
	if err := json.Unmarshal(raw, &e); err != nil {
		return Lease{}, err
	}
	if e.Boot != g.boot {
		return Lease{}, errors.New("written before the last boot")
	}
	for _, a := range e.Addresses {
		if !a.IsValid() {
			return Lease{}, errors.New("holds an empty address")
		}
	}
	if len(e.Addresses) == 0 || e.Since < 0 || e.Released < 0 {
		return Lease{}, errors.New("not a lease")
	}
	return Lease{sandbox, e.Addresses, e.Since, e.Released, e.Netns}, nil
}

// Replace puts data at path in one step, for root to read. The temporary file starts with a
// dot, which no sandbox id does.
func Replace(path string, data []byte) error {
	tmp := filepath.Join(filepath.Dir(path), ".new-"+filepath.Base(path))
	err := os.WriteFile(tmp, data, 0o600)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		return nil
	}
	if gone := os.Remove(tmp); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		return errors.Join(err, gone)
	}
	return err
}
