"""Pods and their requests: queue-proxy, the server, the activator's queue, and their statistics.

A request arrives at the gateway and goes to the pods in turn, or through the activator if it is in the path or no pod is
ready. It waits there, then in queue-proxy within ``containerConcurrency``, then for a slot of the server. Pods start, drain
and end as in Kubernetes. All functions are kernel functions (``ebbtide.core.autoscaler.kernel``). ``s`` is the scalars, ``p`` a
pod's row and ``r`` a request's row.

Upstream: knative.dev/serving v0.51.0: pkg/activator/net (probing every 200 ms, load balancing), pkg/queue/{breaker,
handler}.go and sharedmain (a report every second, a queue of ten times the limit, 30 s of drain). Kubernetes:
pkg/controller/controller_utils.go (ActivePodsWithRanks: pods that are not ready first, then those ready for the shortest
time). Envoy: a cluster's load balancing defaults to round robin, which Kourier and Contour keep.
"""

from __future__ import annotations

from ebbtide.core.autoscaler.activator import FIRST_AVAILABLE, compute_activator_capacity
from ebbtide.core.autoscaler.arithmetic import SECOND
from ebbtide.core.autoscaler.kernel import Ints, hot_kernel, kernel
from ebbtide.simulator.engine import state
from ebbtide.simulator.engine.cache import (
    count_blocks,
    count_prompt_blocks,
    find_exhaustion,
    hold_blocks,
    link_admitted,
    unlink_admitted,
)
from ebbtide.simulator.engine.state import EngineNumbers, EngineState, PodRow, draw


@kernel
def notify_observer(w: EngineState, event: int, number: int, other: int) -> None:
    """Notify the observer of an event; the compiled copy has no observer and does nothing."""
    assert w.observer is not None
    w.observer(event, number, other)


@kernel
def add_rows(w: EngineState) -> bool:
    """Add rows for pods; the compiled copy cannot, and returns False."""
    added = len(w.pods)
    w.pods.extend([PodRow() for _ in range(added)])
    for pods in (w.ready, w.seen, w.alive, w.sample):
        pods.extend([0] * added)
    w.counts.extend([0] * len(w.counts))
    return added > 0


@kernel
def reset_pod(w: EngineState, pod: int) -> None:
    """Empty the row of a pod; the compiled copy copies an empty row."""
    w.pods[pod] = PodRow()


@hot_kernel
def reckon(w: EngineState, now: int) -> None:
    """Update the integrals to ``now``."""
    s, sums = w.state, w.sums
    passed = now - s.reckoned
    if passed <= 0:
        return
    s.reckoned = now
    if s.alive > 0:
        sums.in_pods += s.inside * passed
        sums.pods += s.alive * passed
        sums.ready += s.alive_ready * passed
        sums.working += s.working * passed
        sums.utilization += s.utilization * passed
    if s.queued > 0:
        sums.queued += s.queued * passed
    if s.ready > 0 or s.is_startable:
        sums.up += passed


@kernel
def place_of(w: EngineState, rows: Ints, count: int, pod: int) -> int:
    """Return the index of a pod, or its insertion point, among ``count`` rows of pods sorted by number."""
    number, index = w.pods[pod].number, count
    while index > 0 and w.pods[rows[index - 1]].number >= number:
        index -= 1
    return index


@kernel
def insert_pod(w: EngineState, rows: Ints, count: int, pod: int) -> None:
    index = place_of(w, rows, count, pod)
    for later in range(count, index, -1):
        rows[later] = rows[later - 1]
    rows[index] = pod


@kernel
def remove_pod(w: EngineState, rows: Ints, count: int, pod: int) -> None:
    for later in range(place_of(w, rows, count, pod), count - 1):
        rows[later] = rows[later + 1]


# Departures: a heap by time, then request.


@kernel
def push_departure(s: EngineNumbers, heap: Ints, at: int, request: int) -> None:
    index = s.departures
    s.departures += 1
    while index > 0:
        parent = (index - 1) >> 1
        before = heap[2 * parent]
        if before < at or (before == at and heap[2 * parent + 1] < request):
            break
        heap[2 * index] = before
        heap[2 * index + 1] = heap[2 * parent + 1]
        index = parent
    heap[2 * index] = at
    heap[2 * index + 1] = request


