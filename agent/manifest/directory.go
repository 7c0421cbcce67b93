package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Directory reads the manifests of one directory, parsing again only what
// changed. It is safe for concurrent use.
type Directory struct {
	dir    string
	check  Check
	logger *slog.Logger

	mu        sync.Mutex
	cache     map[string]cached
	unsettled map[string]time.Time // names that are being written or just went, until when to wait
	note      string
}

// Open prepares to read dir, which need not exist yet. Nothing is read.
func Open(dir string, check Check, logger *slog.Logger) *Directory {
	return &Directory{
		dir: filepath.Clean(dir), check: check, logger: logger,
		cache: map[string]cached{}, unsettled: map[string]time.Time{},
	}
}

// stamp tells one content of a file from another without reading it.
type stamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime int64 // nanoseconds
}

// cached is a verdict and what it was formed on.
type cached struct {
	stamp stamp
	// firm is false when the file had been touched just before it was read:
	// a second write may bear the same time.
	firm bool
	file File
}

// settling is how long a file's times must be past before they are trusted;
// kernels stamp files with a clock that ticks every 1 to 10 ms.
const settling = 50 * time.Millisecond

// Read looks at the directory now. A file that is being written, or went a
// moment ago, keeps its last verdict for as long as Run waits for it.
func (d *Directory) Read() Snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := Snapshot{Dir: d.dir, Note: d.note}
	entries, device, err := list(d.dir)
	if err != nil {
		s.Reason = fmt.Sprintf("%v: the pods that run go on, none is removed", err)
		return s
	}
	s.Whole, s.Device = true, device
	next := map[string]cached{}
	for name := range d.unsettled {
		if old, ok := d.cache[name]; ok {
			next[name] = old
		}
	}
	for _, e := range entries {
		name := e.Name()
		if _, wait := d.unsettled[name]; wait || strings.HasPrefix(name, ".") || e.IsDir() {
			continue
		}
		if !eligible(name) {
			s.Ignored = append(s.Ignored, name)
			continue
		}
		if c, ok := d.look(name); ok {
			next[name] = c
		}
	}
	d.cache = next
	for _, c := range next {
		s.Files = append(s.Files, c.file)
	}
	slices.SortFunc(s.Files, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	return s
}

// eligible reports whether a name is a manifest's.
func eligible(name string) bool {
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".json":
		return !strings.HasPrefix(name, ".")
	}
	return false
}

// list reads the names in dir and says which file system it lies on.
func list(dir string) ([]fs.DirEntry, string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, "", fmt.Errorf("read directory %s: %w", dir, bare(err))
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, "", fmt.Errorf("read directory %s: %w", dir, bare(err))
	}
	device, err := identify(f)
	if err != nil {
		return nil, "", fmt.Errorf("read directory %s: %w", dir, err)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return entries, device, nil
}

// identify names the file system of an open file: its own id, which outlives
// a reboot on ext4, xfs and btrfs, or the device number where it has none.
func identify(f *os.File) (string, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return "", fmt.Errorf("statfs: %w", err)
	}
	if st.Fsid.Val != [2]int32{} {
		return fmt.Sprintf("%x:%08x%08x", st.Type, uint32(st.Fsid.Val[0]), uint32(st.Fsid.Val[1])), nil
	}
	var dev unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &dev); err != nil {
		return "", fmt.Errorf("stat: %w", err)
	}
	return fmt.Sprintf("%x:%d", st.Type, dev.Dev), nil
}

// look returns the verdict on one name, false when it is no file (any more).
func (d *Directory) look(name string) (cached, bool) {
	path := filepath.Join(d.dir, name)
	c := cached{file: File{Name: name}}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		if _, lerr := os.Lstat(path); errors.Is(lerr, fs.ErrNotExist) {
			return c, false
		}
		c.file.Problems = []Problem{{Reason: fmt.Sprintf("cannot be read: %v", err)}}
		return c, true
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return c, false
	}
	c.stamp = stamp{st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}
	if old := d.cache[name]; old.firm && old.stamp == c.stamp {
		return old, true
	}
	c.firm = time.Since(time.Unix(0, max(c.stamp.mtime, c.stamp.ctime))) > settling
	text, err := read(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return c, false
		}
		c.file.Problems = []Problem{{Reason: fmt.Sprintf("cannot be read: %v", bare(err))}}
		c.firm = false
		return c, true
	}
	c.file = Parse(name, text, d.check)
	return c, true
}

// read takes in one byte more than a manifest may have. It does not hang on a
// pipe that took the file's place.
func read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxSize+1))
}

// bare is an error without the path, which the sentence around it has.
func bare(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
