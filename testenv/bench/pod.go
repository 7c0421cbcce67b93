package main

import "fmt"

const image = "localhost/pinnace/demo:1"

// manifest describes a pod whose container says that it began and then
// sleeps. Both the agent's pods and the bare ones are made of it.
func (n *host) manifest(name string) []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Pod
metadata:
  name: %[1]s
  labels:
    app: bench
spec:
  terminationGracePeriodSeconds: 0
  volumes:
  - name: share
    hostPath:
      path: %[2]s
      type: Directory
  containers:
  - name: main
    image: %[3]s
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "echo %[1]s > /share/began; exec sleep 2147483647"]
    volumeMounts:
    - name: share
      mountPath: /share
`, name, n.share(), image)
}

// named makes names that no pod of this run had before.
func named(prefix string, round, count int) []string {
	var names []string
	for i := range count {
		names = append(names, fmt.Sprintf("%s%d-%03d", prefix, round, i))
	}
	return names
}
