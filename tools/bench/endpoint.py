"""Latency of a service through the gateway of its endpoint, relative to its own URL.

    python tools/bench/endpoint.py --gateway http://172.17.0.2:30802 team-a.models.example.com --key sk-ebbtide-... --model load \
        --direct http://172.17.0.2:30080 load.runai-team-a.example.com --path '/v1/completions?sleep=1s' --streams 64

Rounds alternate, so that a busy machine slows both. The host names are in a header, so they need no DNS.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

import httpx


async def measure(address: str, host: str, options: argparse.Namespace) -> tuple[list[float], int]:
    """Return the seconds of each answer of one round, and the number of requests without one."""
    seconds: list[float] = []
    failed = 0
    end = time.perf_counter() + options.seconds
    headers = {"Host": host, "Authorization": f"Bearer {options.key}"}
    limits = httpx.Limits(max_connections=options.streams, max_keepalive_connections=options.streams)
    async with httpx.AsyncClient(base_url=address, headers=headers, timeout=60, limits=limits) as client:

        async def ask() -> None:
            nonlocal failed
            while (start := time.perf_counter()) < end:
                try:
                    answer = await client.post(options.path, json={"model": options.model})
                except httpx.HTTPError:
                    failed += 1
                    continue
                if answer.status_code == httpx.codes.OK:
                    seconds.append(time.perf_counter() - start)
                else:
                    failed += 1

        await asyncio.gather(*(ask() for _ in range(options.streams)))
    return seconds, failed


def main() -> None:
    """Print the percentiles of both ways, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", nargs=2, metavar=("URL", "HOST"), required=True)
    parser.add_argument("--direct", nargs=2, metavar=("URL", "HOST"), required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--path", default="/v1/completions")
    parser.add_argument("--streams", type=int, default=64, help="requests at a time")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10, help="length of a round")
    options = parser.parse_args()
    ways = {"gateway": options.gateway, "direct": options.direct}
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(options.rounds):
        for way in sorted(ways, reverse=bool(number % 2)):
            address, host = ways[way]
            seconds, failed = asyncio.run(measure(address, host, options))
            found[way] += seconds
            if failed:
                print(f"{way}: {failed} requests failed")
    percentiles = {way: statistics.quantiles(seconds, n=100) for way, seconds in found.items()}
    for way, values in percentiles.items():
        print(f"{way}: {len(found[way])} answers, p50 {values[49] * 1000:.1f} ms, p95 {values[94] * 1000:.1f} ms")
    p50, p95 = (percentiles["gateway"][place] / percentiles["direct"][place] for place in (49, 94))
    print(f"ratio: p50 {p50:.3f}, p95 {p95:.3f}")


if __name__ == "__main__":
    main()
