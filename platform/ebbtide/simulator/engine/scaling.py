"""Measurements, decisions and the order of events of Knative's pod autoscaler.

Pods report every second; the autoscaler scrapes a sample of them every second and decides every 2 s, with
``ebbtide.core.autoscaler``. An HPA decides in ``ebbtide.simulator.engine.engine.HpaSimulation``, between two calls of ``advance``. All
functions are kernel functions (``ebbtide.core.autoscaler.kernel``).

Upstream: knative.dev/serving v0.51.0: cmd/autoscaler (stats are recorded, then the scaler is poked),
pkg/activator/handler/concurrency_reporter.go, pkg/autoscaler/{metrics,scaling} and pkg/reconciler/autoscaling/kpa.
"""

from __future__ import annotations

import math
from typing import Final

from ebbtide.core.autoscaler.arithmetic import SECOND, round_down, round_up, to_nanoseconds
from ebbtide.core.autoscaler.kernel import Floats, hot_kernel, kernel
from ebbtide.core.autoscaler.kpa import ACTIVATION as AT_ACTIVATION
from ebbtide.core.autoscaler.kpa import PANIC_SINCE, RATE_DOWN, RATE_UP, TARGET, decide_pods, limit_step
from ebbtide.core.autoscaler.metrics import population_mean_sample_size
from ebbtide.core.autoscaler.reconciler import FALSE, ObservedNumbers, StatusNumbers, next_memory, wanted_scale
from ebbtide.core.autoscaler.windows import LENGTH, is_empty, record_value, timed_average, weighted_average
from ebbtide.simulator.engine import state
from ebbtide.simulator.engine.pods import (
    activator_flow,
    admit_requests,
    become_ready,
    close_request,
    delete_pod,
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
    preempt_requests,
    produce_first_token,
    reckon,
    set_replicas,
    unhold_request,
    update_statistics,
)
from ebbtide.simulator.engine.state import EngineState, ScalerState, draw

#: Average without measurements.
_NONE: Final = math.nan


# Measurements.


@hot_kernel
def record_both(w: EngineState, k: ScalerState, value: float) -> None:
    """Add one report to both windows."""
    now = w.state.now
    record_value(k.stable, k.stable_marks, now, value)
    record_value(k.panic, k.panic_marks, now, value)


@kernel
def record_report(w: EngineState, k: ScalerState, concurrency: float, count: float) -> None:
    """Record a report of the activator, and let the scaler of a revision at zero decide immediately."""
    record_both(w, k, count if w.state.is_rps else concurrency)
    if w.state.desired == 0 and concurrency != 0:
        decide_scale(w, k)


@hot_kernel
def send_report(w: EngineState, k: ScalerState) -> None:
    """Send the activator's report, and drop a revision without requests."""
    s = w.state
    if not s.is_known:
        return
    activator_flow(w)
    lasted = s.now - s.since
    mean = s.flow / lasted if lasted > 0 else 0.0
    concurrency, count = max(mean - s.first, 0.0), float(s.requests - s.first)
    if mean == 0.0 and s.proxied == 0:
        s.is_known = False
    s.first = 0
    s.since = s.now
    s.flow = 0
    s.requests = 0
    record_report(w, k, concurrency, count)


@kernel
def shuffle_sample(w: EngineState, first: int, count: int) -> None:
    s, sample = w.state, w.sample
    for last in range(count - 1, 0, -1):
        s.samples += 1
        drawn = draw(s.seed, state.STREAM_SAMPLE, s.samples, last + 1)
        swapped = sample[first + last]
        sample[first + last] = sample[first + drawn]
        sample[first + drawn] = swapped


@hot_kernel
def scrape_pods(w: EngineState, k: ScalerState) -> None:
    """Scrape a sample of the ready pods: pods older than a stable window first, younger ones only if those are too few."""
    s = w.state
    total, window = s.ready, k.stable_marks[LENGTH]
    if total == 0:
        return
    old = 0
    for index in range(total):
        pod = w.ready[index]
        if s.now - w.pods[pod].born >= window:
            w.sample[old] = pod
            old += 1
    young = old
    for index in range(total):
        pod = w.ready[index]
        if s.now - w.pods[pod].born < window:
            w.sample[young] = pod
            young += 1
    size = int(population_mean_sample_size(float(total)))
    if old < size:
        shuffle_sample(w, old, total - old)
    else:
        shuffle_sample(w, 0, old)
    value, proxied = 0.0, 0.0
    for index in range(size):
        pod = w.sample[index]
        update_statistics(w, pod, s.now)
        p = w.pods[pod]
        value += p.reported / s.unit
        proxied += p.reported_proxied / s.unit
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
        return state.PANIC if panicking else state.DELAY
    if by_metric > upper:
        return state.UP
    if by_metric < lower:
        return state.DOWN
    return state.ACTIVATION if 0 < by_metric < spec[AT_ACTIVATION] else state.STABLE


