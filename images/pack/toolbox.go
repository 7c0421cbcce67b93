package main

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// toolbox is the lowest layer of the demo image: the host's static busybox
// under all of its names, a root user, and a /tmp.
func toolbox() ([]entry, error) {
	path, err := findBusybox("/usr/bin/busybox", "/bin/busybox", "/usr/lib/initramfs-tools/bin/busybox")
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	list, err := exec.Command(path, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list the tools of %s: %w", path, err)
	}
	files := []entry{
		{name: "bin/", mode: 0o755},
		{name: "etc/", mode: 0o755},
		{name: "root/", mode: 0o700},
		{name: "tmp/", mode: 0o1777},
		{name: "etc/passwd", mode: 0o644, data: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")},
		{name: "etc/group", mode: 0o644, data: []byte("root:x:0:\nnogroup:x:65534:\n")},
		{name: "bin/busybox", mode: 0o755, data: data},
	}
	for _, tool := range strings.Fields(string(list)) {
		if tool != "busybox" {
			files = append(files, entry{name: "bin/" + tool, mode: 0o777, link: "busybox"})
		}
	}
	return files, nil
}

// findBusybox is the first of paths that runs without a C library beside it.
func findBusybox(paths ...string) (string, error) {
	for _, path := range paths {
		f, err := elf.Open(path)
		if err != nil {
			continue
		}
		libs, err := f.ImportedLibraries()
		f.Close()
		if err == nil && len(libs) == 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("find a static busybox in %s: none there (Debian: apt install busybox-static)", strings.Join(paths, ", "))
}
