package logs

import (
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Reopener makes the runtime write a container's log to a new file at the
// same path.
type Reopener interface {
	ReopenLog(ctx context.Context, id string) error
}

// Config bounds what one container's log may take.
type Config struct {
	MaxSize  int64 // bytes after which the current file is rotated; 10 MiB when 0
	MaxFiles int   // files in all, the current one included, at least 2; 5 when 0
	Logger   *slog.Logger
}

// Rotator rotates logs. It keeps no state; one container's log is rotated by
// one caller at a time.
type Rotator struct {
	cfg Config
	r   Reopener
	now func() time.Time
}

// New returns a Rotator with the defaults filled in.
func New(cfg Config, r Reopener) *Rotator {
	cfg.MaxSize = cmp.Or(cfg.MaxSize, 10<<20)
	cfg.MaxFiles = max(2, cmp.Or(cfg.MaxFiles, 5))
	return &Rotator{cfg: cfg, r: r, now: time.Now}
}

const (
	stamp      = "20060102-150405"
	packed     = ".gz"
	unfinished = ".tmp"
)

// Rotate looks at a running container's log once and rotates it when it has
// grown too large. Dying at any step loses no line; the next call finishes
// what was begun: a file renamed without a new one, a compression half done.
func (r *Rotator) Rotate(ctx context.Context, containerID, path string) error {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = r.r.ReopenLog(ctx, containerID)
	case err == nil && st.Size() >= r.cfg.MaxSize:
		err = r.rotate(ctx, containerID, path)
	}
	if err != nil {
		return fmt.Errorf("rotate log %s: %w", path, err)
	}
	return nil
}

func (r *Rotator) rotate(ctx context.Context, id, path string) error {
	old, err := tidy(path)
	if err != nil {
		return err
	}
	// Two places are for the new file and the one about to be renamed. The
	// oldest go first, readers of the others are not disturbed.
	for len(old) > r.cfg.MaxFiles-2 {
		if err := os.Remove(old[0]); err != nil {
			return err
		}
		old = old[1:]
	}
	for _, f := range old {
		if strings.HasSuffix(f, packed) {
			continue
		}
		if err := errors.Join(ctx.Err(), compress(f)); err != nil {
			return err
		}
	}
	to := path + "." + r.nextStamp(path, old)
	if err := os.Rename(path, to); err != nil {
		return err
	}
	if err := r.r.ReopenLog(ctx, id); err != nil {
		// The runtime still writes to the renamed file. Give it its name
		// back, unless it has made a new one after all.
		back := unix.Renameat2(unix.AT_FDCWD, to, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
		if errors.Is(back, unix.EEXIST) {
			back = nil
		}
		return errors.Join(err, back)
	}
	r.cfg.Logger.Info("log rotated", "container", id, "file", to)
	return nil
}

// nextStamp is the time, or a second after the newest rotated file's when
// the clock has not moved on since, or back: names must sort by age.
func (r *Rotator) nextStamp(path string, old []string) string {
	now := r.now().UTC().Truncate(time.Second)
	if len(old) > 0 {
		last := strings.TrimSuffix(strings.TrimPrefix(old[len(old)-1], path+"."), packed)
		if t, err := time.Parse(stamp, last); err == nil && !now.After(t) {
			now = t.Add(time.Second)
		}
	}
	return now.Format(stamp)
}

// tidy removes what an interrupted rotation left and lists the rotated files
// of path, oldest first.
func tidy(path string) ([]string, error) {
	dir, base := filepath.Split(path)
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range list {
		if strings.HasPrefix(e.Name(), base+".") && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	var kept []string
	for _, name := range names {
		if strings.HasSuffix(name, unfinished) || slices.Contains(names, name+packed) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return nil, err
			}
			continue
		}
		kept = append(kept, filepath.Join(dir, name))
	}
	return kept, nil // ReadDir sorts by name, and names sort by time
}

// compress replaces file by file.gz, which appears only when it is whole and
// on disk.
func compress(file string) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(file+unfinished, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	defer out.Close()
	z := gzip.NewWriter(out)
	if _, err := io.Copy(z, in); err != nil {
		return fmt.Errorf("compress %s: %w", file, err)
	}
	if err := errors.Join(z.Close(), out.Sync()); err != nil {
		return fmt.Errorf("compress %s: %w", file, err)
	}
	if err := os.Rename(file+unfinished, file+packed); err != nil {
		return err
	}
	return os.Remove(file)
}
