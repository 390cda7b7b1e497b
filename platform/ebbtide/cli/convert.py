"""``ebbtide convert``: any input shape into the native one or Run:ai's REST body, with a loss report."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

from ebbtide import manifests
from ebbtide.cli.common import add_files, documents, exit_code, profile_or_problems, show, sources
from ebbtide.problems import Problem, warning

if TYPE_CHECKING:
    import argparse

    from ebbtide.profile import Profile

#: Fields of ours that Run:ai's REST body has no word for.
OURS: Final = ("model", "serving", "slo", "traffic", "podAntiAffinity", "patches")
#: Ours inside Run:ai's blocks.
OURS_INSIDE: Final = (
    ("probes", "liveness"),
    ("probes", "startup"),
    ("autoscaling", "metricName"),
    ("compute", "migProfile"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_files(parser)
    parser.add_argument("--to", choices=("native", "rest"), required=True, help="the shape to make")


def run(options: argparse.Namespace) -> int:
    """Convert and print; what is lost is told on stderr."""
    profile = profile_or_problems(options.profile)
    if profile is None:
        return 1
    problems: list[Problem] = []
    made: list[dict[str, Any]] = []
    for loaded in documents(sources(options.files), profile):
        problems.extend(loaded.problems)
        if loaded.inference is None:
            continue
        if options.to == "native":
            made.append(loaded.reading.native)
        else:
            body, lost = to_rest(loaded.reading.native, profile)
            made.append(body)
            problems.extend(loaded.placed(lost))
    show(problems)
    code = exit_code(problems)
    if code == 0:
        if options.to == "native":
            sys.stdout.writelines(manifests.write(made))
        else:
            sys.stdout.write(json.dumps(made[0] if len(made) == 1 else made, indent=2, ensure_ascii=False) + "\n")
    return code


def to_rest(native: dict[str, Any], profile: Profile) -> tuple[dict[str, Any], list[Problem]]:
    """Return Run:ai's REST body of a native document, and what it cannot hold."""
    spec = {name: value for name, value in native["spec"].items() if name != "project"}
    lost = [_lost(("spec", name)) for name in OURS if spec.pop(name, None) is not None]
    for block, name in OURS_INSIDE:
        inner = spec.get(block)
        if isinstance(inner, dict) and name in inner:
            spec[block] = {key: value for key, value in inner.items() if key != name}
            lost.append(_lost(("spec", block, name)))
    lost += [
        _lost(("metadata", name)) for name in ("labels", "annotations", "namespace") if native["metadata"].get(name)
    ]
    auto = spec.get("autoscaling")
    if isinstance(auto, dict):
        spec["autoscaling"] = _autoscaling(auto, lost)
    for name in ("command", "args"):
        if isinstance(spec.get(name), list):
            import shlex  # noqa: PLC0415 - most specs have no command

            spec[name] = shlex.join(spec[name])
    project = native["spec"].get("project")
    known = profile.spec.projects.known.get(project) if project else None
    if project is None:
        lost.append(
            warning(
                "CNV002",
                ("spec", "project"),
                "Run:ai wants a project, and the spec has none",
                "fill in projectId",
            )
        )
    if profile.spec.cluster_id is None:
        lost.append(
            warning(
                "CNV002",
                ("metadata", "name"),
                "Run:ai wants the cluster's id, and the profile has none",
                "fill in clusterId",
            )
        )
    return {
        "name": native["metadata"]["name"],
        "projectId": (known.id if known is not None and known.id else project) or "",
        "clusterId": profile.spec.cluster_id or "",
        "spec": spec,
    }, lost


def _autoscaling(auto: dict[str, Any], lost: list[Problem]) -> dict[str, Any]:
    found = dict(auto)
    metric = found.get("metric")
    if isinstance(metric, str) and "-" in metric:
        # Run:ai's pattern for metrics has no hyphen.
        found["metric"] = metric.replace("-", "_")
    threshold = found.get("metricThreshold")
    if isinstance(threshold, float) and threshold != int(threshold):
        lost.append(
            warning(
                "CNV001",
                ("spec", "autoscaling", "metricThreshold"),
                f"Run:ai takes whole thresholds only: {threshold:g} becomes {max(1, round(threshold))}",
                "choose a whole number",
            )
        )
        found["metricThreshold"] = max(1, round(threshold))
    return found


def _lost(path: tuple[str, ...]) -> Problem:
    return warning("CNV001", path, f"Run:ai's REST body has no {path[-1]}; it is left out", "keep the native document")