@kernel
def pop_departure(s: EngineNumbers, heap: Ints) -> None:
    """Remove the first departure."""
    s.departures -= 1
    count = s.departures
    at, request = heap[2 * count], heap[2 * count + 1]
    index = 0
    while True:
        child = 2 * index + 1
        if child >= count:
            break
        due, other = heap[2 * child], child + 1
        if other < count and (
            heap[2 * other] < due or (heap[2 * other] == due and heap[2 * other + 1] < heap[2 * child + 1])
        ):
            child = other
            due = heap[2 * child]
        if at < due or (at == due and request < heap[2 * child + 1]):
            break
        heap[2 * index] = due
        heap[2 * index + 1] = heap[2 * child + 1]
        index = child
    heap[2 * index] = at
    heap[2 * index + 1] = request


# Queue-proxy and server of a pod.


@hot_kernel
def update_flow(p: PodRow, now: int) -> None:
    """Update queue-proxy's integrals to ``now``."""
    passed = now - p.flow_at
    p.flow += p.inside * passed
    p.flow_proxied += p.proxied * passed
    p.flow_at = now


@hot_kernel
def update_statistics(w: EngineState, pod: int, now: int) -> None:
    """Update queue-proxy's statistics to ``now``, including the reports due until then."""
    p = w.pods[pod]
    while p.next_report <= now:
        update_flow(p, p.next_report)
        # Value of the metric, in the unit of ``s.unit``.
        p.reported = p.count if w.state.is_rps else p.flow
        p.reported_proxied = p.count_proxied if w.state.is_rps else p.flow_proxied
        p.flow = 0
        p.flow_proxied = 0
        p.count = 0
        p.count_proxied = 0
        p.next_report += SECOND
    update_flow(p, now)


@hot_kernel
def get_request_speed(w: EngineState, pod: int) -> int:
    """Return the speed of each request in units of 1/``SPEED``."""
    return w.tables[w.state.speeds_start + min(w.pods[pod].running, w.state.last_speed)]


@hot_kernel
def reckon_busy(w: EngineState, pod: int) -> None:
    """Update a pod's utilization to now, from its first appearance in the metrics pipeline on."""
    s, p = w.state, w.pods[pod]
    if p.busy_at >= 0:
        percent = w.tables[s.busy_start + min(p.running, s.last_busy)]
        p.busy_sum += percent * (s.now - p.busy_at)
    p.busy_at = s.now


@hot_kernel
def change_load(w: EngineState, pod: int, by: int) -> None:
    """Change the number of requests that a pod processes by ``by``, and the totals of all pods."""
    s, p, busy = w.state, w.pods[pod], w.state.busy_start
    if s.latency_edges > 0:
        reckon_busy(w, pod)
    before = p.running
    p.running = before + by
    if before == 0:
        s.working += 1
    elif before + by == 0:
        s.working -= 1
    s.utilization += w.tables[busy + min(before + by, s.last_busy)] - w.tables[busy + min(before, s.last_busy)]


@hot_kernel
def get_step_time(w: EngineState, pod: int) -> int:
    """Return the time of a step of a batching server, which produces one token for each request."""
    s, p = w.state, w.pods[pod]
    return w.tables[s.shared_step_start + min(p.running, s.last_shared)] + p.load


@kernel
def count_value(w: EngineState, pod: int, histogram: int, edges: int, seconds: float, count: int) -> None:
    """Add to a histogram of a pod, which begins at ``histogram`` both in the pod's row and in the list of edges."""
    index = 0
    while index < edges and w.edges[histogram + index] < seconds:
        index += 1
    w.counts[pod * w.state.count_row + histogram + index] += count


@kernel
def count_gaps(w: EngineState, pod: int, seconds: float, produced: int) -> None:
    """Count the gaps between tokens of a pod that has produced parts of a token for each request.

    The gap of the token after a prompt is longer by the time of that prompt.
    """
    s, p = w.state, w.pods[pod]
    histogram, late = s.latency_edges + s.first_token_edges + 2, min(produced, p.stalled_token)
    if late > 0:
        count_value(w, pod, histogram, s.gap_edges, seconds + p.stall / SECOND, p.generating * late)
        p.stalled_token -= late
        if p.stalled_token == 0:
            p.stall = 0
    count_value(w, pod, histogram, s.gap_edges, seconds, p.generating * (produced - late))


