"""``ebbtide delete NAME...``: delete workloads and the objects created with it; volumes are kept without ``--data``."""

from __future__ import annotations

import sys
from typing import Final

from ebbtide.cli.base import connection, terminal
from ebbtide.cli.base.options import YES, Options, make_option, make_output_option, make_switch
from ebbtide.core.base import keys
from ebbtide.core.base.prose import count_noun

OPTIONS: Final = (
    make_option("names", nargs="+", metavar="NAME", help="Name of a workload"),
    *connection.WORKLOAD[1:],
    YES,
    make_switch("--data", help="Also delete the workloads' persistent volume claims and their data"),
    connection.make_wait_option("the pods are deleted"),
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
    # Planned before anything is deleted: a wrong name deletes nothing.
    planned = []
    for name in dict.fromkeys(options.names):
        with connection.suggesting_place(cluster, name):
            planned.append(plan_removal(cluster, name, namespace, data=options.data))
    objects = [obj for removal in planned for obj in (removal.top, *removal.items[:-1])]
    names = ", ".join(f"{obj['kind']} {obj['metadata']['name']}" for obj in objects)
    if not terminal.ask_confirmation(f"Delete {names} in namespace {namespace}?", yes=options.yes):
        return terminal.USAGE
    for removal in planned:
        for obj in remove_workload(cluster, removal):
            if options.output == "text":
                sys.stdout.write(f"deleted {obj['kind']} {namespace}/{obj['metadata']['name']}\n")
        if options.output == "name":
            sys.stdout.write(f"{namespace}/{removal.top['metadata']['name']}\n")
    if claims := [obj["metadata"]["name"] for removal in planned for obj in removal.kept_claims]:
        terminal.write_stderr(f"Kept with their data: {', '.join(claims)}. Use --data to delete them.")
    selectors = [f"{LABELS[removal.top['kind']]}={removal.top['metadata']['name']}" for removal in planned]

    def remaining() -> str:
        count = sum(len(cluster.list(POD, namespace, labels=selector).items) for selector in selectors)
        return f"{count_noun(count, 'pod')} {'is' if count == 1 else 'are'}" if count else ""

    return connection.wait_until_gone(remaining, options.wait, ", ".join(dict.fromkeys(options.names)))
