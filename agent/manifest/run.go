package manifest

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// slowLook finds what no event tells: a mount over the directory, a file
	// behind a symlink, another machine's write to a shared file system.
	slowLook = 30 * time.Second
	// writeWait is how long a writer may pause before its file is read all the
	// same; closing the file ends the wait at once.
	writeWait = time.Second
	// goneWait is how long a name may be absent while an editor or git puts
	// the new file in its place.
	goneWait = 100 * time.Millisecond
)

// Run calls changed with the directory's state at once and after each change,
// until ctx ends. A file counts when its writer closes it or renames it into
// place. changed is called from one goroutine; while it runs, further changes
// gather. A caller that could not act on a snapshot keeps it and tries again.
func (d *Directory) Run(ctx context.Context, changed func(Snapshot)) error {
	w := d.watch()
	defer w.close()
	timer := time.NewTimer(slowLook)
	defer timer.Stop()
	var last *Snapshot
	for {
		d.setNote(w.follow(d.dir))
		if s := d.Read(); last == nil || !reflect.DeepEqual(s, *last) {
			last = &s
			changed(s)
		}
		timer.Reset(d.due(time.Now()))
		if !d.wait(ctx, w, timer) {
			return nil
		}
		d.settle(time.Now())
	}
}

// wait returns when it is time to look again, false when ctx has ended.
func (d *Directory) wait(ctx context.Context, w *watcher, timer *time.Timer) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case batch := <-w.events:
			look := d.heed(batch, time.Now())
			for more := true; more; {
				select {
				case batch = <-w.events:
					look = d.heed(batch, time.Now()) || look
				default:
					more = false
				}
			}
			if look {
				return true
			}
			timer.Reset(d.due(time.Now()))
		}
	}
}

// due is how long until the next name has been waited for, or until the slow look.
func (d *Directory) due(now time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	wait := slowLook
	for _, until := range d.unsettled {
		wait = min(wait, until.Sub(now))
	}
	return max(wait, 0)
}

// settle forgets the names whose time is up: the next look takes what is there.
func (d *Directory) settle(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.unsettled, func(_ string, until time.Time) bool { return !until.After(now) })
}

// heed takes note of what happened to names and reports whether to look now.
func (d *Directory) heed(batch []event, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	look := false
	for _, e := range batch {
		switch {
		case !e.inside || e.name == "" || !eligible(e.name):
			look = true // the directory itself, or a link's target behind a dot name
		case e.mask&(unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO) != 0:
			delete(d.unsettled, e.name)
			look = true
		case e.mask&unix.IN_CREATE != 0 && !d.fresh(e.name):
			delete(d.unsettled, e.name)
			look = true
		case e.mask&(unix.IN_CREATE|unix.IN_MODIFY) != 0:
			d.unsettled[e.name] = now.Add(writeWait)
		case e.mask&(unix.IN_DELETE|unix.IN_MOVED_FROM) != 0:
			d.unsettled[e.name] = now.Add(goneWait)
		default:
			look = true // its mode or owner
		}
	}
	return look
}

// fresh reports whether a name that appeared is a new file, whose writer will
// close it; a link comes whole.
func (d *Directory) fresh(name string) bool {
	fi, err := os.Lstat(filepath.Join(d.dir, name))
	if err != nil {
		return true // gone again: the event that says so is on its way
	}
	if !fi.Mode().IsRegular() {
		return false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return !ok || st.Nlink == 1
}

// setNote remembers what slows the watching, and logs it once.
func (d *Directory) setNote(note string) {
	d.mu.Lock()
	before := d.note
	d.note = note
	d.mu.Unlock()
	if note != before && note != "" {
		d.logger.Warn("manifest directory is watched slowly", slog.String("dir", d.dir), slog.String("reason", note))
	}
}
