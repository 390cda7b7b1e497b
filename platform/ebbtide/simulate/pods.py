"""Pods and their requests: queue-proxy, the server, the activator's queue, and their statistics.

A request arrives at the gateway and goes to the pods in turn, or through the activator if it is in the path or no pod is
ready. It waits there, then in queue-proxy within ``containerConcurrency``, then for a slot of the server. Pods start, drain
and end as in Kubernetes. All functions are kernel functions (``ebbtide.autoscaler.kernel``).

Upstream: knative.dev/serving v0.51.0: pkg/activator/net (probing every 200 ms, load balancing), pkg/queue/{breaker,
handler}.go and sharedmain (a report every second, a queue of ten times the limit, 30 s of drain). Kubernetes:
pkg/controller/controller_utils.go (ActivePodsWithRanks: pods that are not ready first, then those ready for the shortest
time). Envoy: a cluster's load balancing defaults to round robin, which Kourier and Contour keep.
"""

from __future__ import annotations

from ebbtide.autoscaler.activator import FIRST_AVAILABLE, compute_activator_capacity
from ebbtide.autoscaler.arithmetic import SECOND
from ebbtide.autoscaler.kernel import Ints, hot_kernel, kernel
from ebbtide.simulate.state import *


@kernel
def notify_observer(w: EngineState, event: int, number: int, other: int) -> None:
    """Notify the observer of an event; the compiled copy has no observer and does nothing."""
    assert w.observer is not None
    w.observer(event, number, other)


@kernel
def add_rows(w: EngineState) -> bool:
    """Add rows for pods; the compiled copy cannot, and returns False."""
    rows = len(w.pods) // POD_ROW
    w.pods.extend([0] * len(w.pods))
    w.lists.extend([0] * len(w.lists))
    w.counts.extend([0] * len(w.counts))
    return rows > 0


@hot_kernel
def reckon(w: EngineState, now: int) -> None:
    """Update the integrals to ``now``."""
    s = w.state
    passed = now - s[RECKONED]
    if passed <= 0:
        return
    s[RECKONED] = now
    if s[ALIVE] > 0:
        s[SUM_PODS] += s[INSIDE] * passed
        s[SUM_ALIVE] += s[ALIVE] * passed
        s[SUM_READY] += s[ALIVE_READY] * passed
        s[SUM_WORKING] += s[WORKING] * passed
        s[SUM_UTILIZATION] += s[UTILIZATION] * passed
    if s[QUEUED] > 0:
        s[SUM_QUEUED] += s[QUEUED] * passed
    if s[READY] > 0 or s[STARTABLE] > 0:
        s[SUM_UP] += passed


@kernel
def reckon_end(w: EngineState) -> None:
    """Update the integrals to the end of the traffic, and store their values."""
    s = w.state
    reckon(w, s[END])
    for index in range(SUM_UP - SUM_PODS + 1):
        s[END_PODS + index] = s[SUM_PODS + index]
    s[END_COLD_STARTS] = s[COLD_STARTS]


@kernel
def place_of(w: EngineState, column: int, count: int, pod: int) -> int:
    """Return the index of a pod, or its insertion point, in a column of ``count`` pods sorted by number."""
    lists, pods = w.lists, w.pods
    number, index = pods[pod + NUMBER], count
    while index > 0 and pods[lists[(index - 1) * LIST_ROW + column] + NUMBER] >= number:
        index -= 1
    return index


@kernel
def insert_pod(w: EngineState, column: int, count: int, pod: int) -> None:
    """Insert a pod into a sorted column."""
    index, lists = place_of(w, column, count, pod), w.lists
    for later in range(count, index, -1):
        lists[later * LIST_ROW + column] = lists[(later - 1) * LIST_ROW + column]
    lists[index * LIST_ROW + column] = pod


@kernel
def remove_pod(w: EngineState, column: int, count: int, pod: int) -> None:
    """Remove a pod from a sorted column."""
    lists = w.lists
    for later in range(place_of(w, column, count, pod), count - 1):
        lists[later * LIST_ROW + column] = lists[(later + 1) * LIST_ROW + column]


# Departures: a heap by time, then request.


