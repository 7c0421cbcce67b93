package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	imagesv1 "github.com/containerd/containerd/api/services/images/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"pinnace/containerd/archive"
)

// loaded remembers an image file that is in the store, so that an unchanged
// one is not read again.
type loaded struct {
	Size   int64             `json:"size"`
	MTime  int64             `json:"mtime"`  // nanoseconds
	Images map[string]string `json:"images"` // name to the manifest's digest
}

// Load puts the image files of dir (docker save or OCI layout; *.tar, *.tar.gz,
// *.tgz) into the containerd at endpoint, where CRI sees them when it returns,
// and returns the names of all that are there. The record file remembers what was
// loaded: an unchanged file costs one question. A file that cannot be loaded
// leaves nothing, is named in the error, and does not keep the others out.
func Load(ctx context.Context, endpoint, dir, record string) ([]string, error) {
	files, err := imageFiles(dir)
	if err != nil || len(files) == 0 {
		return nil, err
	}
	conn, err := connect(endpoint)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx = inNamespace(ctx)
	before := readLoaded(record)
	there, err := present(ctx, conn, before)
	if err != nil {
		return nil, err
	}
	var names []string
	var errs []error
	after, fresh := map[string]loaded{}, false
	for _, file := range files {
		key := filepath.Base(file)
		entry, err := stamp(file)
		if err == nil && before[key].covers(entry, there) {
			entry = before[key]
		} else if err == nil {
			fresh = true
			entry.Images, err = loadFile(ctx, conn, file, filepath.Dir(record))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("load image file %s: %w", file, err))
			continue
		}
		after[key] = entry
		for name := range entry.Images {
			names = append(names, name)
		}
	}
	if fresh || len(after) != len(before) {
		errs = append(errs, writeLoaded(record, after))
	}
	return names, errors.Join(errs...)
}

// imageFiles is the image files in dir by name; a missing dir has none.
func imageFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list image files: %w", err)
	}
	var files []string
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || e.IsDir() {
			continue
		}
		if strings.HasSuffix(name, ".tar") || strings.HasSuffix(name, ".tar.gz") || strings.HasSuffix(name, ".tgz") {
			files = append(files, filepath.Join(dir, name))
		}
	}
	return files, nil
}

func stamp(file string) (loaded, error) {
	info, err := os.Stat(file)
	if err != nil {
		return loaded{}, err
	}
	return loaded{Size: info.Size(), MTime: info.ModTime().UnixNano()}, nil
}

// covers reports whether the file is as it was and its names still exist. What
// they mean by now is the user's business.
func (l loaded) covers(now loaded, there map[string]bool) bool {
	if l.Size != now.Size || l.MTime != now.MTime || len(l.Images) == 0 {
		return false
	}
	for name := range l.Images {
		if !there[name] {
			return false
		}
	}
	return true
}

// present asks once which of the remembered images are in the store.
func present(ctx context.Context, conn *grpc.ClientConn, before map[string]loaded) (map[string]bool, error) {
	var filters []string
	for _, l := range before {
		for name := range l.Images {
			filters = append(filters, fmt.Sprintf("name==%q", name))
		}
	}
	if len(filters) == 0 {
		filters = []string{`name=="-"`} // nothing, but it tells whether this is a containerd
	}
	resp, err := imagesv1.NewImagesClient(conn).List(ctx, &imagesv1.ListImagesRequest{Filters: filters}, grpc.WaitForReady(true))
	if status.Code(err) == codes.Unimplemented {
		return nil, errors.New("load image files: the runtime is not containerd, only containerd takes image files")
	}
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	there := map[string]bool{}
	for _, img := range resp.GetImages() {
		there[img.GetName()] = true
	}
	return there, nil
}

// loadFile returns what it put into the store.
func loadFile(ctx context.Context, conn *grpc.ClientConn, file, scratch string) (map[string]string, error) {
	a, err := archive.Open(file, scratch)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	all, err := a.Images()
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, img := range all {
		if err := newImporter(conn).add(ctx, img); err != nil {
			return nil, err
		}
		for _, name := range img.Names {
			names[name] = img.Manifest().Digest
		}
	}
	return names, nil
}

// readLoaded is empty when the record is missing or makes no sense: then
// everything is loaded again, which changes nothing.
func readLoaded(path string) map[string]loaded {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return parseLoaded(raw)
}

func parseLoaded(raw []byte) map[string]loaded {
	var all map[string]loaded
	if json.Unmarshal(raw, &all) != nil {
		return nil
	}
	return all
}

func writeLoaded(path string, all map[string]loaded) error {
	raw, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := replaceFile(path, append(raw, '\n')); err != nil {
		return fmt.Errorf("write record of image files: %w", err)
	}
	return nil
}
