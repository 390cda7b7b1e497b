"""The bodies of requests and answers, for the API's description and for reading requests.

Answers are written as plain data and not passed through these models: they describe, and a test holds the answers
to them. Upstream of Run:ai's: runai-professional-services/runapy .generator/swagger.json (1.224).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StrictStr
from pydantic.alias_generators import to_camel

from ebbtide.cluster.read.status import Phase

Text = Annotated[StrictStr, Field(min_length=1)]
Name = Annotated[StrictStr, Field(min_length=1, max_length=253)]


class Shape(BaseModel):
    """A body of ours: camel case, nothing unknown."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class Told(BaseModel):
    """An answer: it may get further fields."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow")


# Errors.


class Found(Told):
    """One problem of an input, at its place."""

    code: str
    severity: Literal["error", "warning"]
    document: str
    field: str
    line: int
    message: str
    fix: str


class Refusal(Told):
    """An error, by RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    problems: list[Found] | None = None
    owners: dict[str, list[str]] | None = None
    done: list[str] | None = None


class Error(Told):
    """An error as Run:ai tells it."""

    code: Annotated[int, Field(ge=100, le=599)]
    message: str
    details: str | None = None


# Requests of our own paths.


class Spec(Shape):
    """One or more specs, in any input shape, as YAML or JSON text."""

    spec: Annotated[Text, Field(max_length=1_000_000)]


class Explain(Spec):
    """Specs to explain; ``field`` leaves only output fields whose path contains it."""

    field: Annotated[str, Field(max_length=500)] = ""


class Apply(Spec):
    """Specs to apply."""

    #: Take fields over that other field managers own.
    force: bool = False
    #: They must not be there yet.
    create: bool = False


class Scale(Shape):
    """A live scale; nothing given puts it back to what the spec says."""

    min_replicas: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    max_replicas: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    metric_threshold: Annotated[float, Field(gt=0, le=1e9)] | None = None


class Rollback(Shape):
    """Which revision to go back to; without one, the ready one before."""

    to: Name | None = None


class Diagnose(Shape):
    """Specs to examine the cluster for; without any, the cluster alone."""

    spec: Annotated[Text, Field(max_length=1_000_000)] | None = None


class Simulate(Shape):
    """A spec under traffic. Texts are as ``ebbtide simulate`` takes them; ``log`` is a log's text instead of a shape."""

    spec: Annotated[Text, Field(max_length=200_000)]
    traffic: Annotated[str, Field(max_length=2_000)] = ""
    log: Annotated[str, Field(max_length=1_000_000)] = ""
    server: Annotated[str, Field(max_length=500)] = ""
    start_up: Annotated[str, Field(max_length=200)] = "45s"
    slo: Annotated[str, Field(max_length=200)] = ""
    cost: Annotated[str, Field(max_length=50)] = ""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    settings: dict[str, int | float | str | None] = Field(default={}, max_length=20)


class Tune(Simulate):
    """A search for settings."""

    keep: Annotated[list[str], Field(max_length=10)] = []
    evaluations: Annotated[int, Field(ge=1, le=400)] = 200
    part: Annotated[float, Field(gt=0, le=1)] = 0.5


# Answers of our own paths.


class Problems(Told):
    """What was found."""

    problems: list[Found]


class Rendered(Problems):
    """The objects that specs come to, in apply order, and as YAML."""

    objects: list[dict[str, Any]]
    yaml: str


class Explained(Told):
    """Why the fields of one document's objects are there."""

    document: str
    choices: list[dict[str, Any]]
    fields: list[dict[str, Any]]
    idle: list[Found]


class Planned(Told):
    """What an apply of one workload would do."""

    name: str
    namespace: str
    different: bool
    steps: list[dict[str, Any]]
    cost: list[str]


class Plans(Problems):
    """What an apply would do; nothing is planned where the specs have errors."""

    different: bool
    workloads: list[Planned]


class Place(Told):
    """A workload."""

    id: str
    namespace: str
    name: str


class Applied(Problems):
    """What an apply wrote."""

    done: list[str]
    workloads: list[Place]


class Done(Told):
    """What was done."""

    done: list[str]


class Deleted(Done):
    """What a deletion took, and the volume claims that it left."""

    kept: list[str]


class Status(Told):
    """One workload's state."""

    id: str
    name: str
    namespace: str
    project: str
    kind: str
    phase: Phase
    why: str
    replicas: dict[str, int]
    gpus: str
    metric: dict[str, str] | None
    url: str
    age_seconds: float


class Statuses(Told):
    """A page of workloads. ``age`` is the seconds since the cluster was last heard of; 0 while this is current."""

    workloads: list[Status]
    total: int
    next: int | None
    age: float


class Event(Told):
    """One event."""

    time: str | None
    type: str
    reason: str
    about: str
    message: str
    count: int


class Events(Told):
    """Events, oldest first."""

    events: list[Event]
    age: float