@kernel
def push_departure(s: Ints, heap: Ints, at: int, request: int) -> None:
    """Schedule the departure of a request."""
    index = s[HEAP]
    s[HEAP] += 1
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
def pop_departure(s: Ints, heap: Ints) -> None:
    """Remove the first departure."""
    s[HEAP] -= 1
    count = s[HEAP]
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
def update_flow(p: Ints, pod: int, now: int) -> None:
    """Update queue-proxy's integrals to ``now``."""
    passed = now - p[pod + POD_CUT]
    p[pod + POD_FLOW] += p[pod + POD_INSIDE] * passed
    p[pod + FLOW_PROXIED] += p[pod + POD_PROXIED] * passed
    p[pod + POD_CUT] = now


@hot_kernel
def update_statistics(w: EngineState, pod: int, now: int) -> None:
    """Update queue-proxy's statistics to ``now``, including the reports due until then."""
    p = w.pods
    while p[pod + POD_REPORT] <= now:
        update_flow(p, pod, p[pod + POD_REPORT])
        # Value of the metric, in the unit of ``state[UNIT]``.
        rps = w.state[RPS] > 0
        p[pod + REPORTED] = p[pod + POD_COUNT] if rps else p[pod + POD_FLOW]
        p[pod + REPORTED_PROXIED] = p[pod + COUNT_PROXIED] if rps else p[pod + FLOW_PROXIED]
        p[pod + POD_FLOW] = 0
        p[pod + FLOW_PROXIED] = 0
        p[pod + POD_COUNT] = 0
        p[pod + COUNT_PROXIED] = 0
        p[pod + POD_REPORT] += SECOND
    update_flow(p, pod, now)


@hot_kernel
def get_request_speed(w: EngineState, pod: int) -> int:
    """Return the speed of each request in units of 1/``SPEED``."""
    return w.tables[w.state[SPEEDS] + min(w.pods[pod + RUNNING], w.state[FASTEST])]


@hot_kernel
def reckon_busy(w: EngineState, pod: int) -> None:
    """Update a pod's utilization to now, from its first appearance in the metrics pipeline on."""
    s, p = w.state, w.pods
    if p[pod + BUSY_AT] >= 0:
        percent = w.tables[s[BUSY] + min(p[pod + RUNNING], s[BUSIEST])]
        p[pod + BUSY_SUM] += percent * (s[NOW] - p[pod + BUSY_AT])
    p[pod + BUSY_AT] = s[NOW]


@hot_kernel
def change_load(w: EngineState, pod: int, by: int) -> None:
    """Change the number of requests that a pod processes by ``by``, and the totals of all pods."""
    s, p, busy = w.state, w.pods, w.state[BUSY]
    if s[EDGES] > 0:
        reckon_busy(w, pod)
    before = p[pod + RUNNING]
    p[pod + RUNNING] = before + by
    if before == 0:
        s[WORKING] += 1
    elif before + by == 0:
        s[WORKING] -= 1
    s[UTILIZATION] += w.tables[busy + min(before + by, s[BUSIEST])] - w.tables[busy + min(before, s[BUSIEST])]


@hot_kernel
def get_step_time(w: EngineState, pod: int) -> int:
    """Return the time of a step of a batching server, which produces one token for each request."""
    s, p = w.state, w.pods
    return w.tables[s[SHARED_STEP] + min(p[pod + RUNNING], s[SHARED_LAST])] + p[pod + POD_LOAD]


