package network

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"pinnace/network/lease"
	"pinnace/network/rule"
)

// Config says whose network this is and where it lives.
type Config struct {
	// Instance marks everything of ours in the kernel: one to eight small
	// letters and digits, the first a letter.
	Instance string
	// RunDir holds leases/ and net.sock; it may be lost on reboot.
	RunDir string
	// Prefixes are the node's pod prefixes, one per family at most. The first
	// address of each is the node's own, held on lo.
	Prefixes []netip.Prefix
	// Cluster are further prefixes whose members see a pod's own address: the
	// other nodes' pods. Traffic inside Prefixes is never masqueraded.
	Cluster []netip.Prefix
	Logger  *slog.Logger
}

// What lies below RunDir.
const (
	socketName = "net.sock" // the hook's door
	leaseDir   = "leases"
	prefixFile = "prefixes.json" // see rememberPrefixes
)

// socketPath returns the path of the hook's socket.
func (c Config) socketPath() string { return filepath.Join(c.RunDir, socketName) }

// prefix returns the pod prefix of a family.
func (c Config) prefix(v4 bool) (netip.Prefix, bool) {
	for _, p := range c.Prefixes {
		if p.Addr().Is4() == v4 {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// validate returns everything that is wrong with the configuration.
func (c Config) validate() error {
	var errs []error
	if !instancePattern.MatchString(c.Instance) {
		errs = append(errs, fmt.Errorf("instance %q: must match %s", c.Instance, instancePattern))
	}
	if !filepath.IsAbs(c.RunDir) {
		errs = append(errs, fmt.Errorf("run directory %q: must be an absolute path", c.RunDir))
	}
	if len(c.Prefixes) == 0 {
		errs = append(errs, errors.New("no pod prefix: give one with --pod-cidr"))
	}
	seen := map[bool]netip.Prefix{}
	for _, p := range c.Prefixes {
		if err := checkPrefix(p); err != nil {
			errs = append(errs, fmt.Errorf("pod prefix %s: %w (--pod-cidr)", p, err))
			continue
		}
		if other, ok := seen[p.Addr().Is4()]; ok {
			errs = append(errs, fmt.Errorf("pod prefixes %s and %s are of one family: give one per family (--pod-cidr)", other, p))
		}
		seen[p.Addr().Is4()] = p
	}
	return errors.Join(errs...)
}

// checkPrefix asks for room for the network, the node and one pod.
func checkPrefix(p netip.Prefix) error {
	switch {
	case !p.IsValid():
		return errors.New("not a prefix")
	case p.Addr().Is4In6():
		return errors.New("IPv4 in IPv6 form")
	case p != p.Masked():
		return fmt.Errorf("has host bits, meant may be %s", p.Masked())
	case p.Addr().BitLen()-p.Bits() < 2:
		return errors.New("too small to hold a pod")
	case p.Addr().IsMulticast() || p.Addr().IsLoopback() || p.Addr().IsLinkLocalUnicast():
		return errors.New("not addresses that can be routed to a pod")
	}
	return nil
}

// Network is the pods' network of one node.
type Network struct {
	cfg    Config
	ledger lease.Ledger
	busy   keyed
	clock  func() (time.Duration, error) // since boot, suspend included
	start  sync.Mutex                    // one Start, Heal or Reconcile at a time
	mu     sync.Mutex                    // guards table
	table  *lease.Table

	listener *net.UnixListener // set by Start, closed by Run
}

// New validates cfg and reads the leases that an earlier run left; those of
// another boot are dropped. It changes nothing in the kernel.
func New(cfg Config) (*Network, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("configure network: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("configure network: %w", err)
	}
	n := &Network{cfg: cfg, clock: sinceBoot, ledger: newLedger(cfg.RunDir, string(boot))}
	leases, err := n.ledger.Load(cfg.Logger)
	if err != nil {
		return nil, fmt.Errorf("configure network: %w", err)
	}
	n.table = lease.NewTable(cfg.Prefixes, leases)
	return n, nil
}

func newLedger(runDir, boot string) lease.Ledger {
	return lease.NewLedger(filepath.Join(runDir, leaseDir), strings.TrimSpace(boot))
}

// rules is the part of the configuration that the packet filter needs.
func (c Config) rules() rule.Config {
	return rule.Config{Instance: c.Instance, Pods: c.Prefixes, Cluster: c.Cluster}
}

// sinceBoot reads the boot-time clock: setting the wall clock does not move
// it, and a restarted agent goes on reading the same one.
func sinceBoot() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0, fmt.Errorf("read boot clock: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}
