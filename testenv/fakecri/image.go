package fakecri

import (
	"context"
	"fmt"
	"slices"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pinnace/cri"
)

// store is the images that are here and those that a pull would find.
type store struct {
	here     []cri.Image
	registry map[string]cri.Image
	refused  map[string]error
}

func newStore() *store {
	return &store{registry: map[string]cri.Image{}, refused: map[string]error{}}
}

// find looks an image up by id, tag or digest.
func (s *store) find(ref string) (cri.Image, bool) {
	for _, img := range s.here {
		if img.ID == ref || slices.Contains(img.RepoTags, ref) || slices.Contains(img.RepoDigests, ref) {
			return img, true
		}
	}
	return cri.Image{}, false
}

func (s *store) drop(ref string) {
	s.here = slices.DeleteFunc(s.here, func(img cri.Image) bool {
		return img.ID == ref || slices.Contains(img.RepoTags, ref) || slices.Contains(img.RepoDigests, ref)
	})
}

// refOf is what a container reports as its image.
func refOf(img cri.Image) string {
	if len(img.RepoDigests) > 0 {
		return img.RepoDigests[0]
	}
	return img.ID
}

// Load puts an image under the tag ref into the runtime's store. An image
// without id gets one.
func (r *Runtime) Load(ref string, img cri.Image) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.load(ref, img)
}

func (r *Runtime) load(ref string, img cri.Image) cri.Image {
	if img.ID == "" {
		img.ID = "sha256:" + r.newID()
	}
	r.store.drop(img.ID)
	for i, other := range r.store.here { // a tag has one image
		r.store.here[i].RepoTags = slices.DeleteFunc(slices.Clone(other.RepoTags), func(t string) bool { return t == ref })
	}
	if !slices.Contains(img.RepoTags, ref) {
		img.RepoTags = append(slices.Clone(img.RepoTags), ref)
	}
	r.store.here = append(r.store.here, img)
	return img
}

// Publish makes a pull of ref succeed with img. An image without id gets one.
func (r *Runtime) Publish(ref string, img cri.Image) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if img.ID == "" {
		img.ID = "sha256:" + r.newID()
	}
	r.store.registry[ref] = img
	delete(r.store.refused, ref)
}

// Refuse makes every pull of ref fail with err, in the registry's words, until
// Publish.
func (r *Runtime) Refuse(ref string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.store.refused[ref] = err
}

// Image returns the image that ref names, or cri.ErrNotFound.
func (r *Runtime) Image(ctx context.Context, ref string) (cri.Image, error) {
	var out cri.Image
	err := r.do(ctx, Look, "look at image "+ref, func() error {
		img, ok := r.store.find(ref)
		if !ok {
			return cri.ErrNotFound
		}
		out = img
		return nil
	})
	return out, err
}

// Pull loads what Publish has put under ref; credentials are not looked at.
func (r *Runtime) Pull(ctx context.Context, ref string, auth *runtimeapi.AuthConfig) (string, error) {
	var out string
	err := r.do(ctx, Pull, "pull image "+ref, func() error {
		if err := r.store.refused[ref]; err != nil {
			return err
		}
		img, ok := r.store.registry[ref]
		if !ok {
			return fmt.Errorf("failed to resolve reference %q: %w", ref, cri.ErrNotFound)
		}
		out = r.load(ref, img).ID
		return nil
	})
	if err != nil {
		return "", err
	}
	return out, nil
}

// Images lists what is here.
func (r *Runtime) Images(ctx context.Context) ([]cri.Image, error) {
	var out []cri.Image
	err := r.do(ctx, Look, "list images", func() error {
		out = slices.Clone(r.store.here)
		return nil
	})
	return out, err
}

// RemoveImage drops the image that ref names; absent is success.
func (r *Runtime) RemoveImage(ctx context.Context, ref string) error {
	return r.do(ctx, RemoveImage, "remove image "+ref, func() error {
		r.store.drop(ref)
		return nil
	})
}
