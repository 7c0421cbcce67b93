// Command pack builds the project's own images as tar archives that `docker
// load`, `ctr import` and the agent's image folder all read: pause.tar, demo.tar
// and, with -busybox, busybox.tar. It owns what is inside them; it never talks to
// a registry or a runtime. The same sources and tools give the same digests.
//
//	go run ./images/pack -out ROOT/images
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "pack images:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("pack", flag.ContinueOnError)
	dir := flags.String("out", "", "folder that the archives are written into")
	alone := flags.Bool("busybox", false, "write busybox.tar too, an image of the tools alone (for tests)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *dir == "" {
		return errors.New("-out is missing")
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "pack")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	pause, err := compilePause(work)
	if err != nil {
		return err
	}
	demo, err := compileDemo(work)
	if err != nil {
		return err
	}
	tools, err := toolbox()
	if err != nil {
		return err
	}
	images := []image{
		{"pause", []string{"/pause"}, [][]entry{{{name: "pause", mode: 0o755, data: pause}}}},
		{"demo", []string{"/bin/demo"}, [][]entry{tools, {{name: "bin/demo", mode: 0o755, data: demo}}}},
	}
	if *alone {
		images = append(images, image{"busybox", []string{"/bin/sh"}, [][]entry{tools}})
	}
	for _, img := range images {
		digest, err := img.write(filepath.Join(*dir, img.name+".tar"))
		if err != nil {
			return fmt.Errorf("write image %s: %w", img.name, err)
		}
		fmt.Fprintf(out, "%s %s\n", img.ref(), digest)
	}
	return nil
}

// compilePause wants the C compiler: the program has no C library in it and
// so no packages of ours in its memory.
func compilePause(work string) ([]byte, error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "pinnace").Output()
	if err != nil {
		return nil, fmt.Errorf("find the module's folder: %w", err)
	}
	src := filepath.Join(strings.TrimSpace(string(root)), "images", "pause", "pause.c")
	bin := filepath.Join(work, "pause")
	err = command("cc", "-Os", "-static", "-nostdlib", "-nostartfiles", "-ffreestanding",
		"-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-fcf-protection=none",
		"-Wl,--build-id=none", "-Wl,-z,noseparate-code", "-s", "-o", bin, src)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(bin)
}

func compileDemo(work string) ([]byte, error) {
	bin := filepath.Join(work, "demo")
	if err := command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", bin, "pinnace/images/demo"); err != nil {
		return nil, err
	}
	return os.ReadFile(bin)
}

func command(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run %s: %w: %s", name, err, out)
	}
	return nil
}
