package network

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// inNamespace runs fn on a thread that sits in the network namespace of fd.
// fn must not start goroutines and expect them there. The thread goes home
// afterwards; one that cannot dies with its goroutine instead of carrying
// somebody else's code into the pod.
func inNamespace(fd int, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("open own network namespace: %w", err)
			return
		}
		defer unix.Close(home)
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		err = fn()
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// checkNamespace refuses what is no network namespace, and the node's own.
func checkNamespace(f *os.File) error {
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		return errors.New("not a network namespace")
	}
	var theirs, ours unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &theirs); err != nil {
		return fmt.Errorf("look at network namespace: %w", err)
	}
	// Not /proc/self: that is the main thread, which may be visiting a pod.
	if err := unix.Stat("/proc/thread-self/ns/net", &ours); err != nil {
		return fmt.Errorf("look at own network namespace: %w", err)
	}
	if theirs.Ino == ours.Ino && theirs.Dev == ours.Dev {
		return errors.New("the node's own network namespace: a pod on it gets no network of its own")
	}
	return nil
}

// dropNamespace unmounts a namespace that a dead sandbox left at path: a
// runtime that is killed while it starts a sandbox forgets it. Anything but a
// network namespace's mount is left alone; the absent is dropped already.
func dropNamespace(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return nil // not there, or not for us to see
	}
	err = checkNamespace(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil
	}
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
		return nil // a path in /proc: a process lives there, and the kernel cleans up after it
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("drop network namespace: %w", err)
	}
	return nil
}
