// Command pinnace-cni is the CNI hook: it hands the runtime's call and the
// sandbox's open network namespace to the agent's socket and prints what
// comes back. It wires nothing, decides nothing and keeps nothing. Called as
// loopback it only says yes: the agent sets lo up within the other call. The
// runtime runs it several times in a pod's life, so it stays small: standard
// library only, and of that neither net nor anything above it.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

const (
	// version is the one that the agent's configuration asks for.
	version = "1.0.0"
	// stdinLimit bounds the configuration that the runtime writes.
	stdinLimit = 1 << 20
	// addTimeout outlasts the agent's own; the runtime kills us earlier when
	// it wants to.
	addTimeout = 30 * time.Second
	// delTimeout keeps a DEL from waiting for an agent that is away. The
	// runtime destroys the namespace anyway, and the agent reconciles.
	delTimeout = 200 * time.Millisecond
)

// CNI's error codes, from its specification.
const (
	codeVersion     = 1
	codeEnvironment = 4
	codeIO          = 5
	codeDecode      = 6
	codeConfig      = 7
	codeTryAgain    = 11
	codeUnavailable = 50
)

func main() {
	env := environment{
		Command: os.Getenv("CNI_COMMAND"), Container: os.Getenv("CNI_CONTAINERID"),
		Netns: os.Getenv("CNI_NETNS"), IfName: os.Getenv("CNI_IFNAME"), Args: os.Getenv("CNI_ARGS"),
	}
	name := ""
	if len(os.Args) > 0 {
		name = filepath.Base(os.Args[0])
	}
	os.Exit(run(name, env, os.Stdin, os.Stdout))
}

// environment is the runtime's call as CNI passes it, and the head of the
// request that the agent reads.
type environment struct {
	Command   string `json:"command"`
	Container string `json:"container"`
	Netns     string `json:"netns"`
	IfName    string `json:"ifname"`
	Args      string `json:"args"`
}

// config is what the hook itself needs of the plugin's configuration.
type config struct {
	Version string `json:"cniVersion"`
	Socket  string `json:"socket"`

	raw []byte
}

// problem is CNI's error object.
type problem struct {
	Version string `json:"cniVersion"`
	Code    int    `json:"code"`
	Msg     string `json:"msg"`
	Details string `json:"details,omitempty"`
}

func (p *problem) Error() string { return p.Msg }

// run answers one call and returns the exit code.
func run(name string, env environment, stdin io.Reader, stdout io.Writer) int {
	if env.Command == "VERSION" {
		return printJSON(stdout, map[string]any{"cniVersion": version, "supportedVersions": supported(name)})
	}
	cfg, err := readConfig(stdin)
	if err == nil {
		if name == "loopback" {
			err = loopback(env, cfg, stdout)
		} else {
			err = hook(env, cfg, stdout)
		}
	}
	if err == nil || env.Command == "DEL" {
		return 0 // a DEL that fails keeps the runtime from removing the pod
	}
	var p *problem
	if !errors.As(err, &p) {
		p = &problem{Code: codeIO, Msg: err.Error()}
	}
	p.Version = version
	printJSON(stdout, p)
	return 1
}

// supported lists the versions; containerd asks loopback in an old one.
func supported(name string) []string {
	if name == "loopback" {
		return []string{"0.3.0", "0.3.1", "0.4.0", version, "1.1.0"}
	}
	return []string{version}
}

func readConfig(r io.Reader) (config, error) {
	raw, err := io.ReadAll(io.LimitReader(r, stdinLimit+1))
	if err != nil {
		return config{}, &problem{Code: codeIO, Msg: "read configuration: " + err.Error()}
	}
	if len(raw) > stdinLimit {
		return config{}, &problem{Code: codeConfig, Msg: fmt.Sprintf("read configuration: longer than %d bytes", stdinLimit)}
	}
	cfg := config{raw: raw}
	if err := json.Unmarshal(raw, &cfg); err != nil {
		return config{}, &problem{Code: codeDecode, Msg: "read configuration: " + err.Error()}
	}
	return cfg, nil
}

// hook passes the call on. CHECK and GC have nothing to say: the agent
// reconciles by itself.
func hook(env environment, cfg config, stdout io.Writer) error {
	if cfg.Version != version {
		return &problem{Code: codeVersion, Msg: fmt.Sprintf("configuration has cniVersion %q: this hook speaks %s", cfg.Version, version)}
	}
	if cfg.Socket == "" {
		return &problem{Code: codeConfig, Msg: "configuration names no socket: let the agent write it again"}
	}
	switch env.Command {
	case "ADD":
		out, err := ask(cfg, env, addTimeout)
		if err != nil {
			return err
		}
		_, err = stdout.Write(out)
		return err
	case "DEL":
		_, err := ask(cfg, env, delTimeout)
		return err
	case "STATUS":
		fd, err := dial(cfg.Socket, delTimeout)
		if err != nil {
			return &problem{Code: codeUnavailable, Msg: away(cfg.Socket, err)}
		}
		return closeFD(fd)
	case "CHECK", "GC":
		return nil
	}
	return &problem{Code: codeEnvironment, Msg: fmt.Sprintf("unknown CNI_COMMAND %q", env.Command)}
}

// away is the sentence for a socket that nobody serves.
func away(socket string, err error) string {
	return fmt.Sprintf("pinnace agent does not answer on %s: %v: start the agent (pinnace agent), the runtime then tries again", socket, err)
}

func printJSON(w io.Writer, v any) int {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return 1
	}
	return 0
}
