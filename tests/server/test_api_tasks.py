"""The work that the server gives to other processes, called in this one: simulations, searches, and checks of long texts."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from ebbtide.core.documents import profiles
from ebbtide.core.profile.built_in import FULL
from ebbtide.server.api import offline
from ebbtide.server.api.offline import InputError
from ebbtide.server.api.simulation import (
    prepare_request,
    run_search,
    run_simulation,
)
from ebbtide.simulator.search.request import SimulationRequest, SimulationRequestError

SPEC = """apiVersion: ebbtide.dev/v1alpha1
kind: Inference
metadata: {name: chat}
spec:
  image: ghcr.io/acme/chat:1
  autoscaling: {minReplicas: 1, maxReplicas: 4, metric: concurrency, metricThreshold: 4}
"""
#: It is updated one replica at a time.
FIXED = "fixed:200ms,max=8"


def request(**changes: Any) -> SimulationRequest:
    return SimulationRequest(
        **{"spec": SPEC, "traffic": "constant:5rps,2m", "server": FIXED, "slo": "p95=2s", **changes}
    )


def test_a_simulation_compares_the_spec_with_other_settings_and_knatives_defaults() -> None:
    report = run_simulation(request(settings={"metricThreshold": 2}), FULL)
    alone = run_simulation(request(), FULL)

    assert [run["name"] for run in report["runs"]] == ["this spec", "these settings", "Knative's defaults"]
    assert report["runs"][1]["settings"] == {"metricThreshold": 2}
    assert [run["name"] for run in alone["runs"]] == ["this spec", "Knative's defaults"]


@pytest.mark.parametrize(
    ("traffic", "compiled"), [("constant:5rps,2m", False), ("constant:9rps,4h", True), ("constant:0.01rps,7d", True)]
)
def test_many_requests_or_many_decisions_are_simulated_compiled(traffic: str, compiled: bool) -> None:
    assert prepare_request(request(traffic=traffic), FULL, "simulate").case.fast is compiled


def test_a_log_replaces_the_shape_of_the_traffic() -> None:
    log = "time\n" + "".join(f"{second}\n" for second in range(60))
    report = run_simulation(request(log=log.encode(), traffic="morning.csv"), FULL)

    assert (report["traffic"]["name"], report["traffic"]["requests"]) == ("morning.csv", 60)
    with pytest.raises(SimulationRequestError) as refused:
        run_simulation(request(log=b"time\nnever\n", traffic="morning.csv"), FULL)
    assert refused.value.problems


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"server": "empirical:/etc/passwd"}, "server"),
        ({"server": "fixed"}, "server"),
        ({"traffic": "waves"}, "traffic"),
        ({"traffic": "constant:5000rps,1h"}, "traffic"),
        ({"start_up": "soon"}, "start_up"),
        ({"slo": "fast"}, "slo"),
        ({"cost": "free"}, "cost"),
    ],
)
def test_an_invalid_field_is_named(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(SimulationRequestError) as refused:
        run_simulation(request(**changes), FULL)

    assert [problem.path for problem in refused.value.problems] == [path]
    assert all(problem.fix for problem in refused.value.problems)


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ("", "SIM003"),
        (f"{SPEC}---\n{SPEC}", "SIM003"),
        (SPEC.replace("image:", "imagee:"), "SPEC001"),
        (SPEC.replace("minReplicas: 1", "minReplicas: 9"), "AUT001"),
    ],
    ids=["none", "two", "misspelled", "bounds"],
)
def test_only_one_valid_spec_is_simulated(spec: str, code: str) -> None:
    with pytest.raises(SimulationRequestError) as refused:
        run_simulation(request(spec=spec), FULL)

    assert code in [problem.code for problem in refused.value.problems]


@pytest.mark.parametrize(
    ("changes", "path"), [({"keep": ("image",)}, "keep"), ({"slo": ""}, "spec.slo")], ids=["keep", "no slo"]
)
def test_a_search_needs_an_slo_and_known_fields(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(SimulationRequestError) as refused:
        run_search(request(**changes), FULL)

    assert [problem.path for problem in refused.value.problems] == [path]


def test_a_worker_checks_renders_and_explains_as_the_server_does() -> None:
    profile, _ = profiles.validate_profile_data(FULL)
    assert profile is not None
    wrong = SPEC.replace("minReplicas: 1", "minReplicas: 9")

    assert offline.run_with_profile(offline.check_text, wrong, FULL) == offline.check_text(wrong, profile) != []
    assert offline.run_with_profile(offline.render_text, SPEC, FULL) == offline.render_text(SPEC, profile)
    (explained,) = offline.explain_in_worker(SPEC, "maxScale", FULL)
    assert explained == offline.explain_in_worker(SPEC, "maxScale", FULL)[0]
    with pytest.raises(InputError) as refused:
        offline.explain_in_worker(wrong, "", FULL)
    # The error reaches the server's process.
    assert pickle.loads(pickle.dumps(refused.value)).problems == refused.value.problems  # noqa: S301 - its own bytes
