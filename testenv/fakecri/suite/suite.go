// Package suite is what every runtime must answer alike: the fake and a real
// containerd both pass it, so that what a test proves with the one holds for
// the other. It uses host-network sandboxes, which need no network set-up.
package suite

import (
	"context"
	"fmt"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pinnace/cri"
)

// Runtime is what is tested.
type Runtime interface {
	sandboxes
	containers
	actions
	streams
}

type sandboxes interface {
	RunSandbox(ctx context.Context, cfg *runtimeapi.PodSandboxConfig, handler string) (string, error)
	StopSandbox(ctx context.Context, id string) error
	RemoveSandbox(ctx context.Context, id string) error
	sandboxLooks
}

type sandboxLooks interface {
	Sandboxes(ctx context.Context, labels map[string]string) ([]cri.Sandbox, error)
	Sandbox(ctx context.Context, id string) (cri.Sandbox, error)
}

type containers interface {
	CreateContainer(ctx context.Context, sandboxID string, cfg *runtimeapi.ContainerConfig,
		sandbox *runtimeapi.PodSandboxConfig) (string, error)
	Containers(ctx context.Context, labels map[string]string) ([]cri.Container, error)
	Container(ctx context.Context, id string) (cri.Container, error)
}

type actions interface {
	StartContainer(ctx context.Context, id string) error
	StopContainer(ctx context.Context, id string, grace time.Duration) error
	RemoveContainer(ctx context.Context, id string) error
	commands
}

type streams interface {
	Exits(ctx context.Context, exited func(containerID string)) error
	Image(ctx context.Context, ref string) (cri.Image, error)
}

type commands interface {
	ReopenLog(ctx context.Context, id string) error
	Exec(ctx context.Context, id string, cmd []string, timeout time.Duration) (cri.ExecResult, error)
}

// Options say how a runtime is had.
type Options struct {
	// New returns the runtime for one case.
	New func(t *testing.T) Runtime
	// Around runs a case; nil: as it is. The fake's runs it in a bubble.
	Around func(t *testing.T, f func(*testing.T))
	// Image has a /bin/sh.
	Image string
	// CgroupParent is for sandboxes, in the words of the runtime's driver.
	CgroupParent string
	// LogDir is for one case's log files.
	LogDir func(t *testing.T) string
}

// The programs that the suite's containers run.
const (
	Forever    = "forever"     // until SIGTERM, then exits 0
	Stubborn   = "stubborn"    // ignores SIGTERM
	ExitsZero  = "exits-zero"  // at once
	ExitsThree = "exits-three" // at once
	Absent     = "absent"      // is not in the image
)

// scripts are the programs for a shell. The wait makes the trap run at once.
var scripts = map[string]string{
	Forever:    `trap "exit 0" TERM; sleep 1000000 & wait`,
	Stubborn:   `trap "" TERM; while :; do sleep 1000000; done`,
	ExitsZero:  `exit 0`,
	ExitsThree: `exit 3`,
}

// Command is how a program is started; its last word is the program's name.
func Command(program string) []string {
	if program == Absent {
		return []string{"/no/such/program", Absent}
	}
	return []string{"/bin/sh", "-c", scripts[program], program}
}

// The commands that the suite runs inside a Forever.
var (
	SayHello   = []string{"/bin/sh", "-c", "echo hello; echo oh >&2; exit 7"}
	TakesLong  = []string{"/bin/sh", "-c", "sleep 1000"}
	NoSuchFile = []string{"/no/such/file"}
)

// Suite runs every case.
func Suite(t *testing.T, o Options) {
	cases := map[string]func(*env){
		"container's life":                 life,
		"lists filter by label and order":  lists,
		"a name is reserved until removed": reserved,
		"a container starts once":          startsOnce,
		"a stopped sandbox takes nothing":  stoppedSandbox,
		"stop asks, then kills":            stop,
		"remove kills what runs":           remove,
		"the absent":                       absent,
		"a start that fails":               failedStart,
		"exec":                             exec,
		"log":                              reopen,
		"image":                            image,
		"exits are told":                   events,
	}
	for name, f := range cases {
		t.Run(name, func(t *testing.T) {
			run := func(t *testing.T) { f(newEnv(t, o)) }
			if o.Around != nil {
				o.Around(t, run)
				return
			}
			run(t)
		})
	}
}

// env is one case at work.
type env struct {
	*testing.T
	Runtime
	o      Options
	logDir string
}

func newEnv(t *testing.T, o Options) *env {
	return &env{T: t, Runtime: o.New(t), o: o, logDir: o.LogDir(t)}
}

// sandboxConfig is a host-network sandbox of a pod that only this case has.
func (e *env) sandboxConfig(attempt uint32) *runtimeapi.PodSandboxConfig {
	uid := fmt.Sprintf("%x", time.Now().UnixNano())
	return &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: "suite", Namespace: "test", Uid: uid, Attempt: attempt},
		LogDirectory: e.logDir,
		Labels:       map[string]string{cri.LabelPodUID: uid, cri.LabelPodName: "suite"},
		Annotations:  map[string]string{"note": "on the sandbox"},
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent:    e.o.CgroupParent,
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: hostNetwork()},
		},
	}
}

func hostNetwork() *runtimeapi.NamespaceOption {
	return &runtimeapi.NamespaceOption{
		Network: runtimeapi.NamespaceMode_NODE,
		Pid:     runtimeapi.NamespaceMode_CONTAINER,
	}
}

func (e *env) containerConfig(pod *runtimeapi.PodSandboxConfig, name, program string, attempt uint32) *runtimeapi.ContainerConfig {
	return &runtimeapi.ContainerConfig{
		Metadata:    &runtimeapi.ContainerMetadata{Name: name, Attempt: attempt},
		Image:       &runtimeapi.ImageSpec{Image: e.o.Image},
		Command:     Command(program),
		Labels:      map[string]string{cri.LabelPodUID: pod.Metadata.Uid, cri.LabelContainerName: name},
		Annotations: map[string]string{cri.AnnotationBackoff: "10s"},
		LogPath:     fmt.Sprintf("%s.%d.log", name, attempt),
		Linux: &runtimeapi.LinuxContainerConfig{
			SecurityContext: &runtimeapi.LinuxContainerSecurityContext{NamespaceOptions: hostNetwork()},
		},
	}
}
