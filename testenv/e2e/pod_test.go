package e2e

import (
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// behaviour is one thing that a pod does on a node that others use as well.
type behaviour struct {
	name string
	test func(t *testing.T, l *live)
}

func behave(t *testing.T, list []behaviour) {
	isolated(t, func(t *testing.T) {
		l := newLive(t)
		l.Client(t) // before the tests share it
		l.Raw(t)
		for _, b := range list {
			t.Run(b.name, func(t *testing.T) {
				t.Parallel()
				b.test(t, l)
			})
		}
	})
}

func TestPod(t *testing.T) {
	behave(t, []behaviour{
		{"containers share", sharing},
		{"addresses", addresses},
		{"host network", hostNetwork},
		{"names", names},
		{"environment", environment},
		{"host paths", hostPaths},
		{"volumes", volumes},
		{"resources", resources},
		{"security", security},
	})
}

func sharing(t *testing.T, l *live) {
	l.pod(t, "share", `
  volumes: [{name: v, emptyDir: {}}]
  containers:
  - {name: a, image: IMAGE, volumeMounts: [{name: v, mountPath: /v}], readinessProbe: {periodSeconds: 1, tcpSocket: {port: 8080}}}
  - {name: b, image: IMAGE, command: [sleep, "1000"], volumeMounts: [{name: v, mountPath: /w}]}
`)
	l.ready(t, "share")
	same(t, "localhost", l.sh(t, "share", "b", "wget -q -O - http://127.0.0.1:8080/healthz"), "ok")
	l.sh(t, "share", "a", "echo volume > /v/file; echo ipc > /dev/shm/file")
	same(t, "emptyDir", l.sh(t, "share", "b", "cat /w/file"), "volume")
	same(t, "IPC", l.sh(t, "share", "b", "cat /dev/shm/file"), "ipc")
	same(t, "a process namespace each", l.sh(t, "share", "b", "cat /proc/1/comm"), "sleep")
}

func addresses(t *testing.T, l *live) {
	for _, name := range []string{"ip1", "ip2"} {
		l.pod(t, name, serverSpec)
	}
	one, two := l.ready(t, "ip1"), l.ready(t, "ip2")
	for i, far := range farSide {
		if len(one.Status.PodIPs) != 2 || len(two.Status.PodIPs) != 2 {
			t.Fatalf("addresses %v and %v, want two each", one.Status.PodIPs, two.Status.PodIPs)
		}
		mine, other := one.Status.PodIPs[i].IP, two.Status.PodIPs[i].IP
		if mine == other {
			t.Errorf("both pods have %s", mine)
		}
		holds(t, "from the host", get(t, url(mine, "8080")), "pod ip1", "address "+mine)
		holds(t, "from another pod", l.sh(t, "ip1", "c", "wget -q -O - "+url(other, "8080")), "pod ip2", "client "+strings.TrimSuffix(strings.TrimPrefix(url(mine, ""), "http://"), ":/"))
		lis := l.outside.Listen(t, netip.AddrPortFrom(far.Addr(), 80))
		go http.Serve(lis, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RemoteAddr) }))
		client, err := netip.ParseAddrPort(l.sh(t, "ip1", "c", "wget -q -O - "+url(far.Addr().String(), "80")))
		if err != nil || client.Addr() != uplink[i].Addr() {
			t.Errorf("outside sees %v (%v), want the node's %s", client, err, uplink[i].Addr())
		}
	}
	same(t, "podIP", one.Status.PodIP, one.Status.PodIPs[0].IP)
}

func hostNetwork(t *testing.T, l *live) {
	l.pod(t, "host", `
  hostNetwork: true
  containers: [{name: c, image: IMAGE, command: [/bin/demo, -port, "18080"], readinessProbe: {periodSeconds: 1, tcpSocket: {port: 18080}}}]
`)
	p := l.ready(t, "host")
	same(t, "address", p.Status.PodIP, uplink[0].Addr().String())
	holds(t, "on the node's own loopback", get(t, "http://127.0.0.1:18080/"), "address 127.0.0.1")
	nodes, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Fatal(err)
	}
	holds(t, "/etc/hosts", l.sh(t, "host", "c", "cat /etc/hosts"), strings.TrimSpace(string(nodes)))
}

func names(t *testing.T, l *live) {
	l.pod(t, "names", `
  hostname: herbert
  subdomain: garden
  hostAliases: [{ip: 192.0.2.77, hostnames: [alias.example]}]
  dnsPolicy: None
  dnsConfig: {nameservers: [192.0.2.53], searches: [one.example, two.example], options: [{name: ndots, value: "3"}, {name: rotate}]}
  containers: [{name: c, image: IMAGE}]
`)
	p := l.ready(t, "names")
	same(t, "hostname", l.sh(t, "names", "c", "hostname"), "herbert")
	hosts := l.sh(t, "names", "c", "cat /etc/hosts")
	for _, ip := range p.Status.PodIPs {
		holds(t, "/etc/hosts", hosts, ip.IP+"\therbert.garden.default.svc.cluster.local\therbert")
	}
	holds(t, "/etc/hosts", hosts, "127.0.0.1\tlocalhost", "192.0.2.77\talias.example")
	same(t, "/etc/resolv.conf", l.sh(t, "names", "c", "cat /etc/resolv.conf"),
		"search one.example two.example\nnameserver 192.0.2.53\noptions ndots:3 rotate")
}