class Detailed(Status):
    """Everything about one workload."""

    spec: dict[str, Any] | None
    events: list[Event]
    age: float


class Why(Told):
    """Why a workload has its replicas."""

    name: str
    namespace: str
    reasons: list[dict[str, Any]]
    numbers: dict[str, Any]
    sums: list[str]
    age: float


class Findings(Told):
    """What the cluster lacks."""

    findings: list[dict[str, Any]]


class Project(Told):
    """One project."""

    name: str
    namespace: str
    workloads: int


class Projects(Told):
    """The projects that the caller may see."""

    projects: list[Project]
    age: float


class Node(Told):
    """One node, and who holds its GPUs."""

    name: str
    ready: bool
    schedulable: bool
    holders: list[dict[str, Any]]


class Nodes(Told):
    """The nodes."""

    nodes: list[Node]
    age: float


class Series(Told):
    """Series over time: pairs of seconds since 1970 and a value, or null where there was none."""

    namespace: str
    name: str
    units: dict[str, str]
    series: dict[str, list[tuple[float, float | None]]]


class Report(Told):
    """A report on response time and uptime."""


class Simulated(Told):
    """What was simulated; the keys are those of ``ebbtide simulate -o json``."""


class Tuned(Told):
    """What was found; the keys are those of ``ebbtide tune -o json``."""


class Whoami(Told):
    """Who asks."""

    name: str
    groups: list[str]
    read_only: bool


class Version(Told):
    """Which Ebbtide this is, and of which profile."""

    version: str
    profile: str
    demo: bool
    read_only: bool


# Run:ai's.


class TokenRequest(BaseModel):
    """A service account and its token, in either of the forms that clients send."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    grant_type: Annotated[Literal["app_token", "client_credentials"], Field(alias="grantType")]
    client_id: Annotated[
        Annotated[StrictStr, Field(min_length=1, max_length=500)] | None,
        Field(validation_alias=AliasChoices("clientId", "clientID", "AppId", "appID", "appId")),
    ] = None
    client_secret: Annotated[
        Annotated[StrictStr, Field(min_length=1, max_length=16_000)] | None,
        Field(validation_alias=AliasChoices("clientSecret", "AppSecret", "appSecret"), repr=False),
    ] = None


class TokenResponse(Told):
    """The token to send from now on."""

    access_token: str
    id_token: str
    refresh_token: str
    expires_in: int


class InferenceRequest(Shape):
    """An inference to create; ``spec`` is Run:ai's, whose rules are checked field by field."""

    name: Text
    use_given_name_as_prefix: bool | None = None
    project_id: Text
    cluster_id: Text
    template_id: str | None = None
    spec: dict[str, Any]


class InferenceUpdate(Shape):
    """What to change of an inference's spec; what is not given stays."""

    spec: dict[str, Any]


class Inference(Told):
    """One inference."""

    name: str
    requested_name: str
    workload_id: str
    project_id: str
    department_id: str
    cluster_id: str
    created_by: str
    created_at: datetime
    deleted_at: datetime | None
    desired_phase: Literal["Running", "Stopped", "Deleted"]
    actual_phase: Phase
    spec: dict[str, Any]


class Accepted(Told):
    """It is on its way."""

    code: int
    message: str


class Workload(Told):
    """One row of the list."""

    tenant_id: int
    id: str
    type: str
    name: str
    namespace: str
    phase: Phase
    phase_message: str
    project_name: str
    project_id: str
    cluster_id: str
    created_at: datetime
    running_pods: int
    urls: list[str]


class Workloads(Told):
    """A page of the list; ``next`` is the offset of the next one, where there is one."""

    workloads: list[Workload]
    next: int | None = None


class Count(Told):
    """How many there are."""

    count: int


class Value(Told):
    """A value at a moment."""

    value: str
    timestamp: datetime


class Measurement(Told):
    """One series."""

    type: str
    labels: dict[str, str] | None = None
    values: list[Value]


class Measurements(Told):
    """Series by type."""

    measurements: list[Measurement]


class Pod(Told):
    """One pod."""

    id: str
    name: str
    workload_id: str
    created_at: datetime


class Pods(Told):
    """A page of pods."""

    pods: list[Pod]
    next: int | None = None


class Revision(Told):
    """One revision."""

    id: str
    name: str
    workload_id: str
    phase: Phase
    created_at: datetime


class Revisions(Told):
    """The revisions of an inference."""

    revisions: list[Revision]


class OrgUnit(Told):
    """One project, as Run:ai has it."""

    id: str
    name: str
    cluster_id: str
    parent_id: str


class OrgUnits(Told):
    """A page of projects."""

    projects: list[OrgUnit]
    next: int | None = None


class Cluster(Told):
    """The cluster that a server is for."""

    uuid: str
    tenant_id: int
    name: str
    created_at: datetime
