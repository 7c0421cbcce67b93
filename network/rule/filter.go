package rule

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"
)

// lockWait is how many seconds a legacy iptables waits for others.
const lockWait = 5

// filter is one family's packet filter, driven through the host's own tools.
type filter struct {
	tool   string // iptables or ip6tables
	tables *iptables.IPTables
}

func toolName(v4 bool) string {
	if v4 {
		return "iptables"
	}
	return "ip6tables"
}

// openFilter looks at the host's tool. Missing tools are an
// exec.ErrNotFound.
func openFilter(v4 bool) (*filter, error) {
	proto := iptables.ProtocolIPv6
	if v4 {
		proto = iptables.ProtocolIPv4
	}
	tool := toolName(v4)
	if _, err := exec.LookPath(tool); err != nil {
		return nil, fmt.Errorf("find %s: %w: install the package iptables", tool, err)
	}
	tables, err := iptables.New(iptables.IPFamily(proto), iptables.Timeout(lockWait))
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", tool, err)
	}
	return &filter{tool, tables}, nil
}

// set brings the rules of ours to rs and reports whether it had to change
// anything. The chains go in as one transaction.
func (f *filter) set(ctx context.Context, rs ruleset) (changed bool, err error) {
	same, err := f.holds(rs)
	if err != nil {
		return false, err
	}
	if !same {
		if err := f.restore(ctx, rs.render()); err != nil {
			return false, err
		}
	}
	for _, j := range rs.jumps {
		there, err := f.tables.Exists(j.table, j.from, j.spec()...)
		if err != nil {
			return !same, fmt.Errorf("look for jump from %s to %s: %w", j.from, j.to, err)
		}
		if there {
			continue
		}
		same = false
		if err := f.tables.Insert(j.table, j.from, 1, j.spec()...); err != nil {
			return true, fmt.Errorf("insert jump from %s to %s: %w", j.from, j.to, err)
		}
	}
	return !same, nil
}

// holds reports whether every chain reads exactly as wanted.
func (f *filter) holds(rs ruleset) (bool, error) {
	for _, c := range rs.chains {
		there, err := f.tables.ChainExists(c.table, c.name)
		if err != nil {
			return false, fmt.Errorf("look for chain %s: %w", c.name, err)
		}
		if !there {
			return false, nil
		}
		lines, err := f.tables.List(c.table, c.name)
		if err != nil {
			return false, fmt.Errorf("list chain %s: %w", c.name, err)
		}
		lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "-N ") })
		if !slices.Equal(lines, c.rules) {
			return false, nil
		}
	}
	return true, nil
}

func (f *filter) restore(ctx context.Context, text string) error {
	if text == "" {
		return nil
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, f.tool+"-restore", "--noflush", "-w", fmt.Sprint(lockWait))
	cmd.Stdin = strings.NewReader(text)
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return nil
}

// remove deletes the jumps, then the chains; the absent is deleted already.
// The chain that another one goes to is deleted after it.
func (f *filter) remove(rs ruleset) error {
	var errs []error
	for _, j := range rs.jumps {
		there, err := f.tables.ChainExists(j.table, j.to)
		if err == nil && there {
			err = f.tables.DeleteIfExists(j.table, j.from, j.spec()...)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("delete jump from %s to %s: %w", j.from, j.to, err))
		}
	}
	for _, c := range slices.Backward(rs.chains) {
		there, err := f.tables.ChainExists(c.table, c.name)
		if err == nil && there {
			err = f.tables.ClearAndDeleteChain(c.table, c.name)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("delete chain %s: %w", c.name, err))
		}
	}
	return errors.Join(errs...)
}

// Apply brings the rules of both families to what cfg asks for; when all is
// well it changes nothing. A family without prefix is emptied of what an
// earlier configuration put there, and left alone when its tool is missing.
func Apply(ctx context.Context, cfg Config, logger *slog.Logger) error {
	for _, v4 := range []bool{true, false} {
		_, wanted := cfg.pods(v4)
		f, err := openFilter(v4)
		if !wanted {
			if err == nil {
				err = f.remove(everyRule(cfg.Instance, v4))
			}
			if err != nil {
				logger.Debug("left packet filter alone", "tool", toolName(v4), "reason", err)
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("set rules: %w", err)
		}
		changed, err := f.set(ctx, compile(cfg, v4, masks{randomFully: f.tables.HasRandomFully()}))
		if err != nil {
			return fmt.Errorf("set rules: %w", err)
		}
		if changed {
			logger.Info("set rules", "tool", f.tool)
		}
	}
	return nil
}

// Remove deletes what any configuration of an instance may have made. A
// family whose tool is missing holds nothing.
func Remove(instance string, logger *slog.Logger) error {
	var errs []error
	for _, v4 := range []bool{true, false} {
		f, err := openFilter(v4)
		if err != nil {
			logger.Debug("left packet filter alone", "tool", toolName(v4), "reason", err)
			continue
		}
		errs = append(errs, f.remove(everyRule(instance, v4)))
	}
	return errors.Join(errs...)
}

// everyRule names all chains and jumps: they do not depend on the prefix.
func everyRule(instance string, v4 bool) ruleset {
	p := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	if v4 {
		p = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return compile(Config{Instance: instance, Pods: []netip.Prefix{p}}, v4, masks{})
}
