"""`python -m e2e.experiments.conformance`: run Knative's conformance tests on the cluster. `make conformance` calls it.

Each test runs three times: with the Services as the tests create them, with the Services that Ebbtide renders from its
translation of them, and with the same translation and Ebbtide's defaults.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from e2e import catalog, paths
from e2e.build import BuildError, module_folder
from e2e.components import COMPONENTS
from e2e.experiments.conformance import suite
from e2e.experiments.conformance.expected import EXPECTED
from e2e.experiments.conformance.translate import DEFAULTS
from e2e.install import knative
from e2e.install.manifests import parse
from e2e.kubectl import Kubectl, KubectlError
from e2e.providers import choose
from e2e.providers.protocol import ProviderError

VARIANTS: Final[Mapping[str, Mapping[str, str]]] = {
    "upstream": {},
    "translated": {"EBBTIDE_TRANSLATE": ""},
    "defaults": {"EBBTIDE_TRANSLATE": "", DEFAULTS: "1"},
}
"""Variants of the Services → variables of the tests; the program's path is filled in."""
NAMESPACES: Final = ("serving-tests", "serving-tests-alt")
STATE: Final = paths.CLUSTERS / "conformance"
PARALLEL: Final = 4
"""Tests at the same time: each runs one to four pods."""
CLUSTER_FAILED: Final = 3


@dataclass(frozen=True)
class Outcome:
    """The result of one test."""

    name: str
    result: str
    """`pass`, `fail` or `skip`."""
    seconds: float
    reason: str
    """The last lines that a failed or skipped test printed."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.experiments.conformance", description="Knative's conformance tests."
    )
    parser.add_argument("--provider", default="", help="kind (default) or existing")
    parser.add_argument("--name", default=paths.DEFAULT, help="the cluster's name")
    parser.add_argument("--run", default="", help="a regular expression of test names (default: all)")
    parser.add_argument("--variant", choices=VARIANTS, action="append", help="can be repeated (default: all)")
    told = parser.parse_args()
    console = Console(stderr=True, highlight=False)
    try:
        provider = choose(told.provider, told.name)
        kubectl = provider.kubectl()
        programs = suite.programs()
        if provider.name != "existing":
            provider.load([catalog.archive(image) for image in suite.images()])
        prepare(kubectl)
        results: dict[str, list[Outcome]] = {}
        for variant in told.variant or VARIANTS:
            start = time.monotonic()
            results[variant] = [
                outcome
                for package, program in programs.items()
                for outcome in run(kubectl, package, program, variant, told.run)
            ]
            console.print(f"  {variant:<50} {time.monotonic() - start:6.1f} s")
        kubectl.run("delete", "namespace", *NAMESPACES, "--ignore-not-found", "--wait=false")
    except (BuildError, ProviderError, KubectlError) as error:
        console.print(f"error: {error}", style="red", soft_wrap=True)
        return CLUSTER_FAILED
    (STATE / "results.json").write_text(
        json.dumps({variant: [asdict(each) for each in outcomes] for variant, outcomes in results.items()}, indent=1)
    )
    print_table(results)
    return 1 if unexpected(results) else 0


def prepare(kubectl: Kubectl) -> None:
    """Create the tests' namespaces and objects, as upstream's script does before it runs the tests."""
    kubectl.run("delete", "namespace", *NAMESPACES, "--ignore-not-found", timeout=600)
    config = module_folder("knative", suite.MODULE) / "test/config"
    found = [
        *parse((config / "cluster-resources.yaml").read_text()),
        *parse((config / "test-resources.yaml").read_text()),
    ]
    ours = [item for item in found if namespace_of(item) in NAMESPACES]
    kubectl.apply(ours)


def namespace_of(item: Mapping[str, Any]) -> str:
    """Return the namespace that an object is, or is in."""
    name: str = item["metadata"]["name" if item["kind"] == "Namespace" else "namespace"]
    return name


def run(kubectl: Kubectl, package: str, program: Path, variant: str, pattern: str) -> list[Outcome]:
    """Run the tests of one package and return their outcomes. A log in `STATE` keeps everything that they printed."""
    STATE.mkdir(parents=True, exist_ok=True)
    log = STATE / f"{variant}-{program.name}.log"
    command = [
        *("go", "tool", "test2json", "-t", str(program), "-test.v=test2json", "-test.timeout=30m"),
        *(f"-test.parallel={PARALLEL}", f"-test.run={pattern}", f"--kubeconfig={kubectl.kubeconfig}"),
        *(f"--dockerrepo={suite.REPOSITORY}", f"--tag={COMPONENTS['knative'].version}", "--disable-logstream"),
        *("--ingress-class=kourier.ingress.networking.knative.dev", f"--ingressendpoint={node_address(kubectl)}"),
        *suite.TESTS[package],
    ]
    variables = {name: value or str(write_translator()) for name, value in VARIANTS[variant].items()}
    gateway = {"GATEWAY_OVERRIDE": "kourier", "GATEWAY_NAMESPACE_OVERRIDE": knative.GATEWAY_NAMESPACE}
    environment = {**os.environ, **gateway, **variables}
    events: list[dict[str, Any]] = []
    with (
        log.open("w", buffering=1) as written,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        ) as running,
    ):
        assert running.stdout is not None
        for line in running.stdout:
            is_event = line.startswith("{")
            events += [json.loads(line)] if is_event else []
            written.write(events[-1].get("Output", "") if is_event else line)
    if running.returncode and not any("Test" in event for event in events):
        raise ProviderError(f"{program.name} printed no results: {log.read_text()[-2000:]}")
    return list(read(events))


def read(events: list[dict[str, Any]]) -> Iterator[Outcome]:
    """Return the outcome of each test from the events of `go tool test2json`; a failed or skipped part gives the reason."""
    printed: dict[str, list[str]] = {}
    for event in events:
        test = event.get("Test", "")
        if event["Action"] == "output" and event["Output"].startswith("    "):
            printed.setdefault(test, []).append(event["Output"].strip())
        elif test and event["Action"] in {"pass", "fail", "skip"}:
            if "/" in test:
                if event["Action"] != "pass":
                    top = test.partition("/")[0]
                    printed.setdefault(top, []).append(f"{test.partition('/')[2]}: {event['Action']}")
                continue
            lines = [] if event["Action"] == "pass" else printed.get(test, [])
            yield Outcome(test, event["Action"], event.get("Elapsed", 0.0), "\n".join(lines[-2:]))


def write_translator() -> Path:
    """Write the program that the tests run for each Service, and return its path."""
    place = STATE / "translate"
    python = shlex.quote(sys.executable)
    place.write_text(
        f"#!/bin/sh\nPYTHONPATH={shlex.quote(str(paths.ROOT))} exec {python} -m e2e.experiments.conformance.translate\n"
    )
    place.chmod(0o755)
    return place


def node_address(kubectl: Kubectl) -> str:
    """Return the address of the first node: the tests connect to the gateway's node port there."""
    addresses: list[dict[str, str]] = kubectl.get("nodes")["items"][0]["status"]["addresses"]
    return next(each["address"] for each in addresses if each["type"] == "InternalIP")


