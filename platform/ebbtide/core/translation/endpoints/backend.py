"""The interface of a gateway of the projects' endpoints: the ``EndpointGateway`` table row, and what it renders."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from ebbtide.core.translation.objects import Object

if TYPE_CHECKING:
    from ebbtide.core.profile.models import ProjectEndpoint


class EndpointLimit(NamedTuple):
    """A limit as a table row: its field of ``EndpointLimits``, what it counts, for how long, and whose requests it adds up."""

    field: str
    counts: Literal["requests", "tokens"]
    unit: Literal["Minute", "Month"]
    scope: Literal["model", "key", "project"]


#: All limits of a profile.
LIMITS: Final = (
    EndpointLimit("requests_per_minute", "requests", "Minute", "model"),
    EndpointLimit("requests_per_minute_per_key", "requests", "Minute", "key"),
    EndpointLimit("requests_per_minute_per_project", "requests", "Minute", "project"),
    EndpointLimit("requests_per_month_per_key", "requests", "Month", "key"),
    EndpointLimit("requests_per_month_per_project", "requests", "Month", "project"),
    EndpointLimit("tokens_per_minute", "tokens", "Minute", "model"),
    EndpointLimit("tokens_per_minute_per_key", "tokens", "Minute", "key"),
    EndpointLimit("tokens_per_minute_per_project", "tokens", "Minute", "project"),
    EndpointLimit("tokens_per_month_per_key", "tokens", "Month", "key"),
    EndpointLimit("tokens_per_month_per_project", "tokens", "Month", "project"),
)


def list_limits(settings: ProjectEndpoint) -> list[tuple[EndpointLimit, int]]:
    """Return the limits that a profile sets, with their amounts."""
    amounts = ((row, getattr(settings.limits, row.field)) for row in LIMITS)
    return [(row, amount) for row, amount in amounts if amount is not None]


class ProjectHost(NamedTuple):
    """The endpoint of one project: its name, its namespace, its host name, and the endpoint's settings in the profile."""

    project: str
    namespace: str
    host: str
    settings: ProjectEndpoint


class PublishedService(NamedTuple):
    """One service of an endpoint: its name, the names of the model, the hosts with their percentages, and the time limit.

    ``hosts`` are the cluster-local host names and ports of the service and of those that share its requests.
    """

    name: str
    models: tuple[str, ...]
    hosts: tuple[tuple[str, int, int], ...]
    timeout_seconds: int


class EndpointKind(NamedTuple):
    """A kind of a gateway's objects: its API version, its name and its plural.

    Members of a project may write the kinds with ``is_members``. The others affect all projects of the gateway.
    """

    api_version: str
    name: str
    plural: str
    is_members: bool = True

    @property
    def key(self) -> tuple[str, str]:
        """The API version and the name."""
        return self.api_version, self.name


class EndpointGateway(NamedTuple):
    """One gateway, as a table row. Everything that depends on its objects' kinds is derived from ``kinds``.

    ``shared`` returns the objects that all services of a project share, ``service`` those of one service, and ``models`` the
    object that answers ``GET /v1/models`` with a list of names. All are in the namespace of the project. ``read_models``
    returns the names of a live ``route``, by which the list of a cluster is completed.
    """

    about: str | None
    name: str
    title: str
    shared: Callable[[ProjectHost], Iterable[Object]]
    service: Callable[[ProjectHost, PublishedService], Iterable[Object]]
    models: Callable[[str, str, Iterable[str]], Object]
    read_models: Callable[[Object], list[str]]
    #: All kinds that the gateway's functions render.
    kinds: tuple[EndpointKind, ...]
    #: The API versions and kinds of a service's route, and of the object of ``models``.
    route: tuple[str, str]
    model_list: tuple[str, str]
    #: The API versions and kinds of the other objects of ``service``, which are deleted with it after its route.
    others: tuple[tuple[str, str], ...]
    #: Features that a gateway may lack, with the reason in the message about the field: fallback.
    lacks: dict[str, str]
    #: Returns why a cluster's gateway cannot enforce a limit, and how to fix it; None if it can.
    explain_limit: Callable[[EndpointLimit, ProjectEndpoint], tuple[str, str] | None]
