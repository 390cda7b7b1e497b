#!/usr/bin/env bash
# Print the path of a kustomize: the one on the PATH, or one built from its module at the version pinned in tools/bench.
set -euo pipefail
cd "$(dirname "$0")/.."
if command -v kustomize; then exit; fi
built=$PWD/.cache/bin/$(sha256sum tools/bench/go.sum | cut -c1-12)/kustomize
if [ ! -x "$built" ]; then
  mkdir -p "$(dirname "$built")"
  (cd tools/bench && CGO_ENABLED=0 go build -o "$built" sigs.k8s.io/kustomize/kustomize/v5) >&2
fi
echo "$built"
