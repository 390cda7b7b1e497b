"""State of a simulation at its start, without pods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

import numpy as np

from ebbtide.core.autoscaler import kpa, reconciler, targets, windows
from ebbtide.core.autoscaler.arithmetic import SECOND
from ebbtide.core.base.engine_metrics import find_engine_metrics
from ebbtide.core.base.metrics import find_histogram
from ebbtide.simulator.engine import state
from ebbtide.simulator.engine.inputs import TOKENS, SimulationInputs
from ebbtide.simulator.engine.setting import Setting, get_replica_bounds
from ebbtide.simulator.engine.state import EngineNumbers, EngineState, ScalerState

#: Initial number of rows for pods of a plain simulation, whose lists grow.
_ROWS: Final = 16
_VLLM: Final = find_engine_metrics("vLLM")
#: Bounds of the histograms of tokens: vLLM's, for all engines.
TOKEN_EDGES: Final = [list(row[0].bounds) for row in (_VLLM.first_token, _VLLM.inter_token)] if _VLLM else []


def create_state(
    setting: Setting,
    inputs: SimulationInputs,
    observer: state.Observer | None,
    rows: int | None,
    *,
    is_pooled: bool = False,
) -> tuple[EngineState, ScalerState]:
    """Return the initial state; ``rows`` is the number of rows for pods of a compiled simulation, None for a plain one.

    A simulation with an observer gets its requests later. One of a shared pool of GPUs records no ticks.
    """
    revision, config = setting.revision, setting.config
    spec = targets.make_decider(revision, config)
    is_watched = observer is not None
    batching = None if is_watched else inputs.batching
    count = 0 if is_watched else len(inputs.arrivals)
    ticks = 0 if is_watched or is_pooled else (inputs.end - inputs.lead + inputs.timeout) // state.TICK + 4
    edges = _list_edges(setting, has_tokens=batching is not None)
    numbers = make_numbers(setting, inputs, edges, is_watched=is_watched)
    numbers.is_pooled = is_pooled
    pod_rows = rows or _ROWS
    tables = [inputs.start_ups, inputs.answers, inputs.begins, inputs.speeds, inputs.busy]
    if batching is not None:
        tables += [batching.shared_first, batching.shared_step]
    stable, stable_marks = windows.new_buckets(targets.stable_window(revision, config), 1.0)
    panic, panic_marks = windows.new_buckets(targets.panic_window(revision, config), 1.0)
    arrays = {
        **{name: np.zeros(pod_rows, np.int64) for name in ("ready", "seen", "alive", "sample")},
        "tables": np.concatenate(tables),
        # Two entries for each request, and two more for its first token.
        "heap": np.zeros((4 if batching is None else 8) * count + 2, np.int64),
        "edges": np.array([edge for bounds in edges for edge in (*bounds, math.inf)], np.float64),
        "counts": np.zeros(pod_rows * numbers.count_row, np.int64),
    }
    scaler_arrays = {
        "stable": np.array(stable, np.float64),
        "panic": np.array(panic, np.float64),
        "stable_marks": np.array(stable_marks, np.int64),
        "panic_marks": np.array(panic_marks, np.int64),
        "decider": np.array(kpa.list_spec_numbers(spec), np.float64),
        "memory": np.array([-1, 0], np.int64),
        "maxima": np.array(windows.new_maxima(spec.scale_down_delay, kpa.TICK_INTERVAL), np.int64),
    }
    token_times = np.zeros((0, len(fields(state.TokenRow))), np.int64) if batching is None else batching.requests
    scalars = {
        "state": numbers,
        "sums": state.TimeIntegrals(),
        "empty_pod": state.PodRow(),
    }
    if rows is None:
        values: dict[str, Any] = {name: array.tolist() for name, array in arrays.items()}
        scaler: dict[str, Any] = {name: array.tolist() for name, array in scaler_arrays.items()}
        pairs = zip(inputs.arrivals[:count].tolist(), inputs.work[:count].tolist(), strict=True)
        values["requests"] = [state.RequestRow(arrival, work) for arrival, work in pairs]
        values["tokens"] = [state.TokenRow(*row) for row in token_times.tolist()]
        values["pods"] = [state.PodRow() for _ in range(pod_rows)]
        scaler["ticks"] = [state.TickRow() for _ in range(ticks)]
        values |= scalars
    else:
        values, scaler = dict(arrays), dict(scaler_arrays)
        values["requests"] = _make_records(state.RequestRow(), count)
        values["requests"]["arrival"], values["requests"]["work"] = inputs.arrivals, inputs.work
        values["tokens"] = np.array(token_times, order="C").view(state.make_dtype(state.TokenRow)).reshape(-1)
        values["pods"] = _make_records(state.PodRow(), pod_rows)
        scaler["ticks"] = _make_records(state.TickRow(), ticks)
        values |= {name: _make_records(row, 1)[0] for name, row in scalars.items()}
    rules = reconciler.resolve_rules(revision, config)
    return EngineState(observer=observer, **values), ScalerState(rules=rules, **scaler)


def _make_records(row: Any, count: int) -> np.ndarray[Any, Any]:
    """Return an array of ``count`` records, each with the values of a row."""
    values = tuple(getattr(row, field.name) for field in fields(row))
    return np.repeat(np.array([values], state.make_dtype(type(row))), count)


def _list_edges(setting: Setting, *, has_tokens: bool) -> list[list[float]]:
    """Return the edges of the histograms that the setting's metrics need."""
    if setting.hpa is None and setting.floor is None:
        return []
    latency = [edge / 1000 for edge in find_histogram(setting.version).bounds]
    return [latency, *(TOKEN_EDGES if has_tokens and not TOKENS.isdisjoint(setting.signals) else ())]


