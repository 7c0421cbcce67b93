package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
)

// nesting is how deep an index may stand in an index.
const nesting = 3

// layoutImages reads an OCI layout. Descriptors without a name are parts of
// others and are passed over.
func (a *Archive) layoutImages() ([]Image, error) {
	var top index
	if err := a.parse("index.json", &top); err != nil {
		return nil, err
	}
	var all []Image
	for _, d := range top.Manifests {
		name := annotatedName(d.Annotations)
		if name == "" {
			continue
		}
		names, err := normalise([]string{name})
		if err != nil {
			return nil, fmt.Errorf("read index.json: %w", err)
		}
		img, err := a.layoutImage(d, nesting)
		if err != nil {
			return nil, fmt.Errorf("read image %s: %w", name, err)
		}
		img.Names = names
		all = append(all, img)
	}
	if len(all) == 0 {
		return nil, errors.New("read index.json: no image in it has a full name (annotation " + nameAnnotation + " or " + refAnnotation + ")")
	}
	return all, nil
}

// layoutImage follows an index to the manifest for this machine.
func (a *Archive) layoutImage(d descriptor, deep int) (Image, error) {
	text, err := a.verified(d)
	if err != nil {
		return Image{}, err
	}
	if d.MediaType != mediaIndex && d.MediaType != mediaList {
		return a.manifestImage(d, text)
	}
	var idx index
	if err := json.Unmarshal(text, &idx); err != nil {
		return Image{}, fmt.Errorf("read index %s: %w", d.Digest, err)
	}
	if deep == 0 {
		return Image{}, fmt.Errorf("read index %s: nested too deep", d.Digest)
	}
	for _, m := range idx.Manifests {
		if p := m.Platform; p == nil || p.OS == "linux" && p.Architecture == runtime.GOARCH {
			return a.layoutImage(m, deep-1)
		}
	}
	return Image{}, fmt.Errorf("read index %s: nothing in it for linux/%s", d.Digest, runtime.GOARCH)
}

// manifestImage keeps the manifest as it is, so that its digest stays. The
// layers' digests are checked while they are written.
func (a *Archive) manifestImage(d descriptor, text []byte) (Image, error) {
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return Image{}, fmt.Errorf("read manifest %s: %w", d.Digest, err)
	}
	if _, err := a.verified(m.Config); err != nil {
		return Image{}, err
	}
	name, err := blobName(m.Config.Digest)
	if err != nil {
		return Image{}, err
	}
	diffs, err := a.checkConfig(name)
	if err != nil {
		return Image{}, err
	}
	if len(diffs) != len(m.Layers) {
		return Image{}, fmt.Errorf("read manifest %s: it names %d layers, its configuration %d", d.Digest, len(m.Layers), len(diffs))
	}
	var img Image
	for _, part := range append([]descriptor{m.Config}, m.Layers...) {
		name, err := blobName(part.Digest)
		if err != nil {
			return Image{}, err
		}
		r, err := a.open(name)
		if err != nil {
			return Image{}, err
		}
		if r.Size() != part.Size {
			return Image{}, fmt.Errorf("read %s: %d bytes, the manifest says %d", name, r.Size(), part.Size)
		}
		img.Blobs = append(img.Blobs, Blob{part.MediaType, part.Digest, part.Size, r})
	}
	img.Blobs = append(img.Blobs, Blob{d.MediaType, d.Digest, d.Size, bytes.NewReader(text)})
	return img, nil
}

// verified is a document that has the digest which the descriptor names.
func (a *Archive) verified(d descriptor) ([]byte, error) {
	name, err := blobName(d.Digest)
	if err != nil {
		return nil, err
	}
	raw, err := a.document(name)
	if err != nil {
		return nil, err
	}
	if sum(raw) != d.Digest || int64(len(raw)) != d.Size {
		return nil, fmt.Errorf("read %s: its content is not what its name says", name)
	}
	return raw, nil
}
