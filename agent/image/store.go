// Package image brings images onto the node: it applies the pull policy,
// finds the registry's credentials, pulls each image once however many wait
// for it, and puts the registry's answer into words that a pod's status can
// carry. It never removes images and never retries by itself; the agent asks
// again after its back-off.
package image

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pinnace/cri"
)

// Runtime holds the images. Image's error is cri.ErrNotFound when absent.
type Runtime interface {
	Image(ctx context.Context, ref string) (cri.Image, error)
	Pull(ctx context.Context, ref string, auth *runtimeapi.AuthConfig) (string, error)
}

// Config is what a Store works with.
type Config struct {
	Runtime Runtime
	// RegistryFile holds credentials in docker's config.json format; it may
	// be absent and is read again when it changed.
	RegistryFile string
	// Parallel bounds the pulls that run at once; 4 when not positive.
	Parallel int
	Logger   *slog.Logger
}

// Store ensures images. Its methods may be called concurrently.
type Store struct {
	cfg     Config
	keys    credentialFile
	slots   chan struct{}
	mu      sync.Mutex
	flights map[flightKey]*flight
}

// New returns a Store; nothing is read or pulled yet.
func New(cfg Config) *Store {
	if cfg.Parallel <= 0 {
		cfg.Parallel = 4
	}
	return &Store{
		cfg:     cfg,
		keys:    credentialFile{path: cfg.RegistryFile},
		slots:   make(chan struct{}, cfg.Parallel),
		flights: map[flightKey]*flight{},
	}
}

// The reasons of an Error, as they stand in a container's waiting state.
const (
	ErrImagePull        = "ErrImagePull"
	ErrImageNeverPull   = "ErrImageNeverPull"
	InvalidImageName    = "InvalidImageName"
	ImageInspectError   = "ImageInspectError"
	RegistryUnavailable = "RegistryUnavailable"
)

// Error says why an image is not there.
type Error struct {
	Reason  string
	Message string
	cause   error
}

func (e *Error) Error() string { return e.Message }

// Unwrap gives the runtime's error, nil when there was none.
func (e *Error) Unwrap() error { return e.cause }

// Ensure blocks until the image is present as policy asks, and returns it.
// Every error is an *Error. When ctx ends, a pull that others wait for too
// goes on; one that nobody waits for is given up.
func (s *Store) Ensure(ctx context.Context, ref string, policy corev1.PullPolicy) (cri.Image, error) {
	full, err := complete(ref)
	if err != nil {
		return cri.Image{}, &Error{InvalidImageName, fmt.Sprintf("couldn't parse image name %q: %v", ref, err), err}
	}
	if policy != corev1.PullAlways {
		img, err := s.cfg.Runtime.Image(ctx, full)
		switch {
		case err == nil:
			return img, nil
		case !errors.Is(err, cri.ErrNotFound):
			return cri.Image{}, &Error{ImageInspectError, fmt.Sprintf("inspect image %q: %s", ref, cause(full, err)), err}
		case policy == corev1.PullNever:
			return cri.Image{}, &Error{ErrImageNeverPull, fmt.Sprintf("Container image %q is not present with pull policy of Never", ref), err}
		}
	}
	auth, problem := s.keys.lookup(full)
	start := time.Now()
	id, err := s.pull(ctx, full, auth)
	if err != nil {
		return cri.Image{}, pullError(ref, full, err, problem)
	}
	img, err := s.cfg.Runtime.Image(ctx, id)
	if err != nil {
		return cri.Image{}, &Error{ImageInspectError, fmt.Sprintf("inspect image %q after its pull: %s", ref, cause(full, err)), err}
	}
	s.cfg.Logger.Info("image pulled", "image", ref, "id", img.ID, "bytes", img.Size, "took", time.Since(start).Round(time.Millisecond))
	return img, nil
}

// complete checks ref and adds the tag "latest" to one that has neither tag
// nor digest. The registry's host is left to the runtime to fill in, which
// may have search rules of its own.
func complete(ref string) (string, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", err
	}
	if reference.IsNameOnly(named) {
		ref += ":latest"
	}
	return ref, nil
}