def make_numbers(
    setting: Setting, inputs: SimulationInputs, edges: Sequence[Sequence[float]], *, is_watched: bool
) -> EngineNumbers:
    """Return the initial scalars."""
    revision, config = setting.revision, setting.config
    spec = targets.make_decider(revision, config)
    decays = [
        windows.smoothing_coefficient(len(windows.new_buckets(length, 1.0)[0]) - 1)
        for length in (targets.stable_window(revision, config), targets.panic_window(revision, config))
    ]
    count = len(inputs.start_ups)
    is_rps, is_scraped = spec.scaling_metric == "rps", spec.target_burst_capacity != -1
    is_direct = setting.hpa is not None
    batching = None if is_watched else inputs.batching
    busy = 3 * count + len(inputs.speeds)
    shared = 0 if batching is None else len(batching.shared_first)
    shared_first = busy + len(inputs.busy)
    latency_edges, first_token_edges, gap_edges = [*map(len, edges), 0, 0, 0][:3]
    phases_start, kv_blocks = sum(len(bounds) + 1 for bounds in edges), 0 if batching is None else batching.kv_blocks
    per_token = (0, 0, 0) if batching is None else batching.per_token
    return EngineNumbers(
        lead=inputs.lead,
        end=state.FAR if is_watched else inputs.end,
        timeout=inputs.timeout,
        limit=inputs.limit,
        slots=inputs.slots,
        seed=inputs.seed,
        is_startable=inputs.startable,
        is_scraped=is_scraped,
        is_rps=is_rps,
        unit=1 if is_rps else SECOND,
        is_weighted=setting.weighted,
        decay=decays[0],
        panic_decay=decays[1],
        server_kind=_get_server_kind(inputs, is_watched=is_watched),
        is_watched=is_watched,
        is_direct=is_direct,
        minimum=get_replica_bounds(setting)[0],
        start_ups=count,
        answers_start=count,
        begins_start=2 * count,
        speeds_start=3 * count,
        last_speed=len(inputs.speeds) - 1,
        busy_start=busy,
        last_busy=len(inputs.busy) - 1,
        shared_first_start=shared_first,
        shared_step_start=shared_first + shared,
        last_shared=shared - 1,
        latency_edges=latency_edges,
        first_token_edges=first_token_edges,
        gap_edges=gap_edges,
        phases_start=phases_start,
        count_row=phases_start + (state.BLOCK if kv_blocks else 0),
        kv_blocks=kv_blocks,
        prefill_token=per_token[0],
        prefill_each_token=per_token[1],
        delay_token=per_token[2],
        reckoned=0 if is_watched else inputs.lead,
        next_report=state.FAR if is_direct else inputs.report,
        next_scrape=state.FAR if is_direct or not is_scraped else inputs.scrape,
        next_tick=inputs.tick,
    )


def _get_server_kind(inputs: SimulationInputs, *, is_watched: bool) -> int:
    """Return the kind of the server. A watched simulation feeds requests without tokens."""
    if inputs.batching is not None and not is_watched:
        return state.BATCHING
    return state.BY_CONCURRENCY if (inputs.speeds != state.SPEED).any() else state.CONSTANT
