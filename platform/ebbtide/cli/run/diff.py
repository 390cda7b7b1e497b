"""``ebbtide diff``: show the changes that an apply would make, new revisions included. Exit code 4 on a difference."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from ebbtide.cli.base import connection
from ebbtide.cli.base.common import write_json
from ebbtide.cli.base.options import FULL, LIVE_PROFILE, SPECS, Options, make_output_option

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile

DIFFERENT: Final = 4
OPTIONS: Final = (
    SPECS,
    LIVE_PROFILE,
    *connection.CONNECTION,
    connection.SPEC_NAMESPACE,
    FULL,
    make_output_option("text", "json", "name"),
)


@connection.profile_command
def run(cluster: connection.Cluster, options: Options, profile: Profile) -> int:
    """Translate the specs and compare them with the cluster; ``ebbtide check`` reports the warnings."""
    from ebbtide.cli.run.apply import format_diff, read_workloads
    from ebbtide.cluster.write import apply

    workloads = read_workloads(cluster, options, profile, quiet=True)
    plans = [apply.diff_workload(cluster, workload) for workload in workloads]
    if options.output == "json":
        write_json(plans)
    for plan in plans if options.output != "json" else ():
        name, differs = f"{plan.workload.namespace}/{plan.workload.name}", plan.different or plan.refused
        if options.output == "name":
            sys.stdout.write(f"{name}\n" if differs else "")
        elif differs or any(step.notes for step in plan.steps):
            sys.stdout.write(format_diff(plan, full=options.full))
        else:
            sys.stdout.write(f"{name} is up to date\n")
    if any(step.verdict == "refused" for plan in plans for step in plan.steps):
        return connection.CLUSTER
    return DIFFERENT if any(plan.different for plan in plans) else 0
