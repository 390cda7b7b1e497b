"""A language model from zero through the gateway, streamed: the times of its tokens at the client and in `ebbtide slo`.

The engine measures from when it has the request, so its time to the first token is at most the client's, and at least what
its own prefill took. Counts are exact. The gaps between tokens have the client's sum, and the report's buckets allow it.
"""

import asyncio
import statistics
from collections.abc import Sequence
from secrets import token_hex
from typing import Any

import httpx
import yaml

from e2e.completion import Completion, complete
from e2e.stage import Stage

NAME = f"talk-{token_hex(2)}"
PROMPT, OUTPUT = 120, 40
REQUESTS = 24
DESIRED = 'kn_revision_pods_requested{{kn_service_name="{name}"}} == 0'
GAPS = 'sum(vllm:inter_token_latency_seconds_sum{{namespace="{namespace}",pod=~"{name}-.*"}})'
SLOW = 150
"""Seconds: Prometheus finds a new pod within 30 s, and scrapes it every 15 s."""


def test_tokens(stage: Stage) -> None:
    stage.deploy(spec(stage))
    stage.ready(NAME)
    stage.until("it is at zero", lambda: not stage.pods(NAME))
    # A cold start is counted from a zero that Prometheus has scraped.
    stage.until("its zero has been scraped", lambda: stage.query(DESIRED.format(name=NAME)), SLOW)
    (cold,) = talk(stage, requests=1, in_flight=1)
    warm = [each for number in (1, 2) for each in talk(stage, REQUESTS // 2, number)]
    answers = [cold, *warm]
    assert {each.status for each in answers} == {"200"}, [each.status for each in answers]
    assert {(each.prompt_tokens, each.output_tokens) for each in answers} == {(PROMPT, OUTPUT)}
    assert {len(each.tokens) for each in answers} == {OUTPUT}, "a token arrives as one event"
    # Streamed: what is sent as a whole has its tokens at one time.
    streamed = sum(sum(each.gaps) for each in warm)
    generated = sum(each.generation_seconds for each in warm)
    assert streamed > 0.5 * generated, (streamed, generated)

    expected = {"prompt_tokens": PROMPT * len(answers), "output_tokens": OUTPUT * len(answers)}
    seen = stage.until(
        "every token has been scraped",
        lambda: expected.items() <= tokens(stage).items(),
        SLOW,
        seen=lambda: (expected, tokens(stage)),
        every=3,
    )
    # The autoscaler is scraped at other moments than the engine.
    stage.until("the cold start has been scraped", lambda: stage.slo(NAME)["coldStarts"], SLOW, every=3)
    row = stage.slo(NAME)
    first, between = row["tokenLatencySeconds"]["ttft"], row["tokenLatencySeconds"]["itl"]
    gaps = [gap for each in answers for gap in each.gaps]
    for name, share in (("p50", 0.5), ("p95", 0.95)):
        client = quantile([each.first_token for each in answers], share)
        assert first[name]["low"] <= client, (name, first, client)
        engine = quantile([each.prompt_seconds for each in answers], share)
        assert engine <= first[name]["high"], (name, first, engine)
    # Several tokens may reach the client together, so only the sum of the gaps is the engine's, except for the way of two tokens.
    (total,) = (float(sample["value"][1]) for sample in stage.query(GAPS.format(namespace=stage.namespace, name=NAME)))
    assert sum(gaps) / 2 < total < 2 * sum(gaps), (total, sum(gaps))
    least = len(gaps) * (between["p50"]["low"] / 2 + between["p95"]["low"] * 0.05)
    assert least <= total * 1.01, (between, total)
    promises = {promise["name"]: promise for promise in row["promises"]}
    assert promises["itl"]["outcome"] == "kept", promises
    assert promises["ttft"]["outcome"] == "unknown", "the engine does not see the wait for a cold start"
    assert row["coldStarts"] == 1

    rests = stage.until("it is at zero again", lambda: not stage.pods(NAME), SLOW)
    stage.report(
        cold_first_token=cold.first_token,
        first_token=statistics.median(each.first_token for each in warm),
        reported_first_token=first["p50"],
        inter_token=statistics.fmean(gaps),
        inter_token_of_the_engine=total / len(gaps),
        reported_inter_token=between["p50"],
        reported_inter_token_p95=between["p95"],
        seen_after=seen,
        rests_after=rests,
    )


def spec(stage: Stage) -> dict[str, Any]:
    """Return the spec under the name of this run, whose tokens no other run has."""
    found: dict[str, Any] = yaml.safe_load((stage.folder / "spec.yaml").read_text())
    return {**found, "metadata": {"name": NAME}}


def talk(stage: Stage, requests: int, in_flight: int) -> list[Completion]:
    """Send requests, ``in_flight`` of them at the same time."""

    async def run() -> list[Completion]:
        headers = {"Host": stage.host(NAME)}
        async with httpx.AsyncClient(
            base_url=f"http://{stage.provider.gateway()}", headers=headers, timeout=120
        ) as client:

            async def one_after_another() -> list[Completion]:
                return [await complete(client, PROMPT, OUTPUT) for _ in range(requests // in_flight)]

            found = await asyncio.gather(*(one_after_another() for _ in range(in_flight)))
            return [each for some in found for each in some]

    return asyncio.run(run())


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that so large a share of the values does not exceed, as a histogram has it."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 100) // 100) - 1)]


def tokens(stage: Stage) -> dict[str, int]:
    """Return the tokens in the report."""
    row = stage.slo(NAME)
    return {"prompt_tokens": row["promptTokens"], "output_tokens": row["outputTokens"]}
