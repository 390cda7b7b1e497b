"""``ebbtide diff``: show the changes that an apply would make, new revisions included. Exit code 4 on a difference."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from ebbtide.cli import connection
from ebbtide.cli.common import exit_code, print_problems, write_json
from ebbtide.cli.options import FULL, LIVE_PROFILE, SPECS, Options, make_output_option
from ebbtide.documents.check import Batch

if TYPE_CHECKING:
    from ebbtide.cluster.write.apply import Workload
    from ebbtide.profile.models import Profile

DIFFERENT: Final = 4
OPTIONS: Final = (SPECS, LIVE_PROFILE, *connection.CONNECTION, FULL, make_output_option("text", "json", "name"))


def run(options: Options) -> int:
    """Translate the specs and compare them with the cluster; ``ebbtide check`` reports the warnings."""
    from ebbtide.cli.apply import translate_workloads

    def prepare(profile: Profile) -> list[Workload] | int:
        translated, problems = translate_workloads(options.files, Batch(profile, fold=True))
        print_problems(problem for problem in problems if problem.severity == "error")
        return exit_code(problems) or translated

    return connection.run_with_profile(
        options, prepare, lambda cluster, workloads: _compare_workloads(cluster, workloads, options)
    )


def _compare_workloads(cluster: connection.Cluster, workloads: list[Workload], options: Options) -> int:
    from ebbtide.cli.apply import format_plan
    from ebbtide.cluster.write import apply

    planned = [apply.plan_workload(cluster, workload) for workload in workloads]
    if options.output == "json":
        write_json(planned)
    elif options.output == "name":
        different = [
            planned_workload.workload
            for planned_workload in planned
            if planned_workload.different or planned_workload.refused
        ]
        sys.stdout.writelines(f"{workload.namespace}/{workload.name}\n" for workload in different)
    else:
        for planned_workload in planned:
            has_notes = any(step.notes for step in planned_workload.steps)
            unchanged = f"{planned_workload.workload.namespace}/{planned_workload.workload.name} is up to date\n"
            sys.stdout.write(
                format_plan(planned_workload, full=options.full)
                if planned_workload.different or planned_workload.refused or has_notes
                else unchanged
            )
    if any(step.verdict == "refused" for planned_workload in planned for step in planned_workload.steps):
        return connection.CLUSTER
    return DIFFERENT if any(planned_workload.different for planned_workload in planned) else 0
