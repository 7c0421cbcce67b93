package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/distribution/reference"
)

const (
	mediaIndex     = "application/vnd.oci.image.index.v1+json"
	mediaList      = "application/vnd.docker.distribution.manifest.list.v2+json"
	mediaManifest  = "application/vnd.oci.image.manifest.v1+json"
	mediaConfig    = "application/vnd.oci.image.config.v1+json"
	mediaLayer     = "application/vnd.oci.image.layer.v1.tar"
	nameAnnotation = "io.containerd.image.name"          // written by docker and containerd
	refAnnotation  = "org.opencontainers.image.ref.name" // a reference, or a tag alone
)

// descriptor, manifest and the rest are the parts of the OCI image format
// that matter here.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Platform    *platform         `json:"platform,omitempty"`
}

type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType,omitempty"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

type index struct {
	Manifests []descriptor `json:"manifests"`
}

type imageConfig struct {
	platform
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// Image is what has to be stored: the manifest, and everything that it names.
type Image struct {
	Names []string // complete, as docker completes them
	Blobs []Blob   // in the order of storing: configuration, layers, manifest
}

// Config is the image's configuration; its digest is CRI's id of the image.
func (i Image) Config() Blob { return i.Blobs[0] }

// Layers is the image's content, lowest first.
func (i Image) Layers() []Blob { return i.Blobs[1 : len(i.Blobs)-1] }

// Manifest is what the names stand for.
func (i Image) Manifest() Blob { return i.Blobs[len(i.Blobs)-1] }

// Blob is one piece of content.
type Blob struct {
	MediaType string
	Digest    string // "sha256:..."
	Size      int64
	Content   io.ReaderAt // Size bytes
}

func (b Blob) descriptor() descriptor {
	return descriptor{MediaType: b.MediaType, Digest: b.Digest, Size: b.Size}
}

// Images reads what the archive holds for this machine's platform: a docker
// save, or an OCI layout (newer docker saves are both).
func (a *Archive) Images() ([]Image, error) {
	switch {
	case a.has("manifest.json"):
		return a.dockerImages()
	case a.has("index.json"):
		return a.layoutImages()
	}
	return nil, errors.New("neither a docker save nor an OCI layout: no manifest.json or index.json in it")
}

func (a *Archive) dockerImages() ([]Image, error) {
	var saved []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := a.parse("manifest.json", &saved); err != nil {
		return nil, err
	}
	var all []Image
	for _, s := range saved {
		names, err := normalise(s.RepoTags)
		if err != nil {
			return nil, fmt.Errorf("read manifest.json: %w", err)
		}
		img, err := a.dockerImage(s.Config, s.Layers)
		if err != nil {
			return nil, err
		}
		img.Names = names
		all = append(all, img)
	}
	if len(all) == 0 {
		return nil, errors.New("read manifest.json: no image in it")
	}
	return all, nil
}

// dockerImage writes the manifest that docker save leaves out.
func (a *Archive) dockerImage(configName string, layers []string) (Image, error) {
	cfg, err := a.measure(configName)
	if err != nil {
		return Image{}, err
	}
	cfg.MediaType = mediaConfig
	diffs, err := a.checkConfig(configName)
	if err != nil {
		return Image{}, err
	}
	if len(diffs) != len(layers) {
		return Image{}, fmt.Errorf("read %s: it names %d layers, manifest.json %d", configName, len(diffs), len(layers))
	}
	m := manifest{SchemaVersion: 2, MediaType: mediaManifest, Config: cfg.descriptor()}
	img := Image{Blobs: []Blob{cfg}}
	for i, name := range layers {
		l, err := a.measure(name)
		if err != nil {
			return Image{}, err
		}
		suffix, err := compression(l.Content)
		if err != nil {
			return Image{}, fmt.Errorf("read %s: %w", name, err)
		}
		if suffix == "" && l.Digest != diffs[i] {
			return Image{}, fmt.Errorf("read %s: it is %s, the image's configuration wants %s", name, l.Digest, diffs[i])
		}
		l.MediaType = mediaLayer + suffix
		m.Layers = append(m.Layers, l.descriptor())
		img.Blobs = append(img.Blobs, l)
	}
	text, err := json.Marshal(m)
	if err != nil {
		return Image{}, err
	}
	img.Blobs = append(img.Blobs, Blob{mediaManifest, sum(text), int64(len(text)), bytes.NewReader(text)})
	return img, nil
}

// measure reads the entry through for its digest.
func (a *Archive) measure(name string) (Blob, error) {
	r, err := a.open(name)
	if err != nil {
		return Blob{}, err
	}
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return Blob{}, fmt.Errorf("read %s: %w", name, err)
	}
	return Blob{Digest: digest(h), Size: r.Size(), Content: r}, nil
}

// compression is the suffix of a layer's media type.
func compression(r io.ReaderAt) (string, error) {
	var magic [4]byte
	n, err := r.ReadAt(magic[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	switch {
	case bytes.HasPrefix(magic[:n], []byte{0x1f, 0x8b}):
		return "+gzip", nil
	case bytes.Equal(magic[:n], []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return "+zstd", nil
	}
	return "", nil
}

// checkConfig refuses an image for another machine and returns the digests of
// the unpacked layers.
func (a *Archive) checkConfig(name string) ([]string, error) {
	var cfg imageConfig
	if err := a.parse(name, &cfg); err != nil {
		return nil, err
	}
	if cfg.OS != "linux" || cfg.Architecture != runtime.GOARCH {
		return nil, fmt.Errorf("the image is for %s/%s, this machine is linux/%s", cfg.OS, cfg.Architecture, runtime.GOARCH)
	}
	return cfg.RootFS.DiffIDs, nil
}

// normalise completes names as docker does: busybox is
// docker.io/library/busybox:latest.
func normalise(names []string) ([]string, error) {
	var full []string
	for _, name := range names {
		ref, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return nil, fmt.Errorf("name an image %q: %w", name, err)
		}
		full = append(full, reference.TagNameOnly(ref).String())
	}
	if len(full) == 0 {
		return nil, errors.New("an image has no name (save it by name, not by id)")
	}
	return full, nil
}

// annotatedName is the full name in a descriptor's annotations, or "".
func annotatedName(annotations map[string]string) string {
	if name := annotations[nameAnnotation]; name != "" {
		return name
	}
	if ref := annotations[refAnnotation]; strings.ContainsAny(ref, "/:@") {
		return ref
	}
	return ""
}
