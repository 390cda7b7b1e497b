"""`python -m e2e.experiments.tokens`: measure the language model at 1 to 4 in flight, replay requests, and compare with the prediction."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import httpx
import numpy as np
import yaml

from e2e.completion import Completion, complete
from e2e.experiments.fidelity.compare import starts
from e2e.experiments.fidelity.record import Head, Record, Request, Start
from e2e.experiments.fidelity.replay import LONGEST, PATIENCE, QUIET, Watched, sample_machine, watching
from e2e.experiments.tokens.record import PERCENT, Sent, TokenRecord, compare, load_test, markdown
from e2e.kubectl import KubectlError
from e2e.paths import CLUSTERS, DEFAULT, HERE
from e2e.providers import choose
from e2e.providers.protocol import ProviderError
from e2e.stage import PROFILE, Stage
from ebbtide.cluster.client.kubernetes import KubernetesCluster
from ebbtide.simulator.load import generate_traffic

RECORDS: Final = CLUSTERS / "tokens"
NAME: Final = "tokens"
SHAPES: Final = ((60, 20), (240, 20), (60, 60), (240, 60))
"""Mean prompt and output tokens of the load tests; those of the replay are between them."""
SPREAD: Final = 0.5
"""Largest difference of a request of a load test from the mean. Requests of equal lengths would start and end together: all prompts
would be computed at the same time and delay no output, which no other traffic does."""
IN_FLIGHT: Final = (1, 2, 3, 4)
TYPICAL: Final = (120, 40)
WARM_UP: Final = 8
CLOCK: Final = "clock"
"""Service whose one replica computes a small request every few seconds, next to a load test or a replay: the speed of a machine
changes by a third within half an hour."""
TICK: Final = 4.0
TICKED: Final = (60, 20)
COLD: Final = 4
"""Cold starts that are measured before the traffic."""
CLUSTER_FAILED: Final = 3

Found = TypeVar("Found")


def main() -> int:
    """Run the command: 0 if every number is within the goal, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m e2e.experiments.tokens", description=(__doc__ or "").strip())
    parser.add_argument("--provider", default="")
    parser.add_argument("--name", default=DEFAULT, help="the cluster's name")
    parser.add_argument("--seconds", type=float, default=600.0, help="length of the replay")
    parser.add_argument("--counted", type=int, default=24, help="requests of each load test")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    try:
        provider = choose(options.provider, options.name)
        stage = Stage(provider, provider.kubectl(), HERE / "experiments" / "tokens", "token-replay")
        try:
            return run(
                stage,
                options.seconds,
                options.counted,
                options.seed,
                lambda line: print(line, file=sys.stderr, flush=True),
            )
        finally:
            stage.clean()
    except (ProviderError, KubectlError) as error:
        print(f"error: {error}", file=sys.stderr)
        return CLUSTER_FAILED


