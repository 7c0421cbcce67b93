#!/usr/bin/env bash
# Builds the binaries and the image files into the folder given.
set -euo pipefail
bin=$1
mkdir -p "$bin"
flags=(-trimpath -ldflags "-s -w")
go build "${flags[@]}" -o "$bin/" ./cmd/...
go run ./images/pack -out "$bin/images"
