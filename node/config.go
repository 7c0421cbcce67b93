package node

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// Config is what flags and the config file say, parsed once and never
// changed afterwards.
type Config struct {
	Root, Run   string
	Manifests   string
	NodeName    string
	CRIEndpoint string
	Network     string // pinnace, cni, or "" for pinnace unless a foreign configuration is there
	CgroupRoot  string
	ResolvConf  string
	Pods        Prefixes // pod CIDRs of this node
	NodeIPs     Addrs
	DNS         DNS
	LogLevel    string
}

// DNS is the cluster's resolver, as far as there is one.
type DNS struct {
	Domain  string
	Servers Addrs
}

// Prefixes and Addrs are comma-separated flags.
type (
	Prefixes []netip.Prefix
	Addrs    []netip.Addr
)

// String and Set make both a flag.Value.
func (p *Prefixes) String() string { return join(*p) }

// Set parses a comma-separated list and replaces what was there.
func (p *Prefixes) Set(s string) error { return parseList(s, netip.ParsePrefix, (*[]netip.Prefix)(p)) }

func (a *Addrs) String() string { return join(*a) }

// Set parses a comma-separated list and replaces what was there.
func (a *Addrs) Set(s string) error { return parseList(s, netip.ParseAddr, (*[]netip.Addr)(a)) }

func parseList[T any](s string, parse func(string) (T, error), into *[]T) error {
	*into = nil
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		v, err := parse(part)
		if err != nil {
			return err
		}
		*into = append(*into, v)
	}
	return nil
}

func join[T fmt.Stringer](list []T) string {
	var parts []string
	for _, v := range list {
		parts = append(parts, v.String())
	}
	return strings.Join(parts, ",")
}

// ipv6 reports whether the kernel has IPv6; without it pods have IPv4 only.
func ipv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6/conf/all")
	return err == nil
}

// defaultPods is the pod prefix of a node that was not told any.
func defaultPods() string {
	if ipv6() {
		return "10.85.0.0/23,fd00:10:85::/64"
	}
	return "10.85.0.0/23"
}

// resolvConf is the resolver file that names servers which a pod can reach:
// where systemd-resolved has put itself on loopback, that is the list behind it.
func resolvConf() string {
	const plain, behind = "/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"
	text, err := os.ReadFile(plain)
	if err == nil && strings.Contains(string(text), "127.0.0.53") && exists(behind) {
		return behind
	}
	return plain
}

// flags declares the agent's flags on a new set; every one is also a key of
// the config file.
func (c *Config) flags(name string, out io.Writer) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // an error is told once, by Main
	fs.Usage = func() { printFlags(out, fs) }
	host, _ := os.Hostname()
	fs.StringVar(&c.Root, "root", "/var/lib/pinnace", "`dir` of what survives a reboot")
	fs.StringVar(&c.Run, "run", "/run/pinnace", "`dir` of sockets and what a reboot may lose")
	fs.StringVar(&c.Manifests, "manifests", "/etc/pinnace/manifests", "`dir` whose manifests run as pods")
	fs.StringVar(&c.NodeName, "node-name", strings.ToLower(host), "`name` of this node")
	fs.StringVar(&c.CRIEndpoint, "cri-endpoint", "", "runtime's CRI socket, a `url` (unix:///...); without it the agent runs a containerd of its own")
	fs.StringVar(&c.Network, "network", "", "who wires pods, `pinnace|cni` (default pinnace; must be given when the runtime has a CNI configuration)")
	fs.StringVar(&c.CgroupRoot, "cgroup-root", "", "`/name` of the cgroup below which the agent makes its own, pinnace-ID (default the top)")
	fs.StringVar(&c.ResolvConf, "resolv-conf", resolvConf(), "resolver `file` that pods inherit")
	c.Pods.Set(defaultPods())
	fs.Var(&c.Pods, "pod-cidr", "pod `prefix` of this node, one per family, comma-separated")
	fs.Var(&c.NodeIPs, "node-ip", "`addresses` of this node, comma-separated (default: those towards the default route)")
	fs.Var(&c.DNS.Servers, "cluster-dns", "`addresses` of the cluster's DNS, comma-separated")
	fs.StringVar(&c.DNS.Domain, "cluster-domain", "cluster.local", "`domain` of the cluster")
	fs.StringVar(&c.LogLevel, "log-level", "info", "least `level` to log: debug, info, warn, error")
	return fs
}

