"""Plans of the fleet on the server: rights, input, cancellation, and a queue that keeps a worker free for others."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("numpy", reason="the simulator needs it")

import serving
from ebbtide.cluster.client.protocol import KNATIVE, NODE, QUOTA
from ebbtide.server.api import plans, simulation
from ebbtide.server.api.background import Progress
from ebbtide.server.api.plans import PlanQuestion
from ebbtide.server.web.routes import make_router
from ebbtide.simulator.pool import UNITS
from ebbtide.simulator.request import PlanRequest
from live_cluster import SCALING
from recorded import RecordedSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    from ebbtide.cluster.client.protocol import Kind
    from ebbtide.server.api.backend import Backend

FLEET = "/api/ebbtide/v1/fleet"
#: A day is simulated without compiled code.
BODY: dict[str, Any] = {"days": 0.25, "pools": {"shared": 2}, "changes": 0}
World = tuple["Backend", "httpx.Client"]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    _, backend = serving.backend(source=RecordedSource())
    with serving.served(backend, routers=[make_router(backend)]) as client:
        for project, name in (("alpha", "aardvark"), ("beta", "bandicoot")):
            fields = {
                "slo": {"p95LatencyMilliseconds": 4000},
                "autoscaling": {**SCALING, "minReplicas": 1},
                "compute": {"gpuDevicesRequest": 1, "gpuRequestType": "portion", "gpuPortionRequest": 0.25},
            }
            spec = serving.document(name, project, **fields)
            answer = client.post("/api/ebbtide/v1/apply", json={"spec": spec}, headers=serving.bearer("root"))
            assert answer.status_code < 300, answer.text
        yield backend, client


def wait() -> None:
    for thread in threading.enumerate():
        if thread.name == "ebbtide-plan":
            thread.join()


def plan(client: httpx.Client, caller: str, **fields: Any) -> dict[str, Any]:
    """Compute a plan, and return the answer when it has ended."""
    answer = client.post(FLEET, json={**BODY, **fields}, headers=serving.bearer(caller))
    assert answer.status_code == 200, answer.text
    # Also if it has ended already, so that the time it takes reveals nothing.
    assert answer.json()["running"] == {"done": 0, "total": 0, "what": ""}
    wait()
    ended: dict[str, Any] = client.get(FLEET, headers=serving.bearer(caller)).json()
    assert "running" not in ended
    return ended


def names(answer: dict[str, Any]) -> list[str]:
    return [service["name"] for service in answer["plan"]["pool"]["services"]]


def test_a_plan_has_the_services_that_the_caller_can_see(world: World) -> None:
    backend, client = world
    assert client.get(FLEET, headers=serving.bearer("reader")).json() == {}
    mine, all_of_them = plan(client, "reader"), plan(client, "root")

    assert names(mine) == ["aardvark"]
    assert "bandicoot" not in str(mine)
    assert names(all_of_them) == ["aardvark", "bandicoot"]
    assert all_of_them["plan"]["pool"]["gpus"] == 2
    assert names(plan(client, "root", namespace="team-beta")) == ["bandicoot"]
    # Each caller gets the plan that they computed, and no plan with a service that they can no longer see.
    assert names(client.get(FLEET, headers=serving.bearer("reader")).json()) == ["aardvark"]
    kept = backend.plans._kept  # noqa: SLF001 - a plan of a caller whose rights have changed
    kept["rita"] = kept["root"]
    assert client.get(FLEET, headers=serving.bearer("reader")).json() == {}
    assert "bandicoot" not in page(client, "reader")


def test_more_requests_need_more_gpu_hours(world: World) -> None:
    _, client = world
    once, thrice = plan(client, "reader"), plan(client, "reader", factors={"aardvark": 3})

    hours = [answer["plan"]["lowerBound"]["gpuHours"] for answer in (once, thrice)]
    assert hours[1] == pytest.approx(3 * hours[0], rel=0.05)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"factors": {"cat": 2}}, "SIM004"),
        ({"pools": {"cat": 2}}, "PLN005"),
        ({"start_up": "soon"}, "SIM004"),
        ({"days": 0.01, "namespace": "nowhere"}, "PLN001"),
    ],
)
def test_a_plan_that_cannot_be_computed_says_why(world: World, fields: dict[str, Any], code: str) -> None:
    _, client = world
    fields = {("startUp" if name == "start_up" else name): value for name, value in fields.items()}

    assert [problem["code"] for problem in plan(client, "root", **fields)["problems"]] == [code]
    assert code in page(client, "root")


@pytest.mark.parametrize("body", [{"days": 0}, {"pools": {"shared": 0}}, {"factors": {"aardvark": -1}}, {"pool": 2}])
def test_an_invalid_request_is_refused(world: World, body: dict[str, Any]) -> None:
    assert world[1].post(FLEET, json=body, headers=serving.bearer("reader")).status_code in {400, 422}


def test_an_unknown_number_of_gpus_is_asked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, client = world
    monkeypatch.setattr(backend.plans, "list_pools", lambda _caller: {"shared": 0})

    assert [problem["code"] for problem in plan(client, "root", pools={})["problems"]] == ["PLN005"]


def test_a_caller_without_a_right_sees_no_number_of_nodes_and_no_quota(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, client = world
    asked: list[PlanRequest] = []

    def answer(_work: Callable[..., Any], request: PlanRequest, *_rest: Any, **_limits: Any) -> Any:
        asked.append(request)
        return simulation.PlannedFleet({}, None, "")  # type: ignore[arg-type] # only the request is read

    monkeypatch.setattr(backend.specs, "run_in_worker", answer)
    monkeypatch.setattr(plans, "read_quotas", lambda _profile: {"alpha": 1, "gamma": 1})
    allowed = backend.allowed
    monkeypatch.setattr(
        backend,
        "allowed",
        lambda caller, verb, kind, *place: (
            allowed(caller, verb, kind, *place) and (caller.name == "root" or kind not in {NODE, QUOTA})
        ),
    )
    for caller in ("reader", "root"):
        plan(client, caller)
    backend.plans._kept.clear()  # noqa: SLF001 - these plans have no text

    assert set(backend.plans.list_pools(serving.CALLERS["reader"]).values()) == {0}
    # The quota of a project that the plan does not contain is not used either.
    assert [[*request.hidden_quotas] for request in asked] == [["alpha", "gamma"], ["gamma"]]


def forbid(monkeypatch: pytest.MonkeyPatch, backend: Backend, kind: Kind, namespace: str = "") -> None:
    """Withdraw the right to list a kind from all callers."""
    allowed = backend.allowed
    monkeypatch.setattr(
        backend, "allowed", lambda caller, verb, *what: what[:2] != (kind, namespace) and allowed(caller, verb, *what)
    )


@pytest.mark.parametrize(("kind", "namespace"), [(KNATIVE, "team-beta"), (QUOTA, "team-alpha"), (NODE, "")])
def test_a_plan_disappears_with_a_right_to_what_it_has_read(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: Kind, namespace: str
) -> None:
    backend, client = world
    monkeypatch.setattr(plans, "read_quotas", lambda _profile: {"alpha": UNITS})
    assert names(plan(client, "root", pools={})) == ["aardvark", "bandicoot"]
    forbid(monkeypatch, backend, kind, namespace)

    assert client.get(FLEET, headers=serving.bearer("root")).json() == {}
    assert "pool-picture" not in page(client, "root")


def test_an_error_disappears_with_the_right_to_the_services_that_it_names(world: World) -> None:
    backend, client = world
    assert "bandicoot" in str(plan(client, "root", factors={"cat": 2})["problems"])
    shown = backend.plans.background._progress  # noqa: SLF001 - a plan of a caller whose rights have changed
    shown["rita"] = shown["root"]

    assert "problems" not in client.get(FLEET, headers=serving.bearer("reader")).json()
    assert "bandicoot" not in page(client, "reader")


def test_the_token_is_not_kept_after_its_request(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, _ = world
    kept: list[str] = []
    monkeypatch.setattr(backend.plans, "_plan", lambda caller, *_: kept.append(caller.token))
    monkeypatch.setattr(backend.costs, "_compute", lambda _, caller, *__: kept.append(caller.token))
    owner = serving.CALLERS["owner"]
    backend.plans.start(owner, PlanQuestion())
    backend.costs.start(owner, 1.0)
    for thread in threading.enumerate():
        if thread.name in {"ebbtide-plan", "ebbtide-cost-report"}:
            thread.join()

    assert kept == ["", ""]


@pytest.fixture
def held(world: World) -> Iterator[World]:
    """Keep the turn, so that each plan waits in the queue."""
    # The plan of another user.
    with world[0].specs.background:
        yield world
    wait()


def test_a_plan_is_canceled(held: World) -> None:
    _, client = held
    headers = serving.bearer("owner")
    answer = client.post(FLEET, json=BODY, headers=headers)
    assert "running" in answer.json()
    assert client.post(FLEET, json=BODY, headers=headers).status_code == 429
    client.delete(FLEET, headers=headers)
    wait()

    assert "canceled" in client.get(FLEET, headers=headers).json()["error"]
    assert "canceled" in page(client, "owner")


def test_a_running_simulation_is_stopped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, _ = world
    steps: list[Any] = []
    caller = serving.CALLERS["root"]
    watch = Progress.watch

    def cancel_first(self: Progress, step: Any = None) -> None:
        steps.append(step)
        if step is not None and "simulated" in step[2]:
            backend.plans.cancel(caller)
        watch(self, step)

    monkeypatch.setattr(Progress, "watch", cancel_first)
    question = PlanQuestion("", 0.25, PlanRequest([("shared", 2)], changes=0))
    backend.plans.start(caller, question)
    wait()

    assert [step[2] for step in steps if step] == ["services read", "services read", "services simulated"]
    progress = backend.plans.background.find(caller)
    assert progress is not None
    assert (progress.ended, "canceled" in progress.error) == (True, True)


def test_plans_that_wait_leave_the_list_and_the_workers_to_others(held: World, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, client = held
    monkeypatch.setattr(plans, "TURN_SECONDS", 0.01)
    callers = [serving.CALLERS["root"].__class__(f"user-{number}", ("admins",)) for number in range(plans.MAX_PLANS)]
    for caller in callers:
        backend.plans.start(caller, PlanQuestion(request=PlanRequest([("shared", 2)])))

    assert client.post(FLEET, json=BODY, headers=serving.bearer("root")).status_code == 429
    assert client.get("/api/ebbtide/v1/workloads", headers=serving.bearer("root")).status_code == 200
    case = {"spec": serving.document("other"), "traffic": "constant:1rps,30s"}
    assert client.post("/api/ebbtide/v1/simulate", json=case, headers=serving.bearer("root")).status_code == 200
    for caller in callers:
        backend.plans.cancel(caller)


def page(client: httpx.Client, caller: str, status: int = 200, **form: str) -> str:
    headers = serving.bearer(caller)
    answer = client.post("/plan", data=form, headers=headers) if form else client.get("/plan", headers=headers)
    assert answer.status_code == status, answer.text
    return answer.text


def read_csrf(client: httpx.Client, caller: str) -> str:
    match = re.search(r'name="csrf" value="([0-9a-f]+)"', page(client, caller))
    assert match is not None
    return match[1]


def test_the_page_computes_a_plan_in_the_background_and_keeps_the_form(world: World) -> None:
    _, client = world
    csrf = read_csrf(client, "owner")
    page(client, "owner", 303, **{"csrf": csrf, "days": "1", "pool:shared": "3", "requests:aardvark": "2"})
    wait()
    text = page(client, "owner")

    assert "Services in their SLO" in text
    assert 'class="pool-picture"' in text
    assert 'name="pool:shared" value="3"' in text
    assert 'name="requests:aardvark" value="2"' in text
    assert "bandicoot" not in text
    assert len(text) < 150_000
    page(client, "owner", 303, csrf=csrf, days="1")
    assert client.post("/plan/cancel", data={"csrf": csrf}, headers=serving.bearer("owner")).status_code == 303
    wait()


def test_the_page_names_each_invalid_field(world: World) -> None:
    _, client = world
    fields = {"days": "8", "pool:shared": "-1", "requests:aardvark": "<b>"}
    text = page(client, "reader", 422, csrf=read_csrf(client, "reader"), **fields)

    assert {*re.findall(r"REQ001</code> <code>([^<]+)</code>", text)} == {*fields}
    assert "<b>&" not in text
    assert 'value="&lt;b&gt;"' in text
