"""Measurements, decisions and the order of events of Knative's pod autoscaler.

Pods report every second; the autoscaler scrapes a sample of them every second and decides every 2 s, with
``ebbtide.autoscaler``. An HPA decides in ``ebbtide.simulate.engine.HpaSimulation``, between two calls of ``advance``. All
functions are kernel functions (``ebbtide.autoscaler.kernel``).

Upstream: knative.dev/serving v0.51.0: cmd/autoscaler (stats are recorded, then the scaler is poked),
pkg/activator/handler/concurrency_reporter.go, pkg/autoscaler/{metrics,scaling} and pkg/reconciler/autoscaling/kpa.
"""

from __future__ import annotations

import math
from typing import Final

from ebbtide.autoscaler.arithmetic import SECOND, round_down, round_up, to_nanoseconds
from ebbtide.autoscaler.kernel import Floats, hot_kernel, kernel
from ebbtide.autoscaler.kpa import ACTIVATION as AT_ACTIVATION
from ebbtide.autoscaler.kpa import PANIC_SINCE, RATE_DOWN, RATE_UP, TARGET, decide_pods, limit_step
from ebbtide.autoscaler.metrics import population_mean_sample_size
from ebbtide.autoscaler.reconciler import FALSE, ObservedNumbers, StatusNumbers, next_memory, wanted_scale
from ebbtide.autoscaler.windows import LENGTH, is_empty, record_value, timed_average, weighted_average
from ebbtide.simulate.pods import (
    activator_flow,
    admit_requests,
    become_ready,
    close_request,
    detect_pod,
    end_pod,
    enter_pod,
    find_next_pod,
    finish_request,
    first_held,
    hold_request,
    is_void,
    leave_activator,
    notify_observer,
    pop_departure,
    produce_first_token,
    reckon,
    reckon_end,
    set_replicas,
    unhold_request,
    update_statistics,
)
from ebbtide.simulate.state import *

#: Average without measurements.
_NONE: Final = math.nan


# Measurements.


@hot_kernel
def record_both(w: EngineState, k: ScalerState, value: float) -> None:
    """Add one report to both windows."""
    now = w.state[NOW]
    record_value(k.stable, k.stable_marks, now, value)
    record_value(k.panic, k.panic_marks, now, value)


@kernel
def record_report(w: EngineState, k: ScalerState, concurrency: float, count: float) -> None:
    """Record a report of the activator, and let the scaler of a revision at zero decide immediately."""
    record_both(w, k, count if w.state[RPS] > 0 else concurrency)
    if w.state[DESIRED] == 0 and concurrency != 0:
        decide_scale(w, k)


@hot_kernel
def send_report(w: EngineState, k: ScalerState) -> None:
    """Send the activator's report, and drop a revision without requests."""
    s = w.state
    if s[KNOWN] == 0:
        return
    activator_flow(w)
    lasted = s[NOW] - s[SINCE]
    mean = s[FLOW] / lasted if lasted > 0 else 0.0
    concurrency, count = max(mean - s[FIRST], 0.0), float(s[REQUESTS] - s[FIRST])
    if mean == 0.0 and s[PROXIED] == 0:
        s[KNOWN] = 0
    s[FIRST] = 0
    s[SINCE] = s[NOW]
    s[FLOW] = 0
    s[REQUESTS] = 0
    record_report(w, k, concurrency, count)


@kernel
def shuffle_sample(w: EngineState, first: int, count: int) -> None:
    """Shuffle a section of the sample."""
    s, lists = w.state, w.lists
    for last in range(count - 1, 0, -1):
        s[SAMPLES] += 1
        last_index = (first + last) * LIST_ROW + SAMPLE_LIST
        drawn_index = (first + draw(s[SEED], STREAM_SAMPLE, s[SAMPLES], last + 1)) * LIST_ROW + SAMPLE_LIST
        swapped = lists[last_index]
        lists[last_index] = lists[drawn_index]
        lists[drawn_index] = swapped


