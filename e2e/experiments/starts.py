"""`python -m e2e.experiments.starts`: starts of the suite's language model in five situations, and as predicted from the first.

The image and the weights come from a registry of the case 39-starts, whose downloads share a network of a limited speed. A start is
that of a new pod, in the phases of `ebbtide start`:

- nothing: the node has neither the image nor the weights
- image: another pod of the node has pulled the image
- claim: a claim has the weights, too
- restart: as claim, after a restart of the node, and with no file in the memory of the machine
- three: three replicas start at the same time, from nothing

The node restarts once, which interrupts all that runs on it. The starts from nothing predict the others: without a phase that `ebbtide start`
says a choice saves, and for three replicas with three times the seconds of the weights. A prediction is right within 15% or 1 s.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from e2e import engine
from e2e.install import everything
from e2e.kubectl import KubectlError
from e2e.paths import CLUSTERS, DEFAULT
from e2e.providers import choose
from e2e.stage import Stage
from e2e.starts import CASE, STARTED_SECONDS, Bench, Report

RECORD: Final = CLUSTERS / "starts.json"
SITUATIONS: Final = ("nothing", "image", "claim", "restart", "three")
CHOICES: Final = {
    "image": ("image on the node",),
    "claim": ("image on the node", "weights on the node"),
    "restart": ("image on the node", "weights on the node"),
}
"""Choices of `ebbtide start` that a situation has made."""
REPLICAS: Final = 3
MOST_SHARE, MOST_SECONDS = 0.15, 1.0


def restart_node(bench: Bench) -> None:
    """Restart the node, and wait until the installation is available."""
    found = engine.find()
    assert found is not None
    found.run("restart", bench.registry.node)

    def answers() -> bool:
        try:
            return bench.stage.kubectl.run("get", "--raw=/readyz", "--request-timeout=5s") == "ok"
        except KubectlError:
            return False

    bench.stage.until("the API server answers", answers, STARTED_SECONDS)
    everything.wait(bench.stage.kubectl)


def forget_files(bench: Bench) -> None:
    """Remove the content of files from the memory of the machine."""
    bench.registry.execute("sh", "-c", "sync; echo 3 > /proc/sys/vm/drop_caches")


def measure(bench: Bench, situation: str, repeat: int) -> list[Report]:
    """Return the reports on the starts of a situation, one for each repetition."""
    claim = situation in {"claim", "restart"}
    if situation == "image":
        bench.pull()
    elif claim:
        # The first start with a claim waits for the Job that fills it.
        bench.start(claim=True)
        if situation == "restart":
            restart_node(bench)
            log(f"starts of the pod that restarted in place: {bench.read_report()['starts']}")
        bench.stop()
    reports = []
    for _ in range(repeat):
        if situation in {"nothing", "three"}:
            bench.registry.remove(bench.image)
        elif situation == "restart":
            forget_files(bench)
        report = bench.start(claim=claim, replicas=REPLICAS if situation == "three" else 1)
        log(f"{situation}: {json.dumps([get_phases(start) for start in report['starts']])}")
        bench.stop()
        reports.append(report)
    return reports


def log(text: str) -> None:
    """Print to standard error, with the load of the machine."""
    print(f"[load {os.getloadavg()[0]:.0f}] {text}", file=sys.stderr, flush=True)


def get_phases(start: Mapping[str, Any]) -> dict[str, float]:
    """Return the seconds of a start and of its phases."""
    return {"start": start["seconds"], **{row["name"]: row["seconds"] for row in start["phases"]}}


def compute_medians(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of the start and of each phase."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: statistics.median(row.get(name, 0.0) for row in rows) for name in names}


def predict(situation: str, before: Sequence[Report]) -> dict[str, float]:
    """Return the seconds of a start and of its phases in a situation, from reports on starts from nothing."""
    seconds = compute_medians([get_phases(start) for report in before for start in report["starts"]])
    for name in CHOICES.get(situation, ()):
        options = [option for report in before for option in report["options"] if option["name"] == name]
        saves = statistics.median(option["savesSeconds"] for option in options)
        seconds["start"] -= saves
        seconds[name.partition(" ")[0]] -= saves
    if situation == "three":
        terms = compute_medians([read_terms(report["startUp"]) for report in before])
        # The node pulls the image once, and the downloads of the weights share the network.
        return {"start": sum(terms.values()) + (REPLICAS - 1) * terms["weights"]}
    return seconds


def read_terms(start_up: str) -> dict[str, float]:
    """Return the seconds of the terms of a start-up."""
    return {
        name: float(value.removesuffix("s")) for name, _, value in (term.partition("=") for term in start_up.split(","))
    }


def is_close(predicted: float, seen: float) -> bool:
    """Return whether a prediction is within 15% or 1 s, of which Kubernetes rounds its times to one."""
    return abs(predicted - seen) <= max(MOST_SHARE * seen, MOST_SECONDS) + 1e-9


def report(record: Mapping[str, Sequence[Report]]) -> bool:
    """Print the medians and the predictions as Markdown tables, and return whether all predicted medians are right."""
    holds = True
    found = {
        name: [get_phases(start) for each in reports for start in each["starts"]] for name, reports in record.items()
    }
    phases = [*dict.fromkeys(phase for rows in found.values() for row in rows for phase in row)]
    print(f"| Situation | Starts | {' | '.join(phases)} |\n| {' | '.join(['---'] * (2 + len(phases)))} |")
    for name, rows in found.items():
        spans = [[row[phase] for row in rows if phase in row] for phase in phases]
        cells = [
            f"{statistics.median(span):.1f} ({min(span):.1f} to {max(span):.1f})" if span else "" for span in spans
        ]
        print(f"| {name} | {len(rows)} | {' | '.join(cells)} |")
    print(
        "\n| Situation | Seconds of | Predicted | Seen, median | Starts within 15% or 1 s |\n| --- | --- | --- | --- | --- |"
    )
    for name, rows in found.items():
        if name == "nothing" or "nothing" not in record:
            continue
        for phase, predicted in predict(name, record["nothing"]).items():
            seen = [row.get(phase, 0.0) for row in rows]
            close, median = sum(is_close(predicted, value) for value in seen), statistics.median(seen)
            holds &= is_close(predicted, median)
            print(f"| {name} | {phase} | {predicted:.1f} | {median:.1f} | {close} of {len(seen)} |")
    return holds


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m e2e.experiments.starts", description=__doc__)
    parser.add_argument("--name", default=DEFAULT, help="the cluster's name, of the provider kind")
    parser.add_argument("--repeat", type=int, default=4)
    parser.add_argument("--speed", type=float, default=10e6, help="bytes per second of the network of the registry")
    parser.add_argument("--situations", nargs="+", choices=SITUATIONS, default=SITUATIONS)
    parser.add_argument("--again", action="store_true", help="report the record of the last run")
    options = parser.parse_args()
    record: dict[str, list[Report]] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    if not options.again:
        provider = choose("kind", options.name)
        stage = Stage(provider, provider.kubectl(), CASE, "starts-experiment")
        stage.clean()
        try:
            bench = Bench(stage, options.speed)
            for situation in options.situations:
                record[situation] = measure(bench, situation, options.repeat)
                RECORD.write_text(json.dumps(record))
        finally:
            stage.clean()
    return 0 if report(record) else 1


if __name__ == "__main__":
    sys.exit(main())
