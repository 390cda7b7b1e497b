"""``ebbtide list``: one row a workload, however many replicas, revisions and objects it has."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final, TypeAlias

from ebbtide.base.quantities import age
from ebbtide.cli import connection, terminal
from ebbtide.cli.options import Options, output, switch

if TYPE_CHECKING:
    from ebbtide.cluster.read.status import Status

HEAD: Final = ("NAME", "PROJECT", "STATUS", "REPLICAS", "GPUS", "METRIC", "AGE", "URL")
#: Kind, namespace and name.
Key: TypeAlias = tuple[str, str, str]
#: Seconds between two looks with --watch.
LOOK: Final = 2.0
OPTIONS: Final = (
    *connection.PLACE,
    connection.EVERYWHERE,
    connection.NAMES,
    connection.COUNTS,
    switch("-w", "--watch", help="go on, and print each row that changes or goes"),
    output("table", "json", "yaml", "name"),
)


@connection.connected
def run(cluster: connection.Cluster, options: Options) -> int:
    from ebbtide.cluster.read.inventory import survey  # noqa: PLC0415 - a command's parser must not load it
    from ebbtide.cluster.read.status import status  # noqa: PLC0415 - as above

    namespace = "" if options.all else connection.place(cluster, options)
    clock = connection.clock()
    source = connection.source_of(cluster, options)
    known: dict[Key, tuple[str, ...]] = {}
    while True:
        now = clock.now()
        found = [status(item) for item in survey(cluster, namespace, now)]
        found = connection.with_loads(found, source, asked_for=bool(options.prometheus), when=now)
        if not options.watch:
            _print(found, options.output, namespace)
            return 0
        rows = {_key(item): _row(item)[:6] for item in found}
        new = [item for item in found if known.get(_key(item)) != rows[_key(item)]]
        if new:
            _print(new, options.output, namespace, watched=True)
        _print_gone([key for key in known if key not in rows], options.output)
        known = rows
        clock.sleep(LOOK)


def _print(found: list[Status], form: str, namespace: str, *, watched: bool = False) -> None:
    if form in {"json", "yaml"}:
        terminal.answer(found, form, watched=watched)
    elif form == "name":
        sys.stdout.writelines(f"{item.namespace}/{item.name}\n" for item in found)
    elif found:
        text = terminal.table(HEAD, [_row(item) for item in found])
        head, *lines = text.splitlines(keepends=True)
        sys.stdout.write(head)
        for item, line in zip(found, lines, strict=True):
            sys.stdout.write(line.replace(item.phase, terminal.painted(item.phase, item.phase), 1))
    else:
        terminal.tell(f"there is no workload in {f'namespace {namespace}' if namespace else 'the cluster'}")
    sys.stdout.flush()


def _print_gone(keys: list[Key], form: str) -> None:
    """Say of workloads that were there at the last look that they no longer are; a name alone cannot say that."""
    if form in {"json", "yaml"}:
        if keys:
            rows = [
                {"kind": kind, "namespace": namespace, "name": name, "gone": True} for kind, namespace, name in keys
            ]
            terminal.answer(rows, form, watched=True)
    elif form == "table":
        sys.stdout.writelines(f"{namespace}/{name} is gone\n" for _, namespace, name in keys)
    sys.stdout.flush()


def _key(item: Status) -> Key:
    return item.kind, item.namespace, item.name


def _row(item: Status) -> tuple[str, ...]:
    return (
        item.name,
        item.project or item.namespace,
        item.phase,
        str(item.replicas),
        item.gpus,
        str(item.metric or ""),
        age(item.age_seconds),
        item.url,
    )