@hot_kernel
def get_token_time(w: EngineState, request: int, column: int) -> int:
    """Return an element of a request's token times."""
    return w.tables[w.state[TOKEN_TIMES] + request // REQUEST_ROW * TOKEN_ROW + column]


@kernel
def count_value(w: EngineState, pod: int, histogram: int, edges: int, seconds: float, count: int) -> None:
    """Add to a histogram of a pod, which begins at ``histogram`` both in the pod's row and in the list of edges."""
    index, first = 0, EDGE + histogram
    while index < edges and w.moments[first + index] < seconds:
        index += 1
    w.counts[pod // POD_ROW * w.state[COUNT_ROW] + histogram + index] += count


@kernel
def count_gaps(w: EngineState, pod: int, seconds: float, produced: int) -> None:
    """Count the gaps between tokens of a pod that has produced parts of a token for each request.

    The gap of the token after a prompt is longer by the time of that prompt.
    """
    s, p = w.state, w.pods
    p[pod + POD_CONTEXT] += p[pod + GENERATING] * produced
    histogram, late = s[EDGES] + s[FIRST_EDGES] + 2, min(produced, p[pod + STALLED_TOKEN])
    if late > 0:
        count_value(w, pod, histogram, s[BETWEEN_EDGES], seconds + p[pod + STALL] / SECOND, p[pod + GENERATING] * late)
        p[pod + STALLED_TOKEN] -= late
        if p[pod + STALLED_TOKEN] == 0:
            p[pod + STALL] = 0
    count_value(w, pod, histogram, s[BETWEEN_EDGES], seconds, p[pod + GENERATING] * (produced - late))


@kernel
def count_first_token(w: EngineState, pod: int, entered: int) -> None:
    """Count the first token of a request that entered the engine at ``entered``."""
    s, p = w.state, w.pods
    p[pod + GENERATING] += 1
    p[pod + POD_CONTEXT] += TOKEN
    count_value(w, pod, s[EDGES] + 1, s[FIRST_EDGES], (s[NOW] - entered) / SECOND, TOKEN)


@kernel
def forget_tokens(w: EngineState, pod: int, request: int) -> None:
    """Remove the tokens of a request that ends from the KV cache."""
    p, r = w.pods, w.requests
    p[pod + POD_CONTEXT] -= get_token_time(w, request, PROMPT_TOKENS) * TOKEN
    if r[request + FIRST_TOKEN] > 0:
        left = get_token_time(w, request, TOKENS_LEFT) * TOKEN
        p[pod + POD_CONTEXT] -= TOKEN + p[pod + VIRTUAL] - (r[request + DUE] - left)
        p[pod + GENERATING] -= 1


@hot_kernel
def bring_work(w: EngineState, pod: int) -> None:
    """Update a pod's completed work to now."""
    p, now = w.pods, w.state[NOW]
    if p[pod + RUNNING] > 0:
        if w.state[MOVING] == BATCHING:
            passed = max(now - max(p[pod + VIRTUAL_AT], p[pod + STALLED]), 0)
            step = get_step_time(w, pod)
            produced = passed * TOKEN // step
            p[pod + VIRTUAL] += produced
            if w.state[FIRST_EDGES] > 0:
                count_gaps(w, pod, step / SECOND, produced)
        else:
            p[pod + VIRTUAL] += (now - p[pod + VIRTUAL_AT]) * get_request_speed(w, pod)
    else:
        p[pod + VIRTUAL] = 0
        p[pod + STALL] = 0
    p[pod + VIRTUAL_AT] = now


@hot_kernel
def link_request(w: EngineState, pod: int, request: int) -> None:
    """Add a request to those of a pod that end by its completed work."""
    r, first = w.requests, w.pods[pod + FIRST_RUNNING]
    r[request + LINK] = first
    r[request + BACK] = -1
    if first >= 0:
        r[first + BACK] = request
    w.pods[pod + FIRST_RUNNING] = request


@kernel
def produce_first_token(w: EngineState, request: int) -> bool:
    """Record the first token of a batching server's request, and let it generate the others; False if there are none."""
    r, pod = w.requests, w.requests[request + WHERE]
    r[request + FIRST_TOKEN] = w.state[NOW]
    left = get_token_time(w, request, TOKENS_LEFT)
    bring_work(w, pod)
    if w.state[FIRST_EDGES] > 0:
        # The engine does not see a request that waits in queue-proxy.
        held_back = 0 < w.state[LIMIT] <= w.state[SLOTS]
        count_first_token(w, pod, r[request + BEGAN] if held_back else r[request + DUE])
    r[request + DUE] = w.pods[pod + VIRTUAL] + left * TOKEN
    link_request(w, pod, request)
    if left > 0:
        reschedule_departure(w, pod)
    return left > 0


@hot_kernel
def begin_request(w: EngineState, pod: int, request: int) -> None:
    """Start processing a request in a pod's server."""
    p, r, now = w.pods, w.requests, w.state[NOW]
    moving = w.state[MOVING] > 0
    if moving:
        bring_work(w, pod)
    change_load(w, pod, 1)
    r[request + RUNS] = 1
    r[request + BEGAN] = now
    if w.state[MOVING] == BATCHING:
        p[pod + POD_LOAD] += get_token_time(w, request, TOKEN_LOAD)
        running, delay = p[pod + RUNNING], get_token_time(w, request, TOKEN_DELAY)
        prefill = get_token_time(w, request, PREFILL) + running * get_token_time(w, request, PREFILL_EACH)
        first = now + prefill + w.tables[w.state[SHARED_FIRST] + min(running, w.state[SHARED_LAST])]
        # A request's own prompt does not delay its outputs.
        stalled = max(p[pod + STALLED], now) + delay
        p[pod + STALLED] = stalled if running > 1 else min(stalled, first)
        if w.state[FIRST_EDGES] > 0:
            p[pod + POD_CONTEXT] += get_token_time(w, request, PROMPT_TOKENS) * TOKEN
            if p[pod + GENERATING] > 0:
                p[pod + STALL] += delay
                p[pod + STALLED_TOKEN] = TOKEN
        push_departure(w.state, w.heap, first, request)
    elif moving:
        r[request + DUE] = p[pod + VIRTUAL] + r[request + WORK] * SPEED
        link_request(w, pod, request)
    else:
        push_departure(w.state, w.heap, now + r[request + WORK], request)


@hot_kernel
def stop_request(w: EngineState, pod: int, request: int) -> None:
    """Stop processing a request in a pod's server."""
    r = w.requests
    if w.state[MOVING] > 0:
        bring_work(w, pod)
    if w.state[MOVING] == BATCHING:
        w.pods[pod + POD_LOAD] -= get_token_time(w, request, TOKEN_LOAD)
        if w.state[FIRST_EDGES] > 0:
            forget_tokens(w, pod, request)
    if w.state[MOVING] == BY_CONCURRENCY or r[request + FIRST_TOKEN] > 0:
        after, before = r[request + LINK], r[request + BACK]
        if before >= 0:
            r[before + LINK] = after
        else:
            w.pods[pod + FIRST_RUNNING] = after
        if after >= 0:
            r[after + BACK] = before
    change_load(w, pod, -1)
    r[request + RUNS] = 0


@hot_kernel
def schedule_departure(w: EngineState, pod: int) -> None:
    """Schedule the end of a pod's next request, if it depends on concurrency."""
    if w.state[MOVING] > 0:
        reschedule_departure(w, pod)


@kernel
def reschedule_departure(w: EngineState, pod: int) -> None:
    """Schedule the end of a pod's next request; an earlier schedule becomes void."""
    p, r = w.pods, w.requests
    request = p[pod + FIRST_RUNNING]
    if request < 0:
        p[pod + NEXT_DONE] = FAR
        return
    earliest, due = request, r[request + DUE]
    request = r[request + LINK]
    while request >= 0:
        other = r[request + DUE]
        if other <= due and (other < due or request < earliest):
            earliest, due = request, other
        request = r[request + LINK]
    missing = p[pod + VIRTUAL] - due
    if w.state[MOVING] == BATCHING:
        at = max(p[pod + VIRTUAL_AT], p[pod + STALLED]) - min(0, missing * get_step_time(w, pod) // TOKEN)
    else:
        at = p[pod + VIRTUAL_AT] - min(0, missing // get_request_speed(w, pod))
    if at != p[pod + NEXT_DONE] or earliest != p[pod + NEXT_REQUEST]:
        p[pod + NEXT_DONE] = at
        p[pod + NEXT_REQUEST] = earliest
        push_departure(w.state, w.heap, at, earliest)


@hot_kernel
def is_void(w: EngineState, at: int, request: int) -> bool:
    """Return whether a scheduled departure no longer applies to its request."""
    if w.requests[request + FINISHED] != 0 or w.state[MOVING] == 0:
        return w.requests[request + FINISHED] != 0
    if w.state[MOVING] == BATCHING and w.requests[request + FIRST_TOKEN] == 0:
        return False
    pod = w.requests[request + WHERE]
    return w.pods[pod + NEXT_DONE] != at or w.pods[pod + NEXT_REQUEST] != request


@hot_kernel
def close_request(w: EngineState, request: int, pod: int, finished: int) -> None:
    """Record the end of a request; ``finished`` is the negated time for a lost request, ``pod`` is -1 for none."""
    w.requests[request + FINISHED] = finished
    w.state[DONE] += 1
    if w.state[WATCHED] > 0:
        notify_observer(w, CLOSED, request, pod)


@hot_kernel
def enter_pod(w: EngineState, pod: int, request: int, proxied: bool) -> bool:
    """Send a request to a pod's queue-proxy; False if its queue is full and the request is lost."""
    s, p, r = w.state, w.pods, w.requests
    if s[LIMIT] > 0 and p[pod + POD_INSIDE] >= s[LIMIT] * (1 + QUEUE_DEPTH):
        close_request(w, request, -1, -s[NOW])
        return False
    update_statistics(w, pod, s[NOW])
    p[pod + POD_INSIDE] += 1
    p[pod + POD_COUNT] += 1
    if proxied:
        p[pod + POD_PROXIED] += 1
        p[pod + COUNT_PROXIED] += 1
    s[INSIDE] += 1
    r[request + WHERE] = pod
    r[request + DUE] = s[NOW]
    if s[SLOTS] > 0 and p[pod + RUNNING] >= s[SLOTS]:
        r[request + LINK] = -1
        if p[pod + FIRST_WAITING] < 0:
            p[pod + FIRST_WAITING] = request
        else:
            r[p[pod + LAST_WAITING] + LINK] = request
        p[pod + LAST_WAITING] = request
        s[QUEUED] += 1
    else:
        begin_request(w, pod, request)
        schedule_departure(w, pod)
    return True


@hot_kernel
def count_response(w: EngineState, pod: int, seconds: float) -> None:
    """Add a latency to the histogram of its pod."""
    count_value(w, pod, 0, w.state[EDGES], seconds, 1)


@hot_kernel
def finish_request(w: EngineState, request: int, lost: bool) -> None:
    """Remove a request from its pod, with or without a reply, and admit the next one."""
    s, p, r = w.state, w.pods, w.requests
    pod, now = r[request + WHERE], s[NOW]
    if s[EDGES] > 0:
        count_response(w, pod, (now - r[request + ARRIVAL]) / SECOND)
    r[request + WHERE] = -1
    close_request(w, request, pod, -now if lost else now)
    proxied = r[request + IS_PROXIED] > 0
    update_statistics(w, pod, now)
    p[pod + POD_INSIDE] -= 1
    if proxied:
        p[pod + POD_PROXIED] -= 1
    s[INSIDE] -= 1
    if r[request + RUNS] > 0:
        stop_request(w, pod, request)
        while p[pod + FIRST_WAITING] >= 0 and (s[SLOTS] == 0 or p[pod + RUNNING] < s[SLOTS]):
            waiting = p[pod + FIRST_WAITING]
            p[pod + FIRST_WAITING] = r[waiting + LINK]
            if r[waiting + FINISHED] == 0:
                s[QUEUED] -= 1
                begin_request(w, pod, waiting)
        schedule_departure(w, pod)
    else:
        # The request stays in the pod's list and is skipped there.
        s[QUEUED] -= 1
    if p[pod + DRAINED] > 0 and p[pod + POD_INSIDE] == 0:
        end_pod(w, pod)
    if proxied:
        leave_activator(w, request)
        admit_requests(w)


# Life cycle of pods.


@kernel
def starts(w: EngineState, pod: int, begins: int, answers: int) -> None:
    """Schedule when the activator detects a pod; the pod reports from its first answer on."""
    p = w.pods
    p[pod + BEGINS] = begins
    # With an HPA, there is no activator.
    p[pod + SEE_AT] = FAR if w.state[DIRECT] > 0 else -(-answers // PROBE) * PROBE
    p[pod + POD_CUT] = answers
    p[pod + POD_REPORT] = answers + 1 + draw(w.state[SEED], STREAM_POD, p[pod + NUMBER], SECOND)
    w.state[NEXT_POD] = min(w.state[NEXT_POD], p[pod + LIFE], p[pod + SEE_AT])


@kernel
def free_row(w: EngineState) -> int:
    """Return an empty row for a pod, or -1."""
    s, p = w.state, w.pods
    pod = s[FREE]
    if pod >= 0:
        s[FREE] = p[pod + NUMBER]
    else:
        pod = s[UNUSED]
        if pod >= len(p) and not add_rows(w):
            s[FULL] = 1
            return -1
        s[UNUSED] += POD_ROW
    for column in range(POD_ROW):
        p[pod + column] = 0
    for index in range(s[COUNT_ROW]):
        w.counts[pod // POD_ROW * s[COUNT_ROW] + index] = 0
    return pod


@kernel
def add_pod(w: EngineState, begins: int, answers: int, life: int) -> int:
    """Create a pod whose containers run at ``begins``, that answers at ``answers``, and is ready at ``life``.

    Return -1 if there is no row for it.
    """
    s, p, pod = w.state, w.pods, free_row(w)
    if pod < 0:
        return -1
    if s[REPLICAS] == 0 and s[READY] == 0 and s[NOW] > 0:
        s[COLD_STARTS] += 1
    p[pod + NUMBER] = s[MADE_SO_FAR]
    s[MADE_SO_FAR] += 1
    p[pod + BORN] = s[NOW]
    p[pod + LIFE] = life
    p[pod + NEXT_DONE] = FAR
    p[pod + FIRST_RUNNING] = -1
    p[pod + FIRST_WAITING] = -1
    p[pod + BUSY_AT] = -1
    starts(w, pod, begins, answers)
    insert_pod(w, ALIVE_LIST, s[ALIVE], pod)
    s[REPLICAS] += 1
    s[ALIVE] += 1
    if s[WATCHED] > 0:
        notify_observer(w, MADE, pod, 0)
    return pod


@kernel
def set_replicas(w: EngineState, desired: int) -> None:
    """Create pods, or delete pods that are not ready first, then those ready for the shortest time."""
    s, p = w.state, w.pods
    while s[REPLICAS] < desired:
        index = s[MADE_SO_FAR] % s[START_UPS]
        begins, answers = w.tables[s[BEGIN] + index], w.tables[s[ANSWERS] + index]
        if add_pod(w, s[NOW] + begins, s[NOW] + answers, s[NOW] + w.tables[index]) < 0:
            return
    while s[REPLICAS] > desired:
        chosen = -1
        for index in range(s[ALIVE]):
            pod = w.lists[index * LIST_ROW + ALIVE_LIST]
            if p[pod + IS_DELETED] > 0:
                continue
            # ``LIFE`` is the time when a pod became or becomes ready.
            if chosen < 0 or (
                p[pod + IS_READY] == 0
                if p[pod + IS_READY] != p[chosen + IS_READY]
                else p[pod + LIFE] >= p[chosen + LIFE]
            ):
                chosen = pod
        delete_pod(w, chosen)
        s[REPLICAS] -= 1


@kernel
def delete_pod(w: EngineState, pod: int) -> None:
    """Delete a pod, which drains if its containers run."""
    s, p = w.state, w.pods
    p[pod + IS_DELETED] = 1
    if s[WATCHED] > 0:
        notify_observer(w, DELETED, pod, 0)
    if s[NOW] < p[pod + BEGINS]:
        end_pod(w, pod)
        return
    if p[pod + IS_READY] > 0:
        remove_pod(w, READY_LIST, s[READY], pod)
        s[READY] -= 1
    p[pod + SEE_AT] = FAR
    if p[pod + IS_SEEN] > 0:
        remove_pod(w, SEEN_LIST, s[SEEN], pod)
        s[SEEN] -= 1
    p[pod + LIFE] = s[NOW] + min(DRAIN, s[TIMEOUT])
    s[NEXT_POD] = min(s[NEXT_POD], p[pod + LIFE])


@kernel
def end_pod(w: EngineState, pod: int) -> None:
    """End a pod and free its row."""
    s, p = w.state, w.pods
    remove_pod(w, ALIVE_LIST, s[ALIVE], pod)
    s[ALIVE] -= 1
    s[ALIVE_READY] -= p[pod + IS_READY]
    if s[WATCHED] > 0:
        notify_observer(w, GONE, pod, 0)
    p[pod + NUMBER] = s[FREE]
    s[FREE] = pod


@kernel
def become_ready(w: EngineState, pod: int) -> None:
    """Make a pod ready."""
    s = w.state
    w.pods[pod + IS_READY] = 1
    s[ALIVE_READY] += 1
    insert_pod(w, READY_LIST, s[READY], pod)
    s[READY] += 1
    if s[WATCHED] > 0:
        notify_observer(w, BECAME_READY, pod, 0)


@kernel
def detect_pod(w: EngineState, pod: int) -> None:
    """Let the activator use a pod, and send it waiting requests."""
    w.pods[pod + SEE_AT] = FAR
    w.pods[pod + IS_SEEN] = 1
    insert_pod(w, SEEN_LIST, w.state[SEEN], pod)
    w.state[SEEN] += 1
    admit_requests(w)


@kernel
def find_next_pod(w: EngineState) -> None:
    """Set the time when the next pod becomes ready, is detected or ends."""
    p, next_time = w.pods, FAR
    for index in range(w.state[ALIVE]):
        pod = w.lists[index * LIST_ROW + ALIVE_LIST]
        next_time = min(next_time, p[pod + SEE_AT])
        # The ``LIFE`` of a ready pod is in the past; that of a drained pod is FAR.
        if (p[pod + IS_READY] == 0 or p[pod + IS_DELETED] > 0) and p[pod + LIFE] < next_time:
            next_time = p[pod + LIFE]
    w.state[NEXT_POD] = next_time


# Queue in front of all pods: that of the activator, or of a Service without endpoints.


@hot_kernel
def hold_request(w: EngineState, request: int) -> None:
    """Add a request to the queue in front of all pods."""
    s, r = w.state, w.requests
    r[request + LINK] = -1
    if s[HEAD] < 0:
        s[HEAD] = request
    else:
        r[s[TAIL] + LINK] = request
    s[TAIL] = request
    s[HELD] += 1
    s[QUEUED] += 1


@hot_kernel
def first_held(w: EngineState) -> int:
    """Return the request that has waited longest, skipping requests that timed out."""
    s, r = w.state, w.requests
    while r[s[HEAD] + FINISHED] != 0:
        s[HEAD] = r[s[HEAD] + LINK]
    return s[HEAD]


@hot_kernel
def unhold_request(w: EngineState, request: int) -> None:
    """Remove the first request, or one that timed out, from the queue."""
    s, r = w.state, w.requests
    if r[request + FINISHED] == 0:
        s[HEAD] = r[request + LINK]
    s[HELD] -= 1
    s[QUEUED] -= 1
    if s[HELD] == 0:
        # The remaining requests in the list timed out.
        s[HEAD] = -1


@hot_kernel
def activator_flow(w: EngineState) -> None:
    """Update the activator's statistics to now."""
    s = w.state
    s[FLOW] += s[PROXIED] * (s[NOW] - s[CUT])
    s[CUT] = s[NOW]


@hot_kernel
def leave_activator(w: EngineState, request: int) -> None:
    """Remove a request from the activator's open requests."""
    activator_flow(w)
    w.requests[request + IS_PROXIED] = 0
    w.state[PROXIED] -= 1


@hot_kernel
def admit_requests(w: EngineState) -> None:
    """Send waiting requests from the activator to pods while these have capacity."""
    s = w.state
    if s[HELD] == 0:
        return
    room = compute_activator_capacity(s[LIMIT], s[SEEN], s[SEEN], 1)
    while s[HELD] > 0 and s[PROXIED] - s[HELD] < room:
        request = first_held(w)
        pod = pick_pod(w)
        if pod < 0:
            break
        unhold_request(w, request)
        if not enter_pod(w, pod, request, True):
            leave_activator(w, request)


@hot_kernel
def pick_pod(w: EngineState) -> int:
    """Choose a pod as the activator does, or return -1; ``ebbtide.autoscaler.activator`` for lists of pods."""
    s, p, lists = w.state, w.pods, w.lists
    count = s[SEEN]
    if count == 0:
        return -1
    if s[LIMIT] == 0:
        first, second = 0, 0
        if count > 1:
            first = draw(s[SEED], STREAM_PICK, s[PICKS] + 1, count)
            second = draw(s[SEED], STREAM_PICK, s[PICKS] + 2, count - 1)
            s[PICKS] += 2
        s[PICKS] += 1
        coin = draw(s[SEED], STREAM_PICK, s[PICKS], 2)
        first_pod = lists[first * LIST_ROW + SEEN_LIST]
        if count == 1:
            return first_pod
        second_pod = lists[(second + (1 if second >= first else 0)) * LIST_ROW + SEEN_LIST]
        if p[first_pod + POD_PROXIED] == p[second_pod + POD_PROXIED]:
            return second_pod if coin > 0 else first_pod
        return first_pod if p[first_pod + POD_PROXIED] < p[second_pod + POD_PROXIED] else second_pod
    turns = s[LIMIT] > FIRST_AVAILABLE
    start = s[ACTIVATOR_TURN] if turns and s[ACTIVATOR_TURN] < count else 0
    for step in range(count):
        index = start + step
        if index >= count:
            index -= count
        pod = lists[index * LIST_ROW + SEEN_LIST]
        if p[pod + POD_PROXIED] < s[LIMIT]:
            if turns:
                s[ACTIVATOR_TURN] = index + 1
            return pod
    return -1
