#!/bin/sh
# Builds containerd 2.x and its runc shim into OUT from their Go module, for the
# second test target:
#
#	testenv/build-containerd2.sh OUT && PINNACE_TEST_CONTAINERD=OUT go test ./containerd/...
#
# Only the Go module proxy is asked. The go.mod is a throw-away one, so that
# containerd's requirements never touch the project's. A finished OUT of the
# same version is left as it is.
set -eu

version=${CONTAINERD2_VERSION:-v2.4.2}
module=github.com/containerd/containerd/v2

[ $# -eq 1 ] || { echo "usage: $0 OUT" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
if [ "$(cat "$out/version" 2>/dev/null)" = "$version" ]; then
	exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
cd "$work"
printf 'module throwaway\n\ngo 1.26.0\n' >go.mod
go get "$module@$version"
# Imported by name, so that `go mod tidy` keeps what the two commands need.
cat >tools.go <<EOF
//go:build tools

package tools

import (
	_ "$module/cmd/containerd"
	_ "$module/cmd/containerd-shim-runc-v2"
)
EOF
go mod tidy
export CGO_ENABLED=0
go build -trimpath -tags no_btrfs,no_devmapper,no_zfs \
	-ldflags "-s -w -X $module/version.Version=${version#v}" \
	-o "$out/" "$module/cmd/containerd" "$module/cmd/containerd-shim-runc-v2"
echo "$version" >"$out/version"
