package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// image is one of ours: name, entrypoint and layers, lowest first.
type image struct {
	name       string
	entrypoint []string
	layers     [][]entry
}

// entry is a file of a layer; a link when link is set, a folder when its name
// ends in a slash.
type entry struct {
	name string
	mode int64
	link string
	data []byte
}

func (i image) ref() string { return "localhost/pinnace/" + i.name + ":1" }

// write replaces the archive at path in one rename and returns the digest of
// the image's manifest.
func (i image) write(path string) (string, error) {
	img, err := i.build()
	if err != nil {
		return "", err
	}
	tag, err := name.NewTag(i.ref())
	if err != nil {
		return "", err
	}
	part := path + ".part" // not *.tar: nobody takes it for an archive
	defer os.Remove(part)
	if err := tarball.WriteToFile(part, tag, img); err != nil {
		return "", err
	}
	digest, err := img.Digest()
	if err != nil {
		return "", err
	}
	return digest.String(), os.Rename(part, path)
}

func (i image) build() (v1.Image, error) {
	var img v1.Image = empty.Image
	for _, files := range i.layers {
		raw, err := layer(files)
		if err != nil {
			return nil, err
		}
		l, err := tarball.LayerFromOpener(
			func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
			tarball.WithCompressionLevel(gzip.BestSpeed))
		if err != nil {
			return nil, err
		}
		if img, err = mutate.AppendLayers(img, l); err != nil {
			return nil, err
		}
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", runtime.GOARCH
	cfg.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	cfg.Config.Entrypoint = i.entrypoint
	cfg.Config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	return mutate.ConfigFile(img, cfg)
}

// layer is the tar of files, with every time at zero and root as the owner.
func layer(files []entry) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), Linkname: f.link, Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0)}
		switch {
		case f.link != "":
			h.Typeflag = tar.TypeSymlink
		case f.name[len(f.name)-1] == '/':
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("write %s: %w", f.name, err)
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, fmt.Errorf("write %s: %w", f.name, err)
		}
	}
	err := w.Close()
	return buf.Bytes(), err
}