@hot_kernel
def scrape_pods(w: EngineState, k: ScalerState) -> None:
    """Scrape a sample of the ready pods: pods older than a stable window first, younger ones only if those are too few."""
    s, p, lists = w.state, w.pods, w.lists
    total, window = s[READY], k.stable_marks[LENGTH]
    if total == 0:
        return
    old = 0
    for index in range(total):
        pod = lists[index * LIST_ROW + READY_LIST]
        if s[NOW] - p[pod + BORN] >= window:
            lists[old * LIST_ROW + SAMPLE_LIST] = pod
            old += 1
    young = old
    for index in range(total):
        pod = lists[index * LIST_ROW + READY_LIST]
        if s[NOW] - p[pod + BORN] < window:
            lists[young * LIST_ROW + SAMPLE_LIST] = pod
            young += 1
    size = int(population_mean_sample_size(float(total)))
    if old < size:
        shuffle_sample(w, old, total - old)
    else:
        shuffle_sample(w, 0, old)
    value, proxied = 0.0, 0.0
    for index in range(size):
        pod = lists[index * LIST_ROW + SAMPLE_LIST]
        update_statistics(w, pod, s[NOW])
        value += p[pod + REPORTED] / s[UNIT]
        proxied += p[pod + REPORTED_PROXIED] / s[UNIT]
    # Divide first, then multiply, as upstream does, for identical rounding.
    record_both(w, k, value / size * total - proxied / size * total)


# Decisions.


@kernel
def decided_by(spec: Floats, stable: float, ready: int, desired: int, panicking: bool) -> int:
    """Return the code of the cause of the scaler's decision for ``desired`` pods."""
    pods = max(1, ready)
    upper = round_up(spec[RATE_UP] * pods)
    lower = round_down(pods / spec[RATE_DOWN])
    by_metric = round_up(stable / spec[TARGET])
    if desired > limit_step(by_metric, lower, upper, spec[AT_ACTIVATION]):
        return PANIC if panicking else DELAY
    if by_metric > upper:
        return UP
    if by_metric < lower:
        return DOWN
    return ACTIVATION if 0 < by_metric < spec[AT_ACTIVATION] else STABLE


@hot_kernel
def decide_scale(w: EngineState, k: ScalerState) -> bool:
    """Let the scaler decide, and reconcile if the decision or the sign of the excess changed; False without measurements."""
    s, f, now = w.state, w.moments, w.state[NOW]
    if s[SCRAPED] > 0 and is_empty(k.stable_marks, now):
        f[AVERAGE] = _NONE
        f[PANIC_AVERAGE] = _NONE
        return False
    if s[WEIGHTED] > 0:
        stable = weighted_average(k.stable, k.stable_marks, f[DECAY], now)
        panic = weighted_average(k.panic, k.panic_marks, f[PANIC_DECAY], now)
    else:
        stable = timed_average(k.stable, k.stable_marks, now)
        panic = timed_average(k.panic, k.panic_marks, now)
    f[AVERAGE] = stable
    f[PANIC_AVERAGE] = panic
    desired, excess = decide_pods(k.decider, k.memory, k.maxima, now, stable, panic, s[READY])
    s[DECIDED] = decided_by(k.decider, stable, s[READY], desired, k.memory[PANIC_SINCE] >= 0)
    changed = desired != s[DESIRED] or (excess < 0) != (s[EXCESS] < 0)
    s[DESIRED] = desired
    s[EXCESS] = excess
    if changed:
        reconcile(w, k)
    return True


@kernel
def reconcile(w: EngineState, k: ScalerState) -> None:
    """Reconcile until the objects that the reconciler watches no longer change."""
    s, f = w.state, w.moments
    while True:
        now = s[NOW] / SECOND
        serves, replicas = s[SERVES], s[REPLICAS]
        before = StatusNumbers(s[ACTIVE], s[REASON], f[STATUS_SINCE], s[INITIALIZED] > 0)
        sight = ObservedNumbers(s[DESIRED], s[READY], serves > 0, now if serves > 0 else f[PROXY_SINCE], True)
        desired, apply, after = wanted_scale(k.rules, before, sight, now)
        updated = next_memory(k.rules, before, s[READY], True, desired, now)
        s[ACTIVE] = updated.active
        s[REASON] = updated.reason
        f[STATUS_SINCE] = updated.since
        s[INITIALIZED] = 1 if updated.initialized else 0
        s[SERVES] = 1 if desired > 0 and s[EXCESS] >= 0 else 0
        if s[SERVES] != serves:
            f[PROXY_SINCE] = now
        if apply and desired != replicas:
            set_replicas(w, desired)
        if after >= 0:
            s[LOOK_AT] = s[NOW] + max(to_nanoseconds(after), SOON)
        same = updated.active == before.active and updated.reason == before.reason
        if (same and serves == s[SERVES] and replicas == s[REPLICAS]) or s[FULL] > 0:
            return


