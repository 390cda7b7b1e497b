#!/usr/bin/env bash
# The page: on a simulated cluster, or on a kind cluster that is created for it.
set -euo pipefail
cd "$(dirname "$0")/.."
ebbtide=.venv/bin/ebbtide
port=${PORT:-8042}
provider=${1:-}
if [ -z "$provider" ]; then
  exec "$ebbtide" serve --demo --port "$port"
fi
name=${EBBTIDE_E2E_CLUSTER:-ebbtide}
state=.cluster
[ "$name" = ebbtide ] || state=.cluster/$name
make cluster-up PROVIDER="$provider" SOURCE="${SOURCE:-}" CLUSTER="$name"
cluster=(--kubeconfig "$state/kubeconfig" --profile e2e/profile.yaml)
for case in 01-concurrency 02-throughput 03-none 04-fixed; do
  # The cases' workloads share one name, each in a separate project.
  sed "s/^  name: chat$/  name: ${case#*-}/; s/^spec:$/spec:\n  project: demo/" "e2e/cases/$case/spec.yaml" |
    "$ebbtide" apply - "${cluster[@]}" --yes --wait 5m
done
echo "the cluster stays when the page ends: make cluster-down removes it" >&2
exec "$ebbtide" serve "${cluster[@]}" --port "$port"
