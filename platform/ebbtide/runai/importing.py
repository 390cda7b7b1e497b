"""``ebbtide import --from runai URL``: read the projects, quotas and inferences of Run:ai's control plane into a folder.

Nothing is changed in Run:ai: the command sends GET requests, and one for the token. Upstream: runai-professional-services/
runapy .generator/swagger.json (1.218 to 1.224). NVIDIA's client itself is not used, because it takes seconds to load.
"""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from ebbtide.cli.base import terminal
from ebbtide.cli.base.common import choose_profile, print_problems
from ebbtide.cli.base.files import replace_file
from ebbtide.cli.base.options import Options, make_option, make_profile_option
from ebbtide.core import manifests
from ebbtide.core.base import quantities
from ebbtide.core.base.paths import get_at
from ebbtide.core.base.problems import Problem, select_errors
from ebbtide.core.base.prose import make_printable
from ebbtide.core.documents.check import check_documents
from ebbtide.core.documents.files import MAX_INPUT_BYTES
from ebbtide.core.documents.profiles import FILE_NAME, load_profile_with_data, validate_profile_data
from ebbtide.core.documents.texts import load_data
from ebbtide.core.profile.built_in import BUILT_IN_NAME
from ebbtide.core.profile.projects import make_project_namespace
from ebbtide.core.readers.table import DISTRIBUTED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from urllib.request import OpenerDirector, Request

    from ebbtide.core.profile.models import Profile

ID_VARIABLE, SECRET_VARIABLE, TOKEN_VARIABLE = "RUNAI_CLIENT_ID", "RUNAI_CLIENT_SECRET", "RUNAI_TOKEN"
REPORT: Final = "report.txt"
#: Rows of a page, and seconds until an answer must begin.
PAGE: Final = 100
TIMEOUT_SECONDS: Final = 60
NOT_FOUND: Final = 404
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
#: Run:ai's types of workloads that serve nothing (schema WorkloadType).
OTHER_TYPES: Final = ("Workspace", "Training", "Distributed")
#: Notes that every import has.
EXPECTED: Final = ("RUN048",)
MEGABYTE: Final = 10**6
OPTIONS: Final = (
    make_option("url", metavar="URL", help="Address of Run:ai's control plane, as in https://example.run.ai"),
    make_option("--from", dest="source", choices=("runai",), required=True, help="Kind of the source"),
    make_option("--folder", metavar="DIR", default="runai", help="New folder for the files (default: runai)"),
    make_option("--cluster-id", metavar="ID", help="Run:ai's ID of the cluster (default: the only one)"),
    make_option(
        "--client-id",
        metavar="ID",
        help=f"Client ID of a service account or access key, whose secret is ${SECRET_VARIABLE} (default: ${ID_VARIABLE}). "
        f"${TOKEN_VARIABLE} replaces both with a token",
    ),
    make_profile_option(BUILT_IN_NAME),
)