func environment(t *testing.T, l *live) {
	l.pod(t, "env", `
  containers:
  - name: c
    image: IMAGE
    workingDir: /tmp
    command: [sh, -c]
    args: ["echo $0 '$(BOTH) $$(A) $(NONE)' $PWD > /tmp/said; exec sleep 1000", "$(A)"]
    env:
    - {name: A, value: a}
    - {name: BOTH, value: "$(A)-$(B)-$$(A)"}
    - {name: B, value: b}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
    resources: {limits: {memory: 32Mi}}
`)
	p := l.ready(t, "env")
	same(t, "values", l.sh(t, "env", "c", `echo "$BOTH $IP $POD $NODE $MEMORY"`), "a-$(B)-$(A) "+p.Status.PodIP+" env testnode 32")
	same(t, "arguments", l.sh(t, "env", "c", "cat /tmp/said"), "a a-$(B)-$(A) $(A) $(NONE) /tmp")
}

func hostPaths(t *testing.T, l *live) {
	dir := filepath.Join(l.Dir, "hostpaths")
	for _, d := range []string{"", "/dir"} {
		if err := os.MkdirAll(dir+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(dir+"/file", []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	l.pod(t, "paths", strings.NewReplacer("DIR", dir, "RUN", l.Run).Replace(`
  volumes:
  - {name: dir, hostPath: {path: DIR/dir, type: Directory}}
  - {name: newdir, hostPath: {path: DIR/newdir, type: DirectoryOrCreate}}
  - {name: file, hostPath: {path: DIR/file, type: File}}
  - {name: newfile, hostPath: {path: DIR/newfile, type: FileOrCreate}}
  - {name: char, hostPath: {path: /dev/null, type: CharDevice}}
  - {name: socket, hostPath: {path: RUN/status.sock, type: Socket}}
  - {name: any, hostPath: {path: DIR/dir}}
  containers:
  - name: c
    image: IMAGE
    volumeMounts:
    - {name: dir, mountPath: /v/dir}
    - {name: newdir, mountPath: /v/newdir, readOnly: true}
    - {name: file, mountPath: /v/file}
    - {name: newfile, mountPath: /v/newfile}
    - {name: char, mountPath: /v/char}
    - {name: socket, mountPath: /v/socket}
    - {name: any, mountPath: /v/any}
`))
	l.ready(t, "paths")
	l.sh(t, "paths", "c", "[ -d /v/dir ] && [ -d /v/newdir ] && [ -c /v/char ] && [ -S /v/socket ] && echo new > /v/newfile && echo x > /v/any/made")
	same(t, "file", l.sh(t, "paths", "c", "cat /v/file"), "text")
	if out, err := l.try(t, "paths", "c", "echo x > /v/newdir/x"); err != nil || out.ExitCode == 0 {
		t.Errorf("a read-only volume was written to: %v", err)
	}
	for path, want := range map[string]string{"/newfile": "new\n", "/dir/made": "x\n"} {
		if got, err := os.ReadFile(dir + path); err != nil || string(got) != want {
			t.Errorf("%s on the host: %q, %v", path, got, err)
		}
	}
	l.pod(t, "badpath", `
  volumes: [{name: v, hostPath: {path: `+dir+`/none, type: Directory}}]
  containers: [{name: c, image: IMAGE, volumeMounts: [{name: v, mountPath: /v}]}]
`)
	l.until(t, "badpath", "says what is missing", func(s corev1.PodStatus) bool {
		text := fmt.Sprintf("%+v", s)
		return s.Phase == corev1.PodPending && strings.Contains(text, dir+"/none")
	})
	if err := os.Mkdir(dir+"/none", 0o755); err != nil {
		t.Fatal(err)
	}
	l.ready(t, "badpath")
}

func volumes(t *testing.T, l *live) {
	l.pod(t, "volumes", `
  volumes: [{name: m, emptyDir: {medium: Memory, sizeLimit: 8Mi}}, {name: d, emptyDir: {}}]
  containers:
  - name: c
    image: IMAGE
    env: [{name: SUB, value: expanded}]
    volumeMounts:
    - {name: m, mountPath: /m}
    - {name: d, mountPath: /d}
    - {name: d, mountPath: /sub, subPath: some/folder}
    - {name: d, mountPath: /expr, subPathExpr: $(SUB)}
    - {name: d, mountPath: /ro, readOnly: true}
`)
	l.ready(t, "volumes")
	holds(t, "memory", l.sh(t, "volumes", "c", "grep ' /m ' /proc/mounts"), "tmpfs", "size=8192k")
	l.sh(t, "volumes", "c", "echo s > /sub/file; echo e > /expr/file")
	same(t, "subPath", l.sh(t, "volumes", "c", "cat /d/some/folder/file /d/expanded/file"), "s\ne")
	if out, err := l.try(t, "volumes", "c", "echo x > /ro/x"); err != nil || out.ExitCode == 0 {
		t.Errorf("a read-only mount was written to: %v", err)
	}
	if out, err := l.try(t, "volumes", "c", "dd if=/dev/zero of=/m/big bs=1M count=9"); err != nil || out.ExitCode == 0 {
		t.Errorf("a memory volume took more than its limit: %v", err)
	}
}
