package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"

	"pinnace/network/lease"
)

// cniVersion is the one version of the CNI specification that hook, server
// and configuration speak: containerd 1.6 and 1.7 know none after it.
const cniVersion = "1.0.0"

// CNI's error codes, from its specification; those from 100 are ours.
const (
	codeEnvironment = 4
	codeDecode      = 6
	codeAttach      = 100
	codeDetach      = 101
)

// ifNamePattern is narrower than the kernel's rule: no name that means
// something in a path below /proc/sys.
var ifNamePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{0,14}$`)

// request is what the hook sends: the runtime's call as JSON, and the
// sandbox's network namespace as an open file beside it.
type request struct {
	Command   string          `json:"command"`
	Container string          `json:"container"`
	Netns     string          `json:"netns"`
	IfName    string          `json:"ifname"`
	Args      string          `json:"args"`
	Config    json.RawMessage `json:"config"`

	namespace *os.File
}

// answer is what the hook prints, and whether it must fail.
type answer struct {
	Failed bool            `json:"failed"`
	Output json.RawMessage `json:"output,omitempty"`
}

// failure is CNI's error object.
type failure struct {
	Version string `json:"cniVersion"`
	Code    int    `json:"code"`
	Msg     string `json:"msg"`
}

func parseRequest(raw []byte) (request, error) {
	var r request
	if err := json.Unmarshal(raw, &r); err != nil {
		return request{}, fmt.Errorf("parse hook request: %w", err)
	}
	if !lease.ValidID(r.Container) {
		return request{}, fmt.Errorf("parse hook request: container id %q is malformed", r.Container)
	}
	switch r.Command {
	case "DEL":
		return r, nil
	case "ADD":
	default:
		return request{}, fmt.Errorf("parse hook request: unknown command %q", r.Command)
	}
	if !ifNamePattern.MatchString(r.IfName) || r.IfName == "lo" {
		return request{}, fmt.Errorf("parse hook request: interface name %q is malformed", r.IfName)
	}
	return r, nil
}

// checkAdd asks for what an ADD needs beside its text.
func (r request) checkAdd() error {
	if r.namespace == nil {
		return errors.New("no network namespace came with the request")
	}
	return checkNamespace(r.namespace)
}

// result is a CNI 1.0.0 success.
type result struct {
	Version    string     `json:"cniVersion"`
	Interfaces []ifResult `json:"interfaces"`
	IPs        []ipResult `json:"ips"`
	Routes     []rtResult `json:"routes"`
	DNS        struct{}   `json:"dns"`
}

type ifResult struct {
	Name    string `json:"name"`
	MAC     string `json:"mac"`
	Sandbox string `json:"sandbox,omitempty"`
}

type ipResult struct {
	Interface int          `json:"interface"`
	Address   netip.Prefix `json:"address"`
	Gateway   netip.Addr   `json:"gateway"`
}

type rtResult struct {
	Dst netip.Prefix `json:"dst"`
	GW  netip.Addr   `json:"gw"`
}

// resultOf describes a wired sandbox: the host side, then the pod side, which
// has the addresses.
func resultOf(hostLink, podLink, netns string, l lease.Lease) result {
	res := result{Version: cniVersion, Interfaces: []ifResult{
		{Name: hostLink, MAC: hostMAC().String()},
		{Name: podLink, MAC: net.HardwareAddr(podMAC(l.Sandbox)).String(), Sandbox: netns},
	}}
	for _, a := range l.Addresses {
		gw := gateway(a.Is4())
		zero := netip.IPv6Unspecified()
		if a.Is4() {
			zero = netip.IPv4Unspecified()
		}
		res.IPs = append(res.IPs, ipResult{Interface: 1, Address: hostPrefix(a), Gateway: gw})
		res.Routes = append(res.Routes, rtResult{Dst: netip.PrefixFrom(zero, 0), GW: gw})
	}
	return res
}

func succeed(output any) answer {
	if output == nil {
		return answer{}
	}
	raw, err := json.Marshal(output)
	if err != nil {
		return fail(codeAttach, err)
	}
	return answer{Output: raw}
}

func fail(code int, err error) answer {
	raw, marshalErr := json.Marshal(failure{cniVersion, code, err.Error()})
	if marshalErr != nil {
		raw = nil // a string always marshals
	}
	return answer{Failed: true, Output: raw}
}
