#!/usr/bin/env bash
# Builds the binaries and the image files into the folder given.
set -euo pipefail
bin=$1
mkdir -p "$bin"
version=$(git describe --tags --always --dirty 2>/dev/null || echo development)
flags=(-trimpath -ldflags "-s -w -X pinnace/node.version=$version")
go build "${flags[@]}" -o "$bin/" ./cmd/...
go run ./images/pack -out "$bin/images"
