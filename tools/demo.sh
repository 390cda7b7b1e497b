#!/usr/bin/env bash
# The main job on the examples: each spec, its manifests and why they are as they are.
set -euo pipefail
cd "$(dirname "$0")/.."
ebbtide=.venv/bin/ebbtide
for folder in examples/*/; do
  name=$(basename "$folder")
  spec=$(find "$folder" -maxdepth 1 -name 'spec.*' | head -n 1)
  profile=built-in
  [ -f "$folder/profile.txt" ] && profile=$(cat "$folder/profile.txt")
  [ -f "$folder/profile.yaml" ] && profile=$folder/profile.yaml
  printf '\n######## %s (%s)\n' "$name" "$spec"
  "$ebbtide" render --profile "$profile" "$spec"
done
first=examples/llm-on-a-fraction/spec.yaml
printf '\n######## why: ebbtide explain --profile full %s\n' "$first"
"$ebbtide" explain --profile full "$first"
printf '\n######## the same GPU request on every backend: ebbtide explain --profile full --backends %s\n' "$first"
"$ebbtide" explain --profile full --backends "$first"
