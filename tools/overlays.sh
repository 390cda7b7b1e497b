#!/usr/bin/env bash
# Render each overlay as kustomize would through ebbtide-krm, without its plugins.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build/overlays
for overlay in overlays/*/; do
  name=$(basename "$overlay")
  [ -f "$overlay/profile.yaml" ] || continue
  .venv/bin/ebbtide render --quiet --profile "$overlay" "$overlay/specs" >"build/overlays/$name.yaml"
  printf '%s: %s objects in build/overlays/%s.yaml\n' "$name" "$(grep -c '^apiVersion:' "build/overlays/$name.yaml")" "$name"
done
