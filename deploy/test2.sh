#!/usr/bin/env bash
# Runs the tests that drive a runtime again, on containerd 2.x built from its
# Go module (about two minutes the first time, cached in .cache).
set -euo pipefail
cd "$(dirname "$0")/.."
out=$PWD/.cache/containerd2
./testenv/build-containerd2.sh "$out"
# Fewer random kills than on 1.6: what they find does not hang on the version.
PINNACE_KILLS=${PINNACE_KILLS:-100} PINNACE_TEST_CONTAINERD=$out go test -count=1 -timeout 25m ./containerd/... ./cri/... ./testenv/...
