package cri

import (
	"context"
	"errors"
	"fmt"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Image returns the image that ref names in the runtime's store, or
// ErrNotFound. Nothing is pulled.
func (c *Client) Image(ctx context.Context, ref string) (Image, error) {
	v := verb{what: "look at image", id: ref, limit: lookTimeout}
	resp, err := call(ctx, v, c.images.ImageStatus,
		&runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: ref}})
	if err != nil {
		return Image{}, err
	}
	if resp.GetImage() == nil {
		return Image{}, fmt.Errorf("%s: %w", v.name(), ErrNotFound)
	}
	return imageOf(resp.Image), nil
}

// Pull fetches the image that ref names and returns what to create containers
// with. It takes as long as ctx allows. auth may be nil.
func (c *Client) Pull(ctx context.Context, ref string, auth *runtimeapi.AuthConfig) (string, error) {
	v := verb{what: "pull image", id: ref}
	resp, err := call(ctx, v, c.images.PullImage,
		&runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: ref}, Auth: auth})
	if err != nil {
		return "", err
	}
	return resp.ImageRef, nil
}

// Images lists what the runtime's store holds.
func (c *Client) Images(ctx context.Context) ([]Image, error) {
	v := verb{what: "list images", limit: lookTimeout}
	resp, err := call(ctx, v, c.images.ListImages, &runtimeapi.ListImagesRequest{})
	if err != nil {
		return nil, err
	}
	list := make([]Image, 0, len(resp.Images))
	for _, img := range resp.Images {
		list = append(list, imageOf(img))
	}
	return list, nil
}

// RemoveImage takes the image that ref names out of the store. Idempotent; an
// absent image is success.
func (c *Client) RemoveImage(ctx context.Context, ref string) error {
	v := verb{what: "remove image", id: ref, limit: changeTimeout}
	_, err := call(ctx, v, c.images.RemoveImage,
		&runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: ref}})
	return c.unlessGone(ctx, err, c.imageGone, ref)
}

func (c *Client) imageGone(ctx context.Context, ref string) bool {
	_, err := c.Image(ctx, ref)
	return errors.Is(err, ErrNotFound)
}

func imageOf(img *runtimeapi.Image) Image {
	out := Image{
		ID:          img.Id,
		RepoTags:    img.RepoTags,
		RepoDigests: img.RepoDigests,
		Size:        img.Size,
		Username:    img.Username,
	}
	if img.Uid != nil {
		uid := img.Uid.Value
		out.UID = &uid
	}
	return out
}
