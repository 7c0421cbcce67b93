package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// requestLimit bounds what a hook may send: twice what the hook reads from
	// the runtime, whose largest part is the pod's annotations (256 KiB).
	requestLimit = 2 << 20
	// callTimeout ends a hook's connection that went quiet.
	callTimeout = 10 * time.Second
)

// listen opens the hook's socket for root alone. It is bound under another
// name and renamed: there is no moment without a socket while one agent takes
// over from another, and none with wider permission.
func listen(ctx context.Context, path string) (*net.UnixListener, error) {
	fresh := filepath.Join(filepath.Dir(path), ".new-"+filepath.Base(path))
	if err := os.RemoveAll(fresh); err != nil {
		return nil, fmt.Errorf("open hook socket: %w", err)
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var modeErr error
		err := c.Control(func(fd uintptr) { modeErr = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(err, modeErr)
	}}
	l, err := lc.Listen(ctx, "unix", fresh)
	if err != nil {
		return nil, fmt.Errorf("open hook socket: %w", err)
	}
	socket, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("open hook socket: got a %T", l), l.Close())
	}
	socket.SetUnlinkOnClose(false)
	if err := os.Rename(fresh, path); err != nil {
		return nil, errors.Join(fmt.Errorf("open hook socket: %w", err), socket.Close(), os.RemoveAll(fresh))
	}
	return socket, nil
}

// Run serves the hook until ctx ends, then finishes the calls that are under
// way. Start must have succeeded. The socket file stays: a hook that calls
// while nobody listens is refused at once and says so.
func (n *Network) Run(ctx context.Context) error {
	n.start.Lock()
	socket := n.listener
	n.start.Unlock()
	if socket == nil {
		return errors.New("serve hook: network is not started")
	}
	stop := context.AfterFunc(ctx, func() { socket.Close() })
	defer stop()
	defer socket.Close()
	var calls sync.WaitGroup
	defer calls.Wait()
	for {
		conn, err := socket.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("serve hook: %w", err)
		}
		calls.Go(func() { n.call(context.WithoutCancel(ctx), conn) })
	}
}

// call serves one hook from its request to its answer.
func (n *Network) call(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := conn.SetDeadline(time.Now().Add(callTimeout)); err != nil {
		n.cfg.Logger.Warn("dropped hook call", "error", err)
		return
	}
	raw, files, err := receive(conn)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		n.send(conn, fail(codeDecode, fmt.Errorf("read hook request: %w", err)))
		return
	}
	r, err := parseRequest(raw)
	if err != nil {
		n.send(conn, fail(codeEnvironment, err))
		return
	}
	if len(files) == 1 {
		r.namespace = files[0]
	}
	if r.Command == "DEL" {
		n.serveDel(conn, r)
		return
	}
	n.serveAdd(ctx, conn, r)
}

func (n *Network) serveAdd(ctx context.Context, conn *net.UnixConn, r request) {
	if err := r.checkAdd(); err != nil {
		n.send(conn, fail(codeEnvironment, fmt.Errorf("attach sandbox %s: %w", r.Container, err)))
		return
	}
	unlock := n.busy.lock(r.Container)
	a, err := n.attach(ctx, r)
	unlock()
	if err != nil {
		n.cfg.Logger.Warn("refused sandbox", "sandbox", r.Container, "error", err)
		n.send(conn, fail(codeAttach, err))
		return
	}
	if n.send(conn, succeed(resultOf(a.hostSide.Attrs().Name, r.IfName, r.Netns, a.lease))) {
		return
	}
	if err := a.abandon(); err != nil {
		n.cfg.Logger.Warn("left abandoned sandbox", "sandbox", r.Container, "error", err)
		return
	}
	n.cfg.Logger.Info("abandoned sandbox", "sandbox", r.Container)
}

// serveDel never fails for what is gone; a DEL that fails would keep the
// runtime from ever removing the sandbox.
func (n *Network) serveDel(conn *net.UnixConn, r request) {
	if err := n.Release(r.Container); err != nil {
		n.cfg.Logger.Warn("kept lease", "sandbox", r.Container, "error", err)
		n.send(conn, fail(codeDetach, err))
		return
	}
	n.send(conn, succeed(nil))
}

// send reports whether the hook was still there to take the answer.
func (n *Network) send(conn *net.UnixConn, a answer) bool {
	raw, err := json.Marshal(a)
	if err == nil {
		_, err = conn.Write(raw)
	}
	if err != nil {
		n.cfg.Logger.Debug("lost hook", "error", err)
	}
	return err == nil
}

// receive reads a request to its end and the files that came with it. The
// files are the caller's to close, also beside an error.
func receive(conn *net.UnixConn) ([]byte, []*os.File, error) {
	buf := make([]byte, 64<<10)
	oob := make([]byte, unix.CmsgSpace(4*4)) // room to see that too many came
	size, oobSize, _, _, err := conn.ReadMsgUnix(buf, oob)
	files, fileErr := openFiles(oob[:oobSize])
	if err = errors.Join(err, fileErr); err != nil {
		return nil, files, err
	}
	rest, err := io.ReadAll(io.LimitReader(conn, requestLimit))
	if err != nil {
		return nil, files, err
	}
	if len(rest) == requestLimit {
		return nil, files, fmt.Errorf("longer than %d bytes", requestLimit)
	}
	if len(files) > 1 {
		return nil, files, fmt.Errorf("%d files came with it, one is wanted", len(files))
	}
	return append(buf[:size], rest...), files, nil
}

func openFiles(oob []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return files, err
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "netns"))
		}
	}
	return files, nil
}
