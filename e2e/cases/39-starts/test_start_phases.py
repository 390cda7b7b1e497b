"""The phases of a start from nothing, with the image on the node, and with the weights on a claim.

`python -m e2e.experiments.starts` measures more of them, also after a restart of the node.
"""

import json
from typing import Any, Final

import pytest

from e2e.providers.kind import Kind
from e2e.stage import Stage
from e2e.starts import NAME, PODS, Bench

SPEED: Final = 30e6
"""Bytes per second of the network: the pull takes two seconds or more."""
ROUNDING: Final = 1.0
"""Seconds by which the phases of a start may differ from its total."""
IMAGE, WEIGHTS = "image on the node", "weights on the node"


def test_starts(stage: Stage) -> None:
    if not isinstance(stage.provider, Kind):
        pytest.skip("the node of an existing cluster is not the suite's, which cannot run a registry on it")
    bench = Bench(stage, SPEED)
    report = bench.start()
    (first,) = report["starts"]
    nothing = phases(first)
    assert first["imagePresent"] is False, first
    assert nothing["image"] >= bench.archive.stat().st_size / SPEED - ROUNDING, first
    assert "weights" in nothing, first
    choices = {option["name"]: option["savesSeconds"] for option in report["options"]}
    assert choices[IMAGE] == nothing["image"], report
    described = json.loads(stage.ebbtide(["describe", NAME, *bench.place, "-o", "json"]).stdout)
    assert [row["pod"] for row in described["starts"]] == [first["pod"]]

    stage.kubectl.run("delete", "pods", "-l", PODS, "-n", stage.namespace, "--grace-period=1")
    report = bench.wait(1)
    (second,) = report["starts"]
    image = phases(second)
    assert second["pod"] != first["pod"]
    assert (second["imagePresent"], image["image"]) == (True, 0), second
    assert "weights" in image, second
    assert IMAGE not in {option["name"] for option in report["options"]}, report

    bench.stop()
    report = bench.start(claim=True)
    (third,) = report["starts"]
    claim = phases(third)
    assert (third["imagePresent"], claim["image"]) == (True, 0), third
    assert "weights" not in claim, third
    assert not {IMAGE, WEIGHTS} & {option["name"] for option in report["options"]}, report
    # The gateway learns the route after the pod is ready.
    stage.ready(NAME, "isvc")
    body = {"max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}
    answer = stage.ask(stage.host(NAME, "isvc"), "/v1/chat/completions", method="POST", body=body)
    assert answer.json()["usage"]["completion_tokens"] == 5, answer.text
    stage.report(**{f"{name}_{key}": row[key] for name, row in (("nothing", nothing), ("image", image)) for key in row})


def phases(start: dict[str, Any]) -> dict[str, float]:
    """Return the seconds of the phases of a start, which are all of it."""
    rows = {row["name"]: row["seconds"] for row in start["phases"]}
    assert abs(sum(rows.values()) - start["seconds"]) <= ROUNDING, start
    return rows