@hot_kernel
def decide_scale(w: EngineState, k: ScalerState) -> bool:
    """Let the scaler decide, and reconcile if the decision or the sign of the excess changed; False without measurements."""
    s, now = w.state, w.state.now
    if s.is_scraped and is_empty(k.stable_marks, now):
        s.average = _NONE
        s.panic_average = _NONE
        return False
    if s.is_weighted:
        stable = weighted_average(k.stable, k.stable_marks, s.decay, now)
        panic = weighted_average(k.panic, k.panic_marks, s.panic_decay, now)
    else:
        stable = timed_average(k.stable, k.stable_marks, now)
        panic = timed_average(k.panic, k.panic_marks, now)
    s.average = stable
    s.panic_average = panic
    desired, excess = decide_pods(k.decider, k.memory, k.maxima, now, stable, panic, s.ready)
    s.decided = decided_by(k.decider, stable, s.ready, desired, k.memory[PANIC_SINCE] >= 0)
    changed = desired != s.desired or (excess < 0) != (s.excess < 0)
    s.desired = desired
    s.excess = excess
    if changed:
        reconcile(w, k)
    return True


@kernel
def reconcile(w: EngineState, k: ScalerState) -> None:
    """Reconcile until the objects that the reconciler watches no longer change."""
    s = w.state
    while True:
        now = s.now / SECOND
        serves, replicas = s.serves, s.replicas
        before = StatusNumbers(s.active, s.reason, s.status_since, s.is_initialized)
        sight = ObservedNumbers(s.desired, s.ready, serves, now if serves else s.proxy_since, True)
        desired, apply, after = wanted_scale(k.rules, before, sight, now)
        updated = next_memory(k.rules, before, s.ready, True, desired, now)
        s.active = updated.active
        s.reason = updated.reason
        s.status_since = updated.since
        s.is_initialized = updated.initialized
        s.serves = desired > 0 and s.excess >= 0
        if s.serves != serves:
            s.proxy_since = now
        if apply and desired != replicas:
            set_replicas(w, desired)
        if after >= 0:
            s.next_look = s.now + max(to_nanoseconds(after), state.SOON)
        same = updated.active == before.active and updated.reason == before.reason
        if (same and serves == s.serves and replicas == s.replicas) or s.is_full:
            return


@kernel
def find_bound(w: EngineState, k: ScalerState, valid: bool) -> int:
    """Return the code of the cause of the number of replicas at a tick."""
    s, rules = w.state, k.rules
    if s.replicas == 0:
        return state.ZERO
    if not valid:
        return state.NO_DATA
    if s.desired < rules.min_replicas:
        return state.FLOOR if rules.min_replicas > s.minimum else state.MIN
    if 0 < rules.max_replicas < s.desired:
        return state.MAX
    if s.desired != 0:
        return s.decided
    if s.active != FALSE:
        return state.STABLE
    return state.RETENTION if s.now / SECOND - max(s.status_since, 0.0) < rules.retention else state.GRACE


@kernel
def record_tick(w: EngineState, k: ScalerState, code: int) -> None:
    """Record the state at a tick, from the start of the traffic on."""
    s = w.state
    if s.is_watched:
        notify_observer(w, state.TICKED, code, 0)
        return
    if s.now < s.lead or len(k.ticks) == 0:
        return
    tick = k.ticks[s.ticks]
    s.ticks += 1
    tick.at = s.now
    tick.replicas = s.replicas
    tick.ready = s.ready
    tick.starting = s.replicas - s.ready
    tick.in_pods = w.sums.in_pods
    tick.queued = w.sums.queued
    tick.cause = code


# Order of events.


@hot_kernel
def enter_next(w: EngineState, request: int) -> None:
    """Send a request to the next pod, round-robin."""
    pod = w.ready[w.state.turn % w.state.ready]
    w.state.turn += 1
    enter_pod(w, pod, request, False)


@hot_kernel
def route_request(w: EngineState, k: ScalerState, request: int) -> None:
    """Send a request to the pods round-robin, or queue it: for a ready pod with an HPA, in the activator with the KPA."""
    s = w.state
    if (s.serves or s.is_direct) and s.ready > 0:
        enter_next(w, request)
        return
    if s.is_direct:
        hold_request(w, request)
        return
    if not s.is_known:
        s.is_known = True
        s.first = 1
        s.since = s.now
        s.flow_at = s.now
        s.flow = 0
        s.requests = 0
        record_report(w, k, 1.0, 1.0)
    activator_flow(w)
    w.requests[request].is_proxied = True
    s.proxied += 1
    s.requests += 1
    hold_request(w, request)
    admit_requests(w)


@kernel
def expire_request(w: EngineState, request: int) -> None:
    """End a request that timed out before it reached a pod."""
    close_request(w, request, -1, -w.state.now)
    if w.requests[request].is_proxied:
        leave_activator(w, request)
    unhold_request(w, request)


@kernel
def pods_changed(w: EngineState, k: ScalerState) -> None:
    """Reconcile, because the reconciler watches the pods; with an HPA, send waiting requests to the pods."""
    s = w.state
    if not s.is_direct:
        if s.now > 0:
            reconcile(w, k)
        return
    while s.held > 0 and s.ready > 0:
        request = first_held(w)
        unhold_request(w, request)
        enter_next(w, request)


