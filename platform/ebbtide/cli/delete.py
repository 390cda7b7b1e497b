"""``ebbtide delete NAME``: delete the workload and the objects created with it; volumes are kept without ``--data``."""

from __future__ import annotations

import sys
from typing import Final

from ebbtide.base import keys
from ebbtide.base.prose import counted
from ebbtide.cli import connection, terminal
from ebbtide.cli.options import YES, Options, output, switch

OPTIONS: Final = (
    *connection.WORKLOAD,
    YES,
    switch("--data", help="Also delete the workload's persistent volume claims and their data"),
    connection.waiting("its pods are deleted"),
    output("text", "name"),
)


@connection.connected
def run(cluster: connection.Cluster, options: Options) -> int:
    from ebbtide.cluster.client.protocol import POD  # noqa: PLC0415 - not loaded for --help
    from ebbtide.cluster.write.removal import removal, remove  # noqa: PLC0415 - as above

    namespace = connection.place(cluster, options)
    planned = removal(cluster, options.name, namespace, data=options.data)
    top = planned.top
    names = ", ".join(f"{obj['kind']} {obj['metadata']['name']}" for obj in (top, *planned.items[:-1]))
    if not terminal.confirmed(f"Delete {names} in namespace {namespace}?", yes=options.yes):
        return 2
    for obj in remove(cluster, planned):
        if options.output == "text":
            sys.stdout.write(f"deleted {obj['kind']} {namespace}/{obj['metadata']['name']}\n")
    if options.output == "name":
        sys.stdout.write(f"{namespace}/{options.name}\n")
    if planned.kept:
        kept = ", ".join(obj["metadata"]["name"] for obj in planned.kept)
        terminal.tell(f"Kept with their data: {kept}. Use --data to delete them.")
    label = keys.KSERVE_SERVICE if top["kind"] == "InferenceService" else keys.KNATIVE_SERVICE

    def remaining() -> str:
        count = len(cluster.list(POD, namespace, labels=f"{label}={options.name}").items)
        return f"{counted(count, 'pod')} {'is' if count == 1 else 'are'}" if count else ""

    return connection.wait_until_gone(remaining, options.wait, options.name)
