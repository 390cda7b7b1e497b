"""``ebbtide delete NAME``: delete the workload and the objects created with it; volumes are kept without ``--data``."""

from __future__ import annotations

import sys
from typing import Final

from ebbtide.cli import connection, terminal
from ebbtide.cli.options import YES, Options, make_output_option, make_switch
from ebbtide.core.base import keys
from ebbtide.core.base.prose import count_noun

OPTIONS: Final = (
    *connection.WORKLOAD,
    YES,
    make_switch("--data", help="Also delete the workload's persistent volume claims and their data"),
    connection.make_wait_option("its pods are deleted"),
    make_output_option("text", "name"),
)

#: The label of a workload's pods with its name, by the kind of its main object.
LABELS: Final = {
    "Service": keys.KNATIVE_SERVICE,
    "InferenceService": keys.KSERVE_SERVICE,
    "LLMInferenceService": f"{keys.APP_COMPONENT}={keys.LLM_COMPONENT},{keys.APP_NAME}",
}


@connection.cluster_command
def run(cluster: connection.Cluster, options: Options) -> int:
    from ebbtide.cluster.client.protocol import POD
    from ebbtide.cluster.write.removal import plan_removal, remove_workload

    namespace = connection.resolve_namespace(cluster, options)
    planned = plan_removal(cluster, options.name, namespace, data=options.data)
    top = planned.top
    names = ", ".join(f"{obj['kind']} {obj['metadata']['name']}" for obj in (top, *planned.items[:-1]))
    if not terminal.ask_confirmation(f"Delete {names} in namespace {namespace}?", yes=options.yes):
        return terminal.USAGE
    for obj in remove_workload(cluster, planned):
        if options.output == "text":
            sys.stdout.write(f"deleted {obj['kind']} {namespace}/{obj['metadata']['name']}\n")
    if options.output == "name":
        sys.stdout.write(f"{namespace}/{options.name}\n")
    if planned.kept_claims:
        claim_names = ", ".join(obj["metadata"]["name"] for obj in planned.kept_claims)
        terminal.write_stderr(f"Kept with their data: {claim_names}. Use --data to delete them.")
    label = LABELS[top["kind"]]

    def remaining() -> str:
        count = len(cluster.list(POD, namespace, labels=f"{label}={options.name}").items)
        return f"{count_noun(count, 'pod')} {'is' if count == 1 else 'are'}" if count else ""

    return connection.wait_until_gone(remaining, options.wait, options.name)
