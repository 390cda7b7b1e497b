"""The report of a request for a plan: its services, node pools and prices, the smallest pools and the changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ebbtide.core.base.problems import Problem
from ebbtide.core.base.prose import count_noun
from ebbtide.simulator.fleet import fleet_report, planner
from ebbtide.simulator.fleet.pool import PoolSize, find_gpu_price, read_quotas
from ebbtide.simulator.search.judge import SEEDS
from ebbtide.simulator.search.request import (
    FleetRequest,
    PreparedCase,
    RequestFieldError,
    SimulationRequest,
    SimulationRequestError,
    TrafficLog,
    choose_server,
    prepare_case,
)

if TYPE_CHECKING:
    from ebbtide.core.profile.models import Profile
    from ebbtide.core.readers.loaded import LoadedDocument
    from ebbtide.simulator.fleet.fleet_report import FleetReport

#: Ending of a file that has a traffic shape instead of a log.
SHAPE_SUFFIX: Final = ".shape"
KUEUE_COHORT: Final = "the cohort of Kueue is not modeled: no project borrows the unused quota of another one"


def make_fleet_report(
    request: FleetRequest,
    profile: Profile,
    pairs: Sequence[tuple[LoadedDocument, TrafficLog]],
    notes: Sequence[str] = (),
) -> FleetReport:
    """Plan services with their traffic. Raises SimulationRequestError."""
    names = sorted({log.workload for _, log in pairs})
    if unknown := sorted({*request.factors} - {*names}):
        raise RequestFieldError("what_if", f"no service {unknown[0]}; services: {', '.join(names)}", "use one of them")
    sizes = read_pools(request, profile)
    pools = {size.name for size in sizes}
    if request.training is not None:
        _require_pool("training", request.training[1], pools)
    prices = _read_prices(request, pools, profile)
    unpriced = [name for name in pools if name not in prices]
    if prices and unpriced:
        # A sum without them would look like one of all.
        notes = [*notes, f"no cost: node pool {min(unpriced)} has no price in the profile, and no --price"]
        prices = {}
    quotas = read_quotas(profile)
    if profile.spec.projects.quota == "kueue" and len(quotas) > 1:
        notes = [*notes, KUEUE_COHORT]
    planners = []
    for seed in SEEDS:
        cases = [_prepare(replace(request, seed=request.seed + seed), loaded, log, profile) for loaded, log in pairs]
        notes = [*notes, *(text for prepared in cases for text in prepared.notes)]
        fleet = planner.make_fleet(cases, sizes, quotas, request.training, request.factors, prices)
        planners.append(planner.plan_fleet(fleet, cases))
    planned = planner.FleetPlanner(planners[0].fleet, planners[0].recordings, planners[1:])
    smallest, largest = fleet_report.choose_pools(planned)
    failing = [] if smallest[100] is None else planned.list_failing(smallest[100])
    found = planner.find_changes(planned, smallest[100] or largest, request.changes, request.spare)
    return fleet_report.FleetReport(
        planned,
        sizes[0].gpus,
        smallest,
        largest,
        failing,
        found,
        tuple(dict.fromkeys(notes)),
        profile.spec.prices.currency or "",
    )


def _prepare(request: FleetRequest, loaded: LoadedDocument, log: TrafficLog, profile: Profile) -> PreparedCase:
    shape = log.content.decode(errors="replace").strip() if log.file.endswith(SHAPE_SUFFIX) else ""
    server = choose_server(request.servers, log.workload)
    single = SimulationRequest(
        loaded.name,
        shape or log.file,
        None if shape else log.content,
        request.columns,
        server or log.server,
        start_up=request.start_up,
        slo="" if loaded.inference is not None and loaded.inference.spec.slo is not None else request.slo,
        seed=request.seed,
    )
    prepared = prepare_case(single, loaded, profile, "plan")
    if not len(prepared.case.traffic.times):
        least = count_noun(prepared.plan.scaling.minimum, "replica")
        note = f"{log.workload} has no requests: it is planned with its minimum of {least}"
        return prepared._replace(case=replace(prepared.case, bounds=()), notes=(note,))
    tokenless = tuple(bound for bound in prepared.case.bounds if bound.kind not in {"ttft", "itl"})
    if server or not log.server or tokenless == prepared.case.bounds:
        return prepared
    note = f"{log.workload} without its SLO on token times, which need --server {log.workload}=gpu:GPU/MODEL/ENGINE"
    return prepared._replace(case=replace(prepared.case, bounds=tokenless), notes=(*prepared.notes, note))


def read_pools(request: FleetRequest, profile: Profile) -> list[PoolSize]:
    """Return the node pools of a request, or those of the profile with GPUs. Raises SimulationRequestError."""
    known = {pool.name: pool for pool in profile.spec.node_pools}
    if not request.pools:
        observed = [PoolSize(pool.name, pool.nodes * pool.devices, pool.devices) for pool in known.values()]
        if sizes := [size for size in observed if size.gpus]:
            return sizes
        message = "the cluster has no node pool with a number of nodes and GPUs: set --pool"
        raise RequestFieldError("pool", message, "set the number of GPUs of a node pool")
    if unknown := [name for name, *_ in request.pools if name not in known]:
        message = f"node pool {unknown[0]} of --pool not found in the cluster profile"
        fix = f"use one of its node pools: {', '.join(known)}" if known else "set --profile to one with node pools"
        raise SimulationRequestError(Problem("PLN005", (), message, fix, document=profile.metadata.name))
    sizes = [PoolSize(name, gpus, node or known[name].devices) for name, gpus, node in request.pools]
    for size in sizes:
        if size.per_node and size.gpus % size.per_node:
            message = f"{size.gpus} GPUs of {size.name} are not whole nodes of {size.per_node}"
            fix = f"write {size.name}={size.gpus // size.per_node + 1}x{size.per_node}, or {size.name}=1x{size.gpus}"
            raise RequestFieldError("pool", f"{message}: {fix}", fix)
    return sizes


def _read_prices(request: FleetRequest, pools: set[str], profile: Profile) -> dict[str, float]:
    priced = {pool.name: find_gpu_price(profile.spec.prices, pool) for pool in profile.spec.node_pools}
    prices = {name: price for name, price in priced.items() if name in pools and price is not None}
    for name, price in request.prices:
        _require_pool("price", name, pools)
        prices[name] = price
    return prices


def _require_pool(option: str, name: str, pools: set[str]) -> None:
    if name not in pools:
        raise RequestFieldError(option, f"--pool has no {name}", f"use one of {', '.join(sorted(pools))}")
