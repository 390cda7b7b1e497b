"""``ebbtide import --from runai``: from Ebbtide's own API, and from a server with answers of NVIDIA's models."""

from __future__ import annotations

import json
import threading
import warnings
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

import serving
import strategies
from ebbtide.core.documents import profiles
from ebbtide.core.documents.texts import load_text
from ebbtide.core.translation.objects import apply_merge_patch
from ebbtide.runai import importing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pydantic import BaseModel

    from commands import Ran

CLUSTER = "71f69d83-ba66-4822-adf5-55ce55efd210"
NUMBER = 60
TIME = "2025-01-01T03:49:52.531Z"


@pytest.fixture(autouse=True)
def _account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(importing.ID_VARIABLE, serving.ACCOUNT)
    monkeypatch.setenv(importing.SECRET_VARIABLE, serving.CALLERS["owner"].token)


def read_folder(folder: Path) -> tuple[Any, dict[str, Any], str]:
    """Return the profile's spec, the specs by file, and the report of a folder."""
    profile, data, problems = profiles.load_profile_with_data(str(folder))
    assert profile is not None, problems
    specs = {}
    for file in sorted(folder.glob("*.yaml")):
        if file.name != "profile.yaml":
            (loaded,) = load_text(file.read_bytes(), file.name, profile)
            assert loaded.inference is not None, loaded.problems
            specs[file.name] = loaded.reading.native
    return data["spec"], specs, (folder / importing.REPORT).read_text()