@kernel
def find_bound(w: EngineState, k: ScalerState, valid: bool) -> int:
    """Return the code of the cause of the number of replicas at a tick."""
    s, rules = w.state, k.rules
    if s[REPLICAS] == 0:
        return ZERO
    if not valid:
        return NO_DATA
    if s[DESIRED] < rules.min_replicas:
        return FLOOR if rules.min_replicas > s[MINIMUM] else MIN
    if 0 < rules.max_replicas < s[DESIRED]:
        return MAX
    if s[DESIRED] != 0:
        return s[DECIDED]
    if s[ACTIVE] != FALSE:
        return STABLE
    return RETENTION if s[NOW] / SECOND - max(w.moments[STATUS_SINCE], 0.0) < rules.retention else GRACE


@kernel
def record_tick(w: EngineState, k: ScalerState, code: int) -> None:
    """Record the state at a tick, from the start of the traffic on."""
    s, ticks = w.state, k.ticks
    if s[WATCHED] > 0:
        notify_observer(w, TICKED, code, 0)
        return
    if s[NOW] < s[LEAD]:
        return
    row = s[TICKS]
    s[TICKS] += TICK_ROW
    ticks[row + AT] = s[NOW]
    ticks[row + ASKED_FOR] = s[REPLICAS]
    ticks[row + WERE_READY] = s[READY]
    ticks[row + WERE_STARTING] = s[REPLICAS] - s[READY]
    ticks[row + TOTAL_IN_PODS] = s[SUM_PODS]
    ticks[row + TOTAL_QUEUED] = s[SUM_QUEUED]
    ticks[row + BY] = code


# Order of events.


@hot_kernel
def enter_next(w: EngineState, request: int) -> None:
    """Send a request to the next pod, round-robin."""
    pod = w.lists[w.state[TURN] % w.state[READY] * LIST_ROW + READY_LIST]
    w.state[TURN] += 1
    enter_pod(w, pod, request, False)


@hot_kernel
def route_request(w: EngineState, k: ScalerState, request: int) -> None:
    """Send a request to the pods round-robin, or queue it: for a ready pod with an HPA, in the activator with the KPA."""
    s = w.state
    if (s[SERVES] > 0 or s[DIRECT] > 0) and s[READY] > 0:
        enter_next(w, request)
        return
    if s[DIRECT] > 0:
        hold_request(w, request)
        return
    if s[KNOWN] == 0:
        s[KNOWN] = 1
        s[FIRST] = 1
        s[SINCE] = s[NOW]
        s[CUT] = s[NOW]
        s[FLOW] = 0
        s[REQUESTS] = 0
        record_report(w, k, 1.0, 1.0)
    activator_flow(w)
    w.requests[request + IS_PROXIED] = 1
    s[PROXIED] += 1
    s[REQUESTS] += 1
    hold_request(w, request)
    admit_requests(w)


@kernel
def expire_request(w: EngineState, request: int) -> None:
    """End a request that timed out before it reached a pod."""
    close_request(w, request, -1, -w.state[NOW])
    if w.requests[request + IS_PROXIED] > 0:
        leave_activator(w, request)
    unhold_request(w, request)


@kernel
def pods_changed(w: EngineState, k: ScalerState) -> None:
    """Reconcile, because the reconciler watches the pods; with an HPA, send waiting requests to the pods."""
    s = w.state
    if s[DIRECT] == 0:
        if s[NOW] > 0:
            reconcile(w, k)
        return
    while s[HELD] > 0 and s[READY] > 0:
        request = first_held(w)
        unhold_request(w, request)
        enter_next(w, request)