// printFlags is a command's --help.
func printFlags(out io.Writer, fs *flag.FlagSet) {
	fmt.Fprintf(out, "%s takes these flags:\n\n", fs.Name())
	fs.VisitAll(func(f *flag.Flag) {
		value, text := flag.UnquoteUsage(f)
		if f.DefValue != "" {
			text += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(out, "  --%s %s\n        %s\n", f.Name, strings.ToUpper(value), text)
	})
}

// readFlags parses a command line; --help prints the flags, an error does not.
func readFlags(fs *flag.FlagSet, args []string) error {
	help := slices.ContainsFunc(args, func(a string) bool { return a == "--help" || a == "-help" || a == "-h" })
	usage := fs.Usage
	if !help {
		fs.Usage = func() {}
	}
	if err := fs.Parse(args); err != nil {
		return err
	}
	fs.Usage = usage
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	return nil
}

// parse reads flags over the config file over the defaults, and checks all.
func parse(name string, args []string, out io.Writer) (*Config, error) {
	c := &Config{}
	fs := c.flags(name, out)
	file := fs.String("config", "", "config `file` in YAML; its keys are the flags' names, and flags win")
	if err := readFlags(fs, args); err != nil {
		return nil, err
	}
	if *file != "" {
		if err := readFile(fs, *file); err != nil {
			return nil, err
		}
	}
	return c, c.validate()
}

// readFile sets every flag that the file names and the command line does not.
func readFile(fs *flag.FlagSet, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read config: %w", err)
	}
	var keys map[string]any
	if err := yaml.UnmarshalStrict(text, &keys); err != nil {
		return fmt.Errorf("read config %s: %w", file, err)
	}
	var errs []error
	for key, value := range keys {
		switch {
		case fs.Lookup(key) == nil || key == "config":
			errs = append(errs, fmt.Errorf("%s: %s: no such key; keys are the flags' names (pinnace agent --help lists them)", file, key))
		case !given(fs, key):
			if err := fs.Set(key, scalar(value)); err != nil {
				errs = append(errs, fmt.Errorf("%s: %s: %w", file, key, err))
			}
		}
	}
	return errors.Join(errs...)
}

// given reports whether a flag has been set.
func given(fs *flag.FlagSet, name string) bool {
	set := false
	fs.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

func scalar(v any) string {
	if list, ok := v.([]any); ok {
		var parts []string
		for _, e := range list {
			parts = append(parts, fmt.Sprint(e))
		}
		return strings.Join(parts, ",")
	}
	return fmt.Sprint(v)
}

var cgroupName = regexp.MustCompile(`^/[A-Za-z0-9_.-]+$`)

func (c *Config) validate() error {
	var errs []error
	for _, p := range []struct{ flag, path string }{{"root", c.Root}, {"run", c.Run}, {"manifests", c.Manifests}} {
		if !filepath.IsAbs(p.path) || filepath.Clean(p.path) == "/" {
			errs = append(errs, fmt.Errorf("--%s %q: must be an absolute path, and not /", p.flag, p.path))
		}
	}
	if len(c.Run) > 60 {
		errs = append(errs, fmt.Errorf("--run %q: has %d bytes; sockets below it allow 60", c.Run, len(c.Run)))
	}
	for _, why := range validation.IsDNS1123Subdomain(c.NodeName) {
		errs = append(errs, fmt.Errorf("--node-name %q: %s", c.NodeName, why))
	}
	if c.CRIEndpoint != "" && !strings.HasPrefix(c.CRIEndpoint, "unix:///") {
		errs = append(errs, fmt.Errorf("--cri-endpoint %q: must begin with unix:///", c.CRIEndpoint))
	}
	if c.Network != "" && c.Network != "pinnace" && c.Network != "cni" {
		errs = append(errs, fmt.Errorf("--network %q: must be pinnace or cni", c.Network))
	}
	if c.Network == "cni" && c.CRIEndpoint == "" {
		errs = append(errs, errors.New("--network cni: needs --cri-endpoint; the agent's own containerd has no other network"))
	}
	if c.CgroupRoot != "" && !cgroupName.MatchString(c.CgroupRoot) {
		errs = append(errs, fmt.Errorf("--cgroup-root %q: must be /NAME with one name", c.CgroupRoot))
	}
	if _, err := level(c.LogLevel); err != nil {
		errs = append(errs, fmt.Errorf("--log-level %q: must be debug, info, warn or error", c.LogLevel))
	}
	return errors.Join(errs...)
}

// Instance marks what belongs to the agent with this root in kernel and
// runtime. It follows from the root, so that cleanup finds everything even
// when the root has been emptied.
func (c *Config) Instance() string {
	sum := sha256.Sum256([]byte(filepath.Clean(c.Root)))
	return "p" + hex.EncodeToString(sum[:3])
}
