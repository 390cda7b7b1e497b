"""Blocks of a limited KV cache, as vLLM counts them.

A block has 16 tokens. A request holds the blocks of its prompt and of its tokens including the next one. All functions are kernel
functions (``ebbtide.core.autoscaler.kernel``).

Upstream: vllm-project/vllm vllm/v1/core/kv_cache_manager.py (blocks) and vllm/v1/core/sched/scheduler.py (the request admitted last is preempted).
"""

from __future__ import annotations

from ebbtide.core.autoscaler.kernel import kernel
from ebbtide.simulator.engine import state
from ebbtide.simulator.engine.state import EngineState


@kernel
def count_prompt_blocks(w: EngineState, request: int) -> int:
    """Return the blocks that a request needs to be admitted: those of its prompt and its first token."""
    return w.tokens[request].prompt_tokens // state.BLOCK + 1


@kernel
def count_blocks(w: EngineState, pod: int, step: int) -> int:
    """Return the blocks in use after a number of steps of a pod.

    Each step adds a token to every request that generates. Its tokens are ``step`` and a constant, whose multiples of a
    block are in ``blocks``. The rest is its phase, so requests are counted by phase.
    """
    used, first = w.pods[pod].blocks, pod * w.state.count_row + w.state.phases_start
    for phase in range(state.BLOCK):
        used += w.counts[first + phase] * ((step + phase + state.BLOCK - 1) // state.BLOCK)
    return used


@kernel
def hold_blocks(w: EngineState, pod: int, request: int, sign: int) -> None:
    """Add (1) or remove (-1) the blocks of a request."""
    r, tokens, p = w.requests[request], w.tokens[request], w.pods[pod]
    if r.first_token <= 0:
        p.blocks += sign * count_prompt_blocks(w, request)
        return
    constant = tokens.prompt_tokens + 1 + tokens.tokens_left - r.due // state.TOKEN
    p.blocks += sign * (constant // state.BLOCK)
    w.counts[pod * w.state.count_row + w.state.phases_start + constant % state.BLOCK] += sign


@kernel
def find_exhaustion(w: EngineState, pod: int) -> int:
    """Return the completed work of a pod at which its requests need more blocks than the cache has."""
    s, step = w.state, w.pods[pod].completed // state.TOKEN
    used, first, each = count_blocks(w, pod, step), pod * s.count_row + s.phases_start, 0
    for phase in range(state.BLOCK):
        each += w.counts[first + phase]
    if each == 0:
        return state.FAR
    # In as many steps as a block has tokens, each request needs one block.
    rounds = max(s.kv_blocks - used, 0) // each
    used += rounds * each
    step += rounds * state.BLOCK
    while used <= s.kv_blocks:
        step += 1
        used += w.counts[first + (1 - step) % state.BLOCK]
    return step * state.TOKEN


@kernel
def link_admitted(w: EngineState, pod: int, request: int) -> None:
    """Add a request that a pod's server admits."""
    p, tokens = w.pods[pod], w.tokens[request]
    tokens.older, tokens.newer = p.last_admitted, -1
    if tokens.older >= 0:
        w.tokens[tokens.older].newer = request
    p.last_admitted = request
    hold_blocks(w, pod, request, 1)


@kernel
def unlink_admitted(w: EngineState, pod: int, request: int) -> None:
    """Remove a request that ends or is preempted."""
    tokens = w.tokens[request]
    if tokens.older >= 0:
        w.tokens[tokens.older].newer = tokens.newer
    if tokens.newer >= 0:
        w.tokens[tokens.newer].older = tokens.older
    else:
        w.pods[pod].last_admitted = tokens.older
    tokens.first_due = 0
    hold_blocks(w, pod, request, -1)
