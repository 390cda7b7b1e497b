#!/usr/bin/env bash
# Print the path of kustomize or helm: the one on the PATH, or one built from its module at the version pinned in tools/bench.
set -euo pipefail
cd "$(dirname "$0")/.."
case $1 in
  kustomize) module=sigs.k8s.io/kustomize/kustomize/v5 ;;
  helm) module=helm.sh/helm/v3/cmd/helm ;;
esac
if command -v "$1"; then exit; fi
built=$PWD/.cache/bin/$(sha256sum tools/bench/go.sum | cut -c1-12)/$1
if [ ! -x "$built" ]; then
  mkdir -p "$(dirname "$built")"
  (cd tools/bench && CGO_ENABLED=0 go build -o "$built" "$module") >&2
fi
echo "$built"