@kernel
def change_pod(w: EngineState, k: ScalerState, pod: int) -> None:
    """Make a pod ready, or end it, as scheduled."""
    p = w.pods[pod]
    if p.is_deleted:
        p.life = state.FAR
        p.is_drained = True
        if p.inside == 0:
            end_pod(w, pod)
        return
    become_ready(w, pod)
    pods_changed(w, k)


@kernel
def next_change(w: EngineState, k: ScalerState) -> None:
    """Process one pod event that is due now: the activator detects pods after others become ready or end."""
    now = w.state.now
    for index in range(w.state.alive):
        pod = w.alive[index]
        p = w.pods[pod]
        if p.life == now and (not p.is_ready or p.is_deleted):
            change_pod(w, k, pod)
            find_next_pod(w)
            return
    for index in range(w.state.alive):
        pod = w.alive[index]
        if w.pods[pod].see_at == now:
            detect_pod(w, pod)
            break
    find_next_pod(w)


@kernel
def run_autoscaler(w: EngineState, k: ScalerState) -> None:
    """Process one autoscaler event that is due now, in order."""
    s, at = w.state, w.state.now
    if s.next_report == at:
        s.next_report += SECOND
        send_report(w, k)
    elif s.next_scrape == at:
        s.next_scrape += SECOND
        scrape_pods(w, k)
    elif s.next_tick == at:
        s.next_tick += state.TICK
        if s.is_direct:
            record_tick(w, k, s.decided)
        else:
            valid = decide_scale(w, k)
            record_tick(w, k, find_bound(w, k, valid))
    else:
        s.next_look = state.FAR
        reconcile(w, k)


@kernel
def advance(w: EngineState, k: ScalerState, until: int) -> None:
    """Process all events up to a time, in order: at one time, requests end, time out and arrive, then the rest, then pods change.

    A pod that becomes ready at the time of a tick is therefore not in that tick: endpoints and informers take some time to
    report it to the autoscaler.

    Return earlier if the traffic and every request have ended, if no row is left for another pod, or after an event that
    created or ended pods of a shared pool of GPUs.
    """
    s, requests = w.state, w.requests
    count = len(requests)
    while True:
        arrived, oldest = s.arrived, s.oldest
        at_arrival = requests[arrived].arrival if arrived < count else state.FAR
        while s.departures > 0 and is_void(w, w.heap[0], w.heap[1]):
            pop_departure(s, w.heap)
        at_departure = w.heap[0] if s.departures > 0 else state.FAR
        while oldest < arrived and requests[oldest].finished != 0:
            oldest += 1
        s.oldest = oldest
        at_expiry = requests[oldest].arrival + s.timeout if oldest < arrived else state.FAR
        clock = min(s.next_report, s.next_scrape, s.next_tick, s.next_look)
        at = min(at_arrival, at_departure, at_expiry, s.next_pod, clock)
        if min(at, until) > s.end:
            s.has_ended = True
        if at > until or s.is_full or s.is_paused or (s.has_ended and s.done == count):
            return
        reckon(w, at)
        s.now = at
        if at_departure == at or (at_expiry == at and requests[oldest].pod >= 0):
            lost, request = at_departure != at, oldest
            if not lost:
                request = w.heap[1]
                pop_departure(s, w.heap)
                if s.server_kind == state.BATCHING:
                    if requests[request].first_token <= 0:
                        if produce_first_token(w, request):
                            continue
                    elif w.pods[requests[request].pod].is_exhausted:
                        preempt_requests(w, requests[request].pod)
                        continue
            finish_request(w, request, lost)
        elif at_expiry == at:
            expire_request(w, oldest)
        elif at_arrival == at:
            requests[arrived].is_cold = s.ready == 0
            s.arrived = arrived + 1
            route_request(w, k, arrived)
        elif clock == at:
            run_autoscaler(w, k)
        else:
            next_change(w, k)


@kernel
def replace_pod(w: EngineState, k: ScalerState, number: int) -> None:
    """Delete a pod, as an eviction does, and create another in its place."""
    s = w.state
    for index in range(s.alive):
        pod = w.alive[index]
        if w.pods[pod].number == number and not w.pods[pod].is_deleted:
            replicas = s.replicas
            delete_pod(w, pod)
            s.replicas -= 1
            pods_changed(w, k)
            set_replicas(w, max(s.replicas, replicas))
            return


@kernel
def advance_pooled(w: EngineState, k: ScalerState, until: int, resumes: bool) -> tuple[int, bool, bool, bool]:
    """Let a simulation of a shared pool continue, if it may, and return what ``describe_pause`` does."""
    if resumes:
        w.state.is_paused = False
    advance(w, k, until)
    return describe_pause(w)


@kernel
def describe_pause(w: EngineState) -> tuple[int, bool, bool, bool]:
    """Return the time, whether pods changed, whether no row is left, and whether all requests have ended."""
    s = w.state
    return s.now, s.is_paused, s.is_full, s.has_ended and s.done == len(w.requests)
