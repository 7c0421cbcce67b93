package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"pinnace/agent/admit"
	"pinnace/agent/cgroup"
	"pinnace/agent/etc"
	"pinnace/agent/manifest"
	"pinnace/cri"
)

// bareInstance marks the bare pods: the agent sees that they are not its own
// and lets them be.
const bareInstance = "bare"

// bare starts the agent's pods without the agent: three calls each, with the
// same configurations, which were made before the clock starts.
type bare struct {
	node    *host
	conn    *grpc.ClientConn
	runtime runtimeapi.RuntimeServiceClient
	cgroups *cgroup.Tree
	image   string
	dns     etc.Resolv

	mu   sync.Mutex
	pods map[string]*barePod
}

type barePod struct {
	sandbox       *runtimeapi.PodSandboxConfig
	container     *runtimeapi.ContainerConfig
	id, containID string
}

func newBare(ctx context.Context, n *host) (*bare, error) {
	conn, err := grpc.NewClient(n.endpoint(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	b := &bare{node: n, conn: conn, runtime: runtimeapi.NewRuntimeServiceClient(conn), pods: map[string]*barePod{}}
	img, err := runtimeapi.NewImageServiceClient(conn).ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: image}})
	if err != nil {
		return nil, err
	}
	b.image = img.GetImage().GetId()
	if f, err := os.Open("/etc/resolv.conf"); err == nil {
		b.dns, err = etc.ParseResolv(f)
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	b.cgroups, err = cgroup.New(cgroup.Config{Root: "/" + filepath.Base(n.dir) + "-bare"})
	return b, err
}

// prepare makes what the calls need, outside the measured time.
func (b *bare) prepare(names []string) error {
	check := admit.Check("bench")
	for _, name := range names {
		f := manifest.Parse(name+".yaml", b.node.manifest(name), check)
		if len(f.Pods) != 1 {
			return fmt.Errorf("parse bare pod %s: %v", name, f.Problems)
		}
		p, err := b.configure(f.Pods[0])
		if err != nil {
			return err
		}
		b.pods[name] = p
	}
	return nil
}

// configure makes the configurations that the agent would make.
func (b *bare) configure(pod *corev1.Pod) (*barePod, error) {
	pod.UID = types.UID("bare-" + pod.Name)
	dir := filepath.Join(b.node.dir, "bare", pod.Name)
	if err := os.MkdirAll(filepath.Join(dir, "logs"), 0o755); err != nil {
		return nil, err
	}
	if err := b.cgroups.Ensure(pod); err != nil {
		return nil, err
	}
	mounts := []*runtimeapi.Mount{{HostPath: b.node.share(), ContainerPath: "/share"}}
	for _, m := range []string{"/etc/hosts", "/dev/termination-log"} {
		file := filepath.Join(dir, filepath.Base(m))
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			return nil, err
		}
		mounts = append(mounts, &runtimeapi.Mount{HostPath: file, ContainerPath: m})
	}
	dns, _ := etc.DNS(pod, b.dns, etc.ClusterDNS{Domain: "cluster.local"})
	p := &barePod{sandbox: cri.SandboxConfig(pod, cri.SandboxOptions{
		Instance: bareInstance, CgroupParent: b.cgroups.Parent(string(pod.UID)),
		LogDirectory: filepath.Join(dir, "logs"), DNS: dns, Hostname: pod.Name,
	})}
	var err error
	p.container, err = cri.ContainerConfig(pod, &pod.Spec.Containers[0], cri.ContainerOptions{
		Instance: bareInstance, ImageRef: b.image, Mounts: mounts, LogPath: "main.log",
	})
	return p, err
}

// start makes the three calls.
func (b *bare) start(ctx context.Context, name string) error {
	p := b.pods[name]
	sb, err := b.runtime.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: p.sandbox})
	if err != nil {
		return err
	}
	p.id = sb.PodSandboxId
	return b.startContainer(ctx, name)
}

// startContainer makes the last two of the calls.
func (b *bare) startContainer(ctx context.Context, name string) error {
	p := b.pods[name]
	c, err := b.runtime.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
		PodSandboxId: p.id, Config: p.container, SandboxConfig: p.sandbox,
	})
	if err != nil {
		return err
	}
	p.containID = c.ContainerId
	_, err = b.runtime.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: c.ContainerId})
	return err
}

// startAll starts pods, so many at a time.
func (b *bare) startAll(ctx context.Context, names []string, width int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(width)
	for _, name := range names {
		g.Go(func() error { return b.start(ctx, name) })
	}
	return g.Wait()
}

// removeAll removes every bare pod.
func (b *bare) removeAll(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(6)
	for _, p := range b.pods {
		if p.id == "" {
			continue
		}
		g.Go(func() error {
			_, err := b.runtime.StopPodSandbox(gctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: p.id})
			if err != nil {
				return err
			}
			_, err = b.runtime.RemovePodSandbox(gctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: p.id})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	b.pods = map[string]*barePod{}
	return b.cgroups.Clean()
}

func (b *bare) close(ctx context.Context) error {
	return errors.Join(b.removeAll(ctx), b.conn.Close())
}
