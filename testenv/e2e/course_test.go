package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"

	"pinnace/node"
	"pinnace/testenv/agentproc"
)

// What happens to a pod in the course of its life.

func TestCourse(t *testing.T) {
	behave(t, []behaviour{
		{"init containers", initContainers},
		{"restart policies", restartPolicies},
		{"readiness", readiness},
		{"liveness and startup", liveness},
		{"grpc probe", grpcProbe},
		{"hooks", hooks},
		{"grace period", grace},
		{"termination message", messages},
	})
}

func initContainers(t *testing.T, l *live) {
	l.pod(t, "inits", `
  volumes: [{name: v, emptyDir: {}}]
  initContainers:
  - {name: one, image: IMAGE, command: [sh, -c, "sleep 1; echo one >> /v/log"], volumeMounts: [{name: v, mountPath: /v}]}
  - {name: two, image: IMAGE, command: [sh, -c, "echo two >> /v/log; [ -e /v/tried ] || { touch /v/tried; exit 1; }"], volumeMounts: [{name: v, mountPath: /v}]}
  containers:
  - {name: c, image: IMAGE, command: [sh, -c, "echo main >> /v/log; exec sleep 1000"], volumeMounts: [{name: v, mountPath: /v}]}
`)
	l.until(t, "inits", "waits for the first", func(s corev1.PodStatus) bool {
		return s.Phase == corev1.PodPending && len(s.InitContainerStatuses) == 2 && s.InitContainerStatuses[0].State.Running != nil
	})
	p := l.ready(t, "inits")
	same(t, "order", l.sh(t, "inits", "c", "cat /v/log"), "one\ntwo\ntwo\nmain")
	same(t, "restarts of the second", p.Status.InitContainerStatuses[1].RestartCount, 1)
}

func restartPolicies(t *testing.T, l *live) {
	l.pod(t, "never", `
  restartPolicy: Never
  containers: [{name: c, image: IMAGE, command: [sh, -c, "exit 3"]}]
`)
	l.pod(t, "onfailure", `
  restartPolicy: OnFailure
  volumes: [{name: v, emptyDir: {}}]
  containers: [{name: c, image: IMAGE, command: [sh, -c, "[ -e /v/tried ] || { touch /v/tried; exit 1; }"], volumeMounts: [{name: v, mountPath: /v}]}]
`)
	l.pod(t, "always", `
  containers: [{name: c, image: IMAGE, command: [sh, -c, "exit 0"]}]
`)
	p := l.until(t, "never", "fails", func(s corev1.PodStatus) bool { return s.Phase == corev1.PodFailed })
	same(t, "exit code", p.Status.ContainerStatuses[0].State.Terminated.ExitCode, 3)
	same(t, "restarts", p.Status.ContainerStatuses[0].RestartCount, 0)
	p = l.until(t, "onfailure", "succeeds", func(s corev1.PodStatus) bool { return s.Phase == corev1.PodSucceeded })
	same(t, "restarts", p.Status.ContainerStatuses[0].RestartCount, 1)
	l.until(t, "always", "waits out its back-off", func(s corev1.PodStatus) bool {
		c := s.ContainerStatuses
		return s.Phase == corev1.PodRunning && len(c) == 1 && c[0].RestartCount > 0 &&
			c[0].State.Waiting != nil && c[0].State.Waiting.Reason == "CrashLoopBackOff"
	})
}

func readiness(t *testing.T, l *live) {
	l.pod(t, "probed", `
  containers:
  - {name: exec, image: IMAGE, command: [sleep, "1000"], readinessProbe: {periodSeconds: 1, failureThreshold: 1, exec: {command: [test, -e, /tmp/ready]}}}
  - {name: http, image: IMAGE, ports: [{name: web, containerPort: 8080}], readinessProbe: {periodSeconds: 1, httpGet: {path: /readyz, port: web}}}
  - {name: tcp, image: IMAGE, command: [/bin/demo, -port, "8081"], readinessProbe: {periodSeconds: 1, tcpSocket: {port: 8081}}}
  - {name: never, image: IMAGE, command: [sh, -c, "while [ ! -e /tmp/open ]; do sleep 0.2; done; exec /bin/demo -port 8082"], readinessProbe: {periodSeconds: 1, tcpSocket: {port: 8082}}}
`)
	are := func(want string) {
		t.Helper()
		l.until(t, "probed", "ready: "+want, func(s corev1.PodStatus) bool {
			got := ""
			for _, c := range s.ContainerStatuses {
				got += fmt.Sprintf("%s %t,", c.Name, c.Ready)
			}
			return got == want && s.Phase == corev1.PodRunning
		})
	}
	are("exec false,http true,tcp true,never false,")
	l.sh(t, "probed", "exec", "touch /tmp/ready")
	l.sh(t, "probed", "never", "touch /tmp/open")
	l.ready(t, "probed")
	l.sh(t, "probed", "exec", "rm /tmp/ready")
	are("exec false,http true,tcp true,never true,")
}