def unexpected(results: Mapping[str, list[Outcome]]) -> list[str]:
    """Return the failures that no row of EXPECTED explains."""
    return [
        f"{variant}: {outcome.name}"
        for variant, outcomes in results.items()
        for outcome in outcomes
        if outcome.result == "fail" and outcome.name not in EXPECTED
    ]


def print_table(results: Mapping[str, list[Outcome]]) -> None:
    """Print one row for each test, and the reasons of all that did not pass."""
    names = list(dict.fromkeys(outcome.name for outcomes in results.values() for outcome in outcomes))
    table = Table("test", *results, title=f"Knative Serving {COMPONENTS['knative'].version}, conformance tests")
    by_variant = {variant: {each.name: each for each in outcomes} for variant, outcomes in results.items()}
    for name in names:
        found = [by_variant[variant].get(name) for variant in results]
        table.add_row(name, *(f"{each.result} {each.seconds:.0f} s" if each else "" for each in found))
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    console.print(table)
    for variant, outcomes in results.items():
        counts = {result: sum(each.result == result for each in outcomes) for result in ("pass", "skip", "fail")}
        console.print(f"{variant}: " + ", ".join(f"{count} {result}" for result, count in counts.items()))
        for each in outcomes:
            if each.result != "pass":
                known = EXPECTED.get(each.name, "")
                console.print(f"  {each.result} {each.name}: {known or each.reason}", soft_wrap=True)
    for line in unexpected(results):
        console.print(f"unexpected failure: {line}", style="red")


if __name__ == "__main__":
    sys.exit(main())
