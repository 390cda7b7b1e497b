"""``ebbtide diff``: what an apply would change, and whether it makes a new revision; exit code 4 if anything."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from ebbtide.cli import connection
from ebbtide.cli.common import exit_code, read_profile, show, write_json
from ebbtide.cli.options import FILES, Options, output
from ebbtide.documents.check import Batch

if TYPE_CHECKING:
    from ebbtide.cluster.write.apply import Workload

DIFFERENT: Final = 4
OPTIONS: Final = (*FILES, *connection.CONNECTION, output("text", "json", "name"))


def run(options: Options) -> int:
    """Translate and compare; warnings are for check."""
    from ebbtide.cli.apply import workloads  # noqa: PLC0415 - a command's parser must not load it

    profile = read_profile(options.profile)
    made, problems = workloads(options.files, Batch(profile, fold=True))
    if code := exit_code(problems):
        show(problem for problem in problems if problem.severity == "error")
        return code
    return connection.on_cluster(options, lambda cluster: _compare(cluster, made, options.output))


def _compare(cluster: connection.Cluster, made: list[Workload], form: str) -> int:
    from ebbtide.cli.apply import shown  # noqa: PLC0415 - as above
    from ebbtide.cluster.write import apply  # noqa: PLC0415 - as above

    planned = [apply.plan(cluster, workload) for workload in made]
    if form == "json":
        write_json(planned)
    elif form == "name":
        different = [item.workload for item in planned if item.different or item.refused]
        sys.stdout.writelines(f"{workload.namespace}/{workload.name}\n" for workload in different)
    else:
        for item in planned:
            noted = any(step.notes for step in item.steps)
            same = f"{item.workload.namespace}/{item.workload.name} is as the spec says\n"
            sys.stdout.write(shown(item) if item.different or item.refused or noted else same)
    if any(step.verdict == "refused" for item in planned for step in item.steps):
        return connection.CLUSTER
    return DIFFERENT if any(item.different for item in planned) else 0
