package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	defaults "k8s.io/kubernetes/pkg/apis/core/v1"
)

// What a record's file is named. Neither a namespace nor a pod's name holds an
// underscore, so names do not collide; what ends in tmp is a write that a crash
// cut short.
const (
	ending       = ".json"
	tmpEnding    = ".tmp"
	brokenEnding = ".broken"
	deviceFile   = "device"
)

// disk is the few operations by which a record gets onto the disk; a test
// cuts them short.
type disk interface {
	// Create writes a new file and has it on the disk when it returns.
	Create(name string, text []byte) error
	Rename(from, to string) error
	Remove(name string) error
	// SyncDir has the directory's names on the disk when it returns.
	SyncDir(dir string) error
}

func (s *Store) path(key types.NamespacedName) string {
	return filepath.Join(s.dir, key.Namespace+"_"+key.Name+ending)
}

// write makes e the record of key. After a crash the disk holds the record
// before or the one after, never none.
func (s *Store) write(key types.NamespacedName, e *entry) error {
	kept := e.clone()
	kept.Pod.ResourceVersion = ""
	if !over(kept.Pod) {
		kept.Pod.Status = corev1.PodStatus{} // observed again after a restart
	}
	text, err := json.MarshalIndent(kept, "", " ")
	if err != nil {
		return fmt.Errorf("record pod %s: %w", key, err)
	}
	if err := s.replace(s.path(key), append(text, '\n')); err != nil {
		return fmt.Errorf("record pod %s: %w", key, err)
	}
	return nil
}

// replace writes a file atomically.
func (s *Store) replace(path string, text []byte) error {
	tmp := path + tmpEnding
	if err := s.disk.Create(tmp, text); err != nil {
		return errors.Join(err, s.absent(tmp))
	}
	if err := s.disk.Rename(tmp, path); err != nil {
		return errors.Join(err, s.absent(tmp))
	}
	return s.disk.SyncDir(s.dir)
}

// absent removes a file; that there is none is success.
func (s *Store) absent(path string) error {
	if err := s.disk.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (s *Store) erase(key types.NamespacedName) error {
	err := s.absent(s.path(key))
	if err == nil {
		err = s.disk.SyncDir(s.dir)
	}
	if err != nil {
		return fmt.Errorf("erase record of pod %s: %w", key, err)
	}
	return nil
}

// load reads what an earlier agent left.
func (s *Store) load() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		path := filepath.Join(s.dir, f.Name())
		switch {
		case strings.HasSuffix(f.Name(), tmpEnding):
			if err := s.absent(path); err != nil {
				return err
			}
		case strings.HasSuffix(f.Name(), ending):
			if err := s.adopt(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// adopt reads one record, or sets it aside.
func (s *Store) adopt(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	e := &entry{}
	err = json.Unmarshal(text, e)
	switch {
	case err != nil:
	case e.Pod == nil || e.Pod.UID == "" || e.Pod.Name == "":
		err = errors.New("holds no pod")
	case s.path(nameOf(e.Pod)) != path:
		err = fmt.Errorf("holds pod %s", nameOf(e.Pod))
	}
	if err != nil {
		s.logger.Error("broken record was set aside", slog.String("file", path), slog.Any("error", err))
		return s.disk.Rename(path, path+brokenEnding)
	}
	complete(e.Pod)
	if e.Next != nil {
		complete(e.Next)
	}
	if e.durable = over(e.Pod); !e.durable {
		e.Pod.Status.Phase = corev1.PodPending
	}
	s.touch(e.Pod)
	s.entries[nameOf(e.Pod)] = e
	return nil
}

// complete fills in the defaults that a newer upstream has, so that an upgrade
// of the agent does not look like an edit of every pod.
func complete(pod *corev1.Pod) { defaults.SetObjectDefaults_Pod(pod) }

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

// kernel is the real disk.
type kernel struct{}

func (kernel) Create(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (kernel) Rename(from, to string) error { return os.Rename(from, to) }
func (kernel) Remove(name string) error     { return os.Remove(name) }

func (kernel) SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
