package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// stamps hears of containers' first instructions: each writes its pod's name
// into a pipe that all of them mount, and the pipe's reader looks at the clock.
type stamps struct {
	pipe   *os.File
	reader sync.WaitGroup

	mu    sync.Mutex
	times map[string][]time.Time
	news  chan struct{} // closed and replaced at every stamp
}

func listen(path string) (*stamps, error) {
	if err := unix.Mkfifo(path, 0o666); err != nil {
		return nil, fmt.Errorf("make pipe %s: %w", path, err)
	}
	pipe, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	s := &stamps{pipe: pipe, times: map[string][]time.Time{}, news: make(chan struct{})}
	s.reader.Go(func() {
		for sc := bufio.NewScanner(pipe); sc.Scan(); {
			s.add(sc.Text())
		}
	})
	return s, nil
}

func (s *stamps) add(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times[name] = append(s.times[name], time.Now())
	close(s.news)
	s.news = make(chan struct{})
}

// wait returns when the nth container of a pod began, n counting from 1.
func (s *stamps) wait(ctx context.Context, name string, n int) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for {
		s.mu.Lock()
		times, news := s.times[name], s.news
		s.mu.Unlock()
		if len(times) >= n {
			return times[n-1], nil
		}
		select {
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("wait for start %d of pod %s: %w", n, name, ctx.Err())
		case <-news:
		}
	}
}

// last returns when the last of the pods began.
func (s *stamps) last(ctx context.Context, names []string) (time.Time, error) {
	var last time.Time
	for _, name := range names {
		at, err := s.wait(ctx, name, 1)
		if err != nil {
			return last, err
		}
		if at.After(last) {
			last = at
		}
	}
	return last, nil
}

func (s *stamps) close() {
	s.pipe.Close()
	s.reader.Wait()
}
