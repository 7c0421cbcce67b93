// Package containerd owns the node's private containerd: its binary and
// configuration, its life, the image files that go into it and its stream of
// exits. It never speaks CRI (beyond asking whether CRI answers), knows no
// Kubernetes type, and never touches a containerd that somebody else runs.
//
// New finds the programs, Start adopts the daemon that runs or starts one, Run
// watches it. The daemon has a session (and a cgroup) of its own and outlives the
// agent:
//
//	          Start                    dies: Run, after 0.1 s to 10 s
//	absent ───────────► running ─────────────────────────────► running
//	                     ▲    │ binary or configuration changed: Start
//	        agent ends,  └────┘ (pods live on under their shims)
//	        next adopts
//
// Files: Root/config.toml, Root/containerd.log, Root/root, Root/certs.d (registry
// hosts, as containerd documents them), Run/containerd.sock, Run/state,
// Run/daemon.json (who runs).
package containerd