func liveness(t *testing.T, l *live) {
	l.pod(t, "lively", `
  containers:
  - name: c
    image: IMAGE
    command: [sh, -c, "trap 'exit 0' TERM; (sleep 2; touch /tmp/up) & while true; do sleep 0.1; done"]
    startupProbe: {periodSeconds: 1, failureThreshold: 30, exec: {command: [test, -e, /tmp/up]}}
    livenessProbe: {periodSeconds: 1, failureThreshold: 1, exec: {command: [test, -e, /tmp/up]}}
`)
	p := l.ready(t, "lively")
	same(t, "restarts while it starts", p.Status.ContainerStatuses[0].RestartCount, 0)
	l.sh(t, "lively", "c", "rm /tmp/up")
	l.until(t, "lively", "is restarted", func(s corev1.PodStatus) bool { return s.ContainerStatuses[0].RestartCount == 1 })
	l.ready(t, "lively")
}

func grpcProbe(t *testing.T, l *live) {
	lis, err := net.Listen("tcp", "192.0.2.2:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, state := grpc.NewServer(), health.NewServer()
	healthv1.RegisterHealthServer(srv, state)
	state.SetServingStatus("shop", healthv1.HealthCheckResponse_NOT_SERVING)
	go srv.Serve(lis)
	t.Cleanup(srv.Stop)
	port := lis.Addr().(*net.TCPAddr).Port
	l.pod(t, "health", fmt.Sprintf(`
  hostNetwork: true
  containers:
  - {name: c, image: IMAGE, command: [sleep, "1000"], readinessProbe: {periodSeconds: 1, grpc: {port: %d, service: shop}}}
`, port))
	l.until(t, "health", "runs", func(s corev1.PodStatus) bool { return s.Phase == corev1.PodRunning })
	r, err := l.Status()
	if err != nil || agentproc.Ready("health")(r) == nil {
		t.Errorf("ready although the service does not serve: %v", err)
	}
	state.SetServingStatus("shop", healthv1.HealthCheckResponse_SERVING)
	l.ready(t, "health")
}

func hooks(t *testing.T, l *live) {
	dir := filepath.Join(l.Dir, "hooks")
	l.pod(t, "hooked", `
  volumes: [{name: v, hostPath: {path: `+dir+`, type: DirectoryOrCreate}}]
  containers:
  - name: c
    image: IMAGE
    command: [sh, -c, "trap 'echo term >> /v/log; exit 0' TERM; echo start >> /v/log; sleep 1000 & wait"]
    volumeMounts: [{name: v, mountPath: /v}]
    lifecycle:
      postStart: {exec: {command: [sh, -c, "sleep 0.5; echo postStart >> /v/log"]}}
      preStop: {exec: {command: [sh, -c, "echo preStop >> /v/log"]}}
`)
	l.ready(t, "hooked")
	log := func() string {
		text, err := os.ReadFile(filepath.Join(dir, "log"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(string(text)), " ")
	}
	same(t, "before it was ready", log(), "start postStart")
	l.Remove(t, "hooked.yaml")
	l.gone(t, "hooked")
	same(t, "in the end", log(), "start postStart preStop term")
}

func grace(t *testing.T, l *live) {
	l.Write(t, "deaf.yaml", strings.Replace(podText("deaf", `
  containers: [{name: c, image: IMAGE, command: [sh, -c, "trap '' TERM; while true; do sleep 0.1; done"]}]
`), "Seconds: 3", "Seconds: 2", 1))
	l.ready(t, "deaf")
	began := time.Now()
	l.Remove(t, "deaf.yaml")
	l.gone(t, "deaf")
	if took := time.Since(began); took < 2*time.Second || took > 15*time.Second {
		t.Errorf("a container that ignores SIGTERM took %v to end, want its grace period of 2s and little more", took)
	}
}

func messages(t *testing.T, l *live) {
	l.pod(t, "words", `
  restartPolicy: Never
  containers:
  - {name: file, image: IMAGE, command: [sh, -c, "echo last words > /tmp/words"], terminationMessagePath: /tmp/words}
  - {name: log, image: IMAGE, command: [sh, -c, "echo said aloud; exit 4"], terminationMessagePolicy: FallbackToLogsOnError}
  - {name: silent, image: IMAGE, command: [sh, -c, "echo said aloud; exit 4"]}
`)
	p := l.until(t, "words", "fails", func(s corev1.PodStatus) bool { return s.Phase == corev1.PodFailed })
	got := map[string]string{}
	for _, c := range p.Status.ContainerStatuses {
		got[c.Name] = strings.TrimSpace(c.State.Terminated.Message)
	}
	same(t, "messages", fmt.Sprint(got), fmt.Sprint(map[string]string{"file": "last words", "log": "said aloud", "silent": ""}))
}

// replaced asks that a pod of that name is ready and not the one before.
func replaced(name, before string) func(node.Report) error {
	return func(r node.Report) error {
		if p, err := agentproc.Pod(r, name); err != nil || p.UID == before {
			return fmt.Errorf("pod %s is still the old one (%v)", name, err)
		}
		return agentproc.Ready(name)(r)
	}
}
