package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

const (
	readyLimit = 30 * time.Second // for the socket to answer
	endGrace   = 10 * time.Second // between SIGTERM and SIGKILL

	firstDelay = 100 * time.Millisecond // before a dead daemon is started again
	lastDelay  = 10 * time.Second
	steady     = time.Minute // a daemon that lived so long starts the delays anew
)

// Daemon is the private containerd of one node. Its methods are called one
// after the other by one goroutine.
type Daemon struct {
	cfg     Config
	binary  binary
	version version
	running process
}

// New finds containerd, its shim and runc and asks for the version; it starts
// nothing. The error names everything that is missing.
func New(cfg Config) (*Daemon, error) {
	path, err := findDaemon(cfg.Binary)
	if err != nil {
		return nil, err
	}
	bin, err := statBinary(path)
	if err != nil {
		return nil, fmt.Errorf("find containerd: %w", err)
	}
	d := &Daemon{cfg: cfg, binary: bin}
	if r := readRecord(cfg.recordFile()); r.Binary == bin && r.Version.atLeast(1, 6) {
		d.version = r.Version
		return d, nil
	}
	d.version, err = askVersion(path)
	return d, err
}

// Endpoint is the address of the CRI and of containerd's own services.
func (d *Daemon) Endpoint() string { return "unix://" + d.cfg.socket() }

// Start returns when CRI answers: from the daemon that already runs when its
// binary and configuration are still the same, else from a new one. Running pods
// notice neither. When ctx ends first, what was started stays for the next call.
func (d *Daemon) Start(ctx context.Context) error {
	text, err := d.prepare()
	if err != nil {
		return fmt.Errorf("prepare containerd: %w", err)
	}
	rec := readRecord(d.cfg.recordFile())
	p, err := d.cfg.find(rec)
	switch {
	case errors.Is(err, errGone):
	case err != nil:
		return fmt.Errorf("find running containerd: %w", err)
	case p == rec.Process && rec.Binary == d.binary && rec.Config == digest(text):
		if err = d.ready(ctx, p); err == nil {
			d.running = p
			d.cfg.Logger.Info("adopted containerd", "pid", p.PID, "version", d.version)
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		d.cfg.Logger.Warn("containerd did not answer and is replaced", "pid", p.PID, "error", err)
		fallthrough
	default:
		if err := p.end(ctx, endGrace); err != nil {
			return fmt.Errorf("end containerd: %w", err)
		}
	}
	if d.running, err = d.launch(digest(text)); err != nil {
		return err
	}
	if err := d.ready(ctx, d.running); err != nil {
		return err
	}
	d.cfg.Logger.Info("started containerd", "pid", d.running.PID, "version", d.version)
	return nil
}

// prepare makes the folders and writes the configuration, which it returns.
func (d *Daemon) prepare() ([]byte, error) {
	for _, dir := range []string{d.cfg.Root, d.cfg.Run, d.cfg.certs(), d.cfg.CNIBin, d.cfg.CNIConf} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, err
		}
	}
	text, err := render(settings{d.cfg, d.version, snapshotter(d.cfg.Root)})
	if err != nil {
		return nil, err
	}
	return text, writeChanged(d.cfg.configFile(), text)
}

// Run keeps the daemon alive until ctx ends, and leaves it running then. A
// dead one is started again after a delay that doubles from 0.1 s to 10 s.
func (d *Daemon) Run(ctx context.Context) error {
	delay := firstDelay
	for {
		since := time.Now()
		if err := d.running.wait(ctx); err != nil {
			return ended(ctx, err)
		}
		if time.Since(since) > steady {
			delay = firstDelay
		}
		d.cfg.Logger.Error("containerd ended and is started again", "pid", d.running.PID, "delay", delay, "error", d.died())
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(delay):
			}
			delay = min(2*delay, lastDelay)
			err := d.Start(ctx)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return nil
			}
			d.cfg.Logger.Error("containerd was not started", "delay", delay, "error", err)
		}
	}
}

// ended is nil when the error only says that ctx ended.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
