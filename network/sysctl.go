package network

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const sysctlRoot = "/proc/sys/net"

// setSysctl writes a value below net/ only when it differs, and returns what
// stood there before. A key that this kernel lacks is an fs.ErrNotExist.
func setSysctl(key, value string) (old string, err error) {
	path := filepath.Join(sysctlRoot, key)
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read sysctl: %w", err)
	}
	old = string(bytes.TrimSpace(raw))
	if old == value {
		return old, nil
	}
	if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
		return old, fmt.Errorf("set sysctl: %w", err)
	}
	return old, nil
}

// forward lets the node forward packets of the configured families. The old
// value is logged and not kept: by the time of a cleanup others (a container
// engine, a VPN) may stand on forwarding too, and turning it off would cut
// them.
func (n *Network) forward(h *netlink.Handle) error {
	keys := map[bool]string{true: "ipv4/ip_forward", false: "ipv6/conf/all/forwarding"}
	for _, p := range n.cfg.Prefixes {
		v4 := p.Addr().Is4()
		if !v4 {
			if err := keepAdvertised(h, n.cfg.Logger); err != nil {
				return err
			}
		}
		if err := set(n.cfg.Logger, keys[v4], "1"); err != nil {
			return err
		}
	}
	return nil
}

// keepAdvertised lets a host that learned its IPv6 default route from router
// advertisements keep it: with forwarding on, the kernel listens to them only
// where accept_ra is 2, and drops what it learned elsewhere.
func keepAdvertised(h *netlink.Handle, logger *slog.Logger) error {
	routes, err := h.RouteListFiltered(netlink.FAMILY_V6,
		&netlink.Route{Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_RA}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return fmt.Errorf("list advertised routes: %w", err)
	}
	for _, r := range routes {
		link, err := h.LinkByIndex(r.LinkIndex)
		if err != nil {
			continue // gone since
		}
		key := "ipv6/conf/" + link.Attrs().Name + "/accept_ra"
		raw, err := os.ReadFile(filepath.Join(sysctlRoot, key))
		if err != nil || string(bytes.TrimSpace(raw)) != "1" {
			continue
		}
		if err := set(logger, key, "2"); err != nil {
			return err
		}
	}
	return nil
}

func set(logger *slog.Logger, key, value string) error {
	old, err := setSysctl(key, value)
	if err == nil && old != value {
		logger.Info("set sysctl", "key", "net/"+key, "value", value, "old", old)
	}
	return err
}

// quietLink keeps the host deaf to router advertisements that a pod sends.
func quietLink(name string) error {
	_, err := setSysctl("ipv6/conf/"+name+"/accept_ra", "0")
	return present(err)
}

// prepareNamespace sets what the pod's next link inherits. It runs on a
// thread inside the pod's namespace, where /proc/sys/net is the pod's.
func prepareNamespace(dual bool) error {
	if _, err := setSysctl("ipv6/conf/default/accept_ra", "0"); err != nil {
		return present(err)
	}
	if !dual {
		return nil
	}
	for _, scope := range []string{"default", "lo"} {
		if _, err := setSysctl("ipv6/conf/"+scope+"/disable_ipv6", "0"); err != nil {
			return present(err)
		}
	}
	return nil
}

// present passes over a key that a kernel without IPv6 does not have.
func present(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
