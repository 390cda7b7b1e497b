"""The program that fits the table of measured servers, on invented servers; the measurements are not part of the repository."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from programs import load_module

np = pytest.importorskip("numpy")

from ebbtide.simulate.measured import (  # noqa: E402 - after the skip
    Range,
    ServingFit,
    ServingPoint,
    fit_points,
    predict_points,
)

PROGRAM = Path(__file__).parent.parent / "tools" / "servers" / "distill.py"
SHAPES = ((1024.0, 1024.0), (1024.0, 8192.0), (8192.0, 1024.0))
CONCURRENCIES = (4.0, 16.0, 64.0)
BASE = ((0.03, 5e-5, 2e-6, 0.01, 2.0), (0.008, 0.001, 2e-8, 3e-5, 0.02))


distill = load_module(PROGRAM)


def invent_servers(number: int, noise: float = 0.02) -> list[Any]:
    """Return servers whose coefficients are about the same multiples of a speed."""
    draws = np.random.default_rng(11)
    servers = []
    for index in range(number):
        speed = math.exp(draws.normal())
        first, step = (
            tuple(value * speed * math.exp(0.1 * draws.normal()) for value in values) for values in BASE
        )  # fmt: skip
        fit = ServingFit(first, step, *(Range(1, 1e4),) * 3)
        points = [ServingPoint(*shape, n, 1.0, 1.0) for shape in SHAPES for n in CONCURRENCIES]
        times = (part * np.exp(noise * draws.normal(size=len(points))) for part in predict_points(fit, points))
        rows = [
            point._replace(first=float(one), step=float(other))
            for point, one, other in zip(points, *times, strict=True)
        ]
        servers.append(distill.MeasuredServer([f"model-{index}"], "h200", "vllm", 1, "fp8", "1", "2026-01-01", rows, 0))
    return servers


def test_other_servers_predict_a_shape_that_a_server_was_not_measured_with() -> None:
    servers = invent_servers(8)
    table = distill.fit_servers(servers)
    # Noise of 2%, and coefficients that differ by 10%: each shape needs a coefficient that the other two do not determine.
    for name in ("heldOutByRow", "heldOutByShape"):
        assert table[name]["firstToken"][1] < 0.25, name
        assert table[name]["response"][1] < 0.25, name
    # Without a shape at all servers, there is nothing to learn from them.
    assert table["heldOutEverywhere"]["firstToken"][1] > 2 * table["heldOutByShape"]["firstToken"][1]
    assert table["points"] == 8 * 9
    # Only 1024/1024 is in the range of the other two shapes.
    assert table["pointsInside"] == 8 * 3
    assert table == distill.fit_servers(servers)
    # The same fit without the other servers: a prior that knows nothing.
    held = [point for point in servers[0].points if point.prompt == 8192]
    rest = [point for point in servers[0].points if point.prompt != 8192]
    size = len(BASE[0])
    flat = distill.Prior(np.full(size, -8.0), 100.0 * np.eye(size))
    (first, _) = predict_points(fit_points(rest, distill.ServingPrior(flat, flat)), held)
    assert max(abs(first / np.asarray([point.first for point in held]) - 1)) > 0.3


def test_a_held_out_measurement_does_not_reach_its_prediction() -> None:
    servers = invent_servers(4)
    changed = [*servers]
    rows = [*servers[0].points]
    rows[-1] = rows[-1]._replace(first=rows[-1].first * 1.2)
    changed[0] = servers[0]._replace(points=rows)
    effects = distill.list_effects(servers)
    one, other = (
        distill.fit_part(distill.stack_points(some), effects, "first", distill.first_token_terms, distill.FIRST_NOISE)
        for some in (servers, changed)
    )
    # Held out by row, only the prediction of that row is the same: the prior of a server does not know the server either.
    same = np.isclose(one.held["heldOutByRow"][0], other.held["heldOutByRow"][0], rtol=1e-9)
    assert same.tolist() == [False] * 8 + [True]
    shapes = np.isclose(one.held["heldOutByShape"][0], other.held["heldOutByShape"][0], rtol=1e-9)
    assert shapes.tolist() == [False] * 6 + [True] * 3


def test_forms_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert distill.compare_forms(invent_servers(3)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines][:3] == ["form of the table", "without effects", "with p^2"]
    assert all(line.count("%") == 4 for line in lines[:-2])
    labels = ["fitted to all measurements", "by shape, corrected at each tokens and concurrency"]
    assert [line.partition(":")[0] for line in lines[-2:]] == labels
    # The times of these servers have no noise.
    errors = [float(share.strip(" %")) for share in lines[-2].partition(":")[2].split("/")]
    assert max(errors) < 5


def test_servers_with_the_same_measurements_are_kin() -> None:
    servers = invent_servers(3)
    servers[2] = servers[2]._replace(points=[servers[0].points[0], *servers[2].points[1:]])
    kin = distill.find_kin(distill.stack_points(servers))
    assert kin.tolist() == [[True, False, True], [False, True, False], [True, False, True]]


def test_points_between_concurrencies() -> None:
    # A power of the concurrency is a line in logarithms.
    points = [ServingPoint(1024, 1024, n, 0.1 * n**0.5, 0.01 * n**0.5) for n in (4.0, 8.0, 64.0)]
    (server,) = invent_servers(1)
    exact = distill.interpolate_concurrencies([server._replace(points=points)])
    assert np.allclose(exact, 0)
    points[1] = points[1]._replace(first=points[1].first / 2)
    first, step, _ = distill.interpolate_concurrencies([server._replace(points=points)])
    assert first == pytest.approx([1.0])
    assert step == pytest.approx([0.0])


def test_the_check_compares_coefficients_and_goals(capsys: pytest.CaptureFixture[str]) -> None:
    table = distill.fit_servers(invent_servers(4))
    good = {"firstToken": [0.01, 0.2], "step": [0.01, 0.1], "response": [0.01, 0.1]}
    table |= dict.fromkeys(distill.HELD_OUT, good)
    assert distill.compare_tables(table, table) == 0
    missed = table | {"heldOutByShape": good | {"response": [0.01, 0.16]}}
    assert distill.compare_tables(table, missed) == 1
    assert "heldOutByShape: response p90 16.0%, the goal is 15%" in capsys.readouterr().err
    servers = [
        table["servers"][0] | {"step": [2 * value for value in table["servers"][0]["step"]]},
        *table["servers"][1:],
    ]
    assert distill.compare_tables(table | {"servers": servers}, table) == 1
    assert "h200 model-0 vllm: step differs" in capsys.readouterr().err
