"""The tables of the mutants: groups of modules, their nearest tests, and mutants that no test can notice."""

from __future__ import annotations

from typing import Final

#: Modules by group, as patterns below the package.
GROUPS: Final = {
    "evidence": ("cluster/controller/*.py", "core/autoscaler/floor.py", "core/base/metrics.py"),
    "controller": ("cluster/controller/*.py",),
    "floor": ("core/autoscaler/floor.py",),
    "report": ("cluster/slo/report.py", "cluster/slo/cost_report.py", "simulator/fleet/savings.py"),
    "plan": ("simulator/fleet/planner.py", "simulator/fleet/fleet.py", "simulator/fleet/pool.py"),
    "endpoint": ("core/translation/endpoints/*.py", "cluster/write/endpoints.py", "cluster/read/gateways.py"),
}
_EVIDENCE: Final = (
    "cluster/test_scraped_evidence.py "
    "--deselect=tests/cluster/test_scraped_evidence.py::test_a_steady_load_keeps_its_floor_at_every_scrape_interval"
)
_CRD: Final = (
    "cluster/test_controller_resources.py cluster/test_crd.py "
    "--deselect=tests/cluster/test_crd.py::test_the_api_server_changes_nothing_that_the_reader_sees"
)
_PROCESS: Final = (
    "cluster/test_controller_answers.py cluster/test_controller_process.py cluster/test_controller_port.py"
)
_REPORT: Final = (
    "cluster/test_slo_report.py cluster/test_slo_prometheus.py",
    "server/test_costs.py cli/test_cli_report.py",
)
#: The test files that are nearest to a module, or to the modules of a folder: one run of pytest after the other, the cheapest
#: first. One that simulates or waits comes last.
NEAREST: Final[dict[str, tuple[str, ...]]] = {
    "cluster/controller": (
        "cluster/test_controller_evidence.py cluster/test_controller_statements.py cluster/test_floor_gang.py",
        f"cluster/test_floor.py {_PROCESS}",
    ),
    "cluster/controller/conditions.py": (_CRD,),
    "cluster/controller/fence.py": (_CRD,),
    "cluster/controller/inferences.py": (_CRD,),
    "cluster/controller/lease.py": ("cluster/test_lease.py", _PROCESS),
    "cluster/controller/measure.py": ("cluster/test_metric_queries.py cluster/test_controller_sampling.py", _EVIDENCE),
    "cluster/controller/process.py": ("cluster/test_controller_resources.py cluster/test_lease.py", _PROCESS),
    "cluster/controller/resources.py": (_CRD,),
    "cluster/controller/sampling.py": ("cluster/test_controller_sampling.py", _PROCESS),
    "cluster/read/gateways.py": ("cluster/test_gateways.py",),
    "cluster/slo/cost_report.py": _REPORT[1:],
    "cluster/slo/report.py": _REPORT,
    "cluster/write/endpoints.py": ("cluster/test_project_endpoints.py",),
    "core/autoscaler/floor.py": (
        "cluster/test_controller_evidence.py cluster/test_floor.py",
        _EVIDENCE,
        "cluster/test_floor_law.py::test_the_controller_writes_the_floors_of_the_simulation[1]",
    ),
    "core/base/metrics.py": (
        "core/test_engines.py core/test_core.py cluster/test_metric_queries.py",
        f"server/test_metric_law.py {_EVIDENCE}",
    ),
    "core/translation/endpoints": (
        "core/test_golden.py -kendpoint",
        "core/test_endpoint_model.py cluster/test_endpoint_gateway_law.py cluster/test_project_endpoints.py",
    ),
    "simulator": (
        "simulator/test_fleet.py",
        "simulator/test_reclaim.py simulator/test_pool_charts.py cli/test_cli_fleet.py",
    ),
    "simulator/fleet/savings.py": ("simulator/test_savings.py", *_REPORT[1:]),
}
#: Names of mutants that no test can notice, with the reason.
EQUIVALENT: Final[dict[str, str]] = {
    "simulator/fleet/savings.py format_count: 100 -> 101": "from 100 to 101, both formats show the same three digits",
    "simulator/fleet/savings.py _Replayer._compare_delay: value < delay -> (value <= delay)": (
        "a delay that stays the same is not among the changes that ``_change_fields`` returns"
    ),
}
