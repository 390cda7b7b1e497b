"""The comparison of a language model's replay with its prediction, on a replay that the simulator itself made."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import yaml

np = pytest.importorskip("numpy")
pytest.importorskip("httpx")

from e2e import completion  # noqa: E402 - after the skip
from e2e.fidelity.record import Head, Level, PodChange, Record, RecordError, Start  # noqa: E402
from e2e.paths import HERE  # noqa: E402
from e2e.tokens.record import PERCENT, Sent, TokenRecord, compare, load_test, markdown  # noqa: E402
from ebbtide.simulate.calibrate import read_load_test  # noqa: E402
from ebbtide.simulate.measured import ServingPoint  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 60.0


def answer(prompt: int, output: int, first: float, step: float) -> completion.Completion:
    tokens = [100 + first + step * number for number in range(output)]
    return completion.Completion(100.0, tokens, prompt, output, status="200")


def write_load_tests(folder: Path) -> Path:
    """Return load tests of a server that takes 100 ms, and then 10 ms for each token, whatever its load."""
    file = folder / "load-test.jsonl"
    results = [
        load_test(shape, number, [answer(*shape, 0.1, 0.01)] * 3)
        for shape in ((60, 20), (240, 60))
        for number in (1, 2, 4)
    ]
    file.write_text("".join(f"{json.dumps(each)}\n" for each in results))
    return file


def record() -> TokenRecord:
    """Return a replay of that server with one replica, which is there all the time."""
    spec = yaml.safe_load((HERE / "tokens" / "spec.yaml").read_text())
    spec["spec"]["autoscaling"].update(minReplicas=1, maxReplicas=1)
    profile = yaml.safe_load((HERE / "profile.yaml").read_text())
    head = Head("tokens", spec, profile, "", "constant", "", SECONDS, (), (Start(0.1, None, 2.0),) * 3, 0.0)
    base = Record(head, [], [PodChange(-9.0, "a", "made"), PodChange(-5.0, "a", "ready")], [Level(-9.0, "wanted", 1)])
    return TokenRecord(base, tuple(Sent(float(due), 120, 40, 0.1, 0.01, "200") for due in range(60)))


def test_a_load_test_is_one_that_calibrate_reads(tmp_path: Path) -> None:
    points = read_load_test(write_load_tests(tmp_path))
    assert len(points) == 6
    assert points[0] == pytest.approx(ServingPoint(60, 20, 1, 0.1, 0.01))


def test_what_the_model_predicts_is_within_the_goal(tmp_path: Path) -> None:
    found = compare(record(), write_load_tests(tmp_path), seeds=3)
    assert len(found) == 6
    for row in found:
        # The fit expects times that grow with the prompt; this server's do not.
        assert abs(row.percent) <= (1 if row.name == "replica-seconds" else 4), row
        assert row.lowest <= row.predicted <= row.highest
    assert "| replica-seconds | 60 | 60 | 60 | 60 |" in markdown(found)


def test_what_differs_is_outside_the_goal(tmp_path: Path) -> None:
    whole = record()
    slow = replace(whole, sent=tuple(each._replace(first=0.2) for each in whole.sent))
    far = {row.name: row.percent for row in compare(slow, write_load_tests(tmp_path), seeds=1)}
    assert far["time to first token, mean"] == pytest.approx(100, abs=8)
    assert abs(far["inter-token latency, mean"]) <= PERCENT
    with pytest.raises(RecordError, match="answered"):
        compare(replace(whole, sent=()), write_load_tests(tmp_path))


def test_a_prompt_has_as_many_characters_as_tokens() -> None:
    body = completion.body(130, 40)
    assert len(body["messages"][0]["content"]) == 130
    assert (body["max_tokens"], body["stream"]) == (40, True)