def run(stage: Stage, seconds: float, counted: int, seed: int, say: Callable[[str], None]) -> int:
    """Measure, replay and compare."""
    stage.clean()
    kept = RECORDS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.jsonl"
    kept.parent.mkdir(parents=True, exist_ok=True)
    tests = kept.with_suffix(".load-test.jsonl")
    document: dict[str, Any] = yaml.safe_load((stage.folder / "spec.yaml").read_text())
    fixed = {**document, "spec": {**document["spec"], "autoscaling": {**document["spec"]["autoscaling"]}}}
    fixed["spec"]["autoscaling"].update(minReplicas=1, maxReplicas=1)
    stage.deploy({**fixed, "metadata": {"name": CLOCK}})
    stage.ready(CLOCK)

    def measured(draw: int) -> list[dict[str, Any]]:
        stage.deploy(fixed)
        stage.ready(NAME)
        say("load tests at 1 to 4 in flight")
        found, tick = asyncio.run(_with_clock(stage, _load_tests(stage, counted, draw)))
        say(f"  the clock's request takes {1000 * tick:.0f} ms")
        for each in found:
            say(
                f"  {each['input_len']}/{each['output_len']} at {each['max_concurrency']}: {each['mean_ttft_ms']:.1f} ms, "
                f"then {each['mean_tpot_ms']:.2f} ms"
            )
            each["clock"] = tick
        return found

    results = measured(seed)
    alone = np.mean(
        [each["mean_ttft_ms"] + 39 * each["mean_tpot_ms"] for each in results if each["max_concurrency"] == 1]
    )
    kubeconfig = str(stage.kubectl.kubeconfig)
    with watching(lambda: KubernetesCluster.from_kubeconfig(kubeconfig), stage.namespace, LONGEST) as watched:
        stage.deploy(document)
        stage.ready(NAME)
        stage.until("it is at zero", lambda: not stage.pods(NAME), PATIENCE)
        since, cold = time.monotonic(), []
        for _ in range(COLD):
            cold += asyncio.run(_one_after_another(stage, [TYPICAL]))
            stage.until("it is at zero", lambda: not stage.pods(NAME), PATIENCE)
        known = _cold_starts(watched, since, cold)
        time.sleep(QUIET)
        replayed = _replayed(stage, watched, document, known, 1000 / float(alone), seconds, seed)
        record, tick = asyncio.run(_with_clock(stage, replayed))
    record.write(kept)
    say(f"replayed; the clock's request takes {1000 * tick:.0f} ms")
    # Half of the load test follows the replay, and all of it is stated for the machine's speed during the replay.
    results += measured(seed + 1)
    for each in results:
        for name in ("mean_ttft_ms", "mean_tpot_ms"):
            each[name] *= tick / each["clock"]
    tests.write_text("".join(f"{json.dumps(each)}\n" for each in results))
    say(f"recorded {kept}")
    found = compare(record, tests)
    print(markdown(found), end="")
    noise = record.base.noise
    if noise is not None:
        print(
            f"\n{len(record.sent)} requests in {record.base.head.seconds:.0f} s; {noise.busy * 100:.0f}% of the processors "
            f"were busy; {noise.late / max(noise.ticks, 1) * 100:.1f}% of the ticks came over 20 ms late"
        )
    return 0 if all(abs(row.percent) <= PERCENT for row in found) else 1


async def _with_clock(stage: Stage, measuring: Coroutine[Any, Any, Found]) -> tuple[Found, float]:
    """Return a measurement, and the mean seconds of the clock's requests next to it."""
    seconds: list[float] = []

    async def tick() -> None:
        async with _client(stage, CLOCK) as client:
            while True:
                answer = await complete(client, *TICKED)
                if answer.status == "200":
                    seconds.append(answer.prompt_seconds + answer.generation_seconds)
                await asyncio.sleep(TICK)

    ticking = asyncio.create_task(tick())
    try:
        found = await measuring
    finally:
        ticking.cancel()
    return found, float(np.mean(seconds))


def _client(stage: Stage, name: str = NAME) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None)
    address = f"http://{stage.provider.gateway()}"
    return httpx.AsyncClient(base_url=address, headers={"Host": stage.host(name)}, timeout=PATIENCE, limits=limits)


async def _one_after_another(stage: Stage, shapes: Iterable[tuple[int, int]]) -> list[Completion]:
    async with _client(stage) as client:
        return [await complete(client, *shape) for shape in shapes]


async def _load_tests(stage: Stage, counted: int, seed: int) -> list[dict[str, Any]]:
    """Return a result of ``counted`` requests for each combination of tokens and number in flight.

    The first requests start together and the last ones end alone, so as many as are in flight are left out at both ends.
    """
    draws = np.random.default_rng(seed)
    await _one_after_another(stage, [TYPICAL] * WARM_UP)
    found = []
    for shape in SHAPES:
        for number in IN_FLIGHT:
            factors = draws.uniform(1 - SPREAD, 1 + SPREAD, (counted + 2 * number, 2))
            waiting = iter(np.rint(factors * shape).astype(int).tolist())
            answers = await asyncio.gather(*(_one_after_another(stage, waiting) for _ in range(number)))
            every = sorted((each for some in answers for each in some), key=lambda each: each.sent)
            found.append(load_test(shape, number, every[number:-number]))
    return found


