package fakecri_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pinnace/cri"
	"pinnace/testenv/fakecri"
	"pinnace/testenv/fakecri/suite"
)

// program is the suite's programs as scripts of the fake.
func program(cfg *runtimeapi.ContainerConfig) fakecri.Script {
	s := fakecri.Script{Exec: command}
	switch cfg.Command[len(cfg.Command)-1] {
	case suite.Forever:
		s.TermCode = new(int32)
	case suite.Stubborn:
		s.IgnoresTERM = true
	case suite.ExitsZero:
		s.Exits = true
	case suite.ExitsThree:
		s.Exits, s.Code = true, 3
	case suite.Absent:
		s.StartError = `exec: "/no/such/program": no such file or directory`
	}
	return s
}

func command(ctx context.Context, cmd []string) (cri.ExecResult, error) {
	switch {
	case slices.Equal(cmd, suite.SayHello):
		return cri.ExecResult{Stdout: []byte("hello\n"), Stderr: []byte("oh\n"), ExitCode: 7}, nil
	case slices.Equal(cmd, suite.TakesLong):
		<-ctx.Done()
		return cri.ExecResult{}, ctx.Err()
	case slices.Equal(cmd, suite.NoSuchFile):
		return cri.ExecResult{}, errors.New("no such file or directory")
	}
	return cri.ExecResult{}, nil
}

func TestSuite(t *testing.T) {
	suite.Suite(t, suite.Options{
		New: func(*testing.T) suite.Runtime {
			r := fakecri.New(fakecri.Config{Script: program})
			r.Load("example.com/demo:1", cri.Image{})
			return r
		},
		Around: synctest.Test,
		Image:  "example.com/demo:1",
		LogDir: func(*testing.T) string { return "/logs" },
	})
}
