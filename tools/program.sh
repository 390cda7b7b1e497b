#!/usr/bin/env bash
# Print the path of one of these programs: the one on the PATH, or one built from its module at the version that a go.mod pins.
set -euo pipefail
cd "$(dirname "$0")/.."
case $1 in
  kustomize) versions=tools/bench package=sigs.k8s.io/kustomize/kustomize/v5 ;;
  helm) versions=tools/bench package=helm.sh/helm/v3/cmd/helm ;;
  crane) versions=tools/publish package=github.com/google/go-containerregistry/cmd/crane ;;
  validate-krew-manifest) versions=tools/publish package=sigs.k8s.io/krew/cmd/validate-krew-manifest ;;
esac
if command -v "$1"; then exit; fi
built=$PWD/.cache/bin/$(sha256sum $versions/go.sum | cut -c1-12)/$1
if [ ! -x "$built" ]; then
  mkdir -p "$(dirname "$built")"
  (cd $versions && CGO_ENABLED=0 go build -o "$built" "$package") >&2
fi
echo "$built"
