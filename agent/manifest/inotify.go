package manifest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// event is one change that the kernel told of.
type event struct {
	inside bool // in the directory, not beside or above it
	name   string
	mask   uint32
}

// Masks: of the directory, everything that makes a file's content another; of
// the folder above, only what may put another directory in its place.
const (
	maskInside = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM |
		unix.IN_DELETE | unix.IN_ATTRIB | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR
	maskAbove = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE |
		unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR
)

// watcher follows one directory by inotify, through deletion and re-creation.
// It reads inotify itself because a file is whole when its writer closes it,
// which portable watchers do not tell.
type watcher struct {
	fd     *os.File // nil when inotify is not to be had
	num    int      // fd's number; asking the file for it would make reads block
	events chan []event
	done   chan struct{}
	reader sync.WaitGroup
	why    string // fd is nil

	mu     sync.Mutex
	inside mark
	above  mark
	beside string // the name in the folder above that leads to the directory
}

// mark is one inotify watch: on which inode it sits.
type mark struct {
	wd       int // 0 for none: inotify counts from 1
	dev, ino uint64
}

// watch opens inotify. Without it the slow look alone is left.
func (d *Directory) watch() *watcher {
	w := &watcher{events: make(chan []event, 64), done: make(chan struct{})}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		w.why = fmt.Sprintf("inotify: %v", err)
		return w
	}
	w.fd, w.num = os.NewFile(uintptr(fd), "inotify"), fd
	w.reader.Go(w.read)
	return w
}

func (w *watcher) close() {
	close(w.done)
	if w.fd != nil {
		w.fd.Close()
	}
	w.reader.Wait()
}

// follow puts the watches where the directory is now and says what is missing
// for changes to be seen at once, "" for nothing.
func (w *watcher) follow(dir string) string {
	if w.fd == nil {
		return w.slow(w.why)
	}
	parent := filepath.Dir(dir)
	beside := filepath.Base(dir)
	for !isDir(parent) && parent != filepath.Dir(parent) {
		parent, beside = filepath.Dir(parent), filepath.Base(parent)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.beside = beside
	err := w.put(&w.inside, dir, maskInside)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		err = nil // the watch above tells when it comes
	}
	if err = errors.Join(err, w.put(&w.above, parent, maskAbove)); err != nil {
		return w.slow(err.Error())
	}
	return ""
}

func (w *watcher) slow(why string) string {
	return fmt.Sprintf("changes are seen within %v only: %s", slowLook, why)
}

// put makes sure that m watches the inode that path leads to.
func (w *watcher) put(m *mark, path string, mask uint32) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		w.drop(m)
		return fmt.Errorf("watch %s: %w", path, err)
	}
	if m.wd != 0 && m.dev == st.Dev && m.ino == st.Ino {
		return nil
	}
	w.drop(m)
	wd, err := unix.InotifyAddWatch(w.num, path, mask)
	if errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("watch %s: %w; raise sysctl fs.inotify.max_user_watches", path, err)
	}
	if err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	*m = mark{wd, st.Dev, st.Ino}
	return nil
}

// drop takes a watch away. One that the kernel has taken away already is no error.
func (w *watcher) drop(m *mark) {
	if m.wd != 0 {
		_, _ = unix.InotifyRmWatch(w.num, uint32(m.wd))
	}
	*m = mark{}
}

func isDir(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
}

// read passes on what the kernel tells until the file is closed.
func (w *watcher) read() {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.fd.Read(buf)
		if err != nil {
			return
		}
		batch := w.decode(buf[:n])
		if len(batch) == 0 {
			continue
		}
		select {
		case w.events <- batch:
		case <-w.done:
			return
		}
	}
}

// decode reads struct inotify_event, see inotify(7), and drops what concerns
// neither the directory nor the way to it.
func (w *watcher) decode(buf []byte) []event {
	w.mu.Lock()
	defer w.mu.Unlock()
	var batch []event
	for len(buf) >= unix.SizeofInotifyEvent {
		wd := int(int32(binary.NativeEndian.Uint32(buf)))
		mask := binary.NativeEndian.Uint32(buf[4:])
		size := int(binary.NativeEndian.Uint32(buf[12:]))
		buf = buf[unix.SizeofInotifyEvent:]
		name := string(bytes.TrimRight(buf[:min(size, len(buf))], "\x00"))
		buf = buf[min(size, len(buf)):]
		switch {
		case mask&unix.IN_Q_OVERFLOW != 0:
			batch = append(batch, event{})
		case wd == w.inside.wd && mask&(unix.IN_IGNORED|unix.IN_MOVE_SELF) != 0:
			w.inside.ino = 0 // gone or elsewhere: follow looks for the path again
			batch = append(batch, event{})
		case wd == w.inside.wd:
			batch = append(batch, event{true, name, mask})
		case wd == w.above.wd && mask&(unix.IN_IGNORED|unix.IN_MOVE_SELF) != 0:
			w.above.ino = 0
			batch = append(batch, event{})
		case wd == w.above.wd && (name == w.beside || name == ""):
			batch = append(batch, event{})
		}
	}
	return batch
}