def _cold_starts(watched: Watched, since: float, answers: Sequence[Completion]) -> list[Start]:
    """Return the starts since this time: a pod answers before it is ready, as soon as its engine computes the prompt."""
    pods = [change for change in watched.pods.get(NAME, ()) if change.at >= since]
    # Completions are timed by another clock than watches.
    ahead = time.monotonic() - time.perf_counter()
    requests = []
    for answer in answers:
        made = [change for change in pods if change.what == "made" and change.at < answer.tokens[0] + ahead]
        sent = answer.sent + ahead
        requests.append(Request(sent, sent, answer.first_token, answer.status, made[-1].pod, answer.prompt_seconds))
    return starts(pods, watched.levels.get(NAME, ()), requests)


async def _replayed(
    stage: Stage,
    watched: Watched,
    document: dict[str, Any],
    known: Sequence[Start],
    rate: float,
    seconds: float,
    seed: int,
) -> TokenRecord:
    """Send requests of random sizes at rates that need one replica, two, none, one, and two; at ``rate``, one is in flight."""
    part = seconds / 5
    # Four requests in flight add a quarter to a replica's rate, so 1.5 is 60% of what two replicas serve.
    steps = (0.5, 1.5, 0.0, 0.5, 1.5)
    words = "steps:" + ",".join(f"{share * rate:.3f}rps,{part:.0f}s" for share in steps)
    traffic = generate_traffic(words, seed).traffic
    assert traffic is not None, words
    draws = np.random.default_rng(seed)
    shapes = [
        (int(prompt), int(output))
        for prompt, output in zip(
            draws.integers(60, 241, len(traffic.times)), draws.integers(20, 61, len(traffic.times)), strict=True
        )
    ]
    async with _client(stage) as client:
        with sample_machine() as machine:
            opened, began = time.monotonic() + 1.0, time.perf_counter() + 1.0
            tasks = []
            for due, shape in zip(traffic.times.tolist(), shapes, strict=True):
                await asyncio.sleep(max(opened + due - time.monotonic(), 0.0))
                tasks.append(asyncio.create_task(complete(client, *shape)))
            await asyncio.sleep(max(opened + traffic.seconds - time.monotonic(), 0.0))
            answers = await asyncio.gather(*tasks)
            await asyncio.sleep(1.0)
    head = Head(
        kind=NAME,
        spec=document,
        profile=yaml.safe_load(PROFILE.read_text()),
        promise="",
        traffic=words,
        server="",
        seconds=traffic.seconds,
        work=(),
        starts=tuple(known),
        overhead=0.0,
        began=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    base = Record(
        head,
        [],
        [replace(each, at=each.at - opened) for each in watched.pods.get(NAME, ())],
        [replace(each, at=each.at - opened) for each in watched.levels.get(NAME, ())],
        machine.noise,
    )
    sent = [
        _sent(due, shape, answer, began)
        for due, shape, answer in zip(traffic.times.tolist(), shapes, answers, strict=True)
    ]
    return TokenRecord(base, tuple(sent))


def _sent(due: float, shape: tuple[int, int], answer: Completion, began: float) -> Sent:
    if answer.status != "200" or len(answer.tokens) < shape[1]:
        return Sent(due, *shape, None, None, answer.status)
    between = (answer.tokens[-1] - answer.tokens[0]) / max(len(answer.tokens) - 1, 1)
    return Sent(due, *shape, answer.tokens[0] - began - due, between, answer.status)


if __name__ == "__main__":
    sys.exit(main())