class ControlPlaneError(Exception):
    """A request that Run:ai's control plane does not answer as documented; the message is for the user."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ControlPlane:
    """Run:ai's control plane, read with one account."""

    def __init__(self, url: str) -> None:
        """Use the address, without signing in."""
        self._url = url.rstrip("/")
        self._token = ""
        self._opener = _make_opener()

    def sign_in(self, token: str, client_id: str, secret: str) -> None:
        """Use a token, or request one for a client ID and its secret.

        Raises:
            ControlPlaneError: the credentials are rejected, or the control plane does not answer.
        """
        if not token:
            body = {"grantType": "client_credentials", "clientID": client_id, "clientSecret": secret}
            token = str(self._read("/api/v1/token", body).get("accessToken") or "")
        self._token = token

    def get(self, path: str, **query: Any) -> Any:
        """Return the answer at a path, or raise a ``ControlPlaneError``."""
        return self._read(f"{path}?{urlencode(query)}" if query else path)

    def list_rows(self, path: str, field: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of all pages of a list, or raise a ``ControlPlaneError``."""
        offset = 0
        while True:
            page = self.get(path, limit=PAGE, offset=offset)
            rows = page.get(field) if isinstance(page, dict) else None
            if not isinstance(rows, list):
                raise ControlPlaneError(f"GET {path} does not answer a list of {field}")
            yield from (row for row in rows if isinstance(row, dict))
            following = page.get("next")
            if not isinstance(following, int) or following <= offset:
                return
            offset = following

    def _read(self, path: str, body: dict[str, Any] | None = None) -> Any:
        from urllib.error import HTTPError
        from urllib.request import Request

        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        method = "GET" if body is None else "POST"
        called = f"{method} {path.partition('?')[0]}"
        request = Request(  # noqa: S310 - the scheme is checked before
            self._url + path, None if body is None else json.dumps(body).encode(), headers, method=method
        )
        try:
            return _send(self._opener, request)
        except HTTPError as error:
            with error:
                raise ControlPlaneError(f"{called} answers HTTP {error.code}", error.code) from None
        except (OSError, ValueError) as error:
            raise ControlPlaneError(f"{called} fails: {error}") from None


def _make_opener() -> OpenerDirector:
    from urllib.request import HTTPRedirectHandler, build_opener

    class NoRedirects(HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            """Follow no redirect: the token would be sent to the other address."""

    return build_opener(NoRedirects)


def _send(opener: OpenerDirector, request: Request) -> Any:
    with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
        data = response.read(MAX_INPUT_BYTES + 1)
    if len(data) > MAX_INPUT_BYTES:
        raise ValueError("the answer is too large")
    return json.loads(data)


def run(options: Options) -> int:
    """Write the folder, and print the report. Exit code 1 if a workload is refused."""
    base, data, problems = load_profile_with_data(choose_profile(options.profile))
    print_problems(problems)
    if base is None:
        return 1
    folder = Path(options.folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        terminal.exit_with_usage_error(f"{folder} exists: use a new folder with --folder", "import")
    plane = _connect(options)
    try:
        cluster = _choose_cluster(plane, options.cluster_id)
        projects = [row for row in plane.list_rows("/api/v1/org-unit/projects", "projects") if _is_of(row, cluster)]
        data = make_profile(data, cluster, projects, _find_default_pool(plane, cluster))
        profile, problems = validate_profile_data(data)
        if profile is None:
            print_problems(problems)
            return 1
        workloads = [row for row in plane.list_rows("/api/v1/workloads", "workloads") if _is_of(row, cluster)]
        results = [
            read_workload(plane, row, profile)
            for row in sorted(workloads, key=lambda row: (str(row.get("projectName")), str(row.get("name"))))
            if row.get("type") not in OTHER_TYPES
        ]
    except ControlPlaneError as error:
        terminal.write_stderr(f"error: {make_printable(str(error))}")
        return 1
    notes = list_project_notes(projects, profile)
    report = "".join(f"{make_printable(line)}\n" for line in (*notes, *(result.describe() for result in results)))
    files = {FILE_NAME: manifests.write_document(data), REPORT: report}
    files |= {result.file: manifests.write_document(result.native) for result in results if result.native}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            replace_file(folder / name, text.encode())
    except OSError as error:
        terminal.write_stderr(f"error: cannot write {folder}: {(error.strerror or 'unknown error').lower()}")
        return 1
    sys.stdout.write(report)
    refused = sum(not result.native for result in results)
    terminal.write_stderr(f"{len(results) - refused} imported, {refused} refused, in {folder}; nothing was applied")
    return 1 if refused else 0


def _connect(options: Options) -> ControlPlane:
    parts = urlsplit(options.url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        terminal.exit_with_usage_error("the URL must start with https://, because a secret is sent", "import")
    token, secret = os.environ.get(TOKEN_VARIABLE, ""), os.environ.get(SECRET_VARIABLE, "")
    client_id = options.client_id or os.environ.get(ID_VARIABLE, "")
    if not token and not (client_id and secret):
        terminal.exit_with_usage_error(
            f"set {ID_VARIABLE} and {SECRET_VARIABLE} to a service account of Run:ai, or {TOKEN_VARIABLE} to a token",
            "import",
        )
    plane = ControlPlane(options.url)
    try:
        plane.sign_in(token, client_id, secret)
    except ControlPlaneError as error:
        terminal.exit_with_message(f"error: {make_printable(str(error))}", 1)
    return plane


def _choose_cluster(plane: ControlPlane, wanted: str | None) -> str:
    rows = plane.get("/api/v1/clusters")
    known = {str(row["uuid"]): str(row.get("name")) for row in rows if isinstance(row, dict) and row.get("uuid")}
    if wanted is None and len(known) == 1:
        return next(iter(known))
    if wanted not in known:
        listed = ", ".join(f"{key} ({name})" for key, name in known.items()) or "none"
        raise ControlPlaneError(f"choose a cluster with --cluster-id: {listed}")
    return wanted


def _is_of(row: dict[str, Any], cluster: str) -> bool:
    return row.get("clusterId") in {cluster, None}


def _find_default_pool(plane: ControlPlane, cluster: str) -> str | None:
    """Return the name of the cluster's default node pool; None if the control plane does not list node pools."""
    try:
        pools = plane.list_rows("/api/v1/node-pools", "nodepools")
        return next((str(row["name"]) for row in pools if _is_of(row, cluster) and row.get("isDefault")), None)
    except ControlPlaneError as error:
        if error.status != NOT_FOUND:
            raise
        return None


# Profile.


def make_profile(
    base: dict[str, Any], cluster: str, projects: list[dict[str, Any]], default_pool: str | None
) -> dict[str, Any]:
    """Return a profile's document with Run:ai's IDs, projects and quotas, and the default pool unless a pool has its name."""
    spec = dict(base.get("spec") or {})
    known = {str(row.get("name")): read_quota(row) for row in projects}
    before = spec.get("projects") or {}
    patterns = {
        namespace.replace(str(row.get("name")), "{project}") for row in projects if (namespace := _find_namespace(row))
    }
    # Projects whose namespaces do not follow one pattern keep that of the profile.
    of_all = {"namespace": next(iter(patterns))} if len(patterns) == 1 and "{project}" in max(patterns) else {}
    spec |= {"clusterId": cluster, "projects": {**before, **of_all, "known": {**(before.get("known") or {}), **known}}}
    if default_pool is not None and default_pool not in {pool["name"] for pool in spec.get("nodePools") or ()}:
        spec["anyNodePool"] = default_pool
    return {**base, "metadata": {"name": "from-runai"}, "spec": spec}


def read_quota(row: dict[str, Any]) -> dict[str, Any]:
    """Return the quota of Run:ai's project, of all node pools together, in the profile's units."""
    totals = row.get("totalResources") or {}
    cpu, memory = _find_amount(totals, "cpuQuota"), _find_amount(totals, "memoryQuota")
    gpus = [pool["gpu"] for pool in row.get("resources") or () if isinstance(get_at(pool, "gpu"), dict)]
    weights = {weight for gpu in gpus if (weight := _find_amount(gpu, "overQuotaWeight")) is not None}
    quota: dict[str, Any] = {"id": str(row.get("id")), "gpus": _find_amount(totals, "gpuQuota")}
    if cpu is not None:
        # Millicores, and MB.
        quota["cpu"] = quantities.drop_zero_fraction(cpu / 1000)
    if memory is not None:
        quota["memory"] = f"{math.ceil(memory)}M"
    limits = [(_find_amount(gpu, "limit"), _find_amount(gpu, "deserved")) for gpu in gpus]
    if limits and all(limit is not None and limit == deserved for limit, deserved in limits):
        quota["overQuota"] = False
    if len(weights) == 1:
        quota["overQuotaWeight"] = weights.pop()
    return {name: value for name, value in quota.items() if value is not None}


def _find_namespace(row: dict[str, Any]) -> str:
    """Return the namespace of Run:ai's project; empty if it is not known."""
    return str(get_at(row, "status", "namespace") or row.get("requestedNamespace") or "")


def _find_amount(block: dict[str, Any], name: str) -> float | None:
    """Return an amount; None if it is not set or negative, which is unlimited."""
    value = block.get(name)
    return quantities.drop_zero_fraction(value) if isinstance(value, (int, float)) and value >= 0 else None


def list_project_notes(projects: list[dict[str, Any]], profile: Profile) -> list[str]:
    """Return a line for each project: its quota, and how its namespace differs from the profile's pattern."""
    lines = []
    for row in projects:
        name = str(row.get("name"))
        quota = profile.spec.projects.known[name]
        amounts = {"GPUs": quota.gpus, "cores": quota.cpu}
        texts = [f"{quantities.format_number(amount)} {unit}" for unit, amount in amounts.items() if amount is not None]
        text = ", ".join([*texts, *([f"{quota.memory} memory"] if quota.memory else [])])
        namespace = _find_namespace(row)
        expected = make_project_namespace(profile.spec.projects, name)
        if namespace and namespace != expected:
            text += f"; its namespace in Run:ai is {namespace}, and the profile's pattern gives {expected}"
        lines.append(f"project   {name}: {text or 'no quota'}")
    return lines


# Workloads.


class Result(NamedTuple):
    """The import of one workload: its spec, empty if it is refused, and the notes or the reason."""

    project: str
    name: str
    native: dict[str, Any]
    problems: list[Problem]
    #: The errors that a check of the spec with the written profile finds.
    unrendered: list[Problem]

    @property
    def file(self) -> str:
        """The name of the file: project and name, with their special characters escaped."""
        return ".".join([*(quote(part, safe="").replace(".", "%2E") for part in (self.project, self.name)), "yaml"])

    def describe(self) -> str:
        """Return the line of the report."""
        rows = [problem for problem in self.problems if not self.native or problem.code not in EXPECTED]
        if self.native:
            rows += self.unrendered
        place = f"{self.project}/{self.name}"
        texts = [f"{problem.code} {problem.path}: {problem.message}" for problem in rows]
        if not self.native:
            return f"refused   {place}: {'; '.join(texts)}"
        state = "needs an edit" if self.unrendered else "with notes" if texts else ""
        return f"imported  {place}{f' ({state}): ' if state else ''}{'; '.join(texts)}"


def read_workload(plane: ControlPlane, row: dict[str, Any], profile: Profile) -> Result:
    """Read a workload and return its import. A single one that cannot be read is refused.

    Raises:
        ControlPlaneError: the control plane does not answer.
    """
    place = (str(row.get("projectName")), str(row.get("name")))
    if row.get("type") == "DistributedInference":
        return Result(*place, {}, [Problem(DISTRIBUTED[0], ("type",), *DISTRIBUTED[1:])], [])
    key = quote(str(row.get("id")), safe="")
    try:
        answer = plane.get(f"/api/v1/workloads/inferences/{key}")
    except ControlPlaneError as error:
        if not error.status:
            raise
        return Result(*place, {}, [Problem("RUN050", (), str(error))], [])
    loaded = load_data(answer, profile)
    if loaded.inference is None:
        return Result(*place, {}, select_errors(loaded.problems), [])
    return Result(*place, loaded.reading.native, loaded.problems, select_errors(check_documents([loaded], profile)))
