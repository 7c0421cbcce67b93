// Package archive reads image files: what docker save writes, and OCI layouts,
// both also gzipped. It owns their formats and says what must be stored for this
// machine's platform; it never stores anything and asks nobody. Open a file, take
// its Images, close it when their blobs have been read.
package archive

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"strings"
)

const (
	documentLimit = 4 << 20 // manifests and configurations are far smaller
	entryLimit    = 100_000
)

// Archive is an image file: a tar whose entries are read in any order.
type Archive struct {
	file    file
	entries map[string]section // by clean path
}

// section is where an entry's bytes stand in the tar; link is the entry that
// it stands for instead.
type section struct {
	offset, size int64
	link         string
}

// Open opens the image file and reads its directory. A gzipped one is unpacked
// first, into a nameless file in scratch.
func Open(name, scratch string) (*Archive, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	if plain, err := gunzip(f, scratch); err != nil {
		f.Close()
		return nil, err
	} else if plain != nil {
		f.Close()
		f = plain
	}
	a, err := read(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return a, nil
}

// Close ends the use of the images' blobs too.
func (a *Archive) Close() error { return a.file.Close() }

// gunzip returns nil when f is not gzipped.
func gunzip(f *os.File, scratch string) (*os.File, error) {
	var magic [2]byte
	if _, err := f.ReadAt(magic[:], 0); err != nil || magic != [2]byte{0x1f, 0x8b} {
		return nil, nil
	}
	zr, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	plain, err := os.CreateTemp(scratch, ".image-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(plain.Name()); err != nil {
		plain.Close()
		return nil, err
	}
	if _, err := io.Copy(plain, zr); err != nil {
		plain.Close()
		return nil, fmt.Errorf("unpack gzip: %w", err)
	}
	_, err = plain.Seek(0, io.SeekStart)
	return plain, err
}

// file is what an open tar file can do.
type file interface {
	io.ReadSeekCloser
	io.ReaderAt
}

// read reads the tar's headers and no content.
func read(f file) (*Archive, error) {
	a := &Archive{file: f, entries: map[string]section{}}
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read tar: %w", err)
		}
		offset, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		name := path.Clean("/" + h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			if h.Size > end-offset {
				return nil, fmt.Errorf("read tar: %s is cut off", h.Name)
			}
			a.entries[name] = section{offset: offset, size: h.Size}
		case tar.TypeSymlink: // old docker saves a layer once
			a.entries[name] = section{link: path.Join(path.Dir(name), h.Linkname)}
		case tar.TypeLink:
			a.entries[name] = section{link: path.Clean("/" + h.Linkname)}
		}
		if len(a.entries) > entryLimit {
			return nil, fmt.Errorf("read tar: more than %d entries", entryLimit)
		}
	}
	if len(a.entries) == 0 {
		return nil, errors.New("read tar: no file in it")
	}
	return a, nil
}

// open is the entry's content; one link is followed.
func (a *Archive) open(name string) (*io.SectionReader, error) {
	s, ok := a.entries[path.Clean("/"+name)]
	if ok && s.link != "" {
		s, ok = a.entries[s.link]
	}
	if !ok || s.link != "" {
		return nil, fmt.Errorf("read %s: not in the archive", name)
	}
	return io.NewSectionReader(a.file, s.offset, s.size), nil
}

func (a *Archive) has(name string) bool {
	_, ok := a.entries[path.Clean("/"+name)]
	return ok
}

// document is a small entry as a whole.
func (a *Archive) document(name string) ([]byte, error) {
	r, err := a.open(name)
	if err != nil {
		return nil, err
	}
	if r.Size() > documentLimit {
		return nil, fmt.Errorf("read %s: %d bytes are too many for a document", name, r.Size())
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return raw, nil
}

// parse reads a JSON entry into v.
func (a *Archive) parse(name string, v any) error {
	raw, err := a.document(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// digest is a finished hash as images write it.
func digest(h hash.Hash) string { return "sha256:" + hex.EncodeToString(h.Sum(nil)) }

func sum(raw []byte) string {
	h := sha256.New()
	h.Write(raw)
	return digest(h)
}

// blobName is where an OCI layout keeps the blob of that digest.
func blobName(digest string) (string, error) {
	hexes, ok := strings.CutPrefix(digest, "sha256:")
	if raw, err := hex.DecodeString(hexes); !ok || err != nil || len(raw) != sha256.Size {
		return "", fmt.Errorf("%q is no sha256 digest", digest)
	}
	return "blobs/sha256/" + hexes, nil
}