@kernel
def count_first_token(w: EngineState, pod: int, entered: int) -> None:
    """Count the first token of a request that entered the engine at ``entered``."""
    s = w.state
    count_value(w, pod, s.latency_edges + 1, s.first_token_edges, (s.now - entered) / SECOND, state.TOKEN)


@kernel
def preempt_requests(w: EngineState, pod: int) -> None:
    """Return the requests admitted last to the front of the queue until the blocks suffice.

    They lose their tokens in the cache and will process the prompt and these tokens again.
    """
    s, p = w.state, w.pods[pod]
    bring_work(w, pod)
    while count_blocks(w, pod, p.completed // state.TOKEN) > s.kv_blocks:
        request = p.last_admitted
        r, tokens = w.requests[request], w.tokens[request]
        produced, left = 0, tokens.tokens_left
        if r.first_token > 0:
            # A token is left to produce.
            produced = min(left + 1 + p.completed // state.TOKEN - r.due // state.TOKEN, left)
        stop_request(w, pod, request)
        if produced > 0:
            r.first_token = -r.first_token
        tokens.tokens_left = left - produced
        tokens.prompt_tokens += produced
        tokens.prefill += produced * s.prefill_token // state.TOKEN
        tokens.prefill_each += produced * s.prefill_each_token // state.TOKEN
        tokens.delay += produced * s.delay_token // state.TOKEN
        if p.first_waiting < 0:
            p.last_waiting = request
        r.next = p.first_waiting
        p.first_waiting = request
        s.queued += 1
        s.preemptions += 1
    reschedule_departure(w, pod)


@kernel
def drop_void_departures(w: EngineState) -> None:
    """Remove void departures, which preemptions make without limit, before they fill the heap."""
    s, heap, count = w.state, w.heap, w.state.departures
    s.departures = 0
    for index in range(count):
        at, request = heap[2 * index], heap[2 * index + 1]
        if not is_void(w, at, request):
            push_departure(s, heap, at, request)


@hot_kernel
def bring_work(w: EngineState, pod: int) -> None:
    """Update a pod's completed work to now."""
    p, now = w.pods[pod], w.state.now
    if p.running > 0:
        if w.state.server_kind == state.BATCHING:
            passed = max(now - max(p.completed_at, p.stalled_until), 0)
            step = get_step_time(w, pod)
            produced = passed * state.TOKEN // step
            p.completed += produced
            if w.state.first_token_edges > 0:
                count_gaps(w, pod, step / SECOND, produced)
        else:
            p.completed += (now - p.completed_at) * get_request_speed(w, pod)
    else:
        p.completed = 0
        p.stall = 0
    p.completed_at = now


@hot_kernel
def link_request(w: EngineState, pod: int, request: int) -> None:
    """Add a request to those of a pod that end by its completed work."""
    r, p = w.requests[request], w.pods[pod]
    first = p.first_running
    r.next = first
    r.previous = -1
    if first >= 0:
        w.requests[first].previous = request
    p.first_running = request


@kernel
def produce_first_token(w: EngineState, request: int) -> bool:
    """Record the first token of a batching server's request, and let it generate the others; False if there are none."""
    r = w.requests[request]
    pod, left, is_first = r.pod, w.tokens[request].tokens_left, r.first_token == 0
    is_limited = w.state.kv_blocks > 0
    bring_work(w, pod)
    if is_limited:
        hold_blocks(w, pod, request, -1)
    r.first_token = w.state.now if is_first else -r.first_token
    if w.state.first_token_edges > 0:
        w.pods[pod].generating += 1
    if w.state.first_token_edges > 0 and is_first:
        # The engine does not see a request that waits in queue-proxy.
        held_back = 0 < w.state.limit <= w.state.slots
        count_first_token(w, pod, r.began if held_back else r.due)
    r.due = w.pods[pod].completed + left * state.TOKEN
    link_request(w, pod, request)
    if is_limited:
        hold_blocks(w, pod, request, 1)
    if left > 0:
        reschedule_departure(w, pod)
    return left > 0


@hot_kernel
def begin_request(w: EngineState, pod: int, request: int) -> None:
    """Start processing a request in a pod's server."""
    p, r, now = w.pods[pod], w.requests[request], w.state.now
    moving = w.state.server_kind != state.CONSTANT
    if moving:
        bring_work(w, pod)
    change_load(w, pod, 1)
    r.is_running = True
    if r.began < 0:
        r.began = now
    if w.state.server_kind == state.BATCHING:
        tokens = w.tokens[request]
        p.load += tokens.load
        running, delay = p.running, tokens.delay
        prefill = tokens.prefill + running * tokens.prefill_each
        first = now + prefill + w.tables[w.state.shared_first_start + min(running, w.state.last_shared)]
        # A request's own prompt does not delay its outputs.
        stalled = max(p.stalled_until, now) + delay
        p.stalled_until = stalled if running > 1 else min(stalled, first)
        if w.state.first_token_edges > 0 and p.generating > 0:
            p.stall += delay
            p.stalled_token = state.TOKEN
        if w.state.kv_blocks > 0:
            link_admitted(w, pod, request)
            tokens.first_due = first
        push_departure(w.state, w.heap, first, request)
    elif moving:
        r.due = p.completed + r.work * state.SPEED
        link_request(w, pod, request)
    else:
        push_departure(w.state, w.heap, now + r.work, request)


@hot_kernel
def stop_request(w: EngineState, pod: int, request: int) -> None:
    """Stop processing a request in a pod's server."""
    r = w.requests[request]
    if w.state.server_kind != state.CONSTANT:
        bring_work(w, pod)
    if w.state.server_kind == state.BATCHING:
        w.pods[pod].load -= w.tokens[request].load
        if w.state.first_token_edges > 0 and r.first_token > 0:
            w.pods[pod].generating -= 1
        if w.state.kv_blocks > 0:
            unlink_admitted(w, pod, request)
    if w.state.server_kind == state.BY_CONCURRENCY or r.first_token > 0:
        after, before = r.next, r.previous
        if before >= 0:
            w.requests[before].next = after
        else:
            w.pods[pod].first_running = after
        if after >= 0:
            w.requests[after].previous = before
    change_load(w, pod, -1)
    r.is_running = False


@hot_kernel
def schedule_departure(w: EngineState, pod: int) -> None:
    """Schedule the end of a pod's next request, if it depends on concurrency."""
    if w.state.server_kind != state.CONSTANT:
        reschedule_departure(w, pod)


@kernel
def reschedule_departure(w: EngineState, pod: int) -> None:
    """Schedule the end of a pod's next request; an earlier schedule becomes void."""
    p, requests = w.pods[pod], w.requests
    earliest = p.first_running
    if earliest < 0:
        p.next_done = state.FAR
        return
    due, request = requests[earliest].due, requests[earliest].next
    while request >= 0:
        r = requests[request]
        if r.due <= due and (r.due < due or request < earliest):
            earliest, due = request, r.due
        request = r.next
    if w.state.kv_blocks > 0:
        if w.state.departures >= 3 * len(requests):
            drop_void_departures(w)
        exhaustion = find_exhaustion(w, pod)
        p.is_exhausted = exhaustion < due
        due = min(due, exhaustion)
    missing = p.completed - due
    if w.state.server_kind == state.BATCHING:
        at = max(p.completed_at, p.stalled_until) - min(0, missing * get_step_time(w, pod) // state.TOKEN)
    else:
        at = p.completed_at - min(0, missing // get_request_speed(w, pod))
    if at != p.next_done or earliest != p.next_request:
        p.next_done = at
        p.next_request = earliest
        push_departure(w.state, w.heap, at, earliest)


@hot_kernel
def is_void(w: EngineState, at: int, request: int) -> bool:
    """Return whether a scheduled departure no longer applies to its request."""
    r = w.requests[request]
    if r.finished != 0 or w.state.server_kind == state.CONSTANT:
        return r.finished != 0
    if w.state.server_kind == state.BATCHING and r.first_token <= 0:
        return w.state.kv_blocks > 0 and w.tokens[request].first_due != at
    p = w.pods[r.pod]
    return p.next_done != at or p.next_request != request


@hot_kernel
def close_request(w: EngineState, request: int, pod: int, finished: int) -> None:
    """Record the end of a request; ``finished`` is the negated time for a lost request, ``pod`` is -1 for none."""
    w.requests[request].finished = finished
    w.state.done += 1
    if w.state.is_watched:
        notify_observer(w, state.CLOSED, request, pod)


@hot_kernel
def enter_pod(w: EngineState, pod: int, request: int, proxied: bool) -> bool:
    """Send a request to a pod's queue-proxy; False if its queue is full and the request is lost."""
    s, p, r = w.state, w.pods[pod], w.requests[request]
    if s.limit > 0 and p.inside >= s.limit * (1 + state.QUEUE_DEPTH):
        close_request(w, request, -1, -s.now)
        return False
    update_statistics(w, pod, s.now)
    p.inside += 1
    p.count += 1
    if proxied:
        p.proxied += 1
        p.count_proxied += 1
    s.inside += 1
    r.pod = pod
    r.due = s.now
    if s.kv_blocks > 0 or (s.slots > 0 and p.running >= s.slots):
        r.next = -1
        if p.first_waiting < 0:
            p.first_waiting = request
        else:
            w.requests[p.last_waiting].next = request
        p.last_waiting = request
        s.queued += 1
        if s.kv_blocks > 0 and admit_waiting(w, pod):
            schedule_departure(w, pod)
    else:
        begin_request(w, pod, request)
        schedule_departure(w, pod)
    return True


@hot_kernel
def admit_waiting(w: EngineState, pod: int) -> bool:
    """Let a pod's server admit waiting requests in their order, and return whether it admitted any."""
    s, p, admits = w.state, w.pods[pod], False
    while p.first_waiting >= 0 and (s.slots == 0 or p.running < s.slots):
        waiting = p.first_waiting
        if w.requests[waiting].finished == 0:
            if s.kv_blocks > 0:
                bring_work(w, pod)
                used = count_blocks(w, pod, p.completed // state.TOKEN)
                if used + count_prompt_blocks(w, waiting) > s.kv_blocks:
                    break
            s.queued -= 1
            admits = True
            p.first_waiting = w.requests[waiting].next
            begin_request(w, pod, waiting)
        else:
            p.first_waiting = w.requests[waiting].next
    return admits


@hot_kernel
def count_response(w: EngineState, pod: int, seconds: float) -> None:
    """Add a latency to the histogram of its pod."""
    count_value(w, pod, 0, w.state.latency_edges, seconds, 1)


@hot_kernel
def finish_request(w: EngineState, request: int, lost: bool) -> None:
    """Remove a request from its pod, with or without a reply, and admit the next one."""
    s, r = w.state, w.requests[request]
    pod, now = r.pod, s.now
    p = w.pods[pod]
    if s.latency_edges > 0:
        count_response(w, pod, (now - r.arrival) / SECOND)
    r.pod = -1
    close_request(w, request, pod, -now if lost else now)
    proxied = r.is_proxied
    update_statistics(w, pod, now)
    p.inside -= 1
    if proxied:
        p.proxied -= 1
    s.inside -= 1
    if r.is_running:
        stop_request(w, pod, request)
        admit_waiting(w, pod)
        schedule_departure(w, pod)
    else:
        # The request stays in the pod's list and is skipped there.
        s.queued -= 1
        if s.kv_blocks > 0 and admit_waiting(w, pod):
            schedule_departure(w, pod)
    if p.is_drained and p.inside == 0:
        end_pod(w, pod)
    if proxied:
        leave_activator(w, request)
        admit_requests(w)


# Life cycle of pods.


@kernel
def starts(w: EngineState, pod: int, begins: int, answers: int) -> None:
    """Schedule when the activator detects a pod, by the first probe after its first answer; it reports from that answer on."""
    p = w.pods[pod]
    p.begins = begins
    # With an HPA, there is no activator.
    p.see_at = state.FAR if w.state.is_direct or answers == state.FAR else (answers // state.PROBE + 1) * state.PROBE
    p.flow_at = answers
    p.next_report = answers + 1 + draw(w.state.seed, state.STREAM_POD, p.number, SECOND)
    w.state.next_pod = min(w.state.next_pod, p.life, p.see_at)


@kernel
def free_row(w: EngineState) -> int:
    """Return an empty row for a pod, or -1."""
    s = w.state
    pod = s.free_row
    if pod >= 0:
        s.free_row = w.pods[pod].number
    else:
        pod = s.unused_row
        if pod >= len(w.pods) and not add_rows(w):
            s.is_full = True
            return -1
        s.unused_row += 1
    reset_pod(w, pod)
    for index in range(s.count_row):
        w.counts[pod * s.count_row + index] = 0
    return pod


@kernel
def add_pod(w: EngineState, begins: int, answers: int, life: int) -> int:
    """Create a pod whose containers run at ``begins``, that answers at ``answers``, and is ready at ``life``.

    Return -1 if there is no row for it.
    """
    s, pod = w.state, free_row(w)
    if pod < 0:
        return -1
    p = w.pods[pod]
    if s.replicas == 0 and s.ready == 0 and s.now > 0:
        s.cold_starts += 1
    p.number = s.created
    s.created += 1
    p.born = s.now
    p.life = life
    starts(w, pod, begins, answers)
    insert_pod(w, w.alive, s.alive, pod)
    s.replicas += 1
    s.alive += 1
    s.is_paused = s.is_pooled
    if s.is_watched:
        notify_observer(w, state.MADE, pod, 0)
    return pod


@kernel
def set_replicas(w: EngineState, desired: int) -> None:
    """Create pods, or delete pods that are not ready first, then those ready for the shortest time."""
    s = w.state
    while s.replicas < desired:
        index = s.created % s.start_ups
        begins, answers = w.tables[s.begins_start + index], w.tables[s.answers_start + index]
        if add_pod(w, s.now + begins, s.now + answers, s.now + w.tables[index]) < 0:
            return
    while s.replicas > desired:
        chosen = -1
        for index in range(s.alive):
            pod = w.alive[index]
            p = w.pods[pod]
            if p.is_deleted:
                continue
            if chosen < 0:
                chosen = pod
                continue
            # ``life`` is the time when a pod became or becomes ready.
            other = w.pods[chosen]
            if not p.is_ready if p.is_ready != other.is_ready else p.life >= other.life:
                chosen = pod
        delete_pod(w, chosen)
        s.replicas -= 1


@kernel
def delete_pod(w: EngineState, pod: int) -> None:
    """Delete a pod, which drains if its containers run."""
    s, p = w.state, w.pods[pod]
    p.is_deleted = True
    if s.is_watched:
        notify_observer(w, state.DELETED, pod, 0)
    if s.now < p.begins:
        end_pod(w, pod)
        return
    if p.is_ready:
        remove_pod(w, w.ready, s.ready, pod)
        s.ready -= 1
    p.see_at = state.FAR
    if p.is_seen:
        remove_pod(w, w.seen, s.seen, pod)
        s.seen -= 1
    p.life = s.now + min(state.DRAIN, s.timeout)
    s.next_pod = min(s.next_pod, p.life)


@kernel
def end_pod(w: EngineState, pod: int) -> None:
    """End a pod and free its row."""
    s, p = w.state, w.pods[pod]
    remove_pod(w, w.alive, s.alive, pod)
    s.alive -= 1
    s.alive_ready -= p.is_ready
    s.is_paused = s.is_pooled
    if s.is_watched:
        notify_observer(w, state.GONE, pod, 0)
    p.number = s.free_row
    s.free_row = pod


@kernel
def become_ready(w: EngineState, pod: int) -> None:
    s = w.state
    w.pods[pod].is_ready = True
    s.alive_ready += 1
    insert_pod(w, w.ready, s.ready, pod)
    s.ready += 1
    if s.is_watched:
        notify_observer(w, state.BECAME_READY, pod, 0)


@kernel
def detect_pod(w: EngineState, pod: int) -> None:
    """Let the activator use a pod, and send it waiting requests."""
    w.pods[pod].see_at = state.FAR
    w.pods[pod].is_seen = True
    insert_pod(w, w.seen, w.state.seen, pod)
    w.state.seen += 1
    admit_requests(w)


@kernel
def find_next_pod(w: EngineState) -> None:
    """Set the time when the next pod becomes ready, is detected or ends."""
    next_time = state.FAR
    for index in range(w.state.alive):
        pod = w.alive[index]
        p = w.pods[pod]
        next_time = min(next_time, p.see_at)
        # The ``life`` of a ready pod is in the past; that of a drained pod is FAR.
        if (not p.is_ready or p.is_deleted) and p.life < next_time:
            next_time = p.life
    w.state.next_pod = next_time


# Pods that wait for GPUs or for a download.


@kernel
def find_starting(w: EngineState, number: int) -> int:
    """Return the row of the pod with a number if it is neither ready nor deleted, else -1."""
    for index in range(w.state.alive):
        pod = w.alive[index]
        p = w.pods[pod]
        if p.number == number and not p.is_deleted:
            return -1 if p.is_ready else pod
    return -1


@kernel
def schedule_pod(w: EngineState, number: int, begins: int, answers: int, life: int) -> None:
    """Set the times of a pod that starts, ``FAR`` while they are unknown; a pod that answers keeps the first two."""
    s, pod = w.state, find_starting(w, number)
    if pod < 0:
        return
    w.pods[pod].life = life
    s.next_pod = min(s.next_pod, life)
    if not w.pods[pod].is_seen:
        starts(w, pod, begins, answers)


@kernel
def find_next_end(w: EngineState) -> int:
    """Return the earliest time when a pod that is not held may end, if pods are deleted from now on."""
    s, now = w.state, w.state.now
    end = now + min(state.DRAIN, s.timeout)
    for index in range(s.alive):
        p = w.pods[w.alive[index]]
        if p.is_deleted:
            end = min(end, now if p.is_drained else p.life)
        elif now < p.begins < state.FAR:
            return now
    return end


@kernel
def wait_until(w: EngineState, until: int) -> None:
    """Set the time to ``until``, before which no event is due."""
    reckon(w, until)
    w.state.now = max(w.state.now, until)


# Queue in front of all pods: that of the activator, or of a Service without endpoints.


@hot_kernel
def hold_request(w: EngineState, request: int) -> None:
    """Add a request to the queue in front of all pods."""
    s = w.state
    w.requests[request].next = -1
    if s.head < 0:
        s.head = request
    else:
        w.requests[s.tail].next = request
    s.tail = request
    s.held += 1
    s.queued += 1


@hot_kernel
def first_held(w: EngineState) -> int:
    """Return the request that has waited longest, skipping requests that timed out."""
    s = w.state
    while w.requests[s.head].finished != 0:
        s.head = w.requests[s.head].next
    return s.head


@hot_kernel
def unhold_request(w: EngineState, request: int) -> None:
    """Remove the first request, or one that timed out, from the queue."""
    s, r = w.state, w.requests[request]
    if r.finished == 0:
        s.head = r.next
    s.held -= 1
    s.queued -= 1
    if s.held == 0:
        # The remaining requests in the list timed out.
        s.head = -1


@hot_kernel
def activator_flow(w: EngineState) -> None:
    """Update the activator's statistics to now."""
    s = w.state
    s.flow += s.proxied * (s.now - s.flow_at)
    s.flow_at = s.now


@hot_kernel
def leave_activator(w: EngineState, request: int) -> None:
    """Remove a request from the activator's open requests."""
    activator_flow(w)
    w.requests[request].is_proxied = False
    w.state.proxied -= 1


@hot_kernel
def admit_requests(w: EngineState) -> None:
    """Send waiting requests from the activator to pods while these have capacity."""
    s = w.state
    if s.held == 0:
        return
    room = compute_activator_capacity(s.limit, s.seen, s.seen, 1)
    while s.held > 0 and s.proxied - s.held < room:
        request = first_held(w)
        pod = pick_pod(w)
        if pod < 0:
            break
        unhold_request(w, request)
        if not enter_pod(w, pod, request, True):
            leave_activator(w, request)


@hot_kernel
def pick_pod(w: EngineState) -> int:
    """Choose a pod as the activator does, or return -1; ``ebbtide.core.autoscaler.activator`` for lists of pods."""
    s = w.state
    count = s.seen
    if count == 0:
        return -1
    if s.limit == 0:
        first, second = 0, 0
        if count > 1:
            first = draw(s.seed, state.STREAM_PICK, s.picks + 1, count)
            second = draw(s.seed, state.STREAM_PICK, s.picks + 2, count - 1)
            s.picks += 2
        s.picks += 1
        coin = draw(s.seed, state.STREAM_PICK, s.picks, 2)
        first_pod = w.seen[first]
        if count == 1:
            return first_pod
        second_pod = w.seen[second + (1 if second >= first else 0)]
        first_load, second_load = w.pods[first_pod].proxied, w.pods[second_pod].proxied
        if first_load == second_load:
            return second_pod if coin > 0 else first_pod
        return first_pod if first_load < second_load else second_pod
    turns = s.limit > FIRST_AVAILABLE
    start = s.activator_turn if turns and s.activator_turn < count else 0
    for step in range(count):
        index = start + step
        if index >= count:
            index -= count
        pod = w.seen[index]
        if w.pods[pod].proxied < s.limit:
            if turns:
                s.activator_turn = index + 1
            return pod
    return -1
