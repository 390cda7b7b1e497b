"""Count how a folder of Knative Services and InferenceServices is imported, and whether the imported specs can be edited.

.venv/bin/python tools/evaluate/imports.py [--profile FILE] [--list] FOLDER...

For each document: is it imported, does the spec need a patch, how many warnings does the conversion print, and does the
rendered object equal the original? Then one field at a time is edited. An edit reaches the rendering, or an error names it,
or it has no effect, which is a defect.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ebbtide import manifests
from ebbtide.adopt.cleaning import clean_object, find_kind_module
from ebbtide.adopt.defaults import is_server_written
from ebbtide.base.problems import has_errors
from ebbtide.documents import load_document, profiles
from ebbtide.translation.translate import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ebbtide.profile.models import Profile

    Spec = dict[str, Any]


@dataclass
class Totals:
    """The counts of one run."""

    outcomes: Counter[str] = field(default_factory=Counter)
    warnings: list[int] = field(default_factory=list)
    edits: dict[str, Counter[str]] = field(default_factory=dict)
    details: list[str] = field(default_factory=list)


def _set_env(spec: Spec) -> bool:
    spec.setdefault("environmentVariables", []).append({"name": "EDITED", "value": "edited-value"})
    return True


def _set_args(spec: Spec) -> bool:
    words = spec.get("args")
    spec["args"] = [*words, "--edited-value"] if isinstance(words, list) else ["--edited-value"]
    return True


def _set_image(spec: Spec) -> bool:
    if "image" not in spec:
        return False
    spec["image"] = "registry.example.com/edited-value:2"
    return True


def _set_uri(spec: Spec) -> bool:
    if "uri" not in spec.get("model", {}):
        return False
    spec["model"]["uri"] = "s3://models/edited-value"
    return True


def _set_memory(spec: Spec) -> bool:
    compute = spec.setdefault("compute", {})
    compute["cpuMemoryRequest"] = compute["cpuMemoryLimit"] = "98765Mi"
    return True


def _set_gpu(spec: Spec) -> bool:
    compute = spec.setdefault("compute", {})
    compute["gpuDevicesRequest"] = 6 if compute.get("gpuDevicesRequest") == 7 else 7  # noqa: PLR2004 - a different number
    return True


def _set_bounds(spec: Spec) -> bool:
    auto = spec.setdefault("autoscaling", {})
    auto["maxReplicas"] = 11 + auto.get("minReplicas", 0)
    return True


def _set_threshold(spec: Spec) -> bool:
    auto = spec.setdefault("autoscaling", {})
    auto.setdefault("metric", "concurrency")
    auto["maxReplicas"] = 11 + auto.get("minReplicas", 0)
    auto["metricThreshold"] = 47
    return True


#: An edit by name: the function that makes it, which returns False if it does not apply, and the text that must be rendered.
EDITS: Final[dict[str, tuple[Callable[[Spec], bool], str]]] = {
    "image": (_set_image, "registry.example.com/edited-value:2"),
    "model.uri": (_set_uri, "s3://models/edited-value"),
    "env": (_set_env, "edited-value"),
    "args": (_set_args, "--edited-value"),
    "memory": (_set_memory, "98765Mi"),
    "GPU": (_set_gpu, '"7"'),
    "bounds": (_set_bounds, ""),
    "threshold": (_set_threshold, '"47"'),
}


def _render(native: dict[str, Any], profile: Profile, kind: str) -> tuple[dict[str, Any] | None, set[str]]:
    """Return the rendered object of ``kind``, or None, and the codes of the errors."""
    loaded = load_document(native, profile)
    if loaded.inference is None:
        return None, {problem.code for problem in loaded.problems if problem.severity == "error"}
    translation = translate(loaded.inference, profile, loaded.canonical)
    top = next((obj for obj in translation.objects if obj["kind"] == kind), None)
    return top, {problem.code for problem in translation.problems if problem.severity == "error"}


def _read_objects(folders: list[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    for folder in folders:
        for file in sorted(folder.rglob("*.yaml")):
            for document in manifests.read_documents(file.read_bytes(), str(file)):
                if isinstance(document.data, dict) and find_kind_module(document.data) is not None:
                    yield document.name, document.data


def count_object(name: str, obj: dict[str, Any], profile: Profile, totals: Totals) -> None:
    """Import one object and edit the result."""
    loaded = load_document(copy.deepcopy(obj), profile, name=name)
    totals.warnings.append(sum(problem.severity == "warning" for problem in loaded.problems))
    if has_errors(loaded.problems) or loaded.inference is None:
        reason = next(problem for problem in loaded.problems if problem.severity == "error")
        totals.outcomes["refused"] += 1
        totals.details.append(f"{name}: {reason.code} {reason.message}")
        return
    native = loaded.reading.native
    patches = native["spec"].get("patches")
    totals.outcomes["with a patch" if patches else "without a patch"] += 1
    if patches:
        totals.details.append(f"{name}: {json.dumps(patches[0]['patch'])}")
    top, codes = _render(native, profile, obj["kind"])
    marked = is_server_written(obj)
    if top is None or clean_object(top, profile, marked=marked) != clean_object(obj, profile, marked=marked):
        totals.outcomes["different when rendered"] += 1
        totals.details.append(f"{name}: DIFFERENT {codes}")
    for edit, (change, marker) in EDITS.items():
        edited = copy.deepcopy(native)
        if not change(edited["spec"]):
            continue
        after, errors = _render(edited, profile, obj["kind"])
        counts = totals.edits.setdefault(edit, Counter())
        if after is None:
            counts["refused: " + " ".join(sorted(errors))] += 1
        elif marker in json.dumps(clean_object(after, profile)) and after["spec"] != (top or {}).get("spec"):
            counts["rendered"] += 1
        else:
            counts["NO EFFECT"] += 1
            totals.details.append(f"{name}: NO EFFECT of {edit}")


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--profile", default="built-in")
    parser.add_argument("--list", action="store_true", help="List each document that is refused or needs a patch")
    options = parser.parse_args()
    profile, problems = profiles.load_profile(options.profile)
    if profile is None:
        raise SystemExit("\n".join(problem.message for problem in problems))
    totals = Totals()
    for name, obj in _read_objects(options.folders):
        count_object(name, obj, profile, totals)
    if options.list:
        print("\n".join(totals.details))
    count = len(totals.warnings)
    print(f"documents: {count}")
    for outcome, number in totals.outcomes.most_common():
        print(f"  {outcome}: {number} ({number / count:.0%})")
    print(f"  warnings per document: {sum(totals.warnings) / max(count, 1):.2f}")
    print("edits:")
    for edit, counts in totals.edits.items():
        print(f"  {edit}: " + ", ".join(f"{result} {number}" for result, number in counts.most_common()))


if __name__ == "__main__":
    main()
