package main

import (
	"encoding/json"
	"errors"
	"os"
	"syscall"
	"time"
)

// answer is what the agent sends back.
type answer struct {
	Failed bool            `json:"failed"`
	Output json.RawMessage `json:"output"`
}

// ask sends one call to the agent and returns what to print. The namespace
// goes along as an open file: the agent may live in another mount namespace,
// where its path means nothing.
func ask(cfg config, env environment, timeout time.Duration) (out []byte, err error) {
	request, err := json.Marshal(struct {
		environment
		Config json.RawMessage `json:"config"`
	}{env, cfg.raw})
	if err != nil {
		return nil, &problem{Code: codeDecode, Msg: "pass on configuration: " + err.Error()}
	}
	var rights []byte
	if env.Command == "ADD" {
		ns, err := os.Open(env.Netns)
		if err != nil {
			return nil, &problem{Code: codeEnvironment, Msg: "open network namespace: " + err.Error()}
		}
		defer ns.Close()
		rights = syscall.UnixRights(int(ns.Fd()))
	}
	fd, err := dial(cfg.Socket, timeout)
	if err != nil {
		return nil, &problem{Code: codeTryAgain, Msg: away(cfg.Socket, err)}
	}
	defer func() { err = errors.Join(err, closeFD(fd)) }()
	if err := send(fd, request, rights); err != nil {
		return nil, &problem{Code: codeTryAgain, Msg: away(cfg.Socket, err)}
	}
	reply, err := receive(fd)
	if err != nil {
		return nil, &problem{Code: codeTryAgain, Msg: away(cfg.Socket, err)}
	}
	return parseAnswer(reply)
}

// parseAnswer turns the agent's reply into text for stdout or into the error
// that the agent wants told.
func parseAnswer(reply []byte) ([]byte, error) {
	var a answer
	if err := json.Unmarshal(reply, &a); err != nil {
		return nil, &problem{Code: codeTryAgain, Msg: "read the agent's answer: " + err.Error()}
	}
	if !a.Failed {
		return a.Output, nil
	}
	p := &problem{}
	if err := json.Unmarshal(a.Output, p); err != nil || p.Code == 0 {
		return nil, &problem{Code: codeTryAgain, Msg: "the agent refused without saying why"}
	}
	return nil, p
}

// dial connects to a unix socket; all that follows on it is bounded too.
func dial(path string, timeout time.Duration) (int, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	tv := syscall.NsecToTimeval(timeout.Nanoseconds())
	err = errors.Join(
		syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &tv),
		syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &tv))
	if err == nil {
		err = retry(func() error { return syscall.Connect(fd, &syscall.SockaddrUnix{Name: path}) })
	}
	if err != nil {
		return -1, errors.Join(err, closeFD(fd))
	}
	return fd, nil
}

// send writes the request, the namespace with its first bytes, and says that
// no more will come.
func send(fd int, request, rights []byte) error {
	var n int
	err := retry(func() (err error) {
		n, err = syscall.SendmsgN(fd, request, rights, nil, syscall.MSG_NOSIGNAL)
		return err
	})
	for err == nil && n < len(request) {
		err = retry(func() error {
			m, err := syscall.SendmsgN(fd, request[n:], nil, nil, syscall.MSG_NOSIGNAL)
			n += max(m, 0)
			return err
		})
	}
	if err != nil {
		return err
	}
	return syscall.Shutdown(fd, syscall.SHUT_WR)
}

func receive(fd int) ([]byte, error) {
	var all []byte
	buf := make([]byte, 8<<10)
	for {
		var n int
		err := retry(func() (err error) {
			n, err = syscall.Read(fd, buf)
			return err
		})
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			return all, nil
		}
		if all = append(all, buf[:n]...); len(all) > stdinLimit {
			return nil, errors.New("the answer is too long")
		}
	}
}

// retry goes on after signals, which the Go runtime sends itself.
func retry(f func() error) error {
	for {
		if err := f(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

func closeFD(fd int) error { return syscall.Close(fd) }
