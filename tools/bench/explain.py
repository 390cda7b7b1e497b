"""Measure the CPU time of ``explain`` for each example, for this version and another one in turns.

This is a report, not a test: the exit code is 1 only if the versions explain a spec differently. ``--against`` is a checkout
of another version, which runs with the same packages; its rounds and this version's alternate, so that other work on the
machine affects both. The first round of a process also loads the code and validates the variants of each profile. As in the command
line, no garbage is collected.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parents[2]
GOAL_MILLISECONDS: Final = 10.0


def measure(rounds: int, *, golden: bool) -> dict[str, dict[str, Any]]:
    """Return the milliseconds of each round, and a digest of the explanation, by example."""
    gc.disable()
    sys.path.insert(0, str(HERE / "tests"))
    import cases  # noqa: PLC0415 - in the process of one version only
    from ebbtide.documents.explain import explain_document  # noqa: PLC0415 - as above

    specs = {
        f"{folder.parent.name}/{folder.name}{f'#{index}' if index else ''}": (
            document.reading.native,
            cases.profile_data(folder),
        )
        for folder in cases.RENDERED
        if golden or folder.parent.name == "examples"
        for index, document in enumerate(cases.make(folder).documents)
    }
    results: dict[str, dict[str, Any]] = {name: {"milliseconds": [], "digest": ""} for name in specs}
    # A server has one profile, whose variants it validates once.
    profiles = {json.dumps(profile): profile for _, profile in specs.values()}
    for profile in profiles.values():
        alike = {name: native for name, (native, other) in specs.items() if other == profile}
        for name, native in [*alike.items()] * rounds:
            start = time.process_time()
            explanation = explain_document(native, profile)
            results[name]["milliseconds"].append((time.process_time() - start) * 1000)
            results[name]["digest"] = hashlib.sha256(repr(explanation).encode()).hexdigest()
    return results


def run(checkout: Path, rounds: int, *, golden: bool) -> dict[str, dict[str, Any]]:
    """Measure a version in a separate process."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve() / "platform"), "PYTHONHASHSEED": "0"}
    words = [sys.executable, __file__, f"--measure={rounds}", *(["--golden"] if golden else [])]
    text = subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    results: dict[str, dict[str, Any]] = json.loads(text)
    return results


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden", action="store_true", help="also measure the golden cases")
    parser.add_argument("--rounds", type=int, default=3, help="explanations of each spec in a process")
    parser.add_argument("--turns", type=int, default=2, help="processes of each version")
    parser.add_argument("--against", type=Path, help="checkout of another version")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(measure(options.measure, golden=options.golden)))
        return 0
    checkouts = {"before": options.against, "now": HERE}
    turns: dict[str, list[dict[str, dict[str, Any]]]] = {}
    for _ in range(options.turns):
        for version, checkout in checkouts.items():
            if checkout is not None:
                turns.setdefault(version, []).append(run(checkout, options.rounds, golden=options.golden))
    print(f"Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}; milliseconds of processor time per spec")
    print(f"{'':8}{'specs':>7}{'first':>8}{'mean':>8}{'median':>8}{'most':>8}   slowest")
    for version, results in turns.items():
        first = statistics.mean(row["milliseconds"][0] for result in results for row in result.values())
        best = {name: min(min(result[name]["milliseconds"][1:]) for result in results) for name in results[0]}
        slowest = max(best, key=best.__getitem__)
        print(
            f"{version:8}{len(best):7}{first:8.1f}{statistics.mean(best.values()):8.1f}{statistics.median(best.values()):8.1f}"
            f"{best[slowest]:8.1f}   {slowest}"
            f"{'' if statistics.mean(best.values()) <= GOAL_MILLISECONDS else '  over the goal'}"
        )
    digests = [
        {name: row["digest"] for name, row in result.items()} for results in turns.values() for result in results
    ]
    differing = sorted({name for other in digests for name in other if other[name] != digests[0][name]})
    print(f"explained differently: {', '.join(differing) or 'none'}")
    return 1 if differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
