#!/usr/bin/env bash
# What must hold before anything is tested: format, vet, module file, shape.
set -euo pipefail
unformatted=$(git ls-files -co --exclude-standard '*.go' | xargs -r gofmt -l)
[ -z "$unformatted" ] || { printf 'gofmt would change:\n%s\n' "$unformatted" >&2; exit 1; }
go vet ./...
go mod verify >/dev/null
go test -count=1 .