def test_our_own_api_is_imported(run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = {"gpus": 4, "cpu": 8.5, "memory": "64G", "overQuota": False, "overQuotaWeight": 2}
    data = apply_merge_patch(serving.MADE, {"spec": {"projects": {"known": {"alpha": quota}}}})
    monkeypatch.setattr(serving, "MADE", data)
    folder = tmp_path / "new" / "folder"
    with serving.served(serving.inhabited()[1]) as client:
        ran = run("import", "--from", "runai", str(client.base_url), "--folder", str(folder), "--profile", "full")

    assert ran.code == 0, ran.err
    profile, specs, report = read_folder(folder)
    assert ran.out == report
    assert report.splitlines() == ["project   alpha: 4 GPUs, 8.5 cores, 64000M memory", "imported  alpha/aardvark"]
    assert [*specs] == ["alpha.aardvark.yaml"]
    assert profile["projects"]["known"]["alpha"] == {**quota, "id": "alpha", "memory": "64000M"}
    assert profile["projects"]["namespace"] == "team-{project}"
    assert ran.err == f"1 imported, 0 refused, in {folder}; nothing was applied\n"


# A server with NVIDIA's routes and models.


@cache
def models() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # runapy's own
        return import_module("runai.models")


@cache
def list_routes() -> dict[str, str]:
    """Return the paths of NVIDIA's client by the name of its method."""
    api = import_module("runai.api")
    routes: dict[str, str] = {}

    def call_api(resource_path: str, **_: Any) -> None:
        routes[name] = resource_path

    recorder = SimpleNamespace(call_api=call_api)
    for group, name, parameters in (
        ("ClustersApi", "get_clusters", ()),
        ("ProjectsApi", "get_projects", ()),
        ("NodePoolsApi", "get_nodepools", ()),
        ("WorkloadsApi", "get_workloads", ()),
        ("InferencesApi", "get_inference", ("ID",)),
        ("NVIDIANIMApi", "get_nim_service_by_id", ("ID",)),
    ):
        getattr(getattr(api, group)(recorder), name)(*parameters)
    return routes


def make_valid(model: type[BaseModel], seed: int, **fields: Any) -> dict[str, Any]:
    """Return a random answer that NVIDIA's model accepts; its patterns are not in its JSON Schema."""
    text = json.dumps(model.model_json_schema(by_alias=True))
    schema = json.loads(text.replace('"format": "date-time"', f'"const": "{TIME}"'))
    answer = {**strategies.value_of(strategies.dice(seed), schema, schema.get("$defs", {}), 0.4), **fields}
    for _ in range(40):
        try:
            model(**answer)
        except ValueError as error:
            for row in error.errors():  # type: ignore[attr-defined]
                remove_at(answer, row["loc"])
        else:
            return answer
    raise AssertionError(answer)


def remove_at(data: Any, path: tuple[Any, ...]) -> None:
    """Remove the innermost value that a path leads to."""
    holder = place = data
    last = path[0]
    for part in path:
        if (isinstance(place, dict) and part in place) or (isinstance(place, list) and isinstance(part, int)):
            holder, last, place = place, part, place[part]
    if isinstance(holder, dict):
        holder.pop(last, None)
    else:
        del holder[last]


class ControlPlane(BaseHTTPRequestHandler):
    """A control plane with the routes of NVIDIA's client: each GET has an answer, or the status of a failure."""

    answers: dict[str, Any]
    tokens: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.tokens.append(body)
        rejected = body.get("clientSecret") == "wrong"
        self.reply(401 if rejected else 200, {} if rejected else {"accessToken": "a.b.c", "expiresIn": 60})

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        answer = self.answers.get(place.path, 404)
        if self.headers["Authorization"] != "Bearer a.b.c":
            answer = 401
        if isinstance(answer, dict) and "offset" in (query := parse_qs(place.query)):
            # Two rows on a page, whatever the client asks for.
            field, start = next(iter(answer)), int(query["offset"][0])
            rows = answer[field]
            if isinstance(rows, list):
                more = {"next": start + 2} if start + 2 < len(rows) else {}
                answer = {field: rows[start : start + 2], **more}
        self.reply(answer if isinstance(answer, int) else 200, answer)

    def reply(self, status: int, body: Any) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://127.0.0.1:1/stolen")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@contextmanager
def control_plane(answers: dict[str, Any]) -> Iterator[tuple[str, type[ControlPlane]]]:
    handler = type("Handler", (ControlPlane,), {"answers": answers, "tokens": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", handler
        finally:
            server.shutdown()
            thread.join()


def make_workload(name: str, number: int, kind: str = "Inference") -> dict[str, Any]:
    return {"type": kind, "name": name, "id": f"id-{number}", "projectName": "vision", "clusterId": CLUSTER}


def make_answers(workloads: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the answers to the lists: one project with its quota, and the workloads."""
    routes = list_routes()
    project = {
        "id": "4500001",
        "name": "vision",
        "clusterId": CLUSTER,
        "requestedNamespace": None,
        "status": {"namespace": "runai-vision"},
        "totalResources": {"gpuQuota": 3.5, "cpuQuota": -1, "memoryQuota": 1000.4},
        "resources": [
            {"nodePool": {"id": "1", "name": "default"}, "gpu": {"deserved": 3, "limit": 3, "overQuotaWeight": 2}},
            {"nodePool": {"id": "2", "name": "l4"}, "gpu": {"deserved": 0.5, "limit": None, "overQuotaWeight": 2}},
        ],
    }
    elsewhere = {**project, "name": "elsewhere", "clusterId": "another"}
    pool = {"name": "default", "isDefault": True, "clusterId": CLUSTER}
    return {
        routes["get_clusters"]: [{"uuid": CLUSTER, "name": "one"}],
        routes["get_projects"]: {"projects": [project, elsewhere]},
        routes["get_nodepools"]: {"nodepools": [{**pool, "name": "l4", "isDefault": False}, pool]},
        routes["get_workloads"]: {"workloads": workloads},
    }


def test_answers_of_nvidias_models_are_imported_or_refused_with_the_reason(
    run: Callable[..., Ran], tmp_path: Path
) -> None:
    """Each workload has one line in the report; whatever NVIDIA's models accept has no field that Ebbtide does not know."""
    workloads = [make_workload(f"w-{number}", number) for number in range(NUMBER)]
    answers = make_answers(workloads)
    for number in range(NUMBER):
        path = list_routes()["get_inference"].replace("ID", f"id-{number}")
        answers[path] = make_valid(
            models().Inference1, number, name=f"w-{number}", projectId="4500001", clusterId=CLUSTER
        )
    with control_plane(answers) as (url, _):
        ran = run("import", "--from", "runai", url, "--folder", str(tmp_path / "new"), "--profile", "full")

    profile, specs, report = read_folder(tmp_path / "new")
    lines = [line for line in report.splitlines() if not line.startswith("project")]
    assert len(lines) == NUMBER
    assert "SPEC001" not in report
    assert len(specs) == sum(line.startswith("imported") for line in lines) >= NUMBER * 0.7
    assert all(native["spec"]["project"] == "vision" for native in specs.values())
    refused = [line for line in lines if line.startswith("refused")]
    assert ran.code == (1 if refused else 0)
    # Only values that the schema allows and no cluster accepts: empty items, and numbers above int32.
    assert [line for line in refused if "SPEC00" not in line and "YML006" not in line] == []
    quota = {"id": "4500001", "gpus": 3.5, "memory": "1001M", "overQuotaWeight": 2}
    assert profile["projects"]["known"] == {"vision": quota}
    # The profile has a node pool of the name of Run:ai's default one.
    assert (profile["clusterId"], profile.get("anyNodePool")) == (CLUSTER, None)


def test_each_kind_of_workload_has_its_line(run: Callable[..., Ran], tmp_path: Path) -> None:
    spec = {"image": "ghcr.io/acme/chat:1.4", "servingPort": {"container": 8000}}
    inference = {"name": "chat", "projectId": 4500001, "clusterId": CLUSTER, "desiredPhase": "Stopped", "spec": spec}
    workloads = [
        make_workload("chat", 1),
        make_workload("llm", 2, "NimService"),
        make_workload("wide", 3, "DistributedInference"),
        make_workload("train", 4, "Training"),
        make_workload("gone", 5),
        make_workload("broken", 6),
        make_workload("wrong", 7),
        make_workload("../escape", 8),
    ]
    routes = list_routes()
    answers = make_answers(workloads) | {
        routes["get_inference"].replace("ID", "id-1"): inference,
        routes["get_inference"].replace("ID", "id-6"): 500,
        routes["get_inference"].replace("ID", "id-7"): {**inference, "spec": {**spec, "image": 7, "templateOf": "x"}},
        routes["get_inference"].replace("ID", "id-8"): {**inference, "name": "../escape", "desiredPhase": "Running"},
    }
    with control_plane(answers) as (url, handler):
        ran = run("import", "--from", "runai", url, "--folder", str(tmp_path / "new"), "--profile", "full")

    assert ran.code == 1
    assert handler.tokens == [
        {
            "grantType": "client_credentials",
            "clientID": serving.ACCOUNT,
            "clientSecret": serving.CALLERS["owner"].token,
        }
    ]
    starts = [line.partition(": ")[0] for line in ran.out.splitlines()]
    assert starts == [
        "project   vision",
        "imported  vision/../escape (needs an edit)",
        "refused   vision/broken",
        "imported  vision/chat",
        "refused   vision/gone",
        "refused   vision/llm",
        "refused   vision/wide",
        "refused   vision/wrong",
    ]
    by_name = dict(line.partition(": ")[::2] for line in ran.out.splitlines())
    assert by_name["project   vision"] == "3.5 GPUs, 1001M memory"
    assert by_name["refused   vision/broken"].endswith("answers HTTP 500")
    assert by_name["refused   vision/gone"].split()[0] == "RUN050"
    assert by_name["refused   vision/gone"].endswith("answers HTTP 404")
    # Run:ai has no inference with the ID of a NIM service.
    assert by_name["refused   vision/llm"].split()[0] == "RUN050"
    assert by_name["refused   vision/wide"].startswith("RUN046 type: ")
    assert "SPEC002 spec.image" in by_name["refused   vision/wrong"]
    assert "SPEC001 spec.templateOf" in by_name["refused   vision/wrong"]
    assert sorted(file.name for file in tmp_path.rglob("*")) == [
        "new",
        "profile.yaml",
        "report.txt",
        "vision.%2E%2E%2Fescape.yaml",
        "vision.chat.yaml",
    ]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"/api/v1/clusters": 503}, "error: GET /api/v1/clusters answers HTTP 503"),
        ({"/api/v1/clusters": 302}, "error: GET /api/v1/clusters answers HTTP 302"),
        ({"/api/v1/clusters": b"{"}, "error: GET /api/v1/clusters fails: "),
        ({"/api/v1/clusters": []}, "error: choose a cluster with --cluster-id: none"),
        ({"/api/v1/workloads": {"workloads": 1}}, "error: GET /api/v1/workloads does not answer a list of workloads"),
        ({"/api/v1/node-pools": 500}, "error: GET /api/v1/node-pools answers HTTP 500"),
    ],
)
def test_a_failing_control_plane_is_named_and_nothing_is_written(
    run: Callable[..., Ran], tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    with control_plane(make_answers([]) | changed) as (url, _):
        ran = run("import", "--from", "runai", url, "--folder", str(tmp_path / "new"))

    assert ran.code == 1
    assert message in ran.err
    assert not (tmp_path / "new").exists()


def test_a_control_plane_without_node_pools_of_several_clusters(run: Callable[..., Ran], tmp_path: Path) -> None:
    clusters = [{"uuid": CLUSTER, "name": "one"}, {"uuid": "another", "name": "two"}]
    answers = make_answers([]) | {"/api/v1/clusters": clusters, "/api/v1/node-pools": 404}
    words = ("import", "--from", "runai", "--folder", str(tmp_path / "new"))
    with control_plane(answers) as (url, _):
        refused = run(*words, url)
        ran = run(*words, url, "--cluster-id", "another")

    assert f"choose a cluster with --cluster-id: {CLUSTER} (one), another (two)" in refused.err
    assert ran.code == 0
    profile, _, _ = read_folder(tmp_path / "new")
    assert ("anyNodePool" in profile, [*profile["projects"]["known"]]) == (False, ["elsewhere"])


def test_wrong_usage_is_named_before_a_request(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("import", "--from", "runai")
    assert "must start with https://" in run(*words, "http://runai.example.com").err
    (tmp_path / "file").write_text("x")
    assert "exists: use a new folder" in run(*words, "https://runai.example.com", "--folder", str(tmp_path)).err
    assert "exists: use a new folder" in run(*words, "https://x.example", "--folder", str(tmp_path / "file")).err
    missing = str(tmp_path / "missing.yaml")
    assert "cannot read the profile" in run(*words, "https://runai.example.com", "--profile", missing).err
    with control_plane(make_answers([])) as (url, handler):
        monkeypatch.setenv(importing.SECRET_VARIABLE, "wrong")
        assert "POST /api/v1/token answers HTTP 401" in run(*words, url).err
        monkeypatch.setenv(importing.TOKEN_VARIABLE, "a.b.c")
        # The built-in profiles have a node pool of the name of Run:ai's default one.
        profile = tmp_path / "profile.yaml"
        pools = [{"name": "a100", "resource": "nvidia.com/gpu"}]
        profile.write_text(json.dumps(apply_merge_patch(serving.MADE, {"spec": {"nodePools": pools}})))
        assert run(*words, url, "--folder", str(tmp_path / "new"), "--profile", str(profile)).code == 0
        assert len(handler.tokens) == 1
    assert read_folder(tmp_path / "new")[0]["anyNodePool"] == "default"
    monkeypatch.delenv(importing.TOKEN_VARIABLE)
    monkeypatch.delenv(importing.SECRET_VARIABLE)
    assert f"set {importing.ID_VARIABLE} and" in run(*words, "https://runai.example.com").err
