"""The interface of a quota backend: the ``QuotaBackend`` table row.

A backend is one file with a ``BACKEND``. ``ebbtide.core.translation.quotas`` lists the backends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from ebbtide.core.base.problems import Problem
from ebbtide.core.translation.gpu import BACKENDS
from ebbtide.core.translation.gpu.backend import Backend
from ebbtide.core.translation.objects import Object
from ebbtide.core.translation.plan import Plan

if TYPE_CHECKING:
    from ebbtide.core.profile.models import ProfileSpec, Project


class ProjectRequest(NamedTuple):
    """A project whose quota is rendered: its name and namespace, its row in the profile if it has one, and the cluster."""

    name: str
    namespace: str
    known: Project | None
    cluster: ProfileSpec
    labels: dict[str, str]


def list_gpu_amounts(project: ProjectRequest) -> Iterator[tuple[Backend, str, str]]:
    """Yield the quota of GPUs as the amount of each resource of each node pool, with the backend of the pool."""
    gpus = None if project.known is None else project.known.gpus
    for pool in () if gpus is None else project.cluster.node_pools:
        backend = BACKENDS[pool.backend]
        for resource, per_gpu in (backend.quota or backend.advertises)(pool).items():
            yield backend, resource, str(int((gpus or 0) * per_gpu + 1e-9))


class QuotaBackend(NamedTuple):
    """One way of enforcing the quota of a project, as a table row.

    ``objects`` returns the objects of a project next to its namespace, in apply order. ``labels`` returns the labels by
    which the pods of a workload belong to the project's queue. ``check`` yields a problem for each part of a workload that
    the backend cannot count or admit.
    """

    about: str | None
    name: str
    objects: Callable[[ProjectRequest], Iterable[Object]]
    labels: Callable[[Plan], dict[str, str]] = lambda _: {}
    check: Callable[[Plan], Iterator[Problem]] = lambda _: iter(())
    #: The pod label that ``labels`` sets to the project's name; empty: none. KAI's label belongs to its scheduler.
    queue_label: str = ""
    #: The group of ``doctor`` that must be served; empty: Kubernetes itself.
    group: str = ""
    #: The API version and kind of the cluster-wide queue that has the project's name; None: none.
    queue: tuple[str, str] | None = None
    #: The function that returns whether the quota of a project also counts preemptible pods.
    counts_preemptible: Callable[[ProfileSpec, Project | None], bool] = lambda _cluster, _project: False
    #: True if a pod beyond the quota evicts pods of its project with a lower priority that the quota counts.
    evicts: bool = False
    #: True if the quota counts resource claims.
    counts_claims: bool = False
    #: The requests that containers without any have in a project's namespace.
    default_request: Mapping[str, str] = MappingProxyType({})
    #: The scheduler and its version on which the end-to-end tests run the backend; empty: its rules are tested only.
    tested: str = ""