@kernel
def change_pod(w: EngineState, k: ScalerState, pod: int) -> None:
    """Make a pod ready, or end it, as scheduled."""
    p = w.pods
    if p[pod + IS_DELETED] > 0:
        p[pod + LIFE] = FAR
        p[pod + DRAINED] = 1
        if p[pod + POD_INSIDE] == 0:
            end_pod(w, pod)
        return
    become_ready(w, pod)
    pods_changed(w, k)


@kernel
def next_change(w: EngineState, k: ScalerState) -> None:
    """Process one pod event that is due now: the activator detects pods after others become ready or end."""
    p, now = w.pods, w.state[NOW]
    for index in range(w.state[ALIVE]):
        pod = w.lists[index * LIST_ROW + ALIVE_LIST]
        if p[pod + LIFE] == now and (p[pod + IS_READY] == 0 or p[pod + IS_DELETED] > 0):
            change_pod(w, k, pod)
            find_next_pod(w)
            return
    for index in range(w.state[ALIVE]):
        pod = w.lists[index * LIST_ROW + ALIVE_LIST]
        if p[pod + SEE_AT] == now:
            detect_pod(w, pod)
            break
    find_next_pod(w)


@kernel
def run_autoscaler(w: EngineState, k: ScalerState) -> None:
    """Process one autoscaler event that is due now, in order."""
    s, at = w.state, w.state[NOW]
    if s[NEXT_REPORT] == at:
        s[NEXT_REPORT] += SECOND
        send_report(w, k)
    elif s[NEXT_SCRAPE] == at:
        s[NEXT_SCRAPE] += SECOND
        scrape_pods(w, k)
    elif s[NEXT_TICK] == at:
        s[NEXT_TICK] += TICK
        if s[DIRECT] > 0:
            record_tick(w, k, s[DECIDED])
        else:
            valid = decide_scale(w, k)
            record_tick(w, k, find_bound(w, k, valid))
    else:
        s[LOOK_AT] = FAR
        reconcile(w, k)


@kernel
def advance(w: EngineState, k: ScalerState, until: int) -> None:
    """Process all events up to a time, in order: at one time, pods change, requests end, time out and arrive, then the rest.

    Return earlier if the traffic and every request have ended, or if there is no row for another pod.
    """
    s, r = w.state, w.requests
    count = len(r)
    while True:
        arrived, oldest = s[ARRIVED], s[OLDEST]
        at_arrival = r[arrived + ARRIVAL] if arrived < count else FAR
        while s[HEAP] > 0 and is_void(w, w.heap[0], w.heap[1]):
            pop_departure(s, w.heap)
        at_departure = w.heap[0] if s[HEAP] > 0 else FAR
        while oldest < arrived and r[oldest + FINISHED] != 0:
            oldest += REQUEST_ROW
        s[OLDEST] = oldest
        at_expiry = r[oldest + ARRIVAL] + s[TIMEOUT] if oldest < arrived else FAR
        clock = min(s[NEXT_REPORT], s[NEXT_SCRAPE], s[NEXT_TICK], s[LOOK_AT])
        at = min(at_arrival, at_departure, at_expiry, s[NEXT_POD], clock)
        if s[ENDED] == 0 and min(at, until) > s[END]:
            s[ENDED] = 1
            reckon_end(w)
        if at > until or s[FULL] > 0 or (s[ENDED] > 0 and s[DONE] * REQUEST_ROW == count):
            return
        reckon(w, at)
        s[NOW] = at
        if s[NEXT_POD] == at:
            next_change(w, k)
        elif at_departure == at or (at_expiry == at and r[oldest + WHERE] >= 0):
            lost, request = at_departure != at, oldest
            if not lost:
                request = w.heap[1]
                pop_departure(s, w.heap)
                if s[MOVING] == BATCHING and r[request + FIRST_TOKEN] == 0 and produce_first_token(w, request):
                    continue
            finish_request(w, request, lost)
        elif at_expiry == at:
            expire_request(w, oldest)
        elif at_arrival == at:
            r[arrived + COLD] = 1 if s[READY] == 0 else 0
            s[ARRIVED] = arrived + REQUEST_ROW
            route_request(w, k, arrived)
        else:
            run_autoscaler(w, k)
