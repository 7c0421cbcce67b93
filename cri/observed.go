package cri

import (
	"net/netip"
	"time"
)

// Labels and annotations that the agent writes into the runtime. The first
// four are what every CRI client knows (crictl reads them); the rest are ours.
const (
	LabelPodName       = "io.kubernetes.pod.name"
	LabelPodNamespace  = "io.kubernetes.pod.namespace"
	LabelPodUID        = "io.kubernetes.pod.uid"
	LabelContainerName = "io.kubernetes.container.name"
	// LabelInstance marks what belongs to one agent; what lacks it is never touched.
	LabelInstance = "pinnace.dev/instance"
	// AnnotationBackoff is how long the agent waits before it restarts this
	// container again, a Go duration: kept here so that it survives the agent.
	AnnotationBackoff = "pinnace.dev/backoff"
	// AnnotationMessagePath and AnnotationMessagePolicy are the container's
	// termination message settings; AnnotationMessageFile is where it lies on the host.
	AnnotationMessagePath   = "pinnace.dev/termination-message-path"
	AnnotationMessagePolicy = "pinnace.dev/termination-message-policy"
	AnnotationMessageFile   = "pinnace.dev/termination-message-file"
)

// Sandbox is a pod sandbox as the runtime reports it.
type Sandbox struct {
	ID        string
	Name      string
	Namespace string
	UID       string
	Attempt   uint32
	Ready     bool
	CreatedAt time.Time
	// IPs are the pod's addresses, the primary one first. Lists leave it
	// empty; Client.Sandbox fills it. Empty for host network.
	IPs         []netip.Addr
	Labels      map[string]string
	Annotations map[string]string
}

// ContainerState is the runtime's word for where a container is in its life:
//
//	Created ──start──► Running ──exit──► Exited
//	                      └──runtime lost it──► Unknown
type ContainerState int

// The states a container can be in.
const (
	ContainerUnknown ContainerState = iota
	ContainerCreated
	ContainerRunning
	ContainerExited
)

// Container is one attempt of a container as the runtime reports it.
type Container struct {
	ID        string
	SandboxID string
	Name      string
	PodUID    string
	Attempt   uint32
	State     ContainerState
	CreatedAt time.Time
	// The fields below are filled by Client.Container only; lists leave them
	// empty. Times are zero when it has not come to that.
	StartedAt   time.Time
	FinishedAt  time.Time
	ExitCode    int32
	Reason      string // the runtime's: Completed, Error, OOMKilled, StartError, ...
	Message     string
	ImageRef    string // what runs: repo@sha256:..., or the image id
	LogPath     string
	Annotations map[string]string
}

// Image is an image in the runtime's store.
type Image struct {
	ID          string
	RepoTags    []string
	RepoDigests []string
	Size        uint64
	// UID is the numeric user the image runs as, nil when it names a user
	// or none; Username is the name, "" when numeric or none.
	UID      *int64
	Username string
}

// ExecResult is what a command inside a container left behind.
type ExecResult struct {
	Stdout, Stderr []byte
	ExitCode       int32
}
