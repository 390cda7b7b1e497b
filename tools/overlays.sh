#!/usr/bin/env bash
# Render each overlay as `kustomize build --enable-alpha-plugins --enable-exec overlays/NAME` does, to the same bytes,
# where plugins are not allowed: kustomize puts the specs together, ebbtide renders them, kustomize writes the result.
set -euo pipefail
cd "$(dirname "$0")/.."
kustomize=$(tools/program.sh kustomize)
for overlay in overlays/*/; do
  name=$(basename "$overlay")
  [ -f "$overlay/profile.yaml" ] || continue
  out=build/overlays/$name
  mkdir -p "$out"
  "$kustomize" build "$overlay/specs" | .venv/bin/ebbtide render --quiet --profile "$overlay" - >"$out/objects.yaml"
  printf 'resources: [objects.yaml]\n' >"$out/kustomization.yaml"
  "$kustomize" build "$out" >"$out.yaml"
  rm -r "$out"
  printf '%s: %s objects in %s\n' "$name" "$(grep -c '^apiVersion:' "$out.yaml")" "$out.yaml"
done
